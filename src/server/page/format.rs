//! Formats numbers, durations and times for people.

use std::time::{Duration, SystemTime};

use maud::{Markup, html};

use crate::clock::rfc3339;

/// A number, rounded down to three significant digits: `950`, `12.3k`, `4.56M`.
pub(super) fn count(number: u64) -> String {
    let (unit, sign) = match number {
        0..1_000 => return number.to_string(),
        1_000..1_000_000 => (1_000, "k"),
        1_000_000..1_000_000_000 => (1_000_000, "M"),
        _ => (1_000_000_000, "G"),
    };
    let (whole, hundredths) = (number / unit, number % unit * 100 / unit);
    match whole {
        0..10 => format!("{whole}.{hundredths:02}{sign}"),
        10..100 => format!("{whole}.{}{sign}", hundredths / 10),
        _ => format!("{whole}{sign}"),
    }
}

/// A fraction in percent, rounded down.
pub(super) fn share(part: u64, whole: u64) -> String {
    let percent = u128::from(part) * 100 / u128::from(whole.max(1));
    format!("{percent} %")
}

/// A duration in its two largest units: `9 days 3 h`.
pub(super) fn span(span: Duration) -> String {
    let minutes = span.as_secs() / 60;
    let (days, hours, minutes) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes} min"),
        (0, hours) => format!("{hours} h {minutes} min"),
        (1, hours) => format!("1 day {hours} h"),
        (days, hours) => format!("{days} days {hours} h"),
    }
}

/// The duration of a request, precise to a tenth of a second or better below a minute: `420 ms`, `4.2 s`, `1 min 5 s`.
pub(super) fn short_span(milliseconds: u64) -> String {
    match milliseconds {
        0..1_000 => format!("{milliseconds} ms"),
        1_000..60_000 => format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100),
        60_000..3_600_000 => format!("{} min {} s", milliseconds / 60_000, milliseconds / 1000 % 60),
        _ => span(Duration::from_millis(milliseconds)),
    }
}

/// A time in UTC, which the page's script converts to the reader's time zone.
pub(super) fn moment(time: SystemTime) -> Markup {
    let exact = rfc3339(time);
    let minute = exact.get(..16).unwrap_or_default().replace('T', " ");
    html! { time datetime=(exact) { (minute) " UTC" } }
}

/// The time since a moment.
pub(super) fn ago(time: SystemTime, now: SystemTime) -> Markup {
    let exact = rfc3339(time);
    let elapsed = now.duration_since(time).unwrap_or_default();
    html! {
        time.ago datetime=(exact) {
            @if elapsed.as_secs() < 60 { "just now" } @else { (span(elapsed)) " ago" }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{count, share, short_span, span};

    #[test]
    fn numbers_have_three_digits() {
        let of = |numbers: [u64; 7]| numbers.map(count).join(" ");
        assert_eq!(
            of([0, 999, 1_000, 12_345, 999_999, 4_567_890, u64::MAX]),
            "0 999 1.00k 12.3k 999k 4.56M 18446744073G"
        );
        assert_eq!([share(1, 3), share(0, 0), share(u64::MAX, u64::MAX)], ["33 %", "0 %", "100 %"]);
    }

    #[test]
    fn durations_have_two_units() {
        let of = |minutes: u64| span(Duration::from_secs(minutes * 60));
        assert_eq!([of(0), of(61), of(1500), of(14_581)], ["0 min", "1 h 1 min", "1 day 1 h", "10 days 3 h"]);
        assert_eq!(
            [short_span(0), short_span(4_260), short_span(61_000), short_span(7_200_000)],
            ["0 ms", "4.2 s", "1 min 1 s", "2 h 0 min"]
        );
    }
}
