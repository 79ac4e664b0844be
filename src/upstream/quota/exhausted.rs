//! Remembers exhausted limits, so that further requests fail at once.
//!
//! The backend has several limits, each with its own windows; one can be exhausted while another isn't. The headers of
//! a model's earlier responses report the limit that the model counts against. A limit counts as exhausted
//! until the reset that the backend reported, or until any request that counts against it succeeds. Meanwhile one
//! request per interval is let through as a probe: the user may have bought credits or changed the plan.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::UpstreamFailure;
use crate::protocol::codex::failure::with_elapsed;
use crate::protocol::codex::rate_limits::RateLimits;

/// Maximum number of models whose limit is remembered: clients choose the names.
const MAX_MODELS: usize = 64;

/// Name of a limit. `None` if the backend didn't report one.
type LimitName = Option<String>;

/// The exhausted limits of one account.
#[derive(Debug, Default)]
pub(super) struct ExhaustedLimits {
    /// The limit that each model counts against.
    limit_names: HashMap<String, LimitName>,
    limits: HashMap<LimitName, ExhaustedLimit>,
}

#[derive(Debug)]
struct ExhaustedLimit {
    failure: UpstreamFailure,
    /// When the failure was received.
    since: Instant,
    /// When the limit resets.
    until: Instant,
    /// When the latest probe was let through, or the failure received.
    probed_at: Instant,
}

impl ExhaustedLimits {
    /// Returns the failure for a request of this model, unless its limit isn't known to be exhausted or a probe is due.
    /// The caller has to send that request.
    pub(super) fn check(&mut self, model: &str, probe_interval: Duration) -> Option<UpstreamFailure> {
        let now = Instant::now();
        let limit = self.current(model, now)?;
        if now >= limit.probed_at + probe_interval {
            // Only this request is a probe.
            limit.probed_at = now;
            tracing::info!("sending a request to probe whether the usage limit is still exhausted");
            return None;
        }
        Some(with_elapsed(&limit.failure, now - limit.since))
    }

    /// Like [`Self::check`], for a request whose success doesn't show whether the limit is exhausted: it is never a
    /// probe.
    pub(super) fn failure(&mut self, model: &str) -> Option<UpstreamFailure> {
        let now = Instant::now();
        let limit = self.current(model, now)?;
        Some(with_elapsed(&limit.failure, now - limit.since))
    }

    /// The limit of the model, if it is exhausted and hasn't been reset.
    fn current(&mut self, model: &str, now: Instant) -> Option<&mut ExhaustedLimit> {
        let name = self.limit_names.get(model)?;
        if self.limits.get(name).is_some_and(|limit| now >= limit.until) {
            self.limits.remove(name);
        }
        self.limits.get_mut(name)
    }

    /// Records a usage limit failure, with the limits in its headers. If they show room, or the failure has no reset
    /// time, the limit doesn't count as exhausted.
    pub(super) fn record_usage_limit(&mut self, model: &str, failure: &UpstreamFailure, limits: &RateLimits) {
        let now = Instant::now();
        let name = self.learn_limit_name(model, limits.active_name());
        let until = failure.retry_after.filter(|_| !limits.has_room()).and_then(|wait| now.checked_add(wait));
        match until {
            Some(until) => {
                let limit = ExhaustedLimit { failure: failure.clone(), since: now, until, probed_at: now };
                self.limits.insert(name, limit);
            }
            None => drop(self.limits.remove(&name)),
        }
    }

    /// Records the success of a request that counts against the model's limit, which shows that the model's limit isn't
    /// exhausted.
    pub(super) fn record_success(&mut self, model: &str, limits: &RateLimits) {
        let name = self.learn_limit_name(model, limits.active_name());
        self.limits.remove(&name);
    }

    /// Records the limit that a model counts against, and returns it. If none was reported, that is the recorded one.
    fn learn_limit_name(&mut self, model: &str, reported: LimitName) -> LimitName {
        match self.limit_names.get_mut(model) {
            Some(known) if reported.is_none() || *known == reported => known.clone(),
            Some(known) => {
                known.clone_from(&reported);
                reported
            }
            None => {
                if self.limit_names.len() < MAX_MODELS {
                    self.limit_names.insert(model.to_owned(), reported.clone());
                }
                reported
            }
        }
    }
}
