//! A key that is limited to a share of the quota windows, in every API and over a WebSocket.

use serde_json::{Value, json};

use crate::fake::Script;
use crate::proxy::Launch;
use crate::websocket::Socket;
use crate::wire::{Answer, Ask};
use crate::{Bench, WHOLE, chat};

const USAGE: &str = "/backend-api/wham/usage";
const KEYS: &str = "[[keys]]\nname = 'batch'\nkey = 'sk-batch'\nwindow_percent = 50\n\
                    [[keys]]\nname = 'desk'\nkey = 'sk-desk'\n";
const RESET: u64 = 4_000_000_000;

/// The backend's usage response, with the weekly window first, as for many accounts.
fn usage(week: u32, hours: u32) -> Script {
    let document = json!({"plan_type": "plus", "rate_limit": {
        "primary_window": {"used_percent": week, "limit_window_seconds": 604_800, "reset_at": RESET},
        "secondary_window": {"used_percent": hours, "limit_window_seconds": 18_000, "reset_after_seconds": 9000},
    }});
    Script::json(200, &document.to_string())
}

/// A response whose headers report this usage of the 5-hour window.
fn response_with_usage(hours: &str) -> Script {
    let headers = [("x-codex-primary-used-percent", hours), ("x-codex-primary-window-minutes", "300")];
    WHOLE.iter().fold(Script::stream(&headers), |script, event| script.event(event)).end()
}

fn keyed(launch: Launch) -> Launch {
    launch.file("config.toml", KEYS)
}

fn by(key: &str, ask: Ask) -> Ask {
    ask.header("authorization", &format!("Bearer {key}"))
}

fn asks() -> [(&'static str, Ask); 4] {
    let hello = json!([{"role": "user", "content": "hi"}]);
    [
        ("chat", Ask::chat(&chat())),
        ("completions", Ask::post("/v1/completions", &json!({"model": "gpt-5.5", "prompt": "hi"}))),
        ("responses", Ask::post("/v1/responses", &json!({"model": "gpt-5.5", "input": "hi", "stream": true}))),
        ("messages", Ask::post("/v1/messages", &json!({"model": "gpt-5.5", "max_tokens": 9, "messages": hello}))),
    ]
}

fn is_refused(answer: &Answer, dialect: &str) {
    assert_eq!(answer.status, 429, "{dialect}: {}", answer.text());
    let wait: u64 = answer.header("retry-after").parse().unwrap();
    assert!(wait > 86_400, "until the weekly window resets, not the 5-hour one: {wait}");
    assert_eq!(answer.header("x-should-retry"), "false", "{dialect}");
    let error = answer.json()["error"].clone();
    assert_eq!(error["type"], "rate_limit_error", "{dialect}");
    if dialect != "messages" {
        assert_eq!(answer.error()["code"], "window_reserved", "{dialect}");
    }
    assert_share_message(&error["message"]);
}

fn assert_share_message(message: &Value) {
    let message = message.as_str().unwrap();
    for part in ["'batch'", "at most 50 %", "keys.window_percent", "63 %", "weekly window", "resets at 2096-10-02"] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[tokio::test]
async fn a_key_with_a_share_is_refused_beyond_it_in_every_api_and_others_are_not() {
    let bench = Bench::answering(keyed).await;
    bench.upstream.on(USAGE, usage(63, 90));
    for (dialect, ask) in asks() {
        is_refused(&by("sk-batch", ask.clone()).send(&bench.proxy).await, dialect);
        assert_eq!(by("sk-desk", ask).send(&bench.proxy).await.status, 200, "{dialect}");
    }
    assert_eq!(bench.request_count(), 4, "a locally rejected request isn't sent");
    let page = by("sk-desk", Ask::get("/metrics")).send(&bench.proxy).await;
    let line = r#"codex_proxy_errors_total{class="window_reserved"} 4"#;
    assert!(page.text().lines().any(|text_line| text_line == line), "{}", page.text());
}

#[tokio::test]
async fn a_websocket_checks_the_share_for_each_request() {
    let bench = Bench::answering(keyed).await;
    bench.upstream.on(USAGE, usage(63, 0));
    let mut socket = Socket::open_as(&bench.proxy, &[("authorization", "Bearer sk-batch")]).await;
    for _ in 0..2 {
        socket.create(&json!({"model": "gpt-5.5", "input": "hi"})).await;
        let events = socket.answer().await;
        let error = &events.last().unwrap()["error"];
        assert_eq!((events.len(), &error["code"]), (1, &json!("window_reserved")), "{events:?}");
        assert_share_message(&error["message"]);
    }
    assert_eq!(bench.request_count(), 0);
}

#[tokio::test]
async fn a_key_is_served_up_to_its_share_by_the_latest_snapshot() {
    let bench = Bench::with(keyed).await;
    bench.upstream.on(USAGE, usage(20, 10));
    bench.upstream.on("/responses", response_with_usage("50"));
    bench.upstream.on("/responses", response_with_usage("51"));
    bench.upstream.on("/responses", response_with_usage("3"));
    let status = async |key: &str| by(key, Ask::chat(&chat())).send(&bench.proxy).await.status;
    assert_eq!(status("sk-batch").await, 200);
    assert_eq!(status("sk-batch").await, 200, "half is no more than half");
    assert_eq!(status("sk-batch").await, 429);
    assert_eq!(status("sk-desk").await, 200);
    assert_eq!(status("sk-batch").await, 200, "the window was reset");
}

#[tokio::test]
async fn requests_are_accepted_if_the_quota_is_unknown() {
    let bench = Bench::answering(keyed).await;
    for script in [Script::answer(404, &[], ""), Script::json(200, "{}")] {
        bench.upstream.replace(USAGE, script);
        assert_eq!(by("sk-batch", Ask::chat(&chat())).send(&bench.proxy).await.status, 200);
    }
}
