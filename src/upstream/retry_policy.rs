//! Decides whether a failed attempt is retried, after which delay, and with which change to the request.
//!
//! Transient failures of the backend and the issuer share a retry count (`upstream.max_retries`) and a waiting budget
//! (`upstream.retry_budget`). If a delay exceeds the budget or [`UpstreamFailure::LONGEST_WAIT`], the client gets the
//! failure and has to wait itself. Each change to the request (a member left out, reasoning dropped, the lite form) is
//! made at most once per request and isn't counted as a retry; neither is replacing a refused token, whose number the
//! caller limits. For requests that may be billed even if they fail, retries can be limited to failures from before the
//! backend has accepted the request. Decisions use no clock and no randomness.

use std::time::Duration;

use crate::error::{Fault, Phase, ProxyError, UpstreamFailure};
use crate::protocol::codex::failure::{unsupported_parameter, wants_lite};
use crate::protocol::codex::{Request, WireFormat, lite};
use crate::token_source::AuthError;

/// Delay before the first retry, if the failure requests none. Doubles with each retry.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
/// Largest relative change of a delay by jitter. Requested delays have none.
const JITTER: f64 = 0.1;

/// The retries and changes that are left to one client request.
#[derive(Clone, Debug)]
pub(super) struct RetryBudget {
    retries_left: u32,
    wait_left: Duration,
    /// Delay before the next retry, if the failure requests none.
    backoff: Duration,
    member_omission: OneTimeChange,
    reasoning_removal: OneTimeChange,
    form_change: OneTimeChange,
    /// The body form that the official client uses for the model, according to the catalog.
    catalogue_form: WireFormat,
    scope: RetryScope,
}

/// The transient failures that are retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RetryScope {
    All,
    /// Those from before the backend has accepted the request.
    Unaccepted,
}

/// The decision to make another attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Retry {
    pub(super) after: Duration,
    pub(super) change: Change,
}

/// Change to make before the next attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Nothing,
    /// Replace the access token.
    FreshToken,
    /// Leave out this member.
    Omit(String),
    /// Leave out the encrypted reasoning of earlier responses.
    DropReasoning,
    /// Send the body in the lite form.
    Lite,
}

/// Whether a change that is made at most once per request has been made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OneTimeChange {
    Available,
    Made,
}

impl RetryBudget {
    pub(super) fn new(max_retries: u32, budget: Duration) -> Self {
        Self {
            retries_left: max_retries,
            wait_left: budget,
            backoff: FIRST_BACKOFF,
            member_omission: OneTimeChange::Available,
            reasoning_removal: OneTimeChange::Available,
            form_change: OneTimeChange::Available,
            catalogue_form: WireFormat::Classic,
            scope: RetryScope::All,
        }
    }

    /// Limits the retries to failures from before the backend has accepted the request.
    pub(super) fn retry_only_unaccepted(&mut self) {
        self.scope = RetryScope::Unaccepted;
    }

    /// Sets the body form that the catalog specifies for the request's model.
    pub(super) fn set_catalogue_form(&mut self, form: WireFormat) {
        self.catalogue_form = form;
    }

    /// Subtracts time that was spent waiting for the issuer from the waiting budget.
    pub(super) fn spend(&mut self, waited: Duration) {
        self.wait_left = self.wait_left.saturating_sub(waited);
    }

    /// Decides whether to make another attempt after a failure, and counts it. `None`: the client gets the failure.
    /// `jitter` is between 0 and 1.
    pub(super) fn next_attempt(&mut self, error: &ProxyError, jitter: f64) -> Option<Retry> {
        if let ProxyError::Upstream(failure) = error
            && let Some(change) = self.change_for(failure)
        {
            return Some(Retry { after: Duration::ZERO, change });
        }
        if !is_transient(error) || (self.scope == RetryScope::Unaccepted && !is_unaccepted(error)) {
            return None;
        }
        let after = requested_delay(error).unwrap_or_else(|| self.backoff.mul_f64(1.0 + JITTER * (2.0 * jitter - 1.0)));
        if self.retries_left == 0 || after > UpstreamFailure::LONGEST_WAIT || after > self.wait_left {
            return None;
        }
        self.retries_left -= 1;
        self.wait_left -= after;
        self.backoff = self.backoff.saturating_mul(2);
        Some(Retry { after, change: Change::Nothing })
    }

