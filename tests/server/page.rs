//! The page: its content, and which requests may read it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::fake::FakeUpstream;
use crate::fake_issuer::Scripted;
use crate::proxy::{Launch, TestProxy};
use crate::sign_in::Services;
use crate::wire::{Answer, Ask};
use crate::{BEGUN, Bench, begun, chat, signed_out, streaming, with};

/// The `accept` header of a browser.
const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

fn page() -> Ask {
    Ask::get("/").header("accept", BROWSER)
}

fn by_password(ask: Ask, key: &str) -> Ask {
    ask.header("authorization", &format!("Basic {}", STANDARD.encode(format!("anybody:{key}"))))
}

/// The directives of a response's content security policy.
fn policy(answer: &Answer) -> Vec<String> {
    answer.header("content-security-policy").split(';').map(|directive| directive.trim().to_owned()).collect()
}

async fn requests(proxy: &TestProxy) -> Vec<Value> {
    Ask::get("/usage").send(proxy).await.json()["requests"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_browser_gets_a_page_with_a_strict_content_security_policy() {
    let bench = Bench::answering(|launch| launch).await;
    let answer = page().send(&bench.proxy).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/html; charset=utf-8"));
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("vary", "accept"),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    let text = answer.text();
    let hash = |open: &str, close: &str| {
        let inside = text.split_once(open).unwrap().1.split_once(close).unwrap().0;
        format!("'sha256-{}'", STANDARD.encode(Sha256::digest(inside)))
    };
    let expected = [
        "default-src 'none'".to_owned(),
        format!("style-src {}", hash("<style>", "</style>")),
        format!("script-src {}", hash("<script>", "</script>")),
        "connect-src 'self'".to_owned(),
        "img-src data:".to_owned(),
        "base-uri 'none'".to_owned(),
        "form-action 'none'".to_owned(),
        "frame-ancestors 'none'".to_owned(),
    ];
    assert_eq!(policy(&answer), expected);
    assert!(text.contains(&format!("OPENAI_BASE_URL=http://{}/v1", bench.proxy.authority())), "{text}");
    assert!(text.contains("Signed in") && !text.contains("Demo."), "{text}");
    for secret in ["at_secret", "rt_secret"] {
        assert!(!text.contains(secret));
    }
}

#[tokio::test]
async fn a_health_probe_of_the_root_gets_one_line() {
    let bench = Bench::new().await;
    for ask in
        [Ask::get("/"), Ask::get("/").header("accept", "*/*"), Ask::get("/").header("accept", "application/json")]
    {
        let answer = ask.send(&bench.proxy).await;
        assert_eq!((answer.status, answer.text()), (200, "codex-proxy is running\n"));
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    }
    for ask in [Ask::new("HEAD", "/"), Ask::new("HEAD", "/").header("accept", BROWSER)] {
        let answer = ask.send(&bench.proxy).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0));
    }
    let answer = Ask::post("/", &json!({})).send(&bench.proxy).await;
    assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD"));
    assert_eq!(bench.upstream.requests("/wham/usage").len(), 0, "no request is made for that");
}

#[tokio::test]
async fn if_keys_are_set_a_browser_sends_one_as_the_password() {
    let bench = Bench::answering(|launch| launch.setting("api_keys", "sk-local-1")).await;
    for ask in [page(), by_password(page(), "sk-local-2"), page().header("authorization", "Basic sk-local-1")] {
        let answer = ask.send(&bench.proxy).await;
        assert_eq!((answer.status, answer.header("content-type")), (401, "text/html; charset=utf-8"));
        assert!(answer.header("www-authenticate").starts_with("Basic realm="));
        assert_eq!((policy(&answer)[0].as_str(), answer.header("cache-control")), ("default-src 'none'", "no-store"));
        assert!(!answer.text().contains("acct-1") && !answer.text().contains("OPENAI"), "{}", answer.text());
    }
    for ask in [by_password(page(), "sk-local-1"), page().header("authorization", "Bearer sk-local-1")] {
        let answer = ask.send(&bench.proxy).await;
        assert_eq!(answer.status, 200);
        assert!(answer.text().contains("OPENAI_API_KEY=YOUR-KEY") && !answer.text().contains("sk-local-1"));
    }
    for ask in
        [Ask::get("/"), Ask::get("/usage").header("accept", BROWSER), Ask::get("/v1/models").header("accept", BROWSER)]
    {
        let answer = ask.send(&bench.proxy).await;
        assert_eq!(
            (answer.status, answer.header("www-authenticate")),
            (401, "Bearer"),
            "only the page requests a password"
        );
    }
    assert_eq!(bench.request_count(), 0);
}

#[tokio::test]
async fn requests_that_browsers_send_by_themselves_use_no_quota() {
    let bench = Bench::answering(|launch| launch.setting("api_keys", "sk-local-1")).await;
    for ask in [Ask::chat(&chat()), Ask::get("/v1/models"), Ask::get("/usage"), Ask::post("/", &chat())] {
        assert_eq!(by_password(ask, "sk-local-1").send(&bench.proxy).await.status, 401);
    }
    let rebound = by_password(page(), "sk-local-1").header("host", "rebound.invalid").send(&bench.proxy).await;
    assert_eq!((rebound.status, rebound.error()["code"].as_str()), (403, Some("foreign_host")));
    let foreign = by_password(page(), "sk-local-1").header("origin", "https://evil.invalid").send(&bench.proxy).await;
    assert_eq!((foreign.status, foreign.error()["code"].as_str()), (403, Some("foreign_origin")));
    assert_eq!(bench.request_count(), 0);
}

