//! The windows of a plan's quota, in each of the three ways in which the backend tells them: headers
//! of an answer, an event of its stream, and the document that can be asked for.
//!
//! A window is known by its length; which slot it comes in says nothing. Pure: whoever reads says
//! what time it is. What can't be read is left out, and never guessed.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use serde_json::Value;

const MINUTE: u64 = 60;
/// The type of the event.
pub const EVENT: &str = "codex.rate_limits";
/// The family of the plan's own limit.
const PLAN: &str = "codex";
/// What stands behind a family's name in the names of its headers.
const SLOTS: [&str; 2] = ["-primary", "-secondary"];
/// The first second that four digits of year can't hold.
const END_OF_TIME: u64 = 253_402_300_800;

/// What was told at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// The account's plan, as the backend spells it.
    pub plan: Option<String>,
    /// Its limits; those that are not named here may exist all the same.
    pub limits: Vec<Limit>,
}

/// A limit, which may have several windows.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// Its name; `None`: the plan's own.
    pub name: Option<String>,
    /// What counts against it.
    pub scope: Scope,
    /// Its windows, shortest first.
    pub windows: Vec<Window>,
}

/// What counts against a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Requests like ours.
    Plan,
    /// Some feature or model of its own.
    Other,
}

/// A span of time in which so much may be used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// How much of it is used, of 100.
    pub used_percent: f64,
    /// How long it is.
    pub length: Duration,
    /// When it begins anew, where that was told.
    pub resets_at: Option<SystemTime>,
}

/// Where a window is going if things go on as they did since it began.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// How much would be used when it begins anew, of 100; it may be more than there is.
    pub projected_percent: f64,
    /// When it would be used up, if that is before it begins anew.
    pub spent_at: Option<SystemTime>,
}

impl Reading {
    /// What the headers of an answer tell.
    #[must_use]
    pub fn of_headers(headers: &HeaderMap, now: SystemTime) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty());
        let active = text("x-codex-active-limit").map(normal);
        let names = headers.keys().filter_map(|name| name.as_str().strip_prefix("x-")?.strip_suffix("-used-percent"));
        let families: BTreeSet<&str> =
            names.filter_map(|window| SLOTS.iter().find_map(|slot| window.strip_suffix(slot))).collect();
        let limits = families.into_iter().map(|family| {
            let windows = SLOTS.iter().filter_map(|slot| {
                let number = |what: &str| text(&format!("x-{family}{slot}-{what}"))?.parse::<f64>().ok();
                let minutes = text(&format!("x-{family}{slot}-window-minutes"))?.parse::<u64>().ok()?;
                let (at, after) = (number("reset-at"), number("reset-after-seconds"));
                Window::new(number("used-percent")?, minutes.checked_mul(MINUTE)?, (at, after), now)
            });
            Limit::new(Some(family), active.as_deref(), windows)
        });
        Self { plan: text("x-codex-plan-type").map(str::to_owned), limits: told(limits) }
    }

    /// What an event of type [`EVENT`] tells; `None`: it can't be read.
    #[must_use]
    pub fn of_event(data: &[u8], now: SystemTime) -> Option<Self> {
        let event: Value = serde_json::from_slice(data).ok()?;
        let name = event["metered_limit_name"].as_str().or_else(|| event["limit_name"].as_str());
        let own = name.unwrap_or(PLAN);
        let mut limits = vec![Limit::of_json(Some(own), Some(own), &event["rate_limits"], now)];
        limits.push(Limit::of_json(Some("code-review"), None, &event["code_review_rate_limits"], now));
        let others = event["additional_rate_limits"].as_object();
        limits.extend(others.into_iter().flatten().map(|(name, limit)| Limit::of_json(Some(name), None, limit, now)));
        Some(Self { plan: event["plan_type"].as_str().map(str::to_owned), limits: told(limits) })
    }

    /// What the answer to the question for the usage tells; `None`: it is no such answer.
    #[must_use]
    pub fn of_document(body: &[u8], now: SystemTime) -> Option<Self> {
        let document: Value = serde_json::from_slice(body).ok()?;
        let plan = document["plan_type"].as_str().map(str::to_owned);
        let mut limits = vec![Limit::of_json(Some(PLAN), Some(PLAN), document.get("rate_limit")?, now)];
        limits.push(Limit::of_json(Some("code-review"), None, &document["code_review_rate_limit"], now));
        let others = document["additional_rate_limits"].as_array();
        limits.extend(others.into_iter().flatten().map(|other| {
            let name = other["metered_feature"].as_str().or_else(|| other["limit_name"].as_str());
            Limit::of_json(Some(name.unwrap_or("other")), None, &other["rate_limit"], now)
        }));
        Some(Self { plan, limits: told(limits) })
    }
}

