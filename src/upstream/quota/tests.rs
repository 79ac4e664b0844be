use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue};

use super::QuotaTracker;
use super::lookup::NextStep;
use crate::clock::Clock;
use crate::error::{Fault, ProxyError, UpstreamFailure};
use crate::protocol::codex::failure::from_response;

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct TestClock(Mutex<SystemTime>);

impl Clock for TestClock {
    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap()
    }
}

fn clock() -> Arc<TestClock> {
    Arc::new(TestClock(Mutex::new(UNIX_EPOCH + Duration::from_secs(1_795_000_000))))
}

fn tracker(probe_interval: Duration) -> Arc<QuotaTracker> {
    Arc::new(QuotaTracker::new(clock(), probe_interval))
}

fn document(used: u8, week: u8) -> String {
    format!(
        r#"{{"plan_type":"plus","rate_limit":{{
            "primary_window":{{"used_percent":{week},"limit_window_seconds":604800,"reset_after_seconds":302400}},
            "secondary_window":{{"used_percent":{used},"limit_window_seconds":18000,"reset_after_seconds":9000}}}},
            "code_review_rate_limit":{{"primary_window":{{"used_percent":99,"limit_window_seconds":604800}}}}}}"#
    )
}

fn headers(limit: &'static str, used_percent: &'static str) -> HeaderMap {
    let pairs = [("x-codex-active-limit", limit), ("x-codex-primary-used-percent", used_percent)];
    pairs.into_iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
}

