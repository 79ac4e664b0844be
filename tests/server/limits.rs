//! Limits: too many requests, a used-up quota, a client that doesn't read; and metrics.

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::fake::{Gate, Script};
use crate::proxy::TestProxy;
use crate::wire::{Answer, Ask};
use crate::{ADDED, BEGUN, Bench, COMPLETED, CREATED, SECOND, WHOLE, begun, chat, streaming, with};

const SPENT: &str = r#"{"error":{"type":"usage_limit_reached","message":"no more","plan_type":"plus","resets_at":1900000000,"resets_in_seconds":90}}"#;

fn messages() -> Ask {
    let body = json!({"model": "gpt-5.5", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
    Ask::post("/v1/messages", &body)
}

fn responses(stream: bool) -> Ask {
    Ask::post("/v1/responses", &json!({"model": "gpt-5.5", "input": "hi", "stream": stream}))
}

/// A value of `/metrics`, by name and labels.
pub(crate) async fn metric(proxy: &TestProxy, name: &str) -> u64 {
    let page = Ask::get("/metrics").send(proxy).await;
    let line = page.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::to_owned);
    line.map_or(0, |number| number.parse().unwrap())
}

/// Waits until a value of `/metrics` equals this one.
pub(crate) async fn becomes(proxy: &TestProxy, name: &str, wanted: u64) {
    let reached = async {
        while metric(proxy, name).await != wanted {
            tokio::task::yield_now().await;
        }
    };
    let reached = timeout(10 * SECOND, reached).await;
    assert!(reached.is_ok(), "{name} is {} and not {wanted}", metric(proxy, name).await);
}

fn is_busy(answer: &Answer) {
    let error = answer.error();
    assert_eq!((answer.status, answer.header("retry-after")), (429, "5"));
    assert_eq!((&error["type"], &error["code"]), (&json!("rate_limit_error"), &json!("too_many_requests")));
    assert!(error["message"].as_str().unwrap().contains("limits.concurrency"), "{error}");
    assert_eq!(answer.header("x-should-retry"), "");
}

#[tokio::test]
async fn requests_over_the_limit_wait_and_those_over_the_queue_get_retry_after() {
    let settings = [("limits.concurrency", "1"), ("limits.queue", "1"), ("timing.queue_wait", "1m")];
    let bench =
        Bench::with(|launch| settings.iter().fold(launch, |launch, (key, value)| launch.setting(key, value))).await;
    let gate = Gate::default();
    bench.upstream.on("/responses", begun(&BEGUN).gate(&gate).event(COMPLETED).end());
    bench.upstream.on("/responses", Script::events(&WHOLE));
    let mut first = Ask::chat(&streaming()).open(&bench.proxy).await;
    first.until("Grüße").await;
    let second = Ask::chat(&chat()).fire(&bench.proxy).await;
    becomes(&bench.proxy, "codex_proxy_queue_length", 1).await;
    is_busy(&Ask::chat(&chat()).send(&bench.proxy).await);
    is_busy(&responses(true).send(&bench.proxy).await);
    let refused = messages().send(&bench.proxy).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, "5"));
    assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
    for path in ["/health", "/ready", "/v1/models"] {
        assert_eq!(Ask::get(path).send(&bench.proxy).await.status, 200, "{path} needs no permit");
    }
    assert_eq!((bench.request_count(), metric(&bench.proxy, "codex_proxy_places_taken").await), (1, 1));
    gate.open();
    assert_eq!(first.rest().await.frames().last().unwrap(), "[DONE]");
    assert_eq!(second.open().await.rest().await.status, 200);
    becomes(&bench.proxy, "codex_proxy_places_taken", 0).await;
    assert_eq!(metric(&bench.proxy, r#"codex_proxy_errors_total{class="busy"}"#).await, 3);
}

#[tokio::test]
async fn waiting_for_a_slot_times_out_and_a_disconnect_frees_the_slot() {
    let settings = [("limits.concurrency", "1"), ("timing.queue_wait", "100ms")];
    let bench =
        Bench::with(|launch| settings.iter().fold(launch, |launch, (key, value)| launch.setting(key, value))).await;
    bench.upstream.on("/responses", begun(&BEGUN).hang());
    bench.upstream.on("/responses", Script::events(&WHOLE));
    let mut first = Ask::chat(&streaming()).open(&bench.proxy).await;
    first.until("Grüße").await;
    is_busy(&Ask::chat(&chat()).send(&bench.proxy).await);
    drop(first);
    becomes(&bench.proxy, "codex_proxy_places_taken", 0).await;
    assert_eq!(Ask::chat(&chat()).send(&bench.proxy).await.status, 200);
}

#[tokio::test]
async fn a_used_up_quota_is_reported_in_each_api_and_requested_once() {
    let bench = Bench::with(|launch| launch.setting("timing.quota_probe", "1h")).await;
    let window = [
        ("content-type", "application/json"),
        ("x-codex-primary-used-percent", "100"),
        ("x-codex-primary-window-minutes", "300"),
    ];
    bench.upstream.on("/responses", Script::answer(429, &window, SPENT));
    let reported =
        "ChatGPT usage limit reached for plan plus (5-hour window); resets at 2030-03-17T17:46:40Z (in 1 min).";
    let is_soon = |answer: &Answer| {
        let seconds: u64 = answer.header("retry-after").parse().unwrap();
        assert!((60..=90).contains(&seconds), "{seconds}");
        assert_eq!((answer.status, answer.header("x-should-retry")), (429, "false"));
        assert_eq!(answer.header("x-codex-primary-used-percent"), "100");
    };
    for ask in [Ask::chat(&chat()), Ask::chat(&streaming()), responses(true), responses(false)] {
        let answer = ask.send(&bench.proxy).await;
        is_soon(&answer);
        let error = answer.error();
        assert_eq!((&error["type"], &error["code"]), (&json!("usage_limit_reached"), &json!("usage_limit_reached")));
        assert_eq!(error["message"], reported);
    }
    let answer = messages().send(&bench.proxy).await;
    is_soon(&answer);
    assert_eq!(answer.json()["error"], json!({"type": "rate_limit_error", "message": reported}));
    assert_eq!(answer.header("anthropic-ratelimit-unified-reset"), "1900000000");
    assert_eq!((bench.request_count(), metric(&bench.proxy, "codex_proxy_quota_answers_total").await), (1, 4));
    let other = with(chat(), "model", json!("gpt-5.4"));
    assert_eq!(Ask::chat(&other).send(&bench.proxy).await.status, 429);
    assert_eq!(bench.request_count(), 2, "the limit of another model is unknown");
}

#[tokio::test]
async fn a_used_up_quota_is_probed_again_later() {
    let bench = Bench::with(|launch| launch.setting("timing.quota_probe", "50ms")).await;
    bench.upstream.on("/responses", Script::json(429, SPENT));
    bench.upstream.on("/responses", Script::json(429, SPENT));
    bench.upstream.on("/responses", Script::events(&WHOLE));
    let served = async { while Ask::chat(&chat()).send(&bench.proxy).await.status == 429 {} };
    timeout(10 * SECOND, served).await.expect("a probe finds the quota available again");
    assert_eq!(bench.request_count(), 3);
    assert_eq!(Ask::chat(&chat()).send(&bench.proxy).await.status, 200, "a success ends it");
}

#[tokio::test]
async fn a_long_retry_after_is_passed_to_the_client() {
    for (status, reported, code) in [(503, 503, "server_error"), (429, 429, "rate_limit_exceeded")] {
        let bench = Bench::new().await;
        bench.upstream.on("/responses", Script::answer(status, &[("retry-after", "21")], ""));
        let answer = Ask::chat(&chat()).send(&bench.proxy).await;
        assert_eq!((answer.status, answer.error()["code"].as_str()), (reported, Some(code)));
        assert_eq!((answer.header("retry-after"), answer.header("x-should-retry")), ("21", ""));
        assert_eq!(bench.request_count(), 1);
    }
    let bench = Bench::new().await;
    bench.upstream.on("/responses", Script::answer(503, &[("retry-after", "0")], ""));
    let answer = Ask::chat(&chat()).send(&bench.proxy).await;
    assert_eq!((answer.status, answer.header("x-should-retry")), (502, "false"), "our own attempts are used up");
    assert_eq!((bench.request_count(), metric(&bench.proxy, "codex_proxy_retries_total").await), (3, 2));
}

#[tokio::test]
async fn a_client_that_stops_reading_stalls_the_backend_and_is_disconnected() {
    /// Far more than the socket buffers can hold.
    const PIECES: usize = 96;
    let bench = Bench::with(|launch| launch.setting("timing.reader_stall", "500ms")).await;
    let delta = json!({"type": "response.output_text.delta", "output_index": 0, "delta": "x".repeat(1 << 20)});
    let endless = (0..PIECES).fold(begun(&[CREATED, ADDED]), |script, _| script.event(&delta.to_string()));
    bench.upstream.on("/responses", endless.hang());
    let idle = peak_bytes(&bench.proxy);
    let _open = Ask::chat(&streaming()).open(&bench.proxy).await;
    bench.proxy.says("client_left", 20 * SECOND).await;
    becomes(&bench.proxy, "codex_proxy_upstream_connections", 0).await;
    becomes(&bench.proxy, "codex_proxy_streams_active", 0).await;
    assert!(!bench.upstream.hung_up(1, SECOND / 4).await, "the backend has not sent everything");
    if let (Some(idle), Some(peak)) = (idle, peak_bytes(&bench.proxy)) {
        assert!(peak - idle < 24 << 20, "memory has grown by {} bytes", peak - idle);
    }
}

/// Peak memory of the daemon, if the system reports it.
pub(crate) fn peak_bytes(proxy: &TestProxy) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.process_id())).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024)
}

