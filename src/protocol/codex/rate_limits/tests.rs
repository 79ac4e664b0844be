use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::{Limit, RateLimits, Reset, Scope, Slot, Window, window_name};

const HOUR: Duration = Duration::from_secs(3600);

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_000_000)
}

/// A window with this length, and the hours until its reset.
fn window(slot: Slot, used_percent: f64, hours: u32, left: Option<u64>) -> Window {
    let at = left.map(|left| 1_795_000_000 + 3600 * left);
    Window { slot, used_percent, length: Some(HOUR * hours), reset: Reset { at, after: None } }
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pairs = pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    pairs.collect()
}

fn parsed(pairs: &[(&'static str, &'static str)]) -> RateLimits {
    RateLimits::from_headers(&headers(pairs))
}

/// The headers that an event is written as.
fn header_lines(event: &str) -> Vec<String> {
    let headers = RateLimits::from_event(event.as_bytes()).unwrap().to_headers();
    let mut lines: Vec<_> =
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    lines.sort_unstable();
    lines
}

fn named(limits: &RateLimits) -> Vec<(Option<&str>, Scope)> {
    limits.limits.iter().map(|limit| (limit.name.as_deref(), limit.scope)).collect()
}

#[test]
fn headers_events_and_documents_parse_alike() {
    let expected = [window(Slot::Primary, 42.0, 5, Some(1)), window(Slot::Secondary, 5.0, 168, Some(100))];
    let document = br#"{"plan_type":"pro","rate_limit":{"allowed":true,
        "primary_window":{"used_percent":42,"limit_window_seconds":18000,"reset_after_seconds":3600,"reset_at":1795003600},
        "secondary_window":{"used_percent":5,"limit_window_seconds":604800,"reset_after_seconds":360000}},
        "code_review_rate_limit":null,"additional_rate_limits":[],"credits":null}"#;
    let event = br#"{"type":"codex.rate_limits","plan_type":"pro","rate_limits":{"allowed":true,
        "primary":{"used_percent":42,"window_minutes":300,"reset_after_seconds":3600},
        "secondary":{"used_percent":5,"window_minutes":10080,"reset_at":1795360000}},
        "additional_rate_limits":{},"metered_limit_name":null}"#;
    let headers = parsed(&[
        ("x-codex-plan-type", "pro"),
        ("x-codex-active-limit", "codex"),
        ("x-codex-primary-used-percent", "42"),
        ("x-codex-primary-window-minutes", "300"),
        ("x-codex-primary-reset-at", "1795003600"),
        ("x-codex-secondary-used-percent", "5"),
        ("x-codex-secondary-window-minutes", "10080"),
        ("x-codex-secondary-reset-at", ""),
        ("x-codex-secondary-reset-after-seconds", "360000"),
    ]);
    for parsed in [RateLimits::from_usage(document).unwrap(), RateLimits::from_event(event).unwrap(), headers] {
        let [Limit { name: None, scope: Scope::Plan, windows }] = parsed.limits.as_slice() else {
            panic!("one limit: {parsed:?}")
        };
        let windows: Vec<Window> = windows.iter().map(|window| window.anchored(now())).collect();
        assert_eq!((parsed.plan.as_deref(), windows.as_slice()), (Some("pro"), expected.as_slice()));
    }
}

#[test]
fn a_weekly_window_may_be_the_primary_and_only_one() {
    let reported = parsed(&[
        ("x-codex-primary-used-percent", "12"),
        ("x-codex-primary-window-minutes", "10080"),
        ("x-codex-secondary-used-percent", "0"),
        ("x-codex-secondary-window-minutes", "0"),
    ]);
    assert_eq!(reported.limits[0].windows, [window(Slot::Primary, 12.0, 168, None)]);
    assert_eq!(window_name(HOUR * 168), "weekly");
    let swapped = br#"{"rate_limit":{"primary_window":{"used_percent":3,"limit_window_seconds":604800},
        "secondary_window":{"used_percent":9,"limit_window_seconds":18000}}}"#;
    let parsed = RateLimits::from_usage(swapped).unwrap();
    let windows: Vec<_> = parsed.limits[0]
        .windows
        .iter()
        .map(|window| (window_name(window.length.unwrap()), window.used_percent))
        .collect();
    assert_eq!(windows, [("5-hour".to_owned(), 9.0), ("weekly".to_owned(), 3.0)]);
}

