//! Web pages: those of allowed origins can call and read the response, others get nothing.

use crate::wire::{Answer, Ask};
use crate::{BEGUN, Bench, begun, chat, streaming};

const PAGE: &str = "https://chat.example.com";

async fn open_to_pages() -> Bench {
    Bench::answering(|launch| launch.setting("allowed_origins", PAGE).setting("api_keys", "sk-local-1")).await
}

fn preflight(target: &str) -> Ask {
    Ask::new("OPTIONS", target)
        .header("origin", PAGE)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type,x-stainless-os")
}

fn varies_with_origin(answer: &Answer) -> bool {
    answer.headers.get_all("vary").iter().any(|value| value == "origin")
}

#[tokio::test]
async fn a_preflight_of_an_allowed_page_needs_no_key() {
    let bench = open_to_pages().await;
    for target in ["/v1/chat/completions", "/v1/messages", "/v1/models", "/openai/v1/responses", "/api/chat"] {
        let answer = preflight(target).send(&bench.proxy).await;
        assert_eq!((answer.status, answer.body.len()), (204, 0), "{target}");
        assert_eq!(answer.header("access-control-allow-origin"), PAGE);
        assert_eq!(answer.header("access-control-allow-headers"), "authorization,content-type,x-stainless-os");
        assert!(answer.header("access-control-allow-methods").contains("POST"));
        assert_eq!(answer.header("access-control-max-age"), "600");
        assert!(!answer.headers.contains_key("access-control-allow-credentials"));
        assert!(!answer.headers.contains_key("access-control-allow-private-network"));
        assert!(answer.header("x-request-id").starts_with("req_") && varies_with_origin(&answer));
    }
    let answer = preflight("/v1/models").header("access-control-request-private-network", "true");
    assert_eq!(answer.send(&bench.proxy).await.header("access-control-allow-private-network"), "true");
    let container = preflight("/v1/models").header("host", "host.docker.internal:8787").send(&bench.proxy).await;
    assert_eq!(container.status, 204, "the following request requires its key");
    assert_eq!(bench.request_count(), 0);
}

#[tokio::test]
async fn a_preflight_of_any_other_page_is_refused() {
    let bench = open_to_pages().await;
    for origin in
        ["https://evil.invalid", "null", "https://chat.example.com.evil.invalid", "http://chat.example.com", "*"]
    {
        let answer = preflight("/v1/chat/completions").header("origin", origin).send(&bench.proxy).await;
        assert_eq!((answer.status, answer.error()["code"].as_str()), (403, Some("foreign_origin")), "{origin}");
        assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("access-control-")), "{origin}");
        assert!(varies_with_origin(&answer));
    }
    assert_eq!(bench.request_count(), 0);
}

#[tokio::test]
async fn an_allowed_page_does_not_permit_a_foreign_host() {
    let bench = Bench::answering(|launch| launch.setting("allowed_origins", PAGE)).await;
    for ask in [preflight("/v1/chat/completions"), Ask::chat(&chat()).header("origin", PAGE)] {
        let answer = ask.header("host", "rebound.invalid").send(&bench.proxy).await;
        assert_eq!((answer.status, answer.error()["code"].as_str()), (403, Some("foreign_host")));
    }
    assert_eq!(bench.request_count(), 0);
}

#[tokio::test]
async fn an_allowed_page_reads_answers_streams_and_errors() {
    let bench = open_to_pages().await;
    let keyed = |ask: Ask| ask.header("origin", PAGE).header("authorization", "Bearer sk-local-1");
    let asks = [
        (keyed(Ask::chat(&chat())), 200),
        (keyed(Ask::chat(&streaming())), 200),
        (keyed(Ask::get("/v1/models")), 200),
        (keyed(Ask::raw("/v1/chat/completions", "{")), 400),
        (keyed(Ask::get("/unknown")), 404),
        (keyed(Ask::chat(&chat()).header("content-type", "text/plain")), 415),
        (Ask::chat(&chat()).header("origin", PAGE), 401),
        (Ask::get("/health").header("origin", PAGE), 200),
    ];
    for (ask, status) in asks {
        let answer = ask.send(&bench.proxy).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.header("access-control-allow-origin"), PAGE);
        assert!(answer.header("access-control-expose-headers").contains("x-request-id"));
        assert!(varies_with_origin(&answer));
    }
    let plain = Ask::get("/health").send(&bench.proxy).await;
    assert!(!plain.headers.contains_key("access-control-allow-origin") && varies_with_origin(&plain));
}

#[tokio::test]
async fn quota_and_warnings_are_exposed_to_an_allowed_page() {
    let bench = Bench::with(|launch| launch.setting("allowed_origins", PAGE)).await;
    let events = crate::fake::Script::stream(&[("x-codex-primary-used-percent", "12")]);
    bench.upstream.on("/responses", crate::WHOLE.iter().fold(events, |script, event| script.event(event)).end());
    let request = crate::with(streaming(), "temperature", serde_json::json!(0.5));
    let answer = Ask::chat(&request).header("origin", PAGE).send(&bench.proxy).await;
    let exposed: Vec<_> = answer.header("access-control-expose-headers").split(", ").collect();
    for name in ["x-request-id", "x-proxy-warnings", "x-codex-primary-used-percent"] {
        assert!(exposed.contains(&name) && answer.headers.contains_key(name), "{name}: {exposed:?}");
    }
}

#[tokio::test]
async fn a_page_that_disconnects_ends_the_upstream_request() {
    let bench = Bench::with(|launch| launch.setting("allowed_origins", PAGE)).await;
    bench.upstream.on("/responses", begun(&BEGUN).hang());
    let mut open = Ask::chat(&streaming()).header("origin", PAGE).open(&bench.proxy).await;
    assert_eq!(open.headers.get("access-control-allow-origin").unwrap(), PAGE);
    open.until("Grüße").await;
    drop(open);
    assert!(bench.upstream.hung_up(1, 5 * crate::SECOND).await);
}

#[tokio::test]
async fn without_allowed_origins_no_cors_headers_are_sent() {
    let bench = Bench::answering(|launch| launch).await;
    let own = format!("http://{}", bench.proxy.authority());
    let answer = Ask::chat(&chat()).header("origin", &own).send(&bench.proxy).await;
    assert_eq!(answer.status, 200);
    assert!(!answer.headers.contains_key("access-control-allow-origin") && !answer.headers.contains_key("vary"));
}
