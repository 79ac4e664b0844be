//! When it makes sense to come back: delays, and the times at which a quota is full again.
//!
//! There is no clock here. A date in `retry-after`, and a reset time without a span, are compared
//! with the answer's own `date` header.

use std::time::{Duration, UNIX_EPOCH};

use http::HeaderMap;
use serde_json::Value;

use super::super::rate_limits::name;
use super::{is_exhausted, text_header};
use crate::error::{Fault, UpstreamFailure};
use crate::retry_after;

/// The first second that four digits of year can't hold.
const END_OF_TIME: u64 = 253_402_300_800;

/// What stands between a message about a spent quota and the time of its end.
const RESETS: &str = "; resets ";

/// Everything a failure says about time.
pub(super) struct Times {
    /// From the headers, else from the words "try again in …".
    delay: Option<Duration>,
    /// When the exhausted window is full again.
    pub(super) reset: Reset,
    /// How long the exhausted window is.
    window_minutes: Option<u64>,
}

/// When a window is full again: in unix seconds, and in seconds from now.
#[derive(Clone, Copy, Default)]
pub(super) struct Reset {
    pub(super) at: Option<u64>,
    after: Option<u64>,
}

impl Times {
    pub(super) fn read(error: &Value, headers: &HeaderMap, message: &str) -> Self {
        let now = retry_after::date(headers, "date");
        let window = windows(headers).filter(|window| window.is_used_up).max_by_key(|window| window.reset.key());
        let told = Reset { at: error["resets_at"].as_u64(), after: error["resets_in_seconds"].as_u64() }.complete(now);
        let shown = window.as_ref().map(|window| window.reset.complete(now)).unwrap_or_default();
        let minutes = window.and_then(|window| window.minutes).or_else(|| error["limit_window_minutes"].as_u64());
        Self {
            delay: retry_after::from_headers(headers).or_else(|| delay_in_words(message)),
            // The body may speak of another window than the one that is used up.
            reset: if shown.is_before(told) { shown } else { told.or(shown) },
            window_minutes: minutes.filter(|minutes| *minutes > 0),
        }
    }

    pub(super) fn retry_after(&self, fault: Fault) -> Option<Duration> {
        self.delay.or_else(|| self.reset.after.filter(|_| is_exhausted(fault)).map(Duration::from_secs))
    }

    pub(super) fn usage_limit_message(&self, plan: Option<&str>) -> String {
        let plan = plan.map(|plan| format!(" for plan {plan}")).unwrap_or_default();
        let window = self.window_minutes.map(|minutes| format!(" ({} window)", name(minutes))).unwrap_or_default();
        format!("ChatGPT usage limit reached{plan}{window}{}", self.reset.in_words())
    }
}

impl Reset {
    /// Each of the two from the other, where the time of the answer is known.
    fn complete(self, now: Option<u64>) -> Self {
        let is_time = |time: &u64| (1..END_OF_TIME).contains(time);
        let at = self.at.filter(is_time);
        Self {
            at: at.or_else(|| now?.checked_add(self.after?).filter(is_time)),
            after: self.after.or_else(|| Some(at?.saturating_sub(now?))),
        }
    }

    fn or(self, other: Self) -> Self {
        Self { at: self.at.or(other.at), after: self.after.or(other.after) }
    }

    fn is_before(self, other: Self) -> bool {
        match (self, other) {
            (Self { at: Some(one), .. }, Self { at: Some(two), .. })
            | (Self { after: Some(one), .. }, Self { after: Some(two), .. }) => one < two,
            _ => false,
        }
    }

    fn key(self) -> (Option<u64>, Option<u64>) {
        (self.at, self.after)
    }

    fn in_words(self) -> String {
        let at = self.at.map(|at| humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(at)));
        match (at, self.after.map(span)) {
            (Some(at), Some(span)) => format!("{RESETS}at {at} (in {span})."),
            (Some(at), None) => format!("{RESETS}at {at}."),
            (None, Some(span)) => format!("{RESETS}in {span}."),
            (None, None) => ".".to_owned(),
        }
    }
}

/// A spent quota as it stands some time after it was told: nearer to its end.
#[must_use]
pub fn retold(failure: &UpstreamFailure, passed: Duration) -> UpstreamFailure {
    let left = failure.retry_after.map(|wait| wait.saturating_sub(passed));
    let after = left.map(|left| left.as_secs() + u64::from(left.subsec_nanos() > 0));
    let fact = failure.message.split(RESETS).next().unwrap_or_default().trim_end_matches('.');
    let mut headers = failure.headers.clone();
    // A span from an earlier now.
    let spans: Vec<_> =
        headers.keys().filter(|name| name.as_str().ends_with("-reset-after-seconds")).cloned().collect();
    for name in spans {
        headers.remove(name);
    }
    UpstreamFailure {
        message: format!("{fact}{}", Reset { at: failure.resets_at, after }.in_words()),
        retry_after: left,
        request_id: None,
        headers,
        ..failure.clone()
    }
}

/// Whether headers show windows and none of them is used up: then something else was refused than
/// the quota.
#[must_use]
pub fn shows_room(headers: &HeaderMap) -> bool {
    let mut windows = windows(headers).peekable();
    windows.peek().is_some() && windows.all(|window| !window.is_used_up)
}

/// The limit family in force, as headers name it.
#[must_use]
pub fn limit_family(headers: &HeaderMap) -> Option<String> {
    text_header(headers, "x-codex-active-limit").map(|limit| limit.replace('_', "-").to_ascii_lowercase())
}

struct Window {
    is_used_up: bool,
    minutes: Option<u64>,
    reset: Reset,
}

/// The windows that headers show, of the general limit and of the active one.
fn windows(headers: &HeaderMap) -> impl Iterator<Item = Window> {
    let active = limit_family(headers).map(|limit| format!("x-{limit}")).filter(|family| family != "x-codex");
    let families = ["x-codex".to_owned()].into_iter().chain(active);
    let windows = families.flat_map(|family| ["primary", "secondary"].map(|slot| format!("{family}-{slot}")));
    let number = |name: String| text_header(headers, &name).and_then(|text| text.parse::<u64>().ok());
    windows.filter_map(move |window| {
        let used = text_header(headers, &format!("{window}-used-percent"))?.parse::<f64>().ok()?;
        let reset =
            Reset { at: number(format!("{window}-reset-at")), after: number(format!("{window}-reset-after-seconds")) };
        Some(Window { is_used_up: used >= 100.0, minutes: number(format!("{window}-window-minutes")), reset })
    })
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