/// Only limits that show a window say something.
fn told(limits: impl IntoIterator<Item = Limit>) -> Vec<Limit> {
    limits.into_iter().filter(|limit| !limit.windows.is_empty()).collect()
}

/// A name as headers write it.
fn normal(name: &str) -> String {
    name.replace('_', "-").to_ascii_lowercase()
}

impl Limit {
    /// A limit of this family, where `active` is the one that requests like ours count against.
    fn new(family: Option<&str>, active: Option<&str>, windows: impl IntoIterator<Item = Window>) -> Self {
        let name = family.map(normal).filter(|name| name != PLAN);
        let is_ours = name.is_none() || name == active.map(normal);
        let mut windows: Vec<Window> = windows.into_iter().collect();
        windows.sort_by_key(|window| window.length);
        Self { name, scope: if is_ours { Scope::Plan } else { Scope::Other }, windows }
    }

    /// A limit of an event or of the document, whose members have different names in each.
    fn of_json(family: Option<&str>, active: Option<&str>, limit: &Value, now: SystemTime) -> Self {
        let windows = ["primary", "secondary"].into_iter().filter_map(|slot| {
            let window = [format!("{slot}_window"), slot.to_owned()].iter().find_map(|name| limit.get(name))?;
            let minutes = || window["window_minutes"].as_u64()?.checked_mul(MINUTE);
            let seconds = window["limit_window_seconds"].as_u64().or_else(minutes)?;
            let reset = (window["reset_at"].as_f64(), window["reset_after_seconds"].as_f64());
            Window::new(window["used_percent"].as_f64()?, seconds, reset, now)
        });
        Self::new(family, active, windows)
    }
}

impl Window {
    /// A window of so many seconds; `None`: it is not there. Its reset is told as a time, or as a span from now.
    fn new(used_percent: f64, seconds: u64, reset: (Option<f64>, Option<f64>), now: SystemTime) -> Option<Self> {
        if seconds == 0 || !used_percent.is_finite() {
            return None;
        }
        let span = |seconds: f64| Duration::try_from_secs_f64(seconds).ok();
        let at = reset.0.and_then(span).filter(|at| (1..END_OF_TIME).contains(&at.as_secs()));
        let after = || now.checked_add(reset.1.and_then(span)?);
        let resets_at = at.and_then(|at| UNIX_EPOCH.checked_add(at)).or_else(after);
        Some(Self { used_percent: used_percent.max(0.0), length: Duration::from_secs(seconds), resets_at })
    }

    /// The window as it stands at a time: one that has begun anew since it was told is not used.
    #[must_use]
    pub fn at(self, now: SystemTime) -> Self {
        match self.resets_at {
            Some(reset) if reset <= now => Self { used_percent: 0.0, resets_at: None, ..self },
            _ => self,
        }
    }

    /// What it is called: `5-hour`, `weekly`.
    #[must_use]
    pub fn name(&self) -> String {
        name(self.length.as_secs() / MINUTE)
    }

