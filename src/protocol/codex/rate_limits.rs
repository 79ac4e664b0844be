//! The rate limits of a plan, in every form that the backend reports: response headers, `codex.rate_limits`
//! events, error bodies, and the `/wham/usage` document.
//!
//! Each form parses into [`RateLimits`], which can be written as headers and as an event. A limit has one or two
//! windows: a period with an allowance, such as the 5-hour and the weekly window. A window is identified by its length;
//! its slot (primary or secondary) says nothing about it. Callers pass the time. Values that can't be parsed are left
//! out.

mod parse;
#[cfg(test)]
mod tests;
mod write;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Type of the event that reports rate limits.
pub const EVENT: &str = "codex.rate_limits";
/// Name of the plan's own limit in headers and events.
const PLAN_LIMIT: &str = "codex";
/// The first Unix second after the year 9999, which RFC 3339 can't express.
const YEAR_10000: u64 = 253_402_300_800;
const SECONDS_PER_MINUTE: u64 = 60;

/// The rate limits reported in one response, event or document. Limits that are not listed may exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// The account's plan, as the backend spells it.
    pub plan: Option<String>,
    /// The limit that the request counted against, as the backend spells it; `None` if not reported.
    pub active: Option<String>,
    /// The limits that have at least one window.
    pub limits: Vec<Limit>,
    /// The account's credits.
    pub credits: Option<Credits>,
}

/// A limit, with one or two windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Normalized name (`codex-bengal`). `None` for the plan's own limit.
    pub name: Option<String>,
    /// Which requests count against the limit.
    pub scope: Scope,
    /// The windows, shortest first.
    pub windows: Vec<Window>,
}

/// Which requests count against a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Requests to models: it is the plan's own limit, or the active one.
    Plan,
    /// Other requests: those for one feature, or for other models.
    Other,
}

/// A period, and how much of its allowance is used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// The position in which the backend reports the window.
    pub slot: Slot,
    /// Used share, in percent. Finite and not negative; may exceed 100.
    pub used_percent: f64,
    /// Length of the period. `None` if not reported; never zero.
    pub length: Option<Duration>,
    /// When the period ends and a new one starts.
    pub reset: Reset,
}

/// `used_percent` is never NaN.
impl Eq for Window {}

/// Position of a window within its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// `primary`
    Primary,
    /// `secondary`
    Secondary,
}

/// When a window resets. The backend reports a time, a delay, or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reset {
    /// Unix seconds, before the year 10000.
    pub at: Option<u64>,
    /// Seconds after the report.
    pub after: Option<u64>,
}

/// Credits that can be used beyond the plan's limits, as far as they are reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credits {
    /// Whether the account has credits.
    pub has_credits: Option<bool>,
    /// Whether they are unlimited.
    pub unlimited: Option<bool>,
    /// The balance, as the backend spells it.
    pub balance: Option<String>,
}

/// The projected usage of a window, if it continues at the average rate so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Used share at the end of the window, in percent. May exceed 100.
    pub projected_percent: f64,
    /// When the window is used up, if that is before its reset.
    pub exhausted_at: Option<SystemTime>,
}

impl RateLimits {
    /// The windows that requests to models count against.
    fn counted_windows(&self) -> impl Iterator<Item = &Window> {
        self.limits.iter().filter(|limit| limit.scope == Scope::Plan).flat_map(|limit| &limit.windows)
    }

    /// Of the windows that requests to models count against, the exhausted one that resets last.
    #[must_use]
    pub fn exhausted(&self) -> Option<&Window> {
        self.counted_windows().filter(|window| window.is_exhausted()).max_by_key(|window| window.reset)
    }

    /// Whether such windows are reported and none is exhausted. An error response with this report wasn't caused by the
    /// quota.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let mut windows = self.counted_windows().peekable();
        windows.peek().is_some() && windows.all(|window| !window.is_exhausted())
    }
}

