//! The end of a stream: by its terminal event, a timeout, a truncation, or the client; over HTTP/1.1 and
//! HTTP/2.

use std::io::Write as _;
use std::sync::Arc;

use codex_proxy::error::{Phase, ProxyError};
use codex_proxy::net::{self, HttpClient};
use codex_proxy::token_source::TokenSource;
use codex_proxy::upstream::{ForwardedHeaders, Upstream};
use tokio::time::timeout;

use crate::fake::{FakeUpstream, Gate, Script};
use crate::{
    Bench, COMPLETED, CREATED, DELTA, OVERLOADED, QUOTA, ROUTING, SECOND, Tokens, WHOLE, drain, http, request, settings,
};

#[tokio::test]
async fn a_response_has_its_events_and_allowed_headers() {
    let bench = Bench::new().await;
    let headers = [
        ("x-codex-primary-used-percent", "12"),
        ("openai-model", "gpt-5.5"),
        ("x-codex-turn-state", "private"),
        ("set-cookie", "a=b"),
    ];
    let script =
        Script::stream(&headers).named("req_1").event(QUOTA).event(CREATED).chunk("data: [DONE]\n\n").event(DELTA);
    bench.fake.on("/responses", script.event(COMPLETED).hang());
    let answer = bench.open().await.unwrap();
    assert_eq!(answer.request_id.as_deref(), Some("req_1"));
    let mut names: Vec<_> = answer.headers.keys().map(|name| name.as_str().to_owned()).collect();
    names.sort_unstable();
    assert_eq!(names, ["openai-model", "x-codex-primary-used-percent"]);
    let (events, error) = drain(answer).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(events, [QUOTA, CREATED, DELTA, COMPLETED]);
    assert!(bench.fake.hung_up(1, 5 * SECOND).await, "the connection is released with the terminal event");
}

#[tokio::test]
async fn an_end_after_the_commit_point_is_a_truncation() {
    for end in [Script::end, Script::cut, Script::reset] {
        let bench = Bench::new().await;
        let gate = Gate::default();
        let script = Script::stream(&[]).event(CREATED).event(DELTA).gate(&gate);
        bench.fake.on("/responses", end(script));
        let answer = bench.open().await.unwrap();
        gate.open();
        let (events, error) = drain(answer).await;
        assert_eq!(events, [CREATED, DELTA]);
        assert!(matches!(error, Some(ProxyError::Truncated { .. })), "{error:?}");
        assert_eq!(bench.calls(), 1);
    }
}

#[tokio::test]
async fn silence_ends_a_stream_and_names_its_phase() {
    let limit = SECOND / 5;
    let bench = Bench::with(|settings| settings.idle_timeout = limit).await;
    bench.fake.on("/responses", Script::stream(&[]).event(CREATED).event(DELTA).hang());
    let (_, error) = drain(bench.open().await.unwrap()).await;
    assert!(matches!(error, Some(ProxyError::Silent { phase: Phase::Streaming, limit: l }) if l == limit), "{error:?}");
    assert!(bench.fake.hung_up(1, 5 * SECOND).await);

    for script in [Script::silence(), Script::stream(&[]).chunk(": keepalive\n\n").hang()] {
        let bench = Bench::with(|settings| settings.first_event_timeout = limit).await;
        bench.fake.on(ROUTING, Script::json(500, ""));
        bench.fake.on("/responses", script);
        let error = bench.open().await.unwrap_err();
        assert!(matches!(error, ProxyError::Silent { phase: Phase::FirstEvent, .. }), "{error:?}");
        assert_eq!(bench.calls(), 1);
    }
}

