//! Connections that have died unseen: a request which meets one is sent again at once, on a new one.

use std::sync::Arc;

use codex_proxy::error::ProxyError;
use codex_proxy::upstream::Upstream;

use crate::clock::ManualClock;
use crate::fake::{FakeUpstream, Script};
use crate::streams::over_http2;
use crate::{Bench, SECOND, Tokens, WHOLE, drain, http, settings};

/// A list of models, as short as it may be.
const MODELS: &str = r#"{"models":[{"slug":"gpt-5.5"}]}"#;

/// A client that tries everything once.
async fn impatient() -> Bench {
    Bench::with(|settings| settings.max_retries = 0).await
}

#[tokio::test]
async fn a_stale_connection_costs_no_attempt_and_no_wait() {
    for stale in [Script::default().cut(), Script::default().reset()] {
        let bench = impatient().await;
        // The route was asked for on the connection that is stale now.
        bench.fake.on("/responses", stale);
        bench.fake.on("/responses", Script::events(&WHOLE));
        let (events, error) = drain(bench.open().await.unwrap()).await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!((events, bench.calls()), (WHOLE.map(str::to_owned).to_vec(), 2));
        assert_eq!(bench.upstream.tally().connections_opened, 2);
    }
}

#[tokio::test]
async fn a_new_connection_that_breaks_is_a_failed_attempt() {
    let bench = impatient().await;
    bench.fake.on("/responses", Script::default().cut());
    let error = bench.open().await.unwrap_err();
    assert!(matches!(error, ProxyError::Unreachable { .. }), "{error:?}");
    assert_eq!(bench.calls(), 2, "the stale one, and the new one");
    assert!(matches!(bench.open().await, Err(ProxyError::Unreachable { .. })));
    assert_eq!(bench.calls(), 3, "nothing was open any more");
}

#[tokio::test]
async fn an_idle_connection_that_was_closed_is_not_used() {
    let bench = impatient().await;
    bench.fake.on(crate::ROUTING, Script::json(200, "{}").cut());
    bench.fake.on("/responses", Script::events(&WHOLE));
    bench.open().await.unwrap();
    assert_eq!(bench.calls(), 1);
}

#[tokio::test]
async fn http2_keeps_its_connection_when_one_stream_is_refused() {
    let bench = over_http2().await;
    bench.fake.on("/responses", Script::default().reset());
    bench.fake.on("/responses", Script::events(&WHOLE));
    bench.open().await.unwrap();
    let tally = bench.upstream.tally();
    assert_eq!((tally.connections_opened, tally.retries), (1, 1));
}

#[tokio::test]
async fn connections_are_made_anew_after_a_sleep() {
    let (fake, clock) = (FakeUpstream::start().await, Arc::new(ManualClock::new()));
    fake.on("/models", Script::json(200, MODELS));
    let http = http().telling(Arc::clone(&clock) as _);
    let upstream = Upstream::new(settings(&fake.url()), http, Arc::new(Tokens::default()));
    for opened in [1, 1] {
        upstream.refresh_catalogue().await.unwrap();
        assert_eq!(upstream.tally().connections_opened, opened);
    }
    clock.advance(3600 * SECOND);
    upstream.refresh_catalogue().await.unwrap();
    assert_eq!(upstream.tally().connections_opened, 2);
}

#[tokio::test]
async fn calls_are_counted_while_they_are_open() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", Script::json(503, ""));
    bench.fake.on("/responses", Script::events(&WHOLE));
    let answer = bench.open().await.unwrap();
    let tally = bench.upstream.tally();
    assert_eq!((tally.open, tally.retries), (1, 1));
    drop(answer);
    assert_eq!(bench.upstream.tally().open, 0);
}