impl Slot {
    const ALL: [Self; 2] = [Self::Primary, Self::Secondary];

    fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        }
    }
}

impl Reset {
    /// Fills in a missing time from the delay, or a missing delay from the time. `reported_at` is in Unix seconds.
    #[must_use]
    pub fn complete(self, reported_at: Option<u64>) -> Self {
        let at_from_delay = || reported_at?.checked_add(self.after?).filter(|seconds| is_valid_time(*seconds));
        Self {
            at: self.at.or_else(at_from_delay),
            after: self.after.or_else(|| Some(self.at?.saturating_sub(reported_at?))),
        }
    }

    /// Fills in missing values from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { at: self.at.or(other.at), after: self.after.or(other.after) }
    }

    /// Whether this reset is known to be earlier than `other`.
    #[must_use]
    pub fn is_before(self, other: Self) -> bool {
        match (self, other) {
            (Self { at: Some(one), .. }, Self { at: Some(two), .. })
            | (Self { after: Some(one), .. }, Self { after: Some(two), .. }) => one < two,
            _ => false,
        }
    }
}

impl Window {
    fn is_exhausted(&self) -> bool {
        self.used_percent >= 100.0
    }

    /// Replaces the delay until the reset by a time, given the time of the report.
    #[must_use]
    pub fn anchored(self, reported_at: SystemTime) -> Self {
        // Rounded up, so that the window isn't taken for a new one before it resets.
        let round_up = |time: Duration| time.as_secs() + u64::from(time.subsec_nanos() > 0);
        let seconds = reported_at.duration_since(UNIX_EPOCH).ok().map(round_up);
        Self { reset: Reset { at: self.reset.complete(seconds).at, after: None }, ..self }
    }

    /// When the window resets; `None` unless the time was reported or [`Self::anchored`] added it.
    #[must_use]
    pub fn resets_at(&self) -> Option<SystemTime> {
        UNIX_EPOCH.checked_add(Duration::from_secs(self.reset.at?))
    }

    /// The window at a later time: unused if it has reset since the report.
    #[must_use]
    pub fn at(self, now: SystemTime) -> Self {
        match self.resets_at() {
            Some(reset) if reset <= now => Self { used_percent: 0.0, reset: Reset::default(), ..self },
            _ => self,
        }
    }

    /// Projects the usage to the end of the window. `None` if length or reset are unknown, or the window has only
    /// just started.
    #[must_use]
    pub fn pace(&self, now: SystemTime) -> Option<Pace> {
        let length = self.length?;
        let elapsed = length.checked_sub(self.resets_at()?.duration_since(now).ok()?)?;
        // The first 2 % are too short to project from.
        if elapsed < length / 50 {
            return None;
        }
        let projected_percent = self.used_percent / elapsed.div_duration_f64(length);
        let left_per_used = (100.0 - self.used_percent).max(0.0) / self.used_percent;
        let exhausted_at =
            if projected_percent > 100.0 { now.checked_add(elapsed.mul_f64(left_per_used)) } else { None };
        Some(Pace { projected_percent, exhausted_at })
    }
}

/// Names a window by its length: `5-hour`, `weekly`.
#[must_use]
pub fn window_name(length: Duration) -> String {
    const MINUTES_PER_HOUR: u64 = 60;
    const MINUTES_PER_DAY: u64 = 24 * MINUTES_PER_HOUR;
    match length.as_secs() / SECONDS_PER_MINUTE {
        10_080 => "weekly".to_owned(),
        minutes if minutes.is_multiple_of(MINUTES_PER_DAY) => format!("{}-day", minutes / MINUTES_PER_DAY),
        minutes if minutes.is_multiple_of(MINUTES_PER_HOUR) => format!("{}-hour", minutes / MINUTES_PER_HOUR),
        minutes => format!("{minutes}-minute"),
    }
}

fn is_valid_time(seconds: u64) -> bool {
    (1..YEAR_10000).contains(&seconds)
}
