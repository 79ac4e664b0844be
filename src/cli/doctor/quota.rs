//! Checks the quota: how much is left, and for how long at the current pace.

use std::time::SystemTime;

use super::super::context::span;
use super::finding::{Check, Finding};
use crate::clock::rfc3339;
use crate::command_hint::command;
use crate::upstream::{Quota, QuotaWindow};

/// Used percentage from which a window causes a warning.
const CRITICAL: f64 = 90.0;

/// Reports the fullest window that counts for the quota. `None`: the backend reported none.
pub(super) fn finding(quota: Option<&Quota>, now: SystemTime) -> Option<Finding> {
    let windows = quota?.windows.iter().filter(|window| window.counts);
    let fullest = windows.max_by(|one, other| one.used_percent.total_cmp(&other.used_percent))?;
    let (name, used) = (&fullest.window, fullest.used_percent);
    let reset = reset(fullest, now);
    let spent = fullest.pace.and_then(|pace| pace.spent_at);
    Some(if used >= 100.0 {
        Finding::error(Check::Quota, format!("the {name} window is used up{reset}"), command("status"))
    } else if used >= CRITICAL {
        Finding::warning(Check::Quota, format!("{used:.0} % of the {name} window is used{reset}"), command("status"))
    } else if let Some(spent) = spent {
        let left = span(spent.duration_since(now).unwrap_or_default());
        let message =
            format!("{used:.0} % of the {name} window is used, and all of it will be in {left} at this pace{reset}");
        Finding::warning(Check::Quota, message, command("status"))
    } else {
        Finding::ok(Check::Quota, format!("{used:.0} % of the {name} window is used{reset}"))
    })
}

fn reset(window: &QuotaWindow, now: SystemTime) -> String {
    let Some(reset) = window.resets_at else { return String::new() };
    let left = span(reset.duration_since(now).unwrap_or_default());
    format!("; it resets in {left} ({})", rfc3339(reset))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::super::super::color::Coloring;
    use super::finding;
    use crate::upstream::{Quota, QuotaPace, QuotaWindow};

    const HOUR: Duration = Duration::from_secs(3600);

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_795_000_000)
    }

    fn window(name: &str, used_percent: f64, spent_in: Option<u32>) -> QuotaWindow {
        QuotaWindow {
            limit: None,
            counts: true,
            window: name.to_owned(),
            length_seconds: 604_800,
            used_percent,
            resets_at: Some(now() + HOUR * 5),
            pace: spent_in.map(|hours| QuotaPace { projected_percent: 130.0, spent_at: Some(now() + HOUR * hours) }),
        }
    }

    fn line(windows: Vec<QuotaWindow>) -> String {
        let quota = Quota { account_id: "a".to_owned(), plan: None, observed_at: now(), windows };
        finding(Some(&quota), now()).map(|finding| finding.format(None, Coloring::Off)).unwrap_or_default()
    }

    #[test]
    fn the_fullest_window_that_counts_is_reported() {
        let weekly = line(vec![window("5-hour", 3.0, None), window("weekly", 40.0, None)]);
        assert!(
            weekly.starts_with("ok       quota      40 % of the weekly window is used; it resets in 5 h"),
            "{weekly}"
        );
        let other = QuotaWindow { counts: false, ..window("other", 100.0, None) };
        assert!(line(vec![other, window("weekly", 1.0, None)]).starts_with("ok"));
        assert_eq!(line(Vec::new()), "");
    }

    #[test]
    fn a_window_that_is_nearly_used_up_is_reported_with_a_command() {
        assert!(line(vec![window("weekly", 100.0, None)]).starts_with("wrong"));
        assert!(line(vec![window("weekly", 91.0, None)]).starts_with("warning"));
        let soon = line(vec![window("weekly", 50.0, Some(2))]);
        assert!(soon.starts_with("warning") && soon.contains("in 2 h 0 min") && soon.ends_with('`'), "{soon}");
    }
}
