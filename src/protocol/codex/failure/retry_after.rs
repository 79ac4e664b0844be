//! When a client can try again after a failure: retry delays, and the reset of an exhausted quota.
//!
//! Reads no clock: the delay until a reset is the difference to the `date` header of the response.

use std::time::{Duration, UNIX_EPOCH};

use http::HeaderMap;
use serde_json::Value;

use super::super::rate_limits::{RateLimits, Reset, window_name};
use super::is_exhausted;
use crate::error::{Fault, UpstreamFailure};
use crate::retry_after;

/// Separates the reset time from the rest of a usage limit message.
const RESET_SEPARATOR: &str = "; resets ";

/// The times in a failure, and the plan whose quota they are about.
pub(super) struct Times {
    /// The retry delay in the headers, else in the message ("try again in …").
    delay: Option<Duration>,
    /// When the exhausted window resets.
    pub(super) reset: Reset,
    /// Length of the exhausted window.
    window: Option<Duration>,
    /// The account's plan.
    plan: Option<String>,
}

impl Times {
    pub(super) fn read(error: &Value, headers: &HeaderMap, message: &str) -> Self {
        let responded_at = retry_after::date(headers, "date");
        let (in_headers, in_error) = (RateLimits::from_headers(headers), RateLimits::from_error(error));
        let (header_window, error_window) = (in_headers.exhausted(), in_error.exhausted());
        let [header_reset, error_reset] = [header_window, error_window]
            .map(|window| window.map(|window| window.reset.complete(responded_at)).unwrap_or_default());
        let window = header_window.and_then(|window| window.length).or_else(|| error_window?.length);
        Self {
            delay: retry_after::from_headers(headers).or_else(|| delay_in_message(message)),
            // The body may describe another window than the exhausted one: the earlier reset of the headers counts.
            reset: if header_reset.is_before(error_reset) { header_reset } else { error_reset.or(header_reset) },
            window,
            plan: in_error.plan.or(in_headers.plan),
        }
    }

    /// The retry delay, else the time until the reset if the quota is used up.
    pub(super) fn retry_after(&self, fault: Fault) -> Option<Duration> {
        self.delay.or_else(|| self.reset.after.filter(|_| is_exhausted(fault)).map(Duration::from_secs))
    }

    pub(super) fn usage_limit_message(&self) -> String {
        let plan = self.plan.as_deref().map(|plan| format!(" for plan {plan}")).unwrap_or_default();
        let window = self.window.map(|length| format!(" ({} window)", window_name(length))).unwrap_or_default();
        format!("ChatGPT usage limit reached{plan}{window}{}", describe(self.reset))
    }
}

/// Describes a reset as the end of a usage limit message.
fn describe(reset: Reset) -> String {
    let at = reset.at.map(|at| crate::clock::rfc3339(UNIX_EPOCH + Duration::from_secs(at)));
    match (at, reset.after.map(format_seconds)) {
        (Some(at), Some(after)) => format!("{RESET_SEPARATOR}at {at} (in {after})."),
        (Some(at), None) => format!("{RESET_SEPARATOR}at {at}."),
        (None, Some(after)) => format!("{RESET_SEPARATOR}in {after}."),
        (None, None) => ".".to_owned(),
    }
}

/// Updates a usage limit failure that is reported again, to another request, `elapsed` after it was received: shortens
/// its delays, and removes the headers with delays and the request id.
#[must_use]
pub fn with_elapsed(failure: &UpstreamFailure, elapsed: Duration) -> UpstreamFailure {
    let left = failure.retry_after.map(|wait| wait.saturating_sub(elapsed));
    let after = left.map(|left| left.as_secs() + u64::from(left.subsec_nanos() > 0));
    let fact = failure.message.split(RESET_SEPARATOR).next().unwrap_or_default().trim_end_matches('.');
    let mut headers = failure.headers.clone();
    // Delays are relative to the original response.
    let delays: Vec<_> =
        headers.keys().filter(|name| name.as_str().ends_with("-reset-after-seconds")).cloned().collect();
    for name in delays {
        headers.remove(name);
    }
    UpstreamFailure {
        message: format!("{fact}{}", describe(Reset { at: failure.resets_at, after })),
        retry_after: left,
        request_id: None,
        headers,
        ..failure.clone()
    }
}

/// Parses the delay in "Please try again in 1.2s", "… in 250ms", "… in 5 seconds". Case-insensitive.
fn delay_in_message(message: &str) -> Option<Duration> {
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

/// Formats a duration rounded down, with at most two units: `2 d 4 h`, `3 h 51 min`, `51 min`, `40 s`.
fn format_seconds(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}
