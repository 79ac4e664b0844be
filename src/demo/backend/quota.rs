//! A simulated quota with constant usage, in the three formats of the real backend: usage document, event and headers.

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::super::issuer::{ACCOUNT_ID, EMAIL, PLAN, USER_ID, unix};

/// A window of the quota.
struct Window {
    name: &'static str,
    used_percent: u64,
    minutes: u64,
    reset_after_seconds: u64,
}

const WINDOWS: [Window; 2] = [
    Window { name: "primary", used_percent: 12, minutes: 300, reset_after_seconds: 9_000 },
    Window { name: "secondary", used_percent: 3, minutes: 10_080, reset_after_seconds: 302_400 },
];

/// The body of `/wham/usage`.
pub(super) fn document(now: SystemTime) -> Value {
    let [primary, secondary] = WINDOWS.map(|window| {
        json!({
            "used_percent": window.used_percent, "limit_window_seconds": window.minutes * 60,
            "reset_after_seconds": window.reset_after_seconds, "reset_at": unix(now) + window.reset_after_seconds,
        })
    });
    json!({
        "user_id": USER_ID, "account_id": ACCOUNT_ID, "email": EMAIL, "plan_type": PLAN,
        "rate_limit": {
            "allowed": true, "limit_reached": false, "primary_window": primary, "secondary_window": secondary,
        },
        "code_review_rate_limit": null,
        "additional_rate_limits": [],
        "credits": { "has_credits": false, "unlimited": false, "balance": "0" },
        "spend_control": { "reached": false, "individual_limit": null },
        "rate_limit_reset_credits": { "available_count": 0 },
        "promo": null,
    })
}

/// The event that precedes the events of a response.
pub(super) fn event(now: SystemTime) -> Value {
    let [primary, secondary] = WINDOWS.map(|window| {
        json!({
            "used_percent": window.used_percent, "window_minutes": window.minutes,
            "reset_after_seconds": window.reset_after_seconds, "reset_at": unix(now) + window.reset_after_seconds,
        })
    });
    json!({
        "type": "codex.rate_limits", "plan_type": PLAN,
        "rate_limits": { "allowed": true, "limit_reached": false, "primary": primary, "secondary": secondary },
        "code_review_rate_limits": null, "additional_rate_limits": {}, "metered_limit_name": null,
        "limit_name": null, "credits": { "has_credits": false, "unlimited": false, "balance": "0" }, "promo": null,
    })
}

/// The headers of a response.
pub(super) fn headers(now: SystemTime) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut put = |name: String, value: String| {
        let name: HeaderName = name.parse().expect("the names are lowercase ASCII");
        headers.insert(name, HeaderValue::from_str(&value).expect("the values are ASCII"));
    };
    put("x-codex-plan-type".to_owned(), PLAN.to_owned());
    put("x-codex-active-limit".to_owned(), "codex".to_owned());
    for window in WINDOWS {
        let name = window.name;
        put(format!("x-codex-{name}-used-percent"), window.used_percent.to_string());
        put(format!("x-codex-{name}-window-minutes"), window.minutes.to_string());
        put(format!("x-codex-{name}-reset-after-seconds"), window.reset_after_seconds.to_string());
        put(format!("x-codex-{name}-reset-at"), (unix(now) + window.reset_after_seconds).to_string());
    }
    put("x-codex-credits-has-credits".to_owned(), "False".to_owned());
    put("x-codex-credits-unlimited".to_owned(), "False".to_owned());
    headers
}
