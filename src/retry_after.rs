//! Parses how long an HTTP server wants clients to wait. No clock: dates are compared with the response's `date`.

use std::time::{Duration, UNIX_EPOCH};

use http::HeaderMap;

/// Returns the wait in `retry-after-ms`, else in `retry-after` as seconds or as a date; `None` if neither can be
/// parsed.
#[must_use]
pub fn from_headers(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| text(headers, name)?.parse::<f64>().ok();
    let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).ok();
    if let Some(wait) = number("retry-after-ms").and_then(|milliseconds| seconds(milliseconds / 1000.0)) {
        return Some(wait);
    }
    if let Some(number) = number("retry-after") {
        return seconds(number);
    }
    let (then, now) = (date(headers, "retry-after")?, date(headers, "date")?);
    Some(Duration::from_secs(then.saturating_sub(now)))
}

/// Returns the date in a header, in Unix seconds.
#[must_use]
pub fn date(headers: &HeaderMap, name: &str) -> Option<u64> {
    let date = httpdate::parse_http_date(text(headers, name)?).ok()?;
    Some(date.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
}