#[tokio::test]
async fn the_page_shows_a_missing_login_and_the_demo() {
    let upstream = FakeUpstream::start().await;
    let answer = page().send(&signed_out(&upstream).start()).await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("Not signed in") && answer.text().contains("<code>codex-proxy login</code>"));

    let proxy = Launch::demo().start();
    let answer = page().send(&proxy).await;
    assert_eq!((answer.status, answer.header("x-proxy-demo")), (200, "true"));
    assert!(
        answer.text().contains("Responses are simulated") && answer.text().contains("<meter "),
        "{}",
        answer.text()
    );
    assert_eq!(Ask::get("/").send(&proxy).await.text(), "codex-proxy is running (demo: responses are simulated)\n");
}

#[tokio::test]
async fn the_page_shows_active_and_finished_requests() {
    let bench = Bench::with(|launch| launch).await;
    bench.upstream.on("/responses", begun(&BEGUN).hang());
    let hostile = "<script>alert(1)</script>";
    let ask =
        Ask::chat(&with(streaming(), "model", json!(hostile))).header("user-agent", "<img src=x onerror=alert(2)>/1");
    let mut open = ask.open(&bench.proxy).await;
    open.until("Grüße").await;
    let seen = requests(&bench.proxy).await;
    assert_eq!((seen.len(), &seen[0]["state"], &seen[0]["dialect"]), (1, &json!("answering"), &json!("chat")));
    assert!(seen[0]["first_content_ms"].is_u64() && seen[0]["tokens"].is_null(), "{}", seen[0]);
    assert_eq!((&seen[0]["model"], &seen[0]["client"]), (&json!(hostile), &json!("<img")));
    let shown = page().send(&bench.proxy).await;
    assert!(shown.text().contains("1 under way") && shown.text().contains("● answering"), "{}", shown.text());
    assert!(shown.text().contains("&lt;script&gt;alert(1)") && !shown.text().contains(hostile));
    assert!(!shown.text().contains("<img") && !shown.text().contains("Grüße"), "never content");
    drop(open);
    bench.proxy.says("request ended", 5 * crate::SECOND).await;
    let seen = requests(&bench.proxy).await;
    assert_eq!((&seen[0]["state"], &seen[0]["error"]), (&json!("ended"), &json!("client_left")));
    assert!(page().send(&bench.proxy).await.text().contains("✕ client left"));
}

#[tokio::test]
async fn the_page_shows_the_usage_of_a_request_with_its_key() {
    let keys = "[[keys]]\nname = 'desk'\nkey = 'sk-desk'\n";
    let bench = Bench::answering(|launch| launch.file("config.toml", keys)).await;
    let keyed = |ask: Ask| ask.header("authorization", "Bearer sk-desk");
    assert_eq!(keyed(Ask::chat(&chat())).header("user-agent", "curl/8").send(&bench.proxy).await.status, 200);
    assert_eq!(keyed(Ask::chat(&json!({"model": "gpt-5.5"}))).send(&bench.proxy).await.status, 400);
    let reported = keyed(Ask::get("/usage")).send(&bench.proxy).await.json();
    let (refused, completed) = (&reported["requests"][0], &reported["requests"][1]);
    assert_eq!((&refused["outcome"], &refused["error"]), (&json!("refused"), &json!("invalid_request")));
    assert_eq!((&completed["outcome"], &completed["error"]), (&json!("completed"), &Value::Null));
    assert_eq!((&completed["key"], &completed["client"]), (&json!("desk"), &json!("curl")));
    assert_eq!((&completed["tokens"]["input_tokens"], &completed["tokens"]["output_tokens"]), (&json!(3), &json!(2)));
    assert!(completed["id"].as_str().unwrap().starts_with("req_"), "{completed}");
    let shown = by_password(page(), "sk-desk").send(&bench.proxy).await;
    assert!(shown.text().contains("key <bdi>desk</bdi>") && shown.text().contains("✓ completed"), "{}", shown.text());
}

#[tokio::test]
async fn a_page_that_refreshes_itself_queries_the_backend_rarely() {
    let services = Services::new().await;
    services.issuer.script((0..40).map(|_| Scripted::Answer(503, json!({}))));
    let proxy = services.expired().start();
    for _ in 0..20 {
        let answer = page().send(&proxy).await;
        assert!(answer.status == 200 && answer.text().contains("can’t be used right now"), "{}", answer.text());
    }
    let calls = services.issuer.calls().len();
    assert!((1..5).contains(&calls), "the issuer gets few requests: {calls}");

    let bench = Bench::new().await;
    for _ in 0..3 {
        assert_eq!(page().send(&bench.proxy).await.status, 200);
    }
    assert_eq!(bench.upstream.requests("/wham/usage").len(), 1);
}