#[tokio::test]
async fn metadata_does_not_extend_the_limit_for_the_first_event() {
    let limit = SECOND / 5;
    let bench = Bench::with(|settings| settings.first_event_timeout = limit).await;
    bench.fake.on(ROUTING, Script::json(500, ""));
    bench.fake.on("/responses", Script::stream(&[]).event(QUOTA).event(r#"{"type":"keepalive"}"#).hang());
    let error = bench.open().await.unwrap_err();
    assert!(matches!(error, ProxyError::Silent { phase: Phase::FirstEvent, limit: l } if l == limit), "{error:?}");
    assert_eq!(bench.calls(), 1);
}

#[tokio::test]
async fn events_before_the_answer_are_limited_together() {
    let bench = Bench::new().await;
    let many = (0..100).fold(Script::stream(&[]), |script, _| script.event(QUOTA));
    bench.fake.on("/responses", many.event(CREATED).event(DELTA).hang());
    let error = bench.open().await.unwrap_err();
    assert!(matches!(error, ProxyError::EventTooLarge { limit_bytes: 4096 }), "{error:?}");
    assert_eq!(bench.calls(), 1);
    assert!(bench.fake.hung_up(1, 5 * SECOND).await);
}

#[tokio::test]
async fn an_event_over_the_limit_ends_the_stream() {
    let bench = Bench::new().await;
    let long = format!(r#"{{"type":"response.output_text.delta","delta":"{}"}}"#, "x".repeat(5000));
    bench.fake.on("/responses", Script::stream(&[]).event(CREATED).event(DELTA).event(&long).hang());
    let (events, error) = drain(bench.open().await.unwrap()).await;
    assert_eq!(events, [CREATED, DELTA]);
    assert!(matches!(error, Some(ProxyError::EventTooLarge { limit_bytes: 4096 })), "{error:?}");
}

#[tokio::test]
async fn dropping_an_open_call_closes_the_connection_in_every_phase() {
    let phases = [Script::silence(), Script::stream(&[]).hang(), Script::stream(&[]).event(CREATED).hang()];
    for script in phases {
        let bench = Bench::new().await;
        bench.fake.on("/responses", script);
        let forwarded = ForwardedHeaders::default();
        tokio::select! {
            opened = crate::open(&bench.upstream, request(), &forwarded) => panic!("{opened:?}"),
            _ = bench.fake.received("/responses", 1) => {}
        }
        assert!(bench.fake.hung_up(1, 5 * SECOND).await);
    }
}

#[tokio::test]
async fn dropping_an_open_call_stops_connecting() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/backend-api/codex", listener.local_addr().unwrap().port());
    let upstream = Arc::new(Upstream::new(settings(&url), http(), Arc::new(Tokens::default())));
    let forwarded = ForwardedHeaders::default();
    let mut connection = tokio::select! {
        opened = crate::open(&upstream, request(), &forwarded) => panic!("{opened:?}"),
        accepted = listener.accept() => accepted.unwrap().0,
    };
    let mut hello = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut connection, &mut hello);
    let gone = timeout(SECOND, read).await;
    assert!(gone.is_ok(), "the half-open TLS connection is closed");
}

#[tokio::test]
async fn dropping_an_open_call_ends_its_retries() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", Script::answer(503, &[("retry-after", "1")], ""));
    let early = timeout(SECOND / 2, crate::open(&bench.upstream, request(), &ForwardedHeaders::default())).await;
    assert!(early.is_err());
    let more = timeout(SECOND, bench.fake.received("/responses", 2)).await;
    assert!(more.is_err(), "no request is repeated");
}

#[tokio::test]
async fn dropping_the_events_closes_the_connection() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", Script::stream(&[]).event(CREATED).event(DELTA).hang());
    let answer = bench.open().await.unwrap();
    drop(answer);
    assert!(bench.fake.hung_up(1, 5 * SECOND).await);
}

/// A client for a backend with HTTP/2 over TLS that trusts its certificate.
pub(crate) async fn over_http2() -> Bench {
    let (fake, certificate) = FakeUpstream::start_http2().await;
    let mut bundle = tempfile::NamedTempFile::new().unwrap();
    bundle.write_all(certificate.as_bytes()).unwrap();
    let ca_file = Some(bundle.path().to_owned());
    let http = HttpClient::new(net::Settings { connect_timeout: 5 * SECOND, ca_file, proxy: None });
    let settings = settings(&fake.url());
    http.client_for(&settings.url).await.unwrap();
    let tokens = Arc::new(Tokens::default());
    let upstream = Arc::new(Upstream::new(settings, http, Arc::clone(&tokens) as Arc<dyn TokenSource>));
    Bench { fake, upstream, tokens }
}

#[tokio::test]
async fn http2_supports_responses_retries_and_truncation() {
    let bench = over_http2().await;
    let gate = Gate::default();
    bench.fake.on("/responses", Script::json(503, ""));
    bench.fake.on("/responses", Script::events(&[CREATED, OVERLOADED]));
    bench.fake.on("/responses", Script::events(&WHOLE));
    bench.fake.on("/responses", Script::stream(&[]).event(CREATED).event(DELTA).gate(&gate).reset());
    let (events, error) = drain(bench.open().await.unwrap()).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(events, WHOLE);
    assert_eq!(bench.fake.requests("/responses")[0].header("authorization"), "Bearer at_0");
    let answer = bench.open().await.unwrap();
    gate.open();
    let (events, error) = drain(answer).await;
    assert_eq!(events, [CREATED, DELTA]);
    assert!(matches!(error, Some(ProxyError::Truncated { cause: Some(_) })), "{error:?}");
}

#[tokio::test]
async fn http2_streams_end_with_their_client_without_affecting_others() {
    let bench = over_http2().await;
    let gate = Gate::default();
    bench.fake.on("/responses", Script::stream(&[]).event(CREATED).event(DELTA).gate(&gate).event(COMPLETED).end());
    bench.fake.on("/responses", Script::stream(&[]).event(CREATED).event(DELTA).hang());
    bench.fake.on("/responses", Script::silence());
    let other = bench.open().await.unwrap();
    drop(bench.open().await.unwrap());
    assert!(bench.fake.hung_up(1, 5 * SECOND).await, "while streaming");
    let forwarded = ForwardedHeaders::default();
    tokio::select! {
        opened = crate::open(&bench.upstream, request(), &forwarded) => panic!("{opened:?}"),
        _ = bench.fake.received("/responses", 3) => {}
    }
    assert!(bench.fake.hung_up(2, 5 * SECOND).await, "before the headers");
    gate.open();
    let (events, error) = drain(other).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(events, [CREATED, DELTA, COMPLETED]);
}