#[test]
fn only_the_plan_limit_and_the_active_limit_count() {
    let reported = parsed(&[
        ("x-codex-active-limit", "codex_star"),
        ("x-codex-primary-used-percent", "1"),
        ("x-codex-primary-window-minutes", "300"),
        ("x-codex-star-primary-used-percent", "2"),
        ("x-codex-star-primary-window-minutes", "300"),
        ("x-codex-moon-secondary-used-percent", "3"),
        ("x-codex-moon-secondary-window-minutes", "90"),
    ]);
    assert_eq!(
        named(&reported),
        [(None, Scope::Plan), (Some("codex-moon"), Scope::Other), (Some("codex-star"), Scope::Plan)]
    );
    let document = br#"{"rate_limit":null,"code_review_rate_limit":{"primary_window":
        {"used_percent":3,"limit_window_seconds":604800}},"additional_rate_limits":[{"limit_name":"Star",
        "metered_feature":"codex_star","rate_limit":{"primary_window":{"used_percent":3,"limit_window_seconds":60}}}]}"#;
    let document = RateLimits::from_usage(document).unwrap();
    assert_eq!(named(&document), [(Some("code-review"), Scope::Other), (Some("codex-star"), Scope::Other)]);
}

#[test]
fn values_that_cannot_be_parsed_are_left_out() {
    for body in ["", "[]", "{}", "null", r#"{"rate_limits":{}}"#] {
        assert_eq!(RateLimits::from_usage(body.as_bytes()), None, "{body}");
    }
    let odd = br#"{"rate_limit":{"primary_window":{"used_percent":"many","limit_window_seconds":60},
        "secondary_window":{"used_percent":1,"limit_window_seconds":0}}}"#;
    assert_eq!(RateLimits::from_usage(odd).unwrap().limits, []);
    let odd = parsed(&[("x-codex-primary-used-percent", "NaN"), ("x-codex-primary-window-minutes", "300")]);
    assert_eq!(odd, RateLimits::default());
    let odd = br#"{"rate_limit":{"primary_window":{"used_percent":1,"limit_window_seconds":60,"reset_at":1e300}}}"#;
    assert_eq!(RateLimits::from_usage(odd).unwrap().limits[0].windows[0].resets_at(), None);
    let error = json!({"resets_at": u64::MAX, "resets_in_seconds": -1});
    assert_eq!(RateLimits::from_error(&error).exhausted().unwrap().reset, Reset::default());
}

#[test]
fn the_exhausted_window_that_resets_last_is_found() {
    let limits = parsed(&[
        ("x-codex-primary-used-percent", "100"),
        ("x-codex-primary-reset-at", "1795003600"),
        ("x-codex-secondary-used-percent", "101"),
        ("x-codex-secondary-reset-at", "1795360000"),
        ("x-codex-other-primary-used-percent", "100"),
        ("x-codex-other-primary-reset-at", "1799999999"),
    ]);
    assert_eq!(limits.exhausted().unwrap().reset.at, Some(1_795_360_000));
}

#[test]
fn an_error_without_an_exhausted_window_has_room() {
    let has_room = |pairs: &[(&'static str, &'static str)]| parsed(pairs).has_room();
    assert!(!has_room(&[]));
    assert!(has_room(&[("x-codex-primary-used-percent", "12"), ("x-codex-secondary-used-percent", "3")]));
    assert!(!has_room(&[("x-codex-primary-used-percent", "12"), ("x-codex-secondary-used-percent", "100")]));
    let other = [("x-codex-active-limit", "codex_bengalfox"), ("x-codex-primary-used-percent", "12")];
    assert!(has_room(&other));
    assert!(!has_room(&[other[0], other[1], ("x-codex-bengalfox-primary-used-percent", "100")]));
    assert_eq!(parsed(&other).active_name().as_deref(), Some("codex-bengalfox"));
}

