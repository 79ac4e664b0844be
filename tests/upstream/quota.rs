//! A used-up quota: requested once, then cached.

use std::time::Duration;

use codex_proxy::error::{Fault, ProxyError};
use codex_proxy::secret::Secret;
use codex_proxy::token_source::{Account, Bearer};
use futures_util::FutureExt;

use crate::fake::Script;
use crate::{Bench, WHOLE, fault};

const FAMILY: [(&str, &str); 3] = [
    ("content-type", "application/json"),
    ("x-codex-active-limit", "premium"),
    ("x-codex-primary-window-minutes", "300"),
];
const SPENT: &str = r#"{"error":{"type":"usage_limit_reached","plan_type":"plus","resets_in_seconds":13872}}"#;

const USAGE: &str = "/backend-api/wham/usage";
const WINDOW: &str = r#"{"rate_limit":{"primary_window":{"used_percent":60,"limit_window_seconds":18000}}}"#;

pub(crate) fn spent(used_percent: &str) -> Script {
    Script::answer(429, &[&FAMILY[..], &[("x-codex-primary-used-percent", used_percent)]].concat(), SPENT)
}

fn bearer(account: &str) -> Bearer {
    let account = Account { id: account.to_owned(), is_fedramp: false };
    Bearer { token: Secret::new("at_0"), account }
}

#[tokio::test]
async fn a_used_up_quota_is_requested_once() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", spent("100"));
    for _ in 0..3 {
        let Err(ProxyError::Upstream(failure)) = bench.open().await else { panic!("a failure") };
        assert_eq!(failure.fault, Fault::UsageLimit);
        assert!(failure.retry_after.is_some_and(|wait| wait > Duration::from_secs(13_000)), "{failure:?}");
        let reported = "ChatGPT usage limit reached for plan plus (5-hour window); resets in 3 h 51 min.";
        assert_eq!(failure.message, reported);
        assert_eq!(failure.headers["x-codex-active-limit"], "premium");
    }
    assert_eq!((bench.calls(), bench.upstream.counters().quota_refusals), (1, 2));
}

#[tokio::test]
async fn a_successful_probe_ends_the_refusals() {
    let bench = Bench::with(|settings| settings.quota_probe = Duration::ZERO).await;
    bench.fake.on("/responses", spent("100"));
    bench.fake.on("/responses", spent("100"));
    bench.fake.on("/responses", Script::events(&WHOLE));
    assert_eq!([fault(bench.open().await), fault(bench.open().await)], [Fault::UsageLimit; 2]);
    assert!(bench.open().await.is_ok());
    assert_eq!((bench.calls(), bench.upstream.counters().quota_refusals), (3, 0));
}

#[tokio::test]
async fn a_quota_error_that_its_headers_contradict_is_not_remembered() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", spent("12"));
    bench.fake.on("/responses", Script::events(&WHOLE));
    assert_eq!(fault(bench.open().await), Fault::UsageLimit);
    assert!(bench.open().await.is_ok());
}

#[tokio::test]
async fn a_request_for_one_account_does_not_wait_for_the_quota_of_another() {
    let bench = Bench::new().await;
    bench.fake.on(USAGE, Script::silence());
    bench.fake.on(USAGE, Script::json(200, WINDOW));
    let [first, second] = ["acct-1", "acct-2"].map(bearer);
    let slow = bench.upstream.check_reserve(&first, Some("laptop"), 50);
    let other = async {
        bench.fake.received(USAGE, 1).await;
        bench.upstream.check_reserve(&second, Some("phone"), 50).await
    };
    tokio::select! {
        _ = slow => panic!("the backend does not answer it"),
        checked = other => assert!(matches!(checked, Err(ProxyError::Reserved(_))), "{checked:?}"),
    }
}

#[tokio::test]
async fn a_client_that_disconnects_lets_no_other_request_pass_unchecked() {
    let bench = Bench::new().await;
    bench.fake.on(USAGE, Script::silence());
    bench.fake.on(USAGE, Script::json(200, WINDOW));
    let bearer = bearer("acct-1");
    let check = || Box::pin(bench.upstream.check_reserve(&bearer, Some("laptop"), 50));
    let mut first = check();
    tokio::select! {
        _ = &mut first => panic!("the backend does not answer it"),
        () = async { drop(bench.fake.received(USAGE, 1).await) } => {}
    }
    let mut waiting = check();
    assert!((&mut waiting).now_or_never().is_none());
    drop(first);
    for checked in [waiting.await, check().await] {
        assert!(matches!(checked, Err(ProxyError::Reserved(_))), "{checked:?}");
    }
}