    /// Where it is going; `None`: that can't be known, or not yet.
    #[must_use]
    pub fn pace(&self, now: SystemTime) -> Option<Pace> {
        let left = self.resets_at?.duration_since(now).ok()?;
        let passed = self.length.checked_sub(left)?;
        // The first moments say nothing about the rest.
        if passed < self.length / 50 {
            return None;
        }
        let projected_percent = self.used_percent / passed.div_duration_f64(self.length);
        let room = (100.0 - self.used_percent).max(0.0) / self.used_percent;
        let spent_at = if projected_percent > 100.0 { now.checked_add(passed.mul_f64(room)) } else { None };
        Some(Pace { projected_percent, spent_at })
    }
}

/// What a window of so many minutes is called.
pub(super) fn name(minutes: u64) -> String {
    const HOUR: u64 = 60;
    const DAY: u64 = 24 * HOUR;
    match minutes {
        10_080 => "weekly".to_owned(),
        _ if minutes.is_multiple_of(DAY) => format!("{}-day", minutes / DAY),
        _ if minutes.is_multiple_of(HOUR) => format!("{}-hour", minutes / HOUR),
        _ => format!("{minutes}-minute"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::{Limit, Reading, Scope, Window};

    const HOUR: Duration = Duration::from_secs(3600);

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_795_000_000)
    }

    fn window(used_percent: f64, hours: u32, left: Option<u32>) -> Window {
        Window { used_percent, length: HOUR * hours, resets_at: left.map(|left| now() + HOUR * left) }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> Reading {
        let pairs = pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        Reading::of_headers(&pairs.collect::<HeaderMap>(), now())
    }

    fn plan(windows: &[Window]) -> Limit {
        Limit { name: None, scope: Scope::Plan, windows: windows.to_vec() }
    }

    #[test]
    fn the_three_ways_tell_the_same() {
        let expected = Reading {
            plan: Some("pro".to_owned()),
            limits: vec![plan(&[window(42.0, 5, Some(1)), window(5.0, 168, Some(100))])],
        };
        let document = br#"{"plan_type":"pro","rate_limit":{"allowed":true,
            "primary_window":{"used_percent":42,"limit_window_seconds":18000,"reset_after_seconds":3600,"reset_at":1795003600},
            "secondary_window":{"used_percent":5,"limit_window_seconds":604800,"reset_after_seconds":360000}},
            "code_review_rate_limit":null,"additional_rate_limits":[],"credits":null}"#;
        assert_eq!(Reading::of_document(document, now()), Some(expected.clone()));
        let event = br#"{"type":"codex.rate_limits","plan_type":"pro","rate_limits":{"allowed":true,
            "primary":{"used_percent":42,"window_minutes":300,"reset_after_seconds":3600},
            "secondary":{"used_percent":5,"window_minutes":10080,"reset_at":1795360000}},
            "additional_rate_limits":{},"metered_limit_name":null}"#;
        assert_eq!(Reading::of_event(event, now()), Some(expected.clone()));
        let told = headers(&[
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
        assert_eq!(told, expected);
    }

    #[test]
    fn a_weekly_window_may_come_first_and_alone() {
        let told = headers(&[
            ("x-codex-primary-used-percent", "12"),
            ("x-codex-primary-window-minutes", "10080"),
            ("x-codex-secondary-used-percent", "0"),
            ("x-codex-secondary-window-minutes", "0"),
        ]);
        assert_eq!(told.limits, [plan(&[window(12.0, 168, None)])]);
        assert_eq!(told.limits[0].windows[0].name(), "weekly");
        let swapped = br#"{"rate_limit":{"primary_window":{"used_percent":3,"limit_window_seconds":604800},
            "secondary_window":{"used_percent":9,"limit_window_seconds":18000}}}"#;
        let read = Reading::of_document(swapped, now()).unwrap();
        let names: Vec<_> = read.limits[0].windows.iter().map(|window| (window.name(), window.used_percent)).collect();
        assert_eq!(names, [("5-hour".to_owned(), 9.0), ("weekly".to_owned(), 3.0)]);
    }

    #[test]
    fn limits_of_other_features_are_told_apart_from_those_that_count() {
        let told = headers(&[
            ("x-codex-active-limit", "codex_star"),
            ("x-codex-primary-used-percent", "1"),
            ("x-codex-primary-window-minutes", "300"),
            ("x-codex-star-primary-used-percent", "2"),
            ("x-codex-star-primary-window-minutes", "300"),
            ("x-codex-moon-secondary-used-percent", "3"),
            ("x-codex-moon-secondary-window-minutes", "90"),
        ]);
        let names: Vec<_> = told.limits.iter().map(|limit| (limit.name.as_deref(), limit.scope)).collect();
        assert_eq!(names, [(None, Scope::Plan), (Some("codex-moon"), Scope::Other), (Some("codex-star"), Scope::Plan)]);
        let document = br#"{"rate_limit":null,"code_review_rate_limit":{"primary_window":
            {"used_percent":3,"limit_window_seconds":604800}},"additional_rate_limits":[{"limit_name":"Star",
            "metered_feature":"codex_star","rate_limit":{"primary_window":{"used_percent":3,"limit_window_seconds":60}}}]}"#;
        let read = Reading::of_document(document, now()).unwrap();
        let names: Vec<_> = read.limits.iter().map(|limit| (limit.name.as_deref(), limit.scope)).collect();
        assert_eq!(names, [(Some("code-review"), Scope::Other), (Some("codex-star"), Scope::Other)]);
    }

    #[test]
    fn what_can_t_be_read_is_left_out() {
        for body in ["", "[]", "{}", "null", r#"{"rate_limits":{}}"#] {
            assert_eq!(Reading::of_document(body.as_bytes(), now()), None, "{body}");
        }
        let odd = br#"{"rate_limit":{"primary_window":{"used_percent":"many","limit_window_seconds":60},
            "secondary_window":{"used_percent":1,"limit_window_seconds":-1}}}"#;
        assert_eq!(Reading::of_document(odd, now()).unwrap().limits, []);
        let odd = headers(&[
            ("x-codex-primary-used-percent", "NaN"),
            ("x-codex-primary-window-minutes", "300"),
            ("x-codex-secondary-used-percent", "1"),
            ("x-codex-secondary-window-minutes", "99999999999999999999"),
        ]);
        assert_eq!(odd, Reading::default());
        let far = Window::new(1.0, 60, (Some(1e300), None), now()).unwrap();
        assert_eq!(far.resets_at, None);
    }

    #[test]
    fn the_pace_says_when_it_ends_if_things_go_on_so() {
        let fast = window(50.0, 5, Some(4)).pace(now()).unwrap();
        assert_eq!((fast.projected_percent.round(), fast.spent_at), (250.0, Some(now() + HOUR)));
        let slow = window(20.0, 5, Some(1)).pace(now()).unwrap();
        assert_eq!((slow.projected_percent.round(), slow.spent_at), (25.0, None));
        assert_eq!(window(0.0, 5, Some(1)).pace(now()).unwrap().spent_at, None);
        assert_eq!(window(100.0, 5, Some(1)).pace(now()).unwrap().spent_at, Some(now()));
        assert_eq!(window(3.0, 5, Some(5)).pace(now()), None, "it has only begun");
        assert_eq!(window(3.0, 5, Some(9)).pace(now()), None, "it has not begun");
        assert_eq!(window(3.0, 5, None).pace(now()), None);
    }

    #[test]
    fn a_window_that_has_begun_anew_is_not_used() {
        let told = window(80.0, 5, Some(1));
        assert_eq!(told.at(now()), told);
        assert_eq!(told.at(now() + HOUR), Window { used_percent: 0.0, resets_at: None, ..told });
    }
}
