//! When it makes sense to come back: delays, and the times at which a quota is full again.
//!
//! There is no clock here. A date in `retry-after`, and a reset time without a span, are compared
//! with the answer's own `date` header.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use serde_json::Value;

use super::{is_exhausted, text_header};
use crate::error::Fault;

/// The first second that four digits of year can't hold.
const END_OF_TIME: u64 = 253_402_300_800;

/// Everything a failure says about time.
pub(super) struct Times {
    /// From `retry-after`, else from the words "try again in …".
    delay: Option<Duration>,
    /// When the exhausted window is full again, in unix seconds.
    pub(super) resets_at: Option<u64>,
    /// The same, from now.
    resets_in: Option<u64>,
}

impl Times {
    pub(super) fn read(error: &Value, headers: &HeaderMap, message: &str) -> Self {
        let now = text_header(headers, "date").and_then(|text| httpdate::parse_http_date(text).ok());
        let now = now.and_then(|now| now.duration_since(UNIX_EPOCH).ok()).map(|now| now.as_secs());
        let window = exhausted_window(headers);
        let is_time = |time: &u64| (1..END_OF_TIME).contains(time);
        let resets_in = error["resets_in_seconds"].as_u64().or_else(|| window.as_ref()?.resets_in);
        let resets_at = error["resets_at"].as_u64().or_else(|| window.as_ref()?.resets_at).filter(is_time);
        Self {
            delay: retry_after(headers, now).or_else(|| delay_in_words(message)),
            resets_at: resets_at.or_else(|| now?.checked_add(resets_in?).filter(is_time)),
            resets_in: resets_in.or_else(|| Some(resets_at?.saturating_sub(now?))),
        }
    }

    pub(super) fn retry_after(&self, fault: Fault) -> Option<Duration> {
        self.delay.or_else(|| self.resets_in.filter(|_| is_exhausted(fault)).map(Duration::from_secs))
    }

    pub(super) fn usage_limit_message(&self, plan: Option<&str>) -> String {
        let plan = plan.map(|plan| format!(" for plan {plan}")).unwrap_or_default();
        let at = self.resets_at.map(|at| humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(at)));
        let resets = match (at, self.resets_in.map(span)) {
            (Some(at), Some(span)) => format!("; resets at {at} (in {span})"),
            (Some(at), None) => format!("; resets at {at}"),
            (None, Some(span)) => format!("; resets in {span}"),
            (None, None) => String::new(),
        };
        format!("ChatGPT usage limit reached{plan}{resets}.")
    }
}

struct Window {
    resets_at: Option<u64>,
    resets_in: Option<u64>,
}

/// The used-up window that takes longest to come back, of the general limit or the active one.
fn exhausted_window(headers: &HeaderMap) -> Option<Window> {
    let active = text_header(headers, "x-codex-active-limit").map(|limit| limit.replace('_', "-").to_ascii_lowercase());
    let families = ["x-codex".to_owned()].into_iter().chain(active.map(|limit| format!("x-{limit}")));
    let windows = families.flat_map(|family| ["primary", "secondary"].map(|slot| format!("{family}-{slot}")));
    let number = |name: String| text_header(headers, &name).and_then(|text| text.parse::<u64>().ok());
    let is_used_up = |window: &String| {
        let used = text_header(headers, &format!("{window}-used-percent")).and_then(|text| text.parse::<f64>().ok());
        used.is_some_and(|percent| percent >= 100.0)
    };
    windows
        .filter(is_used_up)
        .map(|window| Window {
            resets_at: number(format!("{window}-reset-at")),
            resets_in: number(format!("{window}-reset-after-seconds")),
        })
        .max_by_key(|window| (window.resets_at, window.resets_in))
}

fn retry_after(headers: &HeaderMap, now: Option<u64>) -> Option<Duration> {
    let text = text_header(headers, "retry-after")?;
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let then: SystemTime = httpdate::parse_http_date(text).ok()?;
    let then = then.duration_since(UNIX_EPOCH).ok()?.as_secs();
    Some(Duration::from_secs(then.saturating_sub(now?)))
}

/// "Please try again in 1.2s", "… in 250ms", "… in 5 seconds", in any case of letters.
fn delay_in_words(message: &str) -> Option<Duration> {
    let message = message.to_ascii_lowercase();
    message.split("try again in").skip(1).find_map(|rest| {
        let rest = rest.trim_start();
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, unit) = rest.split_at_checked(end)?;
        let number = number.parse::<f64>().ok()?;
        let unit = unit.trim_start();
        let seconds = match unit {
            _ if unit.starts_with("ms") => number / 1000.0,
            _ if unit.starts_with('s') => number,
            _ => return None,
        };
        Duration::try_from_secs_f64(seconds).ok()
    })
}

/// `3 h 51 min`, `2 d 4 h`, `40 s`: the two largest units.
fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}
