//! Usage limit failures: parsing and messages.

use std::time::Duration;

use super::super::{from_event, from_response, with_elapsed};
use super::{headers, response};
use crate::error::Fault;

#[test]
fn the_usage_limit_message_names_plan_and_reset_time() {
    let body = r#"{"error":{"type":"usage_limit_reached","message":"The usage limit has been reached","plan_type":"plus",
        "resets_at":1777936568,"eligible_promo":null,"resets_in_seconds":13872}}"#;
    let failure = response(429, body);
    assert_eq!(failure.fault, Fault::UsageLimit);
    assert_eq!(failure.code.as_deref(), Some("usage_limit_reached"));
    assert_eq!(failure.resets_at, Some(1_777_936_568));
    assert_eq!(failure.retry_after, Some(Duration::from_secs(13_872)));
    let expected = "ChatGPT usage limit reached for plan plus; resets at 2026-05-04T23:16:08Z (in 3 h 51 min).";
    assert_eq!(failure.message, expected);
}

#[test]
fn headers_of_the_exhausted_window_complete_the_body() {
    let from = headers(&[
        ("x-codex-plan-type", "pro"),
        ("x-codex-primary-used-percent", "100"),
        ("x-codex-primary-reset-at", "1777936568"),
        ("x-codex-primary-reset-after-seconds", "60"),
        ("x-codex-secondary-used-percent", "40"),
        ("x-codex-secondary-reset-at", "1999999999"),
    ]);
    let failure = from_response(429, &from, br#"{"error":{"type":"usage_limit_reached"}}"#);
    assert_eq!(failure.resets_at, Some(1_777_936_568));
    assert_eq!(failure.retry_after, Some(Duration::from_secs(60)));
    assert!(failure.message.contains("plan pro; resets at 2026-05-04T23:16:08Z (in 1 min)"), "{}", failure.message);
}

#[test]
fn the_exhausted_window_is_named_and_limits_the_reset_time() {
    let from = headers(&[
        ("date", "Mon, 04 May 2026 19:24:56 GMT"),
        ("x-codex-primary-used-percent", "100"),
        ("x-codex-primary-window-minutes", "300"),
        ("x-codex-primary-reset-at", "1777936568"),
        ("x-codex-secondary-used-percent", "40"),
        ("x-codex-secondary-window-minutes", "10080"),
        ("x-codex-secondary-reset-at", "1778500000"),
    ]);
    let body = br#"{"error":{"type":"usage_limit_reached","plan_type":"plus","resets_at":1778500000,"resets_in_seconds":577304}}"#;
    let failure = from_response(429, &from, body);
    let expected =
        "ChatGPT usage limit reached for plan plus (5-hour window); resets at 2026-05-04T23:16:08Z (in 3 h 51 min).";
    assert_eq!(failure.message, expected);
    assert_eq!(failure.retry_after, Some(Duration::from_secs(13_872)));
    let named = |minutes: u64| {
        let body = format!(r#"{{"error":{{"type":"usage_limit_reached","limit_window_minutes":{minutes}}}}}"#);
        response(429, &body).message
    };
    assert_eq!(named(10_080), "ChatGPT usage limit reached (weekly window).");
    assert_eq!(named(4_320), "ChatGPT usage limit reached (3-day window).");
    assert_eq!(named(90), "ChatGPT usage limit reached (90-minute window).");
    assert_eq!(named(0), "ChatGPT usage limit reached.");
}

#[test]
fn a_repeated_usage_limit_has_the_remaining_time() {
    let from = headers(&[
        ("x-codex-primary-used-percent", "100"),
        ("x-codex-primary-reset-at", "1777936568"),
        ("x-codex-primary-reset-after-seconds", "7200"),
        ("x-request-id", "req_7"),
    ]);
    let mut failure = from_response(429, &from, br#"{"error":{"type":"usage_limit_reached","plan_type":"plus"}}"#);
    failure.headers.clone_from(&from);
    let later = with_elapsed(&failure, Duration::from_millis(3_600_500));
    assert_eq!(later.retry_after, Some(Duration::from_millis(3_599_500)));
    assert_eq!(
        later.message,
        "ChatGPT usage limit reached for plan plus; resets at 2026-05-04T23:16:08Z (in 1 h 0 min)."
    );
    assert_eq!((later.fault, later.status, later.resets_at), (failure.fault, failure.status, failure.resets_at));
    assert_eq!(later.request_id, None);
    assert!(!later.headers.contains_key("x-codex-primary-reset-after-seconds"));
    assert!(later.headers.contains_key("x-codex-primary-reset-at"));
}

#[test]
fn an_event_with_a_status_parses_like_a_response() {
    let failure = from_event(
        r#"{"type":"error","status_code":429,"error":{"type":"usage_limit_reached"},
            "headers":{"X-Codex-Plan-Type":["team"],"X-Codex-Primary-Used-Percent":100,"X-Codex-Primary-Reset-At":"1777936568"}}"#,
    );
    assert_eq!((failure.fault, failure.status), (Fault::UsageLimit, Some(429)));
    assert_eq!(failure.message, "ChatGPT usage limit reached for plan team; resets at 2026-05-04T23:16:08Z.");
}

#[test]
fn times_after_year_9999_are_left_out() {
    let failure = response(429, r#"{"error":{"type":"usage_limit_reached","resets_at":18446744073709551615}}"#);
    assert_eq!((failure.resets_at, failure.message.as_str()), (None, "ChatGPT usage limit reached."));
}
