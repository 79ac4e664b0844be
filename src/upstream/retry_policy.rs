//! Decides whether a failed attempt is retried, after which delay, and with which change to the request.
//!
//! Transient failures of the backend and the issuer share a retry count (`upstream.max_retries`) and a waiting budget
//! (`upstream.retry_budget`). If a delay exceeds the budget or [`UpstreamFailure::LONGEST_WAIT`], the client gets the
//! failure and has to wait itself. Each change to the request (a member left out, reasoning dropped, the lite form) is
//! made at most once per request and isn't counted as a retry; neither is replacing a refused token, whose number the
//! caller limits. Decisions use no clock and no randomness.

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
        }
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
        if !is_transient(error) {
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
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Change, FIRST_BACKOFF, Retry, RetryBudget};
    use crate::error::{Phase, ProxyError};
    use crate::protocol::codex::{WireFormat, failure};
    use crate::token_source::AuthError;

    const BUDGET: Duration = Duration::from_secs(30);
    const MIDDLE: f64 = 0.5;

    fn answer(status: u16, body: &str) -> ProxyError {
        ProxyError::Upstream(Box::new(failure::from_response(status, &http::HeaderMap::new(), body.as_bytes())))
    }

    fn issuer_down(retry_after: Option<Duration>) -> ProxyError {
        ProxyError::Auth(AuthError::Unavailable { message: "503".to_owned(), retry_after })
    }

    fn waiting(seconds: u64) -> ProxyError {
        let mut failure = failure::from_response(503, &http::HeaderMap::new(), b"");
        failure.retry_after = Some(Duration::from_secs(seconds));
        ProxyError::Upstream(Box::new(failure))
    }

    fn retry_after(milliseconds: u64) -> Retry {
        Retry { after: Duration::from_millis(milliseconds), change: Change::Nothing }
    }

    #[test]
    fn transient_failures_are_retried_up_to_the_count() {
        let mut budget = RetryBudget::new(2, BUDGET);
        assert_eq!(budget.next_attempt(&answer(500, ""), MIDDLE), Some(retry_after(200)));
        assert_eq!(budget.next_attempt(&ProxyError::Truncated { cause: None }, MIDDLE), Some(retry_after(400)));
        assert_eq!(budget.next_attempt(&answer(500, ""), MIDDLE), None);
    }

    #[test]
    fn transient_and_terminal_failures() {
        let limit = Duration::from_secs(1);
        let transient = [
            ProxyError::Unreachable { cause: "refused".to_owned() },
            ProxyError::Silent { phase: Phase::Connecting, limit },
            ProxyError::Silent { phase: Phase::Streaming, limit },
            answer(503, r#"{"error":{"code":"server_is_overloaded"}}"#),
            answer(429, r#"{"error":{"code":"rate_limit_exceeded"}}"#),
            answer(429, r#"{"error":{"code":"slow_down"}}"#),
            answer(429, r#"{"detail":"try again in 1s"}"#),
            issuer_down(Some(Duration::from_secs(1))),
            issuer_down(None),
        ];
        for error in transient {
            assert!(RetryBudget::new(1, BUDGET).next_attempt(&error, MIDDLE).is_some(), "{error}");
        }
        let terminal = [
            ProxyError::Silent { phase: Phase::FirstEvent, limit },
            ProxyError::Silent { phase: Phase::Document, limit },
            ProxyError::EventTooLarge { limit_bytes: 1 },
            ProxyError::MessageTooLarge { size_bytes: 1, reason: String::new() },
            answer(429, r#"{"error":{"type":"usage_limit_reached","resets_in_seconds":1}}"#),
            answer(429, r#"{"error":{"code":"insufficient_quota"}}"#),
            answer(429, r#"{"error":{"code":"flex_unavailable"}}"#),
            answer(429, r#"{"detail":"Rate limited"}"#),
            answer(503, r#"{"error":{"code":"policy_capacity_unavailable"}}"#),
            answer(400, r#"{"error":{"code":"cyber_policy"}}"#),
            answer(400, r#"{"detail":"Unsupported parameter: input"}"#),
            answer(400, r#"{"detail":"Unsupported parameter: instructions"}"#),
            answer(400, r#"{"detail":"Unsupported parameter: reasoning"}"#),
            answer(400, r#"{"detail":"Unsupported parameter: include"}"#),
            answer(403, "<html>"),
            answer(404, ""),
            answer(302, ""),
            ProxyError::Auth(AuthError::SignedOut),
            ProxyError::Auth(AuthError::TokenRefused { retry_after: limit }),
            issuer_down(Some(Duration::from_secs(21))),
        ];
        for error in terminal {
            assert_eq!(RetryBudget::new(1, BUDGET).next_attempt(&error, MIDDLE), None, "{error}");
        }
    }

    #[test]
    fn requested_delays_are_honored_up_to_a_limit() {
        assert_eq!(RetryBudget::new(1, BUDGET).next_attempt(&waiting(20), MIDDLE), Some(retry_after(20_000)));
        assert_eq!(RetryBudget::new(1, BUDGET).next_attempt(&waiting(21), MIDDLE), None);
        let mut budget = RetryBudget::new(5, BUDGET);
        assert!(budget.next_attempt(&waiting(20), MIDDLE).is_some());
        assert_eq!(budget.next_attempt(&waiting(11), MIDDLE), None);
        assert_eq!(budget.next_attempt(&waiting(10), MIDDLE), Some(retry_after(10_000)));
    }

    #[test]
    fn time_spent_on_the_issuer_counts_against_the_budget() {
        let mut budget = RetryBudget::new(5, BUDGET);
        budget.spend(Duration::from_secs(11));
        assert_eq!(budget.next_attempt(&waiting(20), MIDDLE), None);
        assert_eq!(budget.next_attempt(&waiting(19), MIDDLE), Some(retry_after(19_000)));
        budget.spend(Duration::from_secs(11));
        assert_eq!(budget.next_attempt(&answer(500, ""), MIDDLE), None);
    }

    #[test]
    fn a_rejected_classic_member_selects_the_lite_form_for_lite_models() {
        for member in ["instructions", "tools"] {
            let refusal = answer(400, &format!(r#"{{"detail":"Unsupported parameter: {member}"}}"#));
            let mut budget = RetryBudget::new(0, BUDGET);
            budget.set_catalogue_form(WireFormat::Lite);
            let retry = Retry { after: Duration::ZERO, change: Change::Lite };
            assert_eq!(budget.next_attempt(&refusal, MIDDLE), Some(retry), "{member}");
            assert_eq!(budget.next_attempt(&refusal, MIDDLE), None, "once");
        }
        let refusal = answer(400, r#"{"detail":"Unsupported parameter: tool_choice"}"#);
        let mut budget = RetryBudget::new(0, BUDGET);
        budget.set_catalogue_form(WireFormat::Lite);
        assert_eq!(budget.next_attempt(&refusal, MIDDLE), None, "both forms have it");
    }

    #[test]
    fn each_change_is_made_once_and_costs_no_retry() {
        let mut budget = RetryBudget::new(0, Duration::ZERO);
        let errors = [
            (
                answer(400, r#"{"detail":"Unsupported parameter: service_tier"}"#),
                Change::Omit("service_tier".to_owned()),
            ),
            (answer(400, r#"{"error":{"code":"invalid_encrypted_content"}}"#), Change::DropReasoning),
            (answer(400, r#"{"detail":"This model requires responses-lite."}"#), Change::Lite),
        ];
        for (error, change) in &errors {
            let retry = Retry { after: Duration::ZERO, change: change.clone() };
            assert_eq!(budget.next_attempt(error, MIDDLE), Some(retry));
        }
        for (error, _) in &errors {
            assert_eq!(budget.next_attempt(error, MIDDLE), None);
        }
    }

    proptest! {
        /// A client gets `x-should-retry: false` with a transient failure, unless it has to wait itself.
        #[test]
        fn a_client_gets_a_transient_failure_only_when_no_retry_is_left(
            retries in 0u32..6,
            waits in proptest::collection::vec(proptest::option::of(0u64..40), 1..12),
        ) {
            let mut budget = RetryBudget::new(retries, BUDGET);
            let (mut made, mut waited) = (0, Duration::ZERO);
            for wait in waits {
                let error = wait.map_or(ProxyError::Truncated { cause: None }, waiting);
                if let Some(retry) = budget.next_attempt(&error, MIDDLE) {
                    made += 1;
                    waited += retry.after;
                    continue;
                }
                let delay = wait.map_or(FIRST_BACKOFF * 2_u32.pow(made), Duration::from_secs);
                let is_left_to_client =
                    matches!(&error, ProxyError::Upstream(failure) if failure.wait_for_client().is_some());
                prop_assert!(made == retries || waited + delay > BUDGET || is_left_to_client);
            }
        }

        #[test]
        fn retries_and_delays_stay_within_the_limits(
            retries in 0u32..200,
            waits in proptest::collection::vec(proptest::option::of(0u64..40), 0..300),
            jitter in 0.0f64..=1.0,
        ) {
            let mut budget = RetryBudget::new(retries, BUDGET);
            let mut waited = Duration::ZERO;
            let mut made = 0;
            for wait in waits {
                let error = wait.map_or_else(|| answer(500, ""), waiting);
                if let Some(retry) = budget.next_attempt(&error, jitter) {
                    waited += retry.after;
                    made += 1;
                }
            }
            prop_assert!(waited <= BUDGET && made <= retries);
        }
    }
}
