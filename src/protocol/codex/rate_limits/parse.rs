//! Parses each form of a rate limit report.

use std::collections::BTreeSet;
use std::time::Duration;

use http::HeaderMap;
use serde_json::Value;

use super::{Credits, Limit, PLAN_LIMIT, RateLimits, Reset, SECONDS_PER_MINUTE, Scope, Slot, Window, is_valid_time};

/// Name of the code review limit, which the backend reports in a member of its own.
pub(super) const CODE_REVIEW: &str = "code-review";

impl RateLimits {
    /// Parses the headers of a response.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let active = text(headers, "x-codex-active-limit");
        let windows = headers.keys().filter_map(|name| name.as_str().strip_prefix("x-")?.strip_suffix("-used-percent"));
        let families: BTreeSet<&str> = windows
            .filter_map(|window| Slot::ALL.iter().find_map(|slot| window.strip_suffix(slot.name())?.strip_suffix('-')))
            .collect();
        let limits = families.into_iter().map(|family| {
            let windows = Slot::ALL.into_iter().filter_map(|slot| {
                let number =
                    |what: &str| text(headers, &format!("x-{family}-{}-{what}", slot.name()))?.parse::<f64>().ok();
                let length =
                    number("window-minutes").and_then(whole).map(|minutes| minutes.saturating_mul(SECONDS_PER_MINUTE));
                let reset = Reset::new(number("reset-at"), number("reset-after-seconds"));
                Window::new(slot, number("used-percent")?, length, reset)
            });
            Limit::new(family, active, windows)
        });
        Self {
            plan: text(headers, "x-codex-plan-type").map(str::to_owned),
            active: active.map(str::to_owned),
            limits: with_windows(limits),
            credits: Credits::from_headers(headers),
        }
    }

    /// Parses a [`super::EVENT`] event. `None` if it isn't JSON.
    #[must_use]
    pub fn from_event(data: &[u8]) -> Option<Self> {
        let event: Value = serde_json::from_slice(data).ok()?;
        let active = event["metered_limit_name"].as_str().or(event["limit_name"].as_str()).unwrap_or(PLAN_LIMIT);
        let mut limits = vec![Limit::from_json(active, Some(active), &event["rate_limits"])];
        limits.push(Limit::from_json(CODE_REVIEW, None, &event["code_review_rate_limits"]));
        let others = event["additional_rate_limits"].as_object().into_iter().flatten();
        limits.extend(others.map(|(name, limit)| Limit::from_json(name, None, limit)));
        Some(Self {
            plan: string(&event["plan_type"]),
            active: Some(active.to_owned()),
            limits: with_windows(limits),
            credits: Credits::from_json(&event["credits"]),
        })
    }

    /// Parses the `/wham/usage` document. `None` if the body isn't one.
    #[must_use]
    pub fn from_usage(body: &[u8]) -> Option<Self> {
        let document: Value = serde_json::from_slice(body).ok()?;
        let mut limits = vec![Limit::from_json(PLAN_LIMIT, None, document.get("rate_limit")?)];
        limits.push(Limit::from_json(CODE_REVIEW, None, &document["code_review_rate_limit"]));
        let others = document["additional_rate_limits"].as_array().into_iter().flatten();
        limits.extend(others.map(|other| {
            let name = other["metered_feature"].as_str().or(other["limit_name"].as_str());
            Limit::from_json(name.unwrap_or("other"), None, &other["rate_limit"])
        }));
        Some(Self {
            plan: string(&document["plan_type"]),
            active: None,
            limits: with_windows(limits),
            credits: Credits::from_json(&document["credits"]),
        })
    }

    /// Parses the `error` object of a usage limit error. It describes one exhausted window of an unnamed limit.
    #[must_use]
    pub fn from_error(error: &Value) -> Self {
        let minutes = error["limit_window_minutes"].as_u64().filter(|minutes| *minutes > 0);
        let length = minutes.map(|minutes| minutes.saturating_mul(SECONDS_PER_MINUTE));
        let reset = Reset::new(error["resets_at"].as_f64(), error["resets_in_seconds"].as_f64());
        let window = Window::new(Slot::Primary, 100.0, length, reset);
        Self {
            plan: string(&error["plan_type"]),
            active: None,
            limits: vec![Limit::new(PLAN_LIMIT, None, window)],
            credits: None,
        }
    }

    /// Normalized name of the limit that the request counts against.
    #[must_use]
    pub fn active_name(&self) -> Option<String> {
        self.active.as_deref().map(normalized)
    }
}

