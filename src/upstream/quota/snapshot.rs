//! The recorded quota of an account ([`Snapshot`]), and the form that `/usage` and `status` show ([`Quota`]).
//!
//! A window that has reset since its last report counts as unused.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;

use crate::clock::serialize_rfc3339;
use crate::protocol::codex::rate_limits::{Limit, RateLimits, Scope, Window, window_name};

/// The quota of an account at one time, in the JSON form of `/usage`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quota {
    /// The account's id.
    pub account_id: String,
    /// The plan, as the backend spells it.
    pub plan: Option<String>,
    /// When the backend last reported any of it.
    #[serde(serialize_with = "serialize_rfc3339")]
    pub observed_at: SystemTime,
    /// The windows: first those of the plan's own limit, then by name of the limit; shortest first in each.
    pub windows: Vec<QuotaWindow>,
}

/// A window of a quota.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QuotaWindow {
    /// Name of the limit that it belongs to. `None` for the plan's own.
    pub limit: Option<String>,
    /// Whether requests through this proxy count against it.
    pub counts: bool,
    /// Name of the window, from its length: `5-hour`, `weekly`.
    pub window: String,
    /// Length in seconds.
    pub length_seconds: u64,
    /// Used share in percent, rounded to tenths.
    pub used_percent: f64,
    /// When it resets, if known.
    #[serde(serialize_with = "serialize_rfc3339")]
    pub resets_at: Option<SystemTime>,
    /// Projection of the usage. `None` if too little is known.
    pub pace: Option<QuotaPace>,
}

/// Where a window's usage leads if it continues at the average rate so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct QuotaPace {
    /// Used share at the reset, in percent. May exceed 100.
    pub projected_percent: f64,
    /// When the window will be used up, if that is before its reset.
    #[serde(serialize_with = "serialize_rfc3339")]
    pub spent_at: Option<SystemTime>,
}

/// The last report of each limit of an account.
#[derive(Debug)]
pub(super) struct Snapshot {
    observed_at: SystemTime,
    plan: Option<String>,
    /// By name of the limit; `None` is the plan's own.
    limits: BTreeMap<Option<String>, Limit>,
}

/// The limits that a report includes, and therefore replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coverage {
    /// Every limit that exists.
    AllLimits,
    /// Some limits, each with all its windows.
    WholeLimits,
    /// Some windows of some limits.
    SomeWindows,
}

impl Snapshot {
    pub(super) fn new(now: SystemTime) -> Self {
        Self { observed_at: now, plan: None, limits: BTreeMap::new() }
    }

    /// Replaces what the report includes, and keeps the rest.
    pub(super) fn merge(&mut self, reported: RateLimits, coverage: Coverage, now: SystemTime) {
        self.observed_at = now;
        self.plan = reported.plan.or_else(|| self.plan.take());
        if coverage == Coverage::AllLimits {
            self.limits.clear();
        }
        for mut limit in reported.limits {
            limit.windows.iter_mut().for_each(|window| *window = window.anchored(now));
            let previous = self.limits.remove(&limit.name).filter(|_| coverage == Coverage::SomeWindows);
            let is_missing = |window: &Window| limit.windows.iter().all(|reported| reported.length != window.length);
            let missing: Vec<Window> =
                previous.into_iter().flat_map(|limit| limit.windows).filter(is_missing).collect();
            limit.windows.extend(missing);
            limit.windows.sort_by_key(|window| window.length);
            self.limits.insert(limit.name.clone(), limit);
        }
    }

    /// The quota at this time.
    pub(super) fn quota(&self, account: &str, now: SystemTime) -> Quota {
        let windows = |limit: &Limit| {
            let windows = limit.windows.iter().filter_map(|window| QuotaWindow::new(limit, window.at(now), now));
            windows.collect::<Vec<_>>()
        };
        Quota {
            account_id: account.to_owned(),
            plan: self.plan.clone(),
            observed_at: self.observed_at,
            windows: self.limits.values().flat_map(windows).collect(),
        }
    }
}

impl Quota {
    /// The counted window that is used beyond this percentage. If there are several, the one that resets last.
    #[must_use]
    pub fn window_beyond(&self, percent: u8) -> Option<&QuotaWindow> {
        let is_beyond = |window: &&QuotaWindow| window.counts && window.used_percent > f64::from(percent);
        self.windows.iter().filter(is_beyond).max_by_key(|window| (window.resets_at, window.length_seconds))
    }
}

impl QuotaWindow {
    /// `None` if the length is unknown.
    fn new(limit: &Limit, window: Window, now: SystemTime) -> Option<Self> {
        let tenths = |percent: f64| (percent * 10.0).round() / 10.0;
        let pace = window.pace(now);
        Some(Self {
            limit: limit.name.clone(),
            counts: limit.scope == Scope::Plan,
            window: window_name(window.length?),
            length_seconds: window.length?.as_secs(),
            used_percent: tenths(window.used_percent),
            resets_at: window.resets_at(),
            pace: pace.map(|pace| QuotaPace {
                projected_percent: tenths(pace.projected_percent),
                spent_at: pace.exhausted_at,
            }),
        })
    }
}
