//! Requests of Codex clients for other endpoints than responses reach the backend as the official client sends them.

use serde_json::{Value, json};

use crate::fake::{Recorded, Script};
use crate::wire::{Answer, Ask};
use crate::{Bench, SECOND};

/// The headers of the official client, as recorded, apart from the token, the account and those of the connection.
const CODEX: [(&str, &str); 4] = [
    ("version", "0.171.0"),
    ("x-codex-turn-metadata", r#"{"turn_id":"t-1"}"#),
    ("originator", "codex_exec"),
    ("user-agent", "codex_exec/0.171.0 (Debian 12.0.0; x86_64) xterm (codex_exec; 0.171.0)"),
];

pub(crate) fn post(path: &str, body: &str) -> Ask {
    CODEX.iter().fold(Ask::raw(path, body), |ask, (name, value)| ask.header(name, value))
}

async fn relayed(bench: &Bench, end: &str, ask: Ask) -> (Answer, Recorded) {
    let answer = ask.send(&bench.proxy).await;
    let sent = bench.upstream.requests(end).pop();
    (answer, sent.unwrap_or_else(|| panic!("nothing was sent to {end}")))
}

pub(crate) fn document(body: &Value) -> Script {
    Script::answer(200, &[("content-type", "application/json"), ("x-codex-active-limit", "codex")], &body.to_string())
}

#[tokio::test]
async fn a_search_equals_the_recorded_one() {
    let bench = Bench::with(|launch| launch.setting("upstream.client_version", "0.171.0")).await;
    bench.upstream.on("/alpha/search", document(&json!({ "output": "found", "encrypted_output": "e", "new": [1] })));
    let body = r#"{"id":"s-1","model":"gpt-6.2-sol","input":[{"type":"message","role":"user","content":[]}],"commands":{"search_query":[{"q":"rust release"}]},"settings":{"allowed_callers":["direct"],"external_web_access":false},"max_output_tokens":10000}"#;
    for path in ["/v1/alpha/search", "/alpha/search", "/backend-api/codex/alpha/search"] {
        let (answer, sent) = relayed(&bench, "/alpha/search", post(&format!("{path}?key=private"), body)).await;
        assert_eq!((answer.status, answer.json()["new"][0].as_i64()), (200, Some(1)), "{}", answer.text());
        assert_eq!(answer.header("x-codex-active-limit"), "codex");
        assert_eq!((sent.target.as_str(), sent.body.as_slice()), ("/backend-api/codex/alpha/search", body.as_bytes()));
        for (name, value) in [
            ("version", "0.171.0"),
            ("x-codex-turn-metadata", r#"{"turn_id":"t-1"}"#),
            ("authorization", "Bearer at_secret"),
            ("chatgpt-account-id", "acct-1"),
            ("content-type", "application/json"),
            ("originator", "codex_exec"),
            ("accept", "*/*"),
        ] {
            assert_eq!(sent.header(name), value, "{name}");
        }
    }
}

#[tokio::test]
async fn headers_of_image_and_notes_requests_are_passed_on_and_others_are_not() {
    let bench = Bench::new().await;
    bench.upstream.on("/images/generations", document(&json!({ "data": [] })));
    bench.upstream.on("/alpha/notes/v2/thread_hint", document(&json!({})));
    let image = post("/v1/images/generations", r#"{"prompt":"a red fox","model":"gpt-image-2"}"#)
        .header("x-codex-image-turn-id", "i-1")
        .header("cookie", "a=b")
        .header("x-openai-actor-authorization", "codex-proxy")
        .header("x-private", "1");
    let (_, sent) = relayed(&bench, "/images/generations", image).await;
    assert_eq!((sent.header("x-codex-image-turn-id"), sent.header("cookie")), ("i-1", ""));
    assert_eq!((sent.header("x-private"), sent.header("x-openai-actor-authorization")), ("", ""));
    let policy = r#"{"mode":"bytes","limit":4000}"#;
    let notes = post("/v1/alpha/notes/v2/thread_hint", r#"{"context":{"session_id":"s-1"}}"#)
        .header("x-openai-tool-output-truncation-policy", policy);
    let (answer, sent) = relayed(&bench, "/thread_hint", notes).await;
    assert_eq!((answer.status, sent.target.as_str()), (200, "/backend-api/codex/alpha/notes/v2/thread_hint"));
    assert_eq!(sent.header("x-openai-tool-output-truncation-policy"), policy);
}

#[tokio::test]
async fn account_documents_are_relayed_on_both_paths_without_a_version() {
    let bench = Bench::new().await;
    for document in ["usage", "profiles/me", "rate-limit-reset-credits"] {
        bench.upstream.replace(&format!("/backend-api/wham/{document}"), self::document(&json!({ "name": document })));
        for path in [format!("/backend-api/wham/{document}"), format!("/api/codex/{document}")] {
            let (answer, sent) = relayed(&bench, &format!("/wham/{document}"), Ask::get(&path)).await;
            assert_eq!((answer.status, answer.json()["name"].as_str()), (200, Some(document)), "{path}");
            assert_eq!(sent.target, format!("/backend-api/wham/{document}"));
            assert_eq!((sent.header("authorization"), sent.header("version")), ("Bearer at_secret", ""));
        }
        let refused = Ask::raw(&format!("/backend-api/wham/{document}"), "{}").send(&bench.proxy).await;
        assert_eq!((refused.status, refused.header("allow")), (405, "GET, HEAD"));
    }
}

#[tokio::test]
async fn a_client_is_not_routed_past_the_proxy() {
    let bench = Bench::new().await;
    let account = json!({
        "id": "acct-1", "workspace_backend_origin": "https://us.chatgpt.com", "account_routing_override": "us", "x": 1,
    });
    bench.upstream.replace("/backend-api/wham/accounts/check", document(&json!({ "accounts": [account] })));
    let answer = Ask::get("/backend-api/wham/accounts/check").send(&bench.proxy).await.json();
    let account = &answer["accounts"][0];
    assert_eq!(account["workspace_backend_origin"], "NO_CONSTRAINT");
    assert_eq!((&account["account_routing_override"], &account["x"]), (&json!("NO_CONSTRAINT"), &json!(1)));
}

#[tokio::test]
async fn paths_that_are_not_listed_reach_no_backend() {
    let bench = Bench::new().await;
    for path in [
        "/v1/alpha",
        "/v1/alpha/search/more",
        "/v1/alpha/notes/v2/a/b",
        "/v1/alpha/notes/v2/..%2f..%2fresponses",
        "/v1/memories/other",
        "/backend-api/codex/analytics-events/events",
        "/backend-api/ps/plugins/list",
        "/api/codex/rate-limit-reset-credits/consume",
        "/otlp/v1/metrics",
    ] {
        let answer = post(path, "{}").send(&bench.proxy).await;
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (404, Some("unknown_url")), "{path}");
    }
    for path in ["/backend-api/wham/settings/user", "/backend-api/wham/config/bundle", "/api/codex/settings/user"] {
        assert_eq!(Ask::get(path).send(&bench.proxy).await.status, 404, "{path}");
    }
    let realtime = post("/v1/realtime/calls", "{}").send(&bench.proxy).await;
    assert_eq!(realtime.status, 501, "{}", realtime.text());
    let sent = bench.upstream.requests("");
    let is_own = |target: &str| ["/models", "/accounts/check", "/usage"].iter().any(|own| target.contains(own));
    let others: Vec<_> = sent.iter().filter(|sent| !is_own(&sent.target)).collect();
    assert!(others.is_empty(), "{others:?}");
}

#[tokio::test]
async fn a_broken_response_does_not_look_complete() {
    let bench = Bench::new().await;
    let script = Script::stream(&[]).chunk(r#"{"output":"fo"#).cut();
    bench.upstream.on("/alpha/search", script);
    let mut answer = post("/v1/alpha/search", r#"{"model":"m"}"#).open(&bench.proxy).await;
    while answer.sip(1024).await > 0 {}
    let (body, is_complete) = answer.taken();
    assert_eq!((answer.status, body.as_slice(), is_complete), (200, br#"{"output":"fo"#.as_slice(), false));
    bench.proxy.says(r#"outcome="upstream_stream_truncated""#, SECOND).await;
}

#[tokio::test]
async fn a_key_that_is_not_admin_does_not_read_account_documents() {
    let keys = r#"
[[keys]]
name = "owner"
key = "key-of-the-owner"
admin = true

[[keys]]
name = "guest"
key = "key-of-the-guest"
"#;
    let bench = Bench::with(|launch| launch.file("config.toml", keys)).await;
    bench.upstream.replace("/backend-api/wham/usage", document(&json!({ "email": "ada@example.org" })));
    let ask = |key: &str| Ask::get("/api/codex/usage").header("authorization", &format!("Bearer {key}"));
    assert_eq!(ask("key-of-the-owner").send(&bench.proxy).await.status, 200);
    let refused = ask("key-of-the-guest").send(&bench.proxy).await;
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (403, Some("admin_key_required")));
}

#[tokio::test]
async fn a_codex_client_gets_the_status_of_the_backend() {
    let bench = Bench::new().await;
    for status in [400, 404, 409, 410, 422] {
        bench.upstream.replace("/alpha/notes/v2/thread_hint", Script::json(status, r#"{"detail":"no such thread"}"#));
        let answer = post("/v1/alpha/notes/v2/thread_hint", "{}").send(&bench.proxy).await;
        assert_eq!((answer.status, answer.json()["error"]["message"].as_str()), (status, Some("no such thread")));
    }
}