#[test]
fn pace_projects_to_the_end_of_the_window() {
    let pace = |used: f64, left: Option<u64>| window(Slot::Primary, used, 5, left).pace(now());
    let fast = pace(50.0, Some(4)).unwrap();
    assert_eq!((fast.projected_percent.round(), fast.exhausted_at), (250.0, Some(now() + HOUR)));
    let slow = pace(20.0, Some(1)).unwrap();
    assert_eq!((slow.projected_percent.round(), slow.exhausted_at), (25.0, None));
    assert_eq!(pace(0.0, Some(1)).unwrap().exhausted_at, None);
    assert_eq!(pace(100.0, Some(1)).unwrap().exhausted_at, Some(now()));
    assert_eq!(pace(3.0, Some(5)), None, "just started");
    assert_eq!(pace(3.0, Some(9)), None, "not started");
    assert_eq!(pace(3.0, None), None);
}

#[test]
fn a_window_is_unused_after_its_reset() {
    let used = window(Slot::Primary, 80.0, 5, Some(1));
    assert_eq!(used.at(now()), used);
    assert_eq!(used.at(now() + HOUR), Window { used_percent: 0.0, reset: Reset::default(), ..used });
}

#[test]
fn an_event_is_written_as_the_headers_of_a_response() {
    let event = r#"{"type":"codex.rate_limits","plan_type":"pro","rate_limits":{"allowed":true,
        "primary":{"used_percent":42,"window_minutes":300,"reset_after_seconds":1000,"reset_at":1795300000},
        "secondary":null},"additional_rate_limits":{"codex_bengal":{"primary":{"used_percent":7}}},
        "metered_limit_name":null,"credits":{"has_credits":false,"unlimited":false,"balance":"0"}}"#;
    let expected = [
        "x-codex-active-limit: codex",
        "x-codex-bengal-primary-used-percent: 7",
        "x-codex-credits-balance: 0",
        "x-codex-credits-has-credits: False",
        "x-codex-credits-unlimited: False",
        "x-codex-plan-type: pro",
        "x-codex-primary-reset-after-seconds: 1000",
        "x-codex-primary-reset-at: 1795300000",
        "x-codex-primary-used-percent: 42",
        "x-codex-primary-window-minutes: 300",
    ];
    assert_eq!(header_lines(event), expected);
    assert_eq!(RateLimits::from_event(b"junk"), None);
}

#[test]
fn headers_are_written_as_an_event() {
    let written = parsed(&[
        ("x-codex-plan-type", "pro"),
        ("x-codex-primary-used-percent", "42.5"),
        ("x-codex-primary-window-minutes", "300"),
        ("x-codex-primary-reset-at", "1795300000"),
        ("x-codex-secondary-used-percent", "0"),
        ("x-codex-secondary-window-minutes", "0"),
        ("x-codex-credits-has-credits", "False"),
    ]);
    let written: Value = serde_json::from_str(&written.to_event().unwrap()).unwrap();
    let primary =
        json!({"used_percent": 42.5, "window_minutes": 300, "reset_after_seconds": null, "reset_at": 1_795_300_000});
    let credits = json!({"has_credits": false, "unlimited": false, "balance": null});
    let rate_limits = json!({"primary": primary, "secondary": null});
    let expected =
        json!({"type": "codex.rate_limits", "plan_type": "pro", "rate_limits": rate_limits, "credits": credits});
    assert_eq!(written, expected);
    let unknown_length = [("x-codex-primary-used-percent", "1"), ("x-codex-active-limit", "premium")];
    assert_eq!(parsed(&unknown_length).to_event(), None);
}
