//! Formats the quota windows: used share, reset time, and projection at the current pace.

use std::time::SystemTime;

use super::super::charts::bar;
use super::super::color::{Coloring, GREEN, RED, YELLOW};
use super::super::context::span;
use crate::clock::rfc3339;
use crate::upstream::{Quota, QuotaWindow};

const BAR_WIDTH: u32 = 16;
/// Used percentages from which the bar is yellow or red.
const HIGH: f64 = 75.0;
const CRITICAL: f64 = 90.0;

/// Returns up to three lines for each window.
pub(super) fn lines(quota: &Quota, now: SystemTime, coloring: Coloring) -> Vec<String> {
    quota.windows.iter().flat_map(|window| window_lines(window, now, coloring)).collect()
}

fn window_lines(window: &QuotaWindow, now: SystemTime, coloring: Coloring) -> Vec<String> {
    let used = window.used_percent;
    let color = match used {
        _ if used >= CRITICAL => RED,
        _ if used >= HIGH => YELLOW,
        _ => GREEN,
    };
    let bar = coloring.paint(color, &bar(used / 100.0, BAR_WIDTH));
    let left = window.resets_at.map(|reset| reset.duration_since(now).unwrap_or_default());
    let reset = match (left, window.resets_at) {
        (Some(left), Some(reset)) => format!("; resets in {}, {}", span(left), rfc3339(reset)),
        _ => String::new(),
    };
    let name = format!("{} quota", window.window);
    let mut lines = vec![format!("{name:<12} {bar} {used:>3.0} %{reset}")];
    lines.extend(window.limit.as_ref().map(|limit| format!("             of the limit {limit}")));
    lines.extend(projection(window, now).map(|projection| format!("             {projection}")));
    lines
}

/// Whether the window will be used up before it resets, at the current pace.
fn projection(window: &QuotaWindow, now: SystemTime) -> Option<String> {
    if window.used_percent >= 100.0 {
        return Some("used up".to_owned());
    }
    let pace = window.pace?;
    Some(match pace.spent_at {
        Some(spent) => {
            let left = span(spent.duration_since(now).unwrap_or_default());
            let early = window.resets_at.and_then(|reset| reset.duration_since(spent).ok()).unwrap_or_default();
            format!("at this pace used up in {left}, {} before it resets", span(early))
        }
        None => format!("at this pace {:.0} % used when it resets", pace.projected_percent),
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::super::super::color::Coloring;
    use super::lines;
    use crate::upstream::{Quota, QuotaPace, QuotaWindow};

    const HOUR: Duration = Duration::from_secs(3600);

    fn window(used_percent: f64, pace: Option<(f64, Option<u32>)>) -> QuotaWindow {
        QuotaWindow {
            limit: None,
            counts: true,
            window: "weekly".to_owned(),
            length_seconds: 604_800,
            used_percent,
            resets_at: Some(now() + HOUR * 76),
            pace: pace.map(|(projected_percent, hours)| QuotaPace {
                projected_percent,
                spent_at: hours.map(|hours| now() + HOUR * hours),
            }),
        }
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_795_000_000)
    }

    #[test]
    fn windows_show_their_use_reset_and_projection() {
        let windows = vec![window(72.0, Some((130.0, Some(27)))), window(5.0, Some((9.0, None))), window(100.0, None)];
        let quota = Quota { account_id: "a".into(), plan: None, observed_at: now(), windows };
        let expected = [
            "weekly quota ███████████▌░░░░  72 %; resets in 3 days 4 h, 2026-11-21T15:06:40Z",
            "             at this pace used up in 1 day 3 h, 2 days 1 h before it resets",
            "weekly quota ▊░░░░░░░░░░░░░░░   5 %; resets in 3 days 4 h, 2026-11-21T15:06:40Z",
            "             at this pace 9 % used when it resets",
            "weekly quota ████████████████ 100 %; resets in 3 days 4 h, 2026-11-21T15:06:40Z",
            "             used up",
        ];
        let lines = lines(&quota, now(), Coloring::Off);
        assert_eq!(lines, expected);
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:?}");
    }
}