    /// Returns the change that may help after this failure, unless it has been made already.
    fn change_for(&mut self, failure: &UpstreamFailure) -> Option<Change> {
        match failure.fault {
            Fault::Unauthorized => Some(Change::FreshToken),
            Fault::EncryptedContent => self.reasoning_removal.make().then_some(Change::DropReasoning),
            Fault::InvalidRequest if self.wants_lite(failure) => self.form_change.make().then_some(Change::Lite),
            Fault::InvalidRequest => {
                let member = unsupported_parameter(failure).filter(|member| Request::can_omit(member))?;
                self.member_omission.make().then(|| Change::Omit(member.to_owned()))
            }
            _ => None,
        }
    }

    /// Whether the lite form may help: the failure names that form; or it names a member that only the classic form
    /// has, and the catalog specifies the lite form for the model.
    fn wants_lite(&self, failure: &UpstreamFailure) -> bool {
        let is_classic_only =
            || unsupported_parameter(failure).is_some_and(|member| lite::MOVED_MEMBERS.contains(&member));
        wants_lite(failure) || (self.catalogue_form == WireFormat::Lite && is_classic_only())
    }
}

impl Change {
    /// Describes the change for the log. Leaves out the member's name: it comes from the backend's message, and may not
    /// be a member of the request.
    pub(super) fn loggable(&self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::FreshToken => "new access token",
            Self::Omit(_) => "rejected member left out",
            Self::DropReasoning => "reasoning dropped",
            Self::Lite => "lite form of the body",
        }
    }
}

impl OneTimeChange {
    /// Returns whether the change was available.
    fn make(&mut self) -> bool {
        std::mem::replace(self, Self::Made) == Self::Available
    }
}

fn is_transient(error: &ProxyError) -> bool {
    match error {
        ProxyError::Auth(AuthError::Unavailable { .. })
        | ProxyError::Unreachable { .. }
        | ProxyError::Truncated { .. } => true,
        ProxyError::Silent { phase, .. } => !matches!(phase, Phase::FirstEvent | Phase::Document),
        ProxyError::Upstream(failure) => match failure.fault {
            Fault::Server | Fault::Overloaded => true,
            // Retried if the backend names a delay, or the code marks the limit as short-term. Else a retry makes it
            // worse.
            Fault::RateLimited => {
                let code = failure.code.as_deref();
                failure.retry_after.is_some() || matches!(code, Some("rate_limit_exceeded" | "slow_down"))
            }
            _ => false,
        },
        _ => false,
    }
}

/// Whether a transient failure is from before the backend has accepted the request.
fn is_unaccepted(error: &ProxyError) -> bool {
    match error {
        ProxyError::Auth(_) | ProxyError::Unreachable { .. } | ProxyError::Silent { phase: Phase::Connecting, .. } => {
            true
        }
        ProxyError::Upstream(failure) => failure.is_unaccepted(),
        _ => false,
    }
}

/// The delay that the backend or the issuer requests.
fn requested_delay(error: &ProxyError) -> Option<Duration> {
    match error {
        ProxyError::Upstream(failure) => failure.retry_after,
        ProxyError::Auth(AuthError::Unavailable { retry_after, .. }) => *retry_after,
        _ => None,
    }
}

/// A random number between 0 and 1. Jitter spreads the retries of requests that failed together.
pub(super) fn random_jitter() -> f64 {
    let (_, low, ..) = uuid::Uuid::new_v4().as_fields();
    f64::from(low) / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests;
