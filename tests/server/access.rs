//! Access rules: no foreign web pages, no DNS rebinding, and no access without a key if keys are set.

use serde_json::json;

use crate::connections;
use crate::fake::FakeUpstream;
use crate::wire::Ask;
use crate::{Bench, chat, signed_in};

const KEY: &str = "sk-local-1";

async fn keyed() -> Bench {
    Bench::answering(|launch| launch.setting("api_keys", &format!("{KEY},sk-local-2"))).await
}

#[tokio::test]
async fn a_web_page_reaches_nothing() {
    let bench = Bench::answering(|launch| launch).await;
    let ask = Ask::chat(&chat());
    let page = "https://evil.invalid";
    let refused = [
        (ask.clone().header("origin", page), 403, "foreign_origin"),
        (ask.clone().header("origin", "null"), 403, "foreign_origin"),
        (ask.clone().header("origin", "http://localhost:3000"), 403, "foreign_origin"),
        (ask.clone().header("host", "rebound.invalid"), 403, "foreign_host"),
        (
            ask.clone().header("host", "rebound.invalid:80").header("origin", "http://rebound.invalid"),
            403,
            "foreign_host",
        ),
        (ask.clone().header("content-type", "text/plain"), 415, "unsupported_content_type"),
        (ask.clone().without("content-type"), 415, "unsupported_content_type"),
        (
            Ask::raw("/v1/chat/completions", "model=gpt-5.5&messages=hi")
                .header("content-type", "application/x-www-form-urlencoded"),
            415,
            "unsupported_content_type",
        ),
        (ask.clone().header("content-type", "multipart/form-data; boundary=x"), 415, "unsupported_content_type"),
        (ask.clone().header("content-type", "application/vnd.api+json"), 415, "unsupported_content_type"),
        (
            ask.clone().header("content-type", "application/x-www-form-urlencoded,a/b+json"),
            415,
            "unsupported_content_type",
        ),
        (Ask::get("/v1/models").header("origin", page), 403, "foreign_origin"),
        (Ask::get("/health").header("host", "rebound.invalid"), 403, "foreign_host"),
        (Ask::new("OPTIONS", "/v1/chat/completions").header("origin", page), 403, "foreign_origin"),
    ];
    for (ask, status, code) in refused {
        let answer = ask.send(&bench.proxy).await;
        assert_eq!((answer.status, answer.error()["code"].as_str()), (status, Some(code)), "{}", answer.text());
        assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("access-control-")));
    }
    assert_eq!(bench.request_count(), 0);
    assert_eq!(ask.send(&bench.proxy).await.status, 200, "valid requests are accepted");
}

#[tokio::test]
async fn our_own_page_and_allowed_hosts_are_accepted() {
    let bench = Bench::answering(|launch| {
        launch.setting("allowed_hosts", "proxy.home.arpa").setting("allowed_origins", "app://notes")
    })
    .await;
    let own = format!("http://{}", bench.proxy.authority());
    for ask in [
        Ask::chat(&chat()).header("origin", &own),
        Ask::chat(&chat()).header("origin", "app://notes"),
        Ask::chat(&chat()).header("host", "proxy.home.arpa:8787"),
        Ask::chat(&chat()).header("content-type", "application/json; charset=utf-8"),
        Ask::chat(&chat()).header("authorization", "Bearer anything"),
    ] {
        assert_eq!(ask.send(&bench.proxy).await.status, 200);
    }
}