fn usage_limit(limit: &'static str, used_percent: &'static str, seconds: u64) -> ProxyError {
    let headers = headers(limit, used_percent);
    let body = format!(r#"{{"error":{{"type":"usage_limit_reached","resets_in_seconds":{seconds}}}}}"#);
    let mut failure = from_response(429, &headers, body.as_bytes());
    failure.headers = headers;
    ProxyError::Upstream(Box::new(failure))
}

fn retry_after(failure: Option<UpstreamFailure>) -> Option<Duration> {
    let failure = failure?;
    assert_eq!(failure.fault, Fault::UsageLimit);
    failure.retry_after
}

#[tokio::test(start_paused = true)]
async fn the_last_report_is_valid_until_a_window_resets() {
    let clock = clock();
    let tracker = Arc::new(QuotaTracker::new(Arc::clone(&clock) as Arc<dyn Clock>, MINUTE));
    let is_due = |account| !matches!(tracker.lookup(account, MINUTE), NextStep::Recent);
    assert!(matches!(tracker.lookup("c", MINUTE), NextStep::Start(_)) && tracker.quota("c").is_none());
    assert!(tracker.record_usage("a", document(60, 20).as_bytes()));
    assert!(!is_due("a") && is_due("b"));
    let beyond = |percent: u8| tracker.quota("a").unwrap().window_beyond(percent).map(|window| window.window.clone());
    assert_eq!([beyond(60), beyond(59), beyond(19)], [None, Some("5-hour".into()), Some("weekly".into())]);

    let event = r#"{"rate_limits":{"primary":{"used_percent":70,"window_minutes":300,"reset_after_seconds":9000}}}"#;
    tracker.observer("a").record_event(event.as_bytes());
    assert_eq!(beyond(69).as_deref(), Some("5-hour"));
    tokio::time::advance(MINUTE).await;
    assert!(is_due("a"));
    let NextStep::Start(request) = tracker.lookup("a", MINUTE) else { panic!("the previous caller gave up") };
    request.finish();
    assert!(!is_due("a"), "the request failed");
    assert!(!tracker.record_usage("a", b"<html>"));
    *clock.0.lock().unwrap() += Duration::from_secs(9000);
    assert_eq!(beyond(1).as_deref(), Some("weekly"), "not in the event");
    assert_eq!(beyond(20), None, "the code review window doesn't count");
    tracker.record_success("a", "m", &headers("codex", "3"));
    assert_eq!(tracker.quota("a").unwrap().windows.len(), 3, "a window of unknown length is not recorded");
    tracker.record_usage("a", br#"{"rate_limit":{"primary_window":{"used_percent":3,"limit_window_seconds":604800}}}"#);
    assert_eq!(tracker.quota("a").unwrap().windows.len(), 1);
}

#[tokio::test]
async fn one_request_per_account_is_in_progress() {
    let tracker = tracker(MINUTE);
    let NextStep::Start(request) = tracker.lookup("a", MINUTE) else { panic!("none is in progress") };
    let NextStep::InProgress(mut ended) = tracker.lookup("a", MINUTE) else { panic!("one is in progress") };
    assert!(matches!(tracker.lookup("b", MINUTE), NextStep::Start(_)), "another account");
    tracker.record_usage("a", document(60, 20).as_bytes());
    drop(request);
    assert!(ended.changed().await.is_err() && matches!(tracker.lookup("a", MINUTE), NextStep::Recent));
}

#[test]
fn quota_serializes_as_documented() {
    let tracker = tracker(MINUTE);
    tracker.record_usage("a", document(60, 20).as_bytes());
    let written = serde_json::to_value(tracker.quotas()).unwrap();
    let expected = serde_json::json!({
        "limit": null, "counts": true, "window": "5-hour", "length_seconds": 18000, "used_percent": 60.0,
        "resets_at": "2026-11-18T13:36:40Z",
        "pace": {"projected_percent": 120.0, "spent_at": "2026-11-18T12:46:40Z"},
    });
    assert_eq!(written[0]["windows"][0], expected);
    assert_eq!(written[0]["plan"], "plus");
    assert_eq!(written[0]["windows"][2]["counts"], false);
}

#[tokio::test(start_paused = true)]
async fn an_exhausted_limit_is_known_until_its_reset() {
    let tracker = tracker(60 * MINUTE);
    assert!(tracker.exhausted("a", "m").is_none());
    tracker.record_failure("a", "m", &usage_limit("codex", "100", 600));
    tokio::time::advance(MINUTE).await;
    assert_eq!(retry_after(tracker.exhausted("a", "m")), Some(9 * MINUTE));
    tokio::time::advance(9 * MINUTE).await;
    assert!(tracker.exhausted("a", "m").is_none());
}

#[tokio::test(start_paused = true)]
async fn one_request_per_interval_is_a_probe() {
    let tracker = tracker(5 * MINUTE);
    tracker.record_failure("a", "m", &usage_limit("codex", "100", 6000));
    tokio::time::advance(5 * MINUTE).await;
    assert!(tracker.exhausted("a", "m").is_none(), "the probe");
    assert!(tracker.exhausted("a", "m").is_some(), "only one");
    tracker.record_failure("a", "m", &usage_limit("codex", "100", 3000));
    assert_eq!(retry_after(tracker.exhausted("a", "m")), Some(50 * MINUTE));
    tokio::time::advance(5 * MINUTE).await;
    assert!(tracker.exhausted("a", "m").is_none());
    tracker.record_success("a", "m", &headers("codex", "3"));
    assert!(tracker.exhausted("a", "m").is_none(), "a success ends it");
}

#[tokio::test(start_paused = true)]
async fn a_search_is_no_probe_and_its_success_clears_nothing() {
    let tracker = tracker(5 * MINUTE);
    tracker.record_failure("a", "m", &usage_limit("codex", "100", 6000));
    tokio::time::advance(5 * MINUTE).await;
    assert!(tracker.exhausted_without_probe("a", "m").is_some(), "refused, although a probe is due");
    tracker.record_headers("a", &headers("codex", "3"));
    assert!(tracker.exhausted_without_probe("a", "m").is_some());
    assert!(tracker.exhausted("a", "m").is_none(), "the probe is still due");
}

#[tokio::test(start_paused = true)]
async fn accounts_and_limits_are_separate() {
    let tracker = tracker(5 * MINUTE);
    tracker.record_success("a", "small", &headers("codex", "3"));
    tracker.record_success("a", "large", &headers("premium", "3"));
    tracker.record_success("a", "larger", &headers("premium", "3"));
    tracker.record_failure("a", "large", &usage_limit("premium", "100", 600));
    assert!(tracker.exhausted("a", "larger").is_some(), "the same limit");
    assert!(tracker.exhausted("a", "small").is_none());
    assert!(tracker.exhausted("a", "never seen").is_none());
    assert!(tracker.exhausted("b", "large").is_none());
    tracker.record_success("a", "larger", &HeaderMap::new());
    assert!(tracker.exhausted("a", "large").is_none(), "a success of the limit ends it");
}

#[tokio::test(start_paused = true)]
async fn a_limit_without_evidence_is_not_exhausted() {
    let tracker = tracker(5 * MINUTE);
    tracker.record_failure("a", "m", &usage_limit("codex", "12", 600));
    assert!(tracker.exhausted("a", "m").is_none(), "the headers show room");
    let endless = from_response(429, &HeaderMap::new(), br#"{"error":{"type":"usage_limit_reached"}}"#);
    tracker.record_failure("a", "m", &ProxyError::Upstream(Box::new(endless)));
    assert!(tracker.exhausted("a", "m").is_none(), "no reset is known");
    tracker.record_failure("a", "m", &ProxyError::Truncated { cause: None });
    assert!(tracker.exhausted("a", "m").is_none());
}
