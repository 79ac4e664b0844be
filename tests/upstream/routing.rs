//! The destination and content of requests: headers, routing, redirects, unreachable hosts, the catalog.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use codex_proxy::error::{Fault, Phase, ProxyError};
use codex_proxy::net::{self, HttpClient};
use codex_proxy::protocol::codex::request::ServiceTier;
use codex_proxy::upstream::{ForwardedHeaders, Settings, Upstream};

use crate::fake::{FakeUpstream, Script};
use crate::{Bench, ROUTING, SECOND, Tokens, WHOLE, fault, http, request, settings};

#[tokio::test]
async fn only_required_headers_are_sent() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", Script::events(&WHOLE));
    let mut fast = request();
    fast.service_tier = Some(ServiceTier::Priority);
    let forwarded = ForwardedHeaders { originator: Some("my_tool".to_owned()), ..ForwardedHeaders::default() };
    crate::open(&bench.upstream, fast, &forwarded).await.unwrap();
    let sent = &bench.fake.requests("/responses")[0];
    assert_eq!((sent.method.as_str(), sent.target.as_str()), ("POST", "/backend-api/codex/responses"));
    let want = [
        ("accept", "text/event-stream"),
        ("accept-encoding", "zstd,gzip"),
        ("authorization", "Bearer at_0"),
        ("chatgpt-account-id", "acct-1"),
        ("content-type", "application/json"),
        ("originator", "my_tool"),
        ("session-id", "key-1"),
        ("user-agent", "codex-proxy/0 (test)"),
        ("version", "0.171.0"),
        ("x-codex-routing-hint", "model=gpt-5.5;tier=priority"),
        ("x-openai-fedramp", "true"),
    ];
    for (name, value) in want {
        assert_eq!(sent.header(name), value, "{name}");
    }
    let mut names: Vec<_> = sent.headers.keys().map(http::HeaderName::as_str).collect();
    names.retain(|name| !want.iter().any(|(known, _)| known == name));
    names.sort_unstable();
    assert_eq!(names, ["content-length", "host"]);
    assert_eq!(sent.json()["prompt_cache_key"], "key-1");
}

#[tokio::test]
async fn a_redirect_is_never_followed() {
    let elsewhere = FakeUpstream::start().await;
    let bench = Bench::new().await;
    let target = elsewhere.url();
    bench.fake.on("/responses", Script::answer(307, &[("location", target.as_str())], ""));
    bench.fake.on(ROUTING, Script::answer(302, &[("location", target.as_str())], ""));
    assert_eq!(fault(bench.open().await), Fault::WrongPlace);
    assert_eq!(bench.calls(), 1);
    assert!(elsewhere.requests("").is_empty());
}

#[tokio::test]
async fn a_refused_connection_is_reported_with_its_cause() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let upstream = Arc::new(Upstream::new(settings(&url), http(), Arc::new(Tokens::default())));
    let error = crate::open(&upstream, request(), &ForwardedHeaders::default()).await.unwrap_err();
    let ProxyError::Unreachable { cause } = error else { panic!("{error:?}") };
    assert!(cause.to_lowercase().contains("refused") && !cause.contains("at_0"), "{cause}");
}

#[tokio::test]
async fn a_connection_timeout_is_reported_as_such() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let limit = SECOND / 5;
    let http = HttpClient::new(net::Settings { connect_timeout: limit, ca_file: None, proxy: None });
    let upstream =
        Arc::new(Upstream::new(Settings { max_retries: 0, ..settings(&url) }, http, Arc::new(Tokens::default())));
    let error = crate::open(&upstream, request(), &ForwardedHeaders::default()).await.unwrap_err();
    assert!(matches!(error, ProxyError::Silent { phase: Phase::Connecting, limit: l } if l == limit), "{error:?}");
}

#[tokio::test]
async fn a_bound_workspace_is_sent_to_its_origin() {
    let region = FakeUpstream::start().await;
    region.on("/responses", Script::events(&WHOLE));
    let bench = Bench::new().await;
    let body = format!(
        r#"{{"accounts":[{{"id":"acct-1","workspace_backend_origin":"{}","account_routing_override":"us_cr"}}]}}"#,
        region.origin()
    );
    bench.fake.on(ROUTING, Script::json(200, &body));
    for _ in 0..2 {
        bench.open().await.unwrap();
    }
    let sent = region.requests("/responses");
    assert_eq!((sent.len(), bench.calls()), (2, 0));
    assert_eq!(sent[0].header("x-openai-account-routing-override"), "us");
    let requested = bench.fake.requests("/accounts/check");
    assert_eq!(requested.len(), 1, "the route is remembered");
    assert_eq!((requested[0].header("originator"), requested[0].header("chatgpt-account-id")), ("", "acct-1"));
}

#[tokio::test]
async fn unknown_routing_uses_the_default_url() {
    let limit = SECOND;
    for script in [Script::json(500, ""), Script::json(200, "{}"), Script::silence(), Script::json(401, "{}")] {
        let bench = Bench::with(|settings| settings.first_event_timeout = limit).await;
        bench.fake.on(ROUTING, script);
        bench.fake.on("/responses", Script::events(&WHOLE));
        for _ in 0..2 {
            bench.open().await.unwrap();
        }
        let requested = bench.fake.requests("/accounts/check").len();
        assert_eq!((bench.calls(), requested), (2, 1 + bench.tokens.recoveries.load(Ordering::SeqCst)));
        assert_eq!(bench.fake.requests("/responses")[0].header("x-openai-account-routing-override"), "");
    }
}

#[tokio::test]
async fn the_catalog_is_live_then_cached_then_embedded() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("catalogue.json");
    let keep = |settings: &mut Settings| settings.catalogue_file = Some(file.clone());
    let live = r#"{"models":[{"slug":"gpt-live"}]}"#;

    let bench = Bench::with(keep).await;
    assert!(bench.upstream.catalogue().find("gpt-5.5").is_some(), "embedded, before the first response");
    bench.fake.on("/models", Script::json(401, ""));
    bench.fake.on("/models", Script::json(200, live));
    bench.upstream.refresh_catalogue().await.unwrap();
    assert_eq!(bench.upstream.catalogue_document_of(None).json, live);
    assert!(bench.upstream.catalogue().find("gpt-live").is_some());
    let requested = &bench.fake.requests("/models")[1];
    assert_eq!(requested.target, "/backend-api/codex/models?client_version=0.171.0");
    assert_eq!((requested.header("version"), requested.header("originator")), ("0.171.0", "codex_proxy"));
    assert_eq!(requested.header("authorization"), "Bearer at_1");

    let bench = Bench::with(keep).await;
    bench.fake.on("/models", Script::json(500, ""));
    tokio::select! {
        () = bench.upstream.keep_catalogue() => unreachable!("it runs until dropped"),
        _ = bench.fake.received("/models", 1) => {}
    }
    assert_eq!(bench.upstream.catalogue_document_of(None).json, live, "the cached file is used");
}

#[tokio::test]
async fn a_changed_models_etag_reloads_the_catalog() {
    let bench = Bench::new().await;
    bench.fake.on("/models", Script::json(200, r#"{"models":[{"slug":"gpt-live"}]}"#));
    let changed = WHOLE.iter().fold(Script::stream(&[("x-models-etag", "two")]), |script, data| script.event(data));
    bench.fake.on("/responses", changed.end());
    tokio::select! {
        () = bench.upstream.keep_catalogue() => unreachable!("it runs until dropped"),
        () = async {
            bench.fake.received("/models", 1).await;
            bench.open().await.unwrap();
            bench.fake.received("/models", 2).await;
        } => {}
    }
}
