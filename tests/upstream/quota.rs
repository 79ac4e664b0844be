//! A quota that is spent: asked for once, then known.

use std::time::Duration;

use codex_proxy::error::{Fault, ProxyError};

use crate::fake::Script;
use crate::{Bench, WHOLE, fault};

const FAMILY: [(&str, &str); 3] = [
    ("content-type", "application/json"),
    ("x-codex-active-limit", "premium"),
    ("x-codex-primary-window-minutes", "300"),
];
const SPENT: &str = r#"{"error":{"type":"usage_limit_reached","plan_type":"plus","resets_in_seconds":13872}}"#;

fn spent(used_percent: &str) -> Script {
    Script::answer(429, &[&FAMILY[..], &[("x-codex-primary-used-percent", used_percent)]].concat(), SPENT)
}

#[tokio::test]
async fn a_spent_quota_is_asked_for_once() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", spent("100"));
    for _ in 0..3 {
        let Err(ProxyError::Upstream(failure)) = bench.open().await else { panic!("a failure") };
        assert_eq!(failure.fault, Fault::UsageLimit);
        assert!(failure.retry_after.is_some_and(|wait| wait > Duration::from_secs(13_000)), "{failure:?}");
        let told = "ChatGPT usage limit reached for plan plus (5-hour window); resets in 3 h 51 min.";
        assert_eq!(failure.message, told);
        assert_eq!(failure.headers["x-codex-active-limit"], "premium");
    }
    assert_eq!((bench.calls(), bench.upstream.tally().quota_answers), (1, 2));
}

#[tokio::test]
async fn a_probe_that_succeeds_ends_it() {
    let bench = Bench::with(|settings| settings.quota_probe = Duration::ZERO).await;
    bench.fake.on("/responses", spent("100"));
    bench.fake.on("/responses", spent("100"));
    bench.fake.on("/responses", Script::events(&WHOLE));
    assert_eq!([fault(bench.open().await), fault(bench.open().await)], [Fault::UsageLimit; 2]);
    assert!(bench.open().await.is_ok());
    assert_eq!((bench.calls(), bench.upstream.tally().quota_answers), (3, 0));
}

#[tokio::test]
async fn a_refusal_that_its_own_headers_contradict_is_not_remembered() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", spent("12"));
    bench.fake.on("/responses", Script::events(&WHOLE));
    assert_eq!(fault(bench.open().await), Fault::UsageLimit);
    assert!(bench.open().await.is_ok());
}