#[tokio::test]
async fn each_api_has_its_own_keepalive() {
    let bench = Bench::with(|launch| launch.setting("timing.keepalive", "40ms")).await;
    bench.upstream.on("/responses", begun(&BEGUN).hang());
    let signs = [
        (Ask::chat(&streaming()), ": keepalive\n\n"),
        (responses(true), ": keepalive\n\n"),
        (responses(true).header("originator", "codex_cli_rs"), "data: {\"type\":\"keepalive\"}\n\n"),
    ];
    for (ask, sign) in signs {
        ask.open(&bench.proxy).await.until(sign).await;
    }
    let body =
        json!({"model": "gpt-5.5", "max_tokens": 9, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let mut open = Ask::post("/v1/messages", &body).open(&bench.proxy).await;
    open.until("event: ping\n").await;
}

#[tokio::test]
async fn a_stream_closes_with_its_terminal_event() {
    let bench = Bench::with(|launch| launch.setting("timing.keepalive", "0s")).await;
    bench.upstream.on("/responses", begun(&WHOLE).hang());
    let lines = Ask::post("/api/chat", &chat());
    for ask in [Ask::chat(&streaming()), responses(true), Ask::chat(&chat()), messages(), lines] {
        assert_eq!(ask.send(&bench.proxy).await.status, 200);
    }
    assert!(bench.upstream.hung_up(5, 5 * SECOND).await, "the upstream connection is closed");
}

#[tokio::test]
async fn an_event_beyond_the_limit_is_an_error() {
    let bench = Bench::with(|launch| launch.setting("limits.event", "4KiB")).await;
    let delta = json!({"type": "response.output_text.delta", "output_index": 0, "delta": "x".repeat(5000)});
    bench.upstream.on("/responses", begun(&[CREATED, ADDED]).event(&delta.to_string()).hang());
    let answer = Ask::chat(&streaming()).send(&bench.proxy).await;
    let last: Value = answer.frames().pop().unwrap();
    assert_eq!(last["error"]["code"], "upstream_event_too_large", "{}", answer.text());
    let answer = Ask::chat(&chat()).send(&bench.proxy).await;
    assert_eq!((answer.status, answer.error()["code"].as_str()), (502, Some("upstream_event_too_large")));
    let counted = r#"codex_proxy_errors_total{class="upstream_event_too_large"}"#;
    becomes(&bench.proxy, counted, 2).await;
}

#[tokio::test]
async fn the_metrics_count_requests_and_require_a_key_if_keys_are_set() {
    let bench = Bench::answering(|launch| launch.setting("api_keys", "sk-local")).await;
    let keyed = |ask: Ask| ask.header("authorization", "Bearer sk-local");
    assert_eq!(Ask::get("/metrics").send(&bench.proxy).await.status, 401);
    assert_eq!(keyed(Ask::chat(&chat())).send(&bench.proxy).await.status, 200);
    assert_eq!(keyed(Ask::chat(&json!({}))).send(&bench.proxy).await.status, 400);
    let page = keyed(Ask::get("/metrics")).send(&bench.proxy).await;
    assert_eq!(page.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        r#"codex_proxy_requests_total{dialect="chat",status="200"} 1"#,
        r#"codex_proxy_requests_total{dialect="chat",status="400"} 1"#,
        r#"codex_proxy_errors_total{class="invalid_request"} 1"#,
        "codex_proxy_requests_active 0",
        "codex_proxy_streams_active 0",
        "codex_proxy_queue_length 0",
        "codex_proxy_retries_total 0",
        r#"codex_proxy_refreshes_total{outcome="granted"} 0"#,
        "codex_proxy_upstream_connections 0",
    ] {
        assert!(page.text().lines().any(|reported| reported == line), "{line}\n{}", page.text());
    }
    for name in ["codex_proxy_tasks ", "codex_proxy_upstream_connections_opened_total "] {
        let number = page.text().lines().find_map(|line| line.strip_prefix(name)).unwrap();
        assert!(number.parse::<u64>().unwrap() > 0, "{name}");
    }
    assert!(!page.text().contains("sk-local") && !page.text().contains("at_secret"));
}

/// Longer than any log line needs to be.
const LINE_BYTES: usize = 2048;

#[tokio::test]
async fn client_text_fills_neither_the_log_nor_the_lists() {
    let bench = Bench::answering(|launch| launch.argument("-vv")).await;
    let name = "m".repeat(1 << 20);
    assert_eq!(Ask::chat(&with(chat(), "model", json!(name))).send(&bench.proxy).await.status, 200);
    let header = "x".repeat(30_000);
    for ask in [
        Ask::get(&format!("/{header}")),
        Ask::get("/health").header("host", &header),
        Ask::get("/health").header("origin", &header),
        Ask::new(&header, "/health"),
        Ask::chat(&chat()).header("content-encoding", &header),
        Ask::chat(&with(chat(), &header, json!(1))),
        Ask::chat(&with(chat(), "tool_choice", json!({"type": header}))),
        Ask::chat(&chat()).header("user-agent", &header),
    ] {
        ask.send(&bench.proxy).await;
    }
    bench.proxy.says("request ended", 5 * crate::SECOND).await;
    let log = bench.proxy.log();
    let longest = log.lines().map(str::len).max().unwrap();
    assert!(longest < LINE_BYTES, "{longest}: {:.300}", log.lines().find(|line| line.len() == longest).unwrap());
    for path in ["/usage", "/metrics", "/"] {
        let shown = Ask::get(path).header("accept", "text/html").send(&bench.proxy).await;
        assert!(shown.text().contains("mmmm") && shown.body.len() < 100_000, "{path}: {}", shown.body.len());
        assert!(!shown.text().contains(&"m".repeat(101)), "{path}");
    }
}

#[tokio::test]
async fn refusals_are_counted_and_logged_at_intervals() {
    let bench = Bench::answering(|launch| launch).await;
    for _ in 0..50 {
        let refused = Ask::chat(&chat()).header("origin", "https://evil.invalid").send(&bench.proxy).await;
        assert_eq!(refused.status, 403);
    }
    let reported = bench.proxy.log().matches("request refused before it was read").count();
    // A slow machine may need longer for them than the interval.
    assert!((1..10).contains(&reported), "{}", bench.proxy.log());
    let metrics = Ask::get("/metrics").send(&bench.proxy).await;
    let line = r#"codex_proxy_refusals_total{class="foreign_origin"} 50"#;
    assert!(metrics.text().lines().any(|reported| reported == line), "{}", metrics.text());
}
