//! Writes a rate limit report as response headers, and as an event.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;

use super::parse::CODE_REVIEW;
use super::{Credits, EVENT, PLAN_LIMIT, RateLimits, SECONDS_PER_MINUTE, Slot, Window};

#[derive(Serialize)]
struct Event<'l> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan_type: Option<&'l str>,
    rate_limits: EventWindows,
    credits: Option<EventCredits<'l>>,
}

/// The members that clients require.
#[derive(Serialize)]
struct EventCredits<'l> {
    has_credits: bool,
    unlimited: bool,
    balance: Option<&'l str>,
}

#[derive(Serialize)]
struct EventWindows {
    primary: Option<EventWindow>,
    secondary: Option<EventWindow>,
}

#[derive(Serialize)]
struct EventWindow {
    used_percent: f64,
    window_minutes: u64,
    reset_after_seconds: Option<u64>,
    reset_at: Option<u64>,
}

impl RateLimits {
    /// Writes the headers that an HTTP response has in place of the event.
    #[must_use]
    pub fn to_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        put(&mut headers, "x-codex-plan-type", self.plan.clone());
        put(&mut headers, "x-codex-active-limit", self.active.clone());
        // A response has no headers for code reviews.
        for limit in self.limits.iter().filter(|limit| limit.name.as_deref() != Some(CODE_REVIEW)) {
            let family = limit.name.as_deref().unwrap_or(PLAN_LIMIT);
            for Window { slot, used_percent, length, reset } in &limit.windows {
                let mut put = |what: &str, value: Option<String>| {
                    put(&mut headers, &format!("x-{family}-{}-{what}", slot.name()), value);
                };
                put("used-percent", Some(used_percent.to_string()));
                put("window-minutes", length.map(|length| (length.as_secs() / SECONDS_PER_MINUTE).to_string()));
                put("reset-after-seconds", reset.after.map(|seconds| seconds.to_string()));
                put("reset-at", reset.at.map(|seconds| seconds.to_string()));
            }
        }
        if let Some(Credits { has_credits, unlimited, balance }) = &self.credits {
            put(&mut headers, "x-codex-credits-has-credits", has_credits.map(flag));
            put(&mut headers, "x-codex-credits-unlimited", unlimited.map(flag));
            put(&mut headers, "x-codex-credits-balance", balance.clone());
        }
        headers
    }

    /// Writes the event that a WebSocket has in place of the headers. `None` if the plan's own limit has no window of
    /// known length.
    #[must_use]
    pub fn to_event(&self) -> Option<String> {
        let windows = &self.limits.iter().find(|limit| limit.name.is_none())?.windows;
        let window = |slot: Slot| windows.iter().find(|window| window.slot == slot).and_then(EventWindow::new);
        let rate_limits = EventWindows { primary: window(Slot::Primary), secondary: window(Slot::Secondary) };
        if rate_limits.primary.is_none() && rate_limits.secondary.is_none() {
            return None;
        }
        let plan_type = self.plan.as_deref();
        let credits = self.credits.as_ref().and_then(EventCredits::new);
        let event = Event { r#type: EVENT, plan_type, rate_limits, credits };
        serde_json::to_string(&event).ok()
    }
}

impl<'l> EventCredits<'l> {
    fn new(credits: &'l Credits) -> Option<Self> {
        let Credits { has_credits, unlimited, balance } = credits;
        let unlimited = unlimited.unwrap_or(false);
        Some(Self { has_credits: (*has_credits)?, unlimited, balance: balance.as_deref() })
    }
}

impl EventWindow {
    fn new(window: &Window) -> Option<Self> {
        Some(Self {
            used_percent: window.used_percent,
            window_minutes: window.length?.as_secs() / SECONDS_PER_MINUTE,
            reset_after_seconds: window.reset.after,
            reset_at: window.reset.at,
        })
    }
}

/// Adds a header, unless the value is missing or the name or value can't be in a header.
fn put(headers: &mut HeaderMap, name: &str, value: Option<String>) {
    let value = value.and_then(|value| HeaderValue::try_from(value).ok());
    if let (Ok(name), Some(value)) = (HeaderName::try_from(name), value) {
        headers.insert(name, value);
    }
}

/// Spells a flag as the backend does.
fn flag(value: bool) -> String {
    if value { "True" } else { "False" }.to_owned()
}
