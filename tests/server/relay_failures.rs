//! Failures of the endpoints that are relayed for Codex clients.

use serde_json::json;

use crate::fake::{FakeUpstream, Script};
use crate::relay::{document, post};
use crate::sign_in::Services;
use crate::wire::Ask;
use crate::{Bench, SECOND, signed_out};

/// The POST endpoints, as paths below `/v1` and the backend's base URL.
const ENDPOINTS: [&str; 5] = [
    "/alpha/search",
    "/alpha/notes/v2/thread_hint",
    "/alpha/history/v2/x",
    "/memories/trace_summarize",
    "/images/generations",
];

fn request(endpoint: &str) -> Ask {
    post(&format!("/v1{endpoint}"), r#"{"model":"gpt-5.5","prompt":"x"}"#)
}

#[tokio::test]
async fn other_methods_are_refused_without_a_call() {
    let bench = Bench::new().await;
    for endpoint in ENDPOINTS {
        let answer = Ask::get(&format!("/v1{endpoint}")).send(&bench.proxy).await;
        assert_eq!((answer.status, answer.header("allow")), (405, "POST"), "{endpoint}: {}", answer.text());
        assert!(bench.upstream.requests(endpoint).is_empty(), "{endpoint}");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_without_a_call() {
    let bench = Bench::with(|launch| launch.setting("limits.body", "64KiB")).await;
    let body = " ".repeat(64 * 1024 + 1);
    for endpoint in ENDPOINTS {
        let answer = post(&format!("/v1{endpoint}"), &body).send(&bench.proxy).await;
        assert_eq!((answer.status, &answer.error()["code"]), (413, &json!("request_too_large")), "{endpoint}");
        assert!(bench.upstream.requests(endpoint).is_empty(), "{endpoint}");
    }
}

#[tokio::test]
async fn without_a_login_the_error_names_the_command() {
    let upstream = FakeUpstream::start().await;
    let proxy = signed_out(&upstream).start();
    for endpoint in ENDPOINTS {
        let answer = request(endpoint).send(&proxy).await;
        let error = answer.error();
        assert_eq!((answer.status, &error["code"]), (401, &json!("not_signed_in")), "{endpoint}: {error}");
        assert!(error["message"].as_str().unwrap().contains("`codex-proxy login`"), "{endpoint}: {error}");
    }
    assert!(upstream.requests("").is_empty());
}

#[tokio::test]
async fn a_rejected_token_is_replaced_and_the_call_repeated() {
    for endpoint in ENDPOINTS {
        let services = Services::new().await;
        services.upstream.on(endpoint, Script::json(401, r#"{"detail":"Unauthorized"}"#));
        services.upstream.on(endpoint, document(&json!({"data": []})));
        let proxy = services.fresh().start();
        let answer = request(endpoint).send(&proxy).await;
        assert_eq!(answer.status, 200, "{endpoint}: {}", answer.text());
        assert_eq!(services.issuer.calls().len(), 1, "{endpoint}");
        let sent = services.upstream.requests(endpoint);
        assert_eq!(sent.len(), 2, "{endpoint}");
        assert_ne!(sent[0].header("authorization"), sent[1].header("authorization"), "{endpoint}");
        assert_eq!(sent[0].body, sent[1].body, "{endpoint}");
    }
}

#[tokio::test]
async fn a_page_of_cloudflare_becomes_an_error_without_html() {
    let bench = Bench::new().await;
    let page = "<html><title>Just a moment...</title></html>";
    for endpoint in ENDPOINTS {
        bench.upstream.on(endpoint, Script::answer(403, &[("content-type", "text/html")], page));
        let answer = request(endpoint).send(&bench.proxy).await;
        assert_eq!((answer.status, &answer.error()["code"]), (502, &json!("cloudflare_challenge")), "{endpoint}");
        assert!(!answer.text().contains("<title>"), "{endpoint}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_client_that_disconnects_ends_the_call() {
    let bench = Bench::new().await;
    for (index, endpoint) in ENDPOINTS.into_iter().enumerate() {
        bench.upstream.on(endpoint, Script::silence());
        let sent = request(endpoint).fire(&bench.proxy).await;
        bench.upstream.received(endpoint, 1).await;
        drop(sent);
        assert!(bench.upstream.hung_up(2 * index + 1, 5 * SECOND).await, "{endpoint}: before the response");
        bench.upstream.replace(endpoint, Script::stream(&[]).chunk("{").hang());
        let mut open = request(endpoint).open(&bench.proxy).await;
        open.until("{").await;
        drop(open);
        assert!(bench.upstream.hung_up(2 * index + 2, 5 * SECOND).await, "{endpoint}: during the response");
    }
}

#[tokio::test]
async fn a_used_up_limit_of_search_or_images_is_remembered() {
    let usage = r#"{"error":{"type":"usage_limit_reached","message":"Used up.","resets_in_seconds":900}}"#;
    for endpoint in ["/alpha/search", "/images/generations"] {
        let bench = Bench::new().await;
        bench.upstream.on(endpoint, Script::json(429, usage));
        for _ in 0..2 {
            let answer = request(endpoint).send(&bench.proxy).await;
            assert_eq!((answer.status, &answer.error()["code"]), (429, &json!("usage_limit_reached")), "{endpoint}");
        }
        assert_eq!(bench.upstream.requests(endpoint).len(), 1, "{endpoint}: the second request isn't sent");
    }
}