impl Limit {
    /// `active` is the name of the limit that the request counted against.
    fn new(name: &str, active: Option<&str>, windows: impl IntoIterator<Item = Window>) -> Self {
        let name = Some(normalized(name)).filter(|name| name != PLAN_LIMIT);
        let is_counted = name.is_none() || name == active.map(normalized);
        let mut windows: Vec<Window> = windows.into_iter().collect();
        windows.sort_by_key(|window| window.length);
        Self { name, scope: if is_counted { Scope::Plan } else { Scope::Other }, windows }
    }

    /// Parses a limit of an event or of the usage document, whose member names differ.
    fn from_json(name: &str, active: Option<&str>, limit: &Value) -> Self {
        let windows = Slot::ALL.into_iter().filter_map(|slot| {
            let members = [format!("{}_window", slot.name()), slot.name().to_owned()];
            let window = members.iter().find_map(|member| limit.get(member))?;
            let minutes = || Some(window["window_minutes"].as_u64()?.saturating_mul(SECONDS_PER_MINUTE));
            let length = window["limit_window_seconds"].as_u64().or_else(minutes);
            let reset = Reset::new(window["reset_at"].as_f64(), window["reset_after_seconds"].as_f64());
            Window::new(slot, window["used_percent"].as_f64()?, length, reset)
        });
        Self::new(name, active, windows)
    }
}

impl Window {
    /// `None` if `used_percent` is not finite or the length is zero, which means that there is no such window.
    fn new(slot: Slot, used_percent: f64, length_seconds: Option<u64>, reset: Reset) -> Option<Self> {
        let is_valid = used_percent.is_finite() && length_seconds != Some(0);
        let length = length_seconds.map(Duration::from_secs);
        is_valid.then(|| Self { slot, used_percent: used_percent.max(0.0), length, reset })
    }
}

impl Reset {
    fn new(at: Option<f64>, after: Option<f64>) -> Self {
        Self { at: at.and_then(whole).filter(|seconds| is_valid_time(*seconds)), after: after.and_then(whole) }
    }
}

impl Credits {
    fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let flag = |name: &str| text(headers, name).map(|flag| flag.eq_ignore_ascii_case("true"));
        Self {
            has_credits: flag("x-codex-credits-has-credits"),
            unlimited: flag("x-codex-credits-unlimited"),
            balance: text(headers, "x-codex-credits-balance").map(str::to_owned),
        }
        .if_reported()
    }

    fn from_json(credits: &Value) -> Option<Self> {
        let balance = &credits["balance"];
        Self {
            has_credits: credits["has_credits"].as_bool(),
            unlimited: credits["unlimited"].as_bool(),
            balance: string(balance).or_else(|| balance.as_number().map(ToString::to_string)),
        }
        .if_reported()
    }

    fn if_reported(self) -> Option<Self> {
        (self != Self::default()).then_some(self)
    }
}

fn with_windows(limits: impl IntoIterator<Item = Limit>) -> Vec<Limit> {
    limits.into_iter().filter(|limit| !limit.windows.is_empty()).collect()
}

/// Spells a limit's name as in a header name: in lower case, with hyphens.
fn normalized(name: &str) -> String {
    name.replace(['_', ' '], "-").to_ascii_lowercase()
}

/// Rounds down. `None` if the number is negative or too large.
fn whole(number: f64) -> Option<u64> {
    Duration::try_from_secs_f64(number).ok().map(|duration| duration.as_secs())
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim).filter(|text| !text.is_empty())
}

fn string(value: &Value) -> Option<String> {
    value.as_str().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
}