#[tokio::test]
async fn a_key_is_required_if_keys_are_set() {
    let bench = keyed().await;
    for ask in [
        Ask::chat(&chat()),
        Ask::get("/v1/models"),
        Ask::get("/unknown"),
        Ask::chat(&chat()).header("authorization", "Bearer sk-local-3"),
        Ask::chat(&chat()).header("authorization", &format!("Basic {KEY}")),
        Ask::chat(&chat()).header("x-api-key", ""),
        Ask::chat(&chat()).header("api-key", "sk-local-"),
    ] {
        let answer = ask.send(&bench.proxy).await;
        assert_eq!((answer.status, answer.error()["code"].as_str()), (401, Some("invalid_api_key")));
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    assert_eq!(bench.request_count(), 0);
    assert_eq!(Ask::get("/health").send(&bench.proxy).await.status, 200);
    assert_eq!(Ask::get("/ready").send(&bench.proxy).await.status, 200);
}

#[tokio::test]
async fn each_header_may_carry_the_key_and_allows_any_host_name() {
    let bench = keyed().await;
    let bearer = format!("Bearer {KEY}");
    let keys = [("authorization", &*bearer), ("x-api-key", KEY), ("api-key", "sk-local-2"), ("x-goog-api-key", KEY)];
    for (name, value) in keys {
        let ask = Ask::chat(&chat()).header(name, value);
        assert_eq!(ask.clone().send(&bench.proxy).await.status, 200, "{name}");
        let ask = ask.header("host", "host.docker.internal:8787");
        assert_eq!(ask.clone().send(&bench.proxy).await.status, 200, "{name}");
        let answer = ask.header("origin", "https://evil.invalid").send(&bench.proxy).await;
        assert_eq!(answer.status, 403, "a key does not permit a web page");
    }
}

#[tokio::test]
async fn the_client_key_is_never_forwarded() {
    let bench = keyed().await;
    let ask = Ask::chat(&chat()).header("authorization", &format!("Bearer {KEY}")).header("x-api-key", KEY);
    let ask =
        ask.header("api-key", KEY).header("cookie", "c=client-cookie").header("chatgpt-account-id", "client-account");
    assert_eq!(ask.send(&bench.proxy).await.status, 200);
    let sent = bench.upstream.requests("/responses").remove(0);
    assert_eq!(sent.header("authorization"), "Bearer at_secret");
    assert_eq!(sent.header("chatgpt-account-id"), "acct-1");
    let reported = format!("{:?} {}", sent.headers, String::from_utf8(sent.body).unwrap());
    for secret in [KEY, "client-cookie", "client-account"] {
        assert!(!reported.contains(secret), "{reported}");
    }
}

#[tokio::test]
async fn the_upstream_token_does_not_follow_a_redirect() {
    let bench = Bench::new().await;
    let elsewhere = FakeUpstream::start().await;
    let target = format!("{}/responses", elsewhere.url());
    for status in [301, 302, 307, 308] {
        bench.upstream.on("/responses", crate::Script::answer(status, &[("location", &target)], ""));
    }
    for _ in 0..4 {
        let answer = Ask::chat(&chat()).send(&bench.proxy).await;
        assert_eq!((answer.status, answer.error()["type"].as_str()), (502, Some("upstream_error")));
    }
    assert_eq!(bench.request_count(), 4);
    assert_eq!(elsewhere.requests("").len(), 0);
}

#[tokio::test]
async fn the_upstream_token_does_not_follow_a_workspace_to_a_foreign_host() {
    let upstream = FakeUpstream::start().await;
    let accounts = json!({"accounts": [{"id": "acct-1", "workspace_backend_origin": "https://elsewhere.invalid"}]});
    upstream.on("/backend-api/wham/accounts/check", crate::Script::json(200, &accounts.to_string()));
    upstream.on("/responses", crate::Script::events(&crate::WHOLE));
    let proxy = signed_in(&upstream).start();
    assert_eq!(Ask::chat(&chat()).send(&proxy).await.status, 200);
    assert_eq!(upstream.requests("/responses").len(), 1, "the default address serves instead");
    proxy.says("workspace routing could not be requested", crate::SECOND).await;
}

#[tokio::test]
async fn an_unknown_backend_host_requires_trust_host() {
    let upstream = FakeUpstream::start().await;
    let relay = signed_in(&upstream).setting("upstream.url", "https://relay.invalid/codex").run();
    assert_eq!(relay.status.code(), Some(2));
    let reported = String::from_utf8(relay.stderr).unwrap();
    assert!(reported.contains("relay.invalid") && reported.contains("upstream.trust_host"), "{reported}");
}

#[tokio::test]
async fn a_page_of_another_site_reaches_nothing_by_links_and_images() {
    let bench = Bench::answering(|launch| launch.setting("allowed_origins", "https://chat.example")).await;
    for site in ["cross-site", "same-site"] {
        let from = |path: &str, mode: &str, dest: &str| {
            Ask::get(path).header("sec-fetch-site", site).header("sec-fetch-mode", mode).header("sec-fetch-dest", dest)
        };
        for ask in [
            from("/v1/models", "no-cors", "image"),
            from("/usage", "no-cors", "script"),
            from("/metrics", "navigate", "document"),
            from("/ready", "no-cors", "empty"),
            from("/v1/responses/resp_1", "no-cors", "image"),
            from("/", "no-cors", "image"),
            from("/", "navigate", "iframe").header("accept", "text/html"),
        ] {
            let answer = ask.send(&bench.proxy).await;
            assert_eq!(
                (answer.status, answer.error()["code"].as_str()),
                (403, Some("cross_site")),
                "{}",
                answer.text()
            );
        }
        assert_eq!(
            from("/", "navigate", "document").header("accept", "text/html").send(&bench.proxy).await.status,
            200
        );
        assert_eq!(from("/health", "no-cors", "image").send(&bench.proxy).await.status, 200);
        let allowed = from("/v1/models", "cors", "empty").header("origin", "https://chat.example");
        assert_eq!(allowed.send(&bench.proxy).await.status, 200);
    }
    for site in ["none", "same-origin"] {
        assert_eq!(Ask::get("/usage").header("sec-fetch-site", site).send(&bench.proxy).await.status, 200);
    }
    assert_eq!(bench.request_count(), 0);
}

#[tokio::test]
async fn an_app_that_removes_origin_can_send_requests() {
    let bench = Bench::answering(|launch| launch.file("config.toml", "[[keys]]\nname = 'app'\nkey = 'sk-1'\n")).await;
    for ask in [Ask::chat(&chat()), Ask::get("/v1/models")] {
        let answer = ask.header("sec-fetch-site", "cross-site").header("x-api-key", "sk-1").send(&bench.proxy).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[tokio::test]
async fn a_request_with_two_hosts_is_refused() {
    let bench = Bench::answering(|launch| launch).await;
    for (path, extra) in [
        ("/v1/chat/completions", "host: localhost\r\nhost: evil.invalid\r\n"),
        ("/v1/chat/completions", "host: localhost\r\nhost: localhost\r\n"),
        ("/health", "host: localhost\r\nhost: localhost\r\n"),
        ("http://localhost/v1/chat/completions", "host: localhost\r\nhost: localhost\r\n"),
        ("/v1/chat/completions", "host: localhost\r\ncontent-type: text/plain\r\n"),
    ] {
        let body = chat().to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\n{extra}content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let stream = connections::sending(&bench.proxy, format!("{head}{body}")).await;
        let answer = connections::rest(stream).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("more than one"), "{answer}");
    }
    assert_eq!(bench.request_count(), 0);
}
