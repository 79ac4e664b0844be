//! Broken connections: a request is sent again at once if the connection was stale, and is a failed attempt
//! otherwise.

use std::sync::Arc;

use codex_proxy::endpoint::{Endpoint, Trust};
use codex_proxy::error::ProxyError;
use codex_proxy::net::{HttpClient, SendError};
use codex_proxy::upstream::Upstream;
use reqwest::Response;

use crate::clock::ManualClock;
use crate::fake::{FakeUpstream, Gate, Script};
use crate::streams::over_http2;
use crate::{Bench, SECOND, Tokens, WHOLE, drain, http, settings};

/// A minimal list of models.
const MODELS: &str = r#"{"models":[{"slug":"gpt-5.5"}]}"#;

/// A client that makes one attempt.
async fn impatient() -> Bench {
    Bench::with(|settings| settings.max_retries = 0).await
}

/// Leaves the connections idle for longer than the time after which they may be stale.
pub(crate) async fn idle() {
    // The tasks of the connections put them back into the pool, and may finish opening one that isn't needed anymore.
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    tokio::time::pause();
    tokio::time::advance(6 * SECOND).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_stale_connection_costs_no_attempt_and_no_wait() {
    for stale in [Script::default().cut(), Script::default().reset()] {
        let bench = impatient().await;
        bench.fake.on("/models", Script::json(200, MODELS));
        bench.fake.on("/responses", Script::events(&WHOLE));
        bench.fake.on("/responses", stale);
        bench.fake.on("/responses", Script::events(&WHOLE));
        // The first response may close its connection; that of a document is kept.
        drain(bench.open().await.unwrap()).await;
        bench.upstream.refresh_catalogue().await.unwrap();
        idle().await;
        let opened = bench.upstream.counters().connections_opened;
        let (events, error) = drain(bench.open().await.unwrap()).await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!((events, bench.calls()), (WHOLE.map(str::to_owned).to_vec(), 3));
        assert_eq!(bench.upstream.counters().connections_opened, opened + 1);
    }
}

#[tokio::test]
async fn a_connection_that_breaks_right_after_its_last_use_is_a_failed_attempt() {
    for broken in [Script::default().cut(), Script::default().reset()] {
        let bench = impatient().await;
        // The route was requested on the same connection. The backend may be processing the request.
        bench.fake.on("/responses", broken);
        let error = bench.open().await.unwrap_err();
        assert!(matches!(error, ProxyError::Unreachable { .. }), "{error:?}");
        assert_eq!((bench.calls(), bench.upstream.counters().connections_opened), (1, 1));
    }
}

/// A client and a backend, without retries.
struct Wire {
    http: HttpClient,
    fake: FakeUpstream,
    endpoint: Endpoint,
}

impl Wire {
    async fn new() -> Self {
        let fake = FakeUpstream::start().await;
        let endpoint = Endpoint::parse(&fake.url(), Trust::KnownHosts).unwrap();
        Self { http: http(), fake, endpoint }
    }

    async fn get(&self, path: &str) -> Response {
        let url = self.endpoint.join(path);
        self.http.send(&self.endpoint, |client| client.get(url.clone())).await.unwrap()
    }

    async fn post(&self, path: &str) -> Result<Response, SendError> {
        let url = self.endpoint.join(path);
        self.http.send(&self.endpoint, |client| client.post(url.clone())).await
    }
}

#[tokio::test]
async fn a_break_abandons_the_other_open_connections() {
    let wire = Wire::new().await;
    let gate = Gate::default();
    wire.fake.on("/models", Script::stream(&[]).gate(&gate).end());
    wire.fake.on("/models", Script::json(200, MODELS));
    let held = wire.get("/models").await;
    wire.get("/models").await.text().await.unwrap();
    gate.open();
    held.text().await.unwrap();
    assert_eq!(wire.http.connections_opened(), 2);
    wire.fake.on("/responses", Script::default().cut());
    wire.fake.on("/responses", Script::json(200, "{}"));
    assert!(matches!(wire.post("/responses").await, Err(SendError::Transport(_))));
    assert_eq!(wire.http.connections_opened(), 2, "the failure was on an open connection");
    wire.post("/responses").await.unwrap();
    assert_eq!(wire.http.connections_opened(), 3);
}

#[tokio::test]
async fn a_resent_request_counts_as_active() {
    let wire = Wire::new().await;
    let gate = Gate::default();
    wire.fake.on("/models", Script::json(200, MODELS));
    wire.fake.on("/responses", Script::default().cut());
    wire.fake.on("/responses", Script::stream(&[]).gate(&gate).end());
    wire.fake.on("/responses", Script::default().cut());
    wire.get("/models").await.text().await.unwrap();
    idle().await;
    let under_way = wire.post("/responses").await.unwrap();
    wire.get("/models").await.text().await.unwrap();
    idle().await;
    assert!(wire.post("/responses").await.is_err());
    assert_eq!(wire.fake.requests("/responses").len(), 3, "one of the open connections was in use");
    gate.open();
    under_way.text().await.unwrap();
}

#[tokio::test]
async fn a_safe_request_is_sent_again_whenever_its_connection_breaks() {
    let bench = impatient().await;
    bench.fake.on("/models", Script::json(200, MODELS));
    bench.fake.on("/models", Script::default().cut());
    bench.fake.on("/models", Script::json(200, MODELS));
    bench.upstream.refresh_catalogue().await.unwrap();
    bench.upstream.refresh_catalogue().await.unwrap();
    assert_eq!(bench.fake.requests("/models").len(), 3);
}

#[tokio::test]
async fn a_new_connection_that_breaks_is_a_failed_attempt() {
    let bench = impatient().await;
    bench.fake.on("/responses", Script::default().cut());
    for calls in [1, 2] {
        assert!(matches!(bench.open().await, Err(ProxyError::Unreachable { .. })));
        assert_eq!(bench.calls(), calls);
    }
}

#[tokio::test]
async fn an_idle_connection_that_was_closed_is_not_used() {
    let bench = impatient().await;
    bench.fake.on(crate::ROUTING, Script::json(200, "{}").cut());
    bench.fake.on("/responses", Script::events(&WHOLE));
    bench.open().await.unwrap();
    assert_eq!(bench.calls(), 1);
}

/// Fails if `net::stale_retry` no longer recognizes the errors of the `h2` that the client uses.
#[tokio::test]
async fn http2_keeps_its_connection_when_one_stream_is_reset() {
    let bench = over_http2().await;
    for script in [Script::events(&WHOLE), Script::default().reset(), Script::events(&WHOLE)] {
        bench.fake.on("/responses", script);
    }
    drain(bench.open().await.unwrap()).await;
    idle().await;
    bench.open().await.unwrap();
    let tally = bench.upstream.counters();
    assert_eq!((tally.connections_opened, tally.retries), (1, 1), "the backend may have processed it");
}

/// Fails if the client no longer recognizes it.
#[tokio::test]
async fn http2_sends_a_refused_stream_again_at_once() {
    let bench = over_http2().await;
    bench.fake.on("/responses", Script::refused());
    bench.fake.on("/responses", Script::events(&WHOLE));
    bench.open().await.unwrap();
    let tally = bench.upstream.counters();
    assert_eq!((tally.connections_opened, tally.retries, bench.calls()), (1, 0, 2));
}

#[tokio::test]
async fn connections_are_reopened_after_a_sleep() {
    let (fake, clock) = (FakeUpstream::start().await, Arc::new(ManualClock::new()));
    fake.on("/models", Script::json(200, MODELS));
    let http = http().with_clock(Arc::clone(&clock) as _);
    let upstream = Arc::new(Upstream::new(settings(&fake.url()), http, Arc::new(Tokens::default())));
    for opened in [1, 1] {
        upstream.refresh_catalogue().await.unwrap();
        assert_eq!(upstream.counters().connections_opened, opened);
    }
    clock.advance(3600 * SECOND);
    upstream.refresh_catalogue().await.unwrap();
    assert_eq!(upstream.counters().connections_opened, 2);
}

#[tokio::test]
async fn calls_are_counted_while_they_are_open() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", Script::json(503, ""));
    bench.fake.on("/responses", Script::events(&WHOLE));
    let answer = bench.open().await.unwrap();
    let tally = bench.upstream.counters();
    assert_eq!((tally.open, tally.retries), (1, 1));
    drop(answer);
    assert_eq!(bench.upstream.counters().open, 0);
}
