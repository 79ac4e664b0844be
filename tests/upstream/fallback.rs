//! The fallback from a WebSocket to server-sent events.

use codex_proxy::error::{Fault, ProxyError};
use codex_proxy::upstream::Transport;

use crate::fake::Script;
use crate::websocket::{ask, bench, once};
use crate::{WHOLE, request};

#[tokio::test]
async fn without_websocket_support_auto_falls_back_and_remembers_it() {
    for refusal in [Script::answer(426, &[], ""), Script::answer(403, &[], "<html>"), Script::answer(502, &[], "")] {
        let bench = once(Transport::Auto).await;
        bench.fake.on("/responses", refusal);
        bench.fake.on("/responses", Script::events(&WHOLE));
        for _ in 0..2 {
            assert_eq!(ask(&bench, request()).await.0, WHOLE);
        }
        let sent = bench.fake.requests("/responses");
        let methods: Vec<_> = sent.iter().map(|request| request.method.as_str()).collect();
        assert_eq!(methods, ["GET", "POST", "POST"]);
        assert!(bench.fake.handshakes().is_empty());
    }
}

#[tokio::test]
async fn auto_falls_back_if_every_websocket_is_cut() {
    let bench = bench(Transport::Auto).await;
    bench.fake.on("/responses", Script::default().cut());
    bench.fake.on("/responses", Script::events(&WHOLE));
    assert_eq!(ask(&bench, request()).await.0, WHOLE);
    assert_eq!((bench.fake.handshakes().len(), bench.calls()), (1, 2));
    assert_eq!(bench.fake.requests("/responses")[1].header("upgrade"), "", "the second attempt is a POST");
}

#[tokio::test]
async fn with_websocket_required_a_refused_handshake_is_an_error() {
    let bench = bench(Transport::WebSocket).await;
    bench.fake.on("/responses", Script::answer(426, &[], ""));
    let Err(ProxyError::Upstream(failure)) = bench.open().await else { panic!("a failure") };
    assert_eq!((failure.fault, failure.status), (Fault::WrongPlace, Some(426)));
    assert!(failure.message.contains("upstream.transport"), "{}", failure.message);
    assert_eq!(bench.calls(), 1);
}

#[tokio::test]
async fn account_errors_do_not_cause_a_fallback() {
    let bench = bench(Transport::Auto).await;
    bench.fake.on("/responses", Script::answer(401, &[], ""));
    bench.fake.on("/responses", Script::events(&WHOLE));
    assert_eq!(ask(&bench, request()).await.0, WHOLE);
    assert_eq!(bench.fake.handshakes()[0].header("authorization"), "Bearer at_1");
    assert_eq!(bench.fake.requests("/responses")[1].method, "POST");

    let limit = r#"{"error":{"type":"usage_limit_reached","plan_type":"plus","resets_in_seconds":90}}"#;
    bench.fake.replace("/responses", Script::answer(429, &[("X-Codex-Primary-Used-Percent", "100")], limit));
    let Err(ProxyError::Upstream(failure)) = bench.open().await else { panic!("a failure") };
    assert_eq!((failure.fault, failure.status), (Fault::UsageLimit, Some(429)));
    assert_eq!(failure.headers["x-codex-primary-used-percent"], "100");
}
