//! Numbers, spans and times in words for people.

use std::time::{Duration, SystemTime};

use super::html::Html;

/// A number in as few digits as are of use: `950`, `12.3k`, `4.56M`.
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

/// How much of something, in percent.
pub(super) fn share(part: u64, whole: u64) -> String {
    let percent = u128::from(part) * 100 / u128::from(whole.max(1));
    format!("{percent} %")
}

/// A span in its two largest units: `9 days 3 h`.
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

/// How long a request takes.
pub(super) fn seconds(milliseconds: u64) -> String {
    match milliseconds {
        0..1_000 => format!("{milliseconds} ms"),
        1_000..60_000 => format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100),
        60_000..3_600_000 => format!("{} min {} s", milliseconds / 60_000, milliseconds / 1000 % 60),
        _ => span(Duration::from_millis(milliseconds)),
    }
}

/// A moment, which the page's script puts into the time of its reader.
pub(super) fn moment(html: &mut Html, time: SystemTime) {
    let exact = humantime::format_rfc3339_seconds(time).to_string();
    let minute = exact.get(..16).unwrap_or_default().replace('T', " ");
    html.raw("<time datetime=\"").text(&exact).raw("\">").text(minute).raw(" UTC</time>");
}

/// How long ago something was.
pub(super) fn ago(html: &mut Html, time: SystemTime, now: SystemTime) {
    let exact = humantime::format_rfc3339_seconds(time);
    let elapsed = now.duration_since(time).unwrap_or_default();
    html.raw("<time class=\"ago\" datetime=\"").text(exact).raw("\">");
    match elapsed.as_secs() {
        0..60 => html.text("just now"),
        _ => html.text(span(elapsed)).text(" ago"),
    };
    html.raw("</time>");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{count, seconds, share, span};

    #[test]
    fn numbers_are_short() {
        let of = |numbers: [u64; 7]| numbers.map(count).join(" ");
        assert_eq!(
            of([0, 999, 1_000, 12_345, 999_999, 4_567_890, u64::MAX]),
            "0 999 1.00k 12.3k 999k 4.56M 18446744073G"
        );
        assert_eq!([share(1, 3), share(0, 0), share(u64::MAX, u64::MAX)], ["33 %", "0 %", "100 %"]);
    }

    #[test]
    fn spans_are_in_their_largest_units() {
        let of = |minutes: u64| span(Duration::from_secs(minutes * 60));
        assert_eq!([of(0), of(61), of(1500), of(14_581)], ["0 min", "1 h 1 min", "1 day 1 h", "10 days 3 h"]);
        assert_eq!(
            [seconds(0), seconds(4_260), seconds(61_000), seconds(7_200_000)],
            ["0 ms", "4.2 s", "1 min 1 s", "2 h 0 min"]
        );
    }
}
