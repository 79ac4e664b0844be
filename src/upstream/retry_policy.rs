//! Whether a failed attempt is worth another, after which wait, and with what change.
//!
//! Pure decisions: no clock, no waiting, no randomness. Transient failures share a count
//! (`upstream.max_retries`) and a budget of waiting (`upstream.retry_budget`); a wait that is too
//! long goes to the client instead, with the time to come back. Transient failures of the issuer count
//! like those of the backend. Beside that, each repair (a member left out, reasoning dropped, the lite
//! form) is made once for a request and costs no wait, and a refused token is replaced.

use std::time::Duration;

use crate::error::{Fault, Phase, ProxyError, UpstreamFailure};
use crate::protocol::codex::failure::{unsupported_parameter, wants_lite};
use crate::protocol::codex::{Request, WireFormat, lite};
use crate::token_source::AuthError;

const FIRST_BACKOFF: Duration = Duration::from_millis(200);
/// How far a back-off is stretched or shortened at most.
const JITTER: f64 = 0.1;

/// The attempts of one client request.
#[derive(Debug)]
pub(super) struct Attempts {
    retries_left: u32,
    budget_left: Duration,
    backoff: Duration,
    member: Repair,
    reasoning: Repair,
    form: Repair,
    /// The form that the official client uses for the model, as far as the catalogue says.
    usual_form: WireFormat,
}

/// Another attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Retry {
    pub(super) after: Duration,
    pub(super) change: Change,
}

/// What has to change before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Nothing,
    FreshToken,
    Omit(String),
    DropReasoning,
    Lite,
}

/// A change that helps once or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repair {
    Open,
    Spent,
}

impl Attempts {
    pub(super) fn new(max_retries: u32, budget: Duration) -> Self {
        Self {
            retries_left: max_retries,
            budget_left: budget,
            backoff: FIRST_BACKOFF,
            member: Repair::Open,
            reasoning: Repair::Open,
            form: Repair::Open,
            usual_form: WireFormat::Classic,
        }
    }

    /// Sets the form that the official client uses for the request's model.
    pub(super) fn set_usual_form(&mut self, form: WireFormat) {
        self.usual_form = form;
    }

    /// Takes the time of a wait for the issuer out of the budget.
    pub(super) fn spend(&mut self, waited: Duration) {
        self.budget_left = self.budget_left.saturating_sub(waited);
    }

    /// What to do about a failure; `None`: nothing, it goes to the client. `jitter` is between 0 and 1.
    pub(super) fn judge(&mut self, error: &ProxyError, jitter: f64) -> Option<Retry> {
        if let ProxyError::Upstream(failure) = error
            && let Some(change) = self.repair(failure)
        {
            return Some(Retry { after: Duration::ZERO, change });
        }
        if !is_transient(error) {
            return None;
        }
        let after = asked_wait(error).unwrap_or_else(|| self.backoff.mul_f64(1.0 + JITTER * (2.0 * jitter - 1.0)));
        if self.retries_left == 0 || after > UpstreamFailure::LONGEST_WAIT || after > self.budget_left {
            return None;
        }
        self.retries_left -= 1;
        self.budget_left -= after;
        self.backoff = self.backoff.saturating_mul(2);
        Some(Retry { after, change: Change::Nothing })
    }

    fn repair(&mut self, failure: &UpstreamFailure) -> Option<Change> {
        match failure.fault {
            Fault::Unauthorized => Some(Change::FreshToken),
            Fault::EncryptedContent => self.reasoning.spend().then_some(Change::DropReasoning),
            Fault::InvalidRequest if self.wants_lite(failure) => self.form.spend().then_some(Change::Lite),
            Fault::InvalidRequest => {
                let member = unsupported_parameter(failure).filter(|member| Request::can_omit(member))?;
                self.member.spend().then(|| Change::Omit(member.to_owned()))
            }
            _ => None,
        }
    }

    /// Whether the lite form may help: the refusal names the form, or a member that only the classic form
    /// has, of a model that the official client calls in the lite form.
    fn wants_lite(&self, failure: &UpstreamFailure) -> bool {
        let is_classic_only =
            || unsupported_parameter(failure).is_some_and(|member| lite::MOVED_MEMBERS.contains(&member));
        wants_lite(failure) || (self.usual_form == WireFormat::Lite && is_classic_only())
    }
}

impl Change {
    /// The change as it may stand in a log: the member's name is a word of the backend's message
    /// until the request turns out to have it.
    pub(super) fn loggable(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::FreshToken => "a fresh token",
            Self::Omit(_) => "a member left out",
            Self::DropReasoning => "reasoning dropped",
            Self::Lite => "the lite form of the body",
        }
    }
}

impl Repair {
    fn spend(&mut self) -> bool {
        std::mem::replace(self, Self::Spent) == Self::Open
    }
}

fn is_transient(error: &ProxyError) -> bool {
    match error {
        ProxyError::Auth(AuthError::Unavailable { .. })
        | ProxyError::Unreachable { .. }
        | ProxyError::Truncated { .. } => true,
        ProxyError::Silent { phase, .. } => *phase != Phase::FirstEvent,
        ProxyError::Upstream(failure) => match failure.fault {
            Fault::Server | Fault::Overloaded => true,
            // Without a delay, "too many" gets worse by asking again, unless the code says otherwise.
            Fault::RateLimited => {
                let code = failure.code.as_deref();
                failure.retry_after.is_some() || matches!(code, Some("rate_limit_exceeded" | "slow_down"))
            }
            _ => false,
        },
        _ => false,
    }
}

fn asked_wait(error: &ProxyError) -> Option<Duration> {
    match error {
        ProxyError::Upstream(failure) => failure.retry_after,
        ProxyError::Auth(AuthError::Unavailable { retry_after, .. }) => *retry_after,
        _ => None,
    }
}

/// A number between 0 and 1, so that clients which failed together don't come back together.
pub(super) fn chance() -> f64 {
    let (_, low, ..) = uuid::Uuid::new_v4().as_fields();
    f64::from(low) / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Attempts, Change, FIRST_BACKOFF, Retry};
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

    fn again(milliseconds: u64) -> Retry {
        Retry { after: Duration::from_millis(milliseconds), change: Change::Nothing }
    }

    #[test]
    fn transient_failures_are_repeated_until_the_count_is_spent() {
        let mut attempts = Attempts::new(2, BUDGET);
        assert_eq!(attempts.judge(&answer(500, ""), MIDDLE), Some(again(200)));
        assert_eq!(attempts.judge(&ProxyError::Truncated { cause: None }, MIDDLE), Some(again(400)));
        assert_eq!(attempts.judge(&answer(500, ""), MIDDLE), None);
    }

    #[test]
    fn what_is_transient_and_what_is_not() {
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
            assert!(Attempts::new(1, BUDGET).judge(&error, MIDDLE).is_some(), "{error}");
        }
        let terminal = [
            ProxyError::Silent { phase: Phase::FirstEvent, limit },
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
            assert_eq!(Attempts::new(1, BUDGET).judge(&error, MIDDLE), None, "{error}");
        }
    }

    #[test]
    fn a_wait_that_is_asked_for_is_kept_unless_it_is_too_long() {
        assert_eq!(Attempts::new(1, BUDGET).judge(&waiting(20), MIDDLE), Some(again(20_000)));
        assert_eq!(Attempts::new(1, BUDGET).judge(&waiting(21), MIDDLE), None);
        let mut attempts = Attempts::new(5, BUDGET);
        assert!(attempts.judge(&waiting(20), MIDDLE).is_some());
        assert_eq!(attempts.judge(&waiting(11), MIDDLE), None);
        assert_eq!(attempts.judge(&waiting(10), MIDDLE), Some(again(10_000)));
    }

    #[test]
    fn time_spent_on_the_issuer_is_part_of_the_budget() {
        let mut attempts = Attempts::new(5, BUDGET);
        attempts.spend(Duration::from_secs(11));
        assert_eq!(attempts.judge(&waiting(20), MIDDLE), None);
        assert_eq!(attempts.judge(&waiting(19), MIDDLE), Some(again(19_000)));
        attempts.spend(Duration::from_secs(11));
        assert_eq!(attempts.judge(&answer(500, ""), MIDDLE), None);
    }

    #[test]
    fn a_member_that_only_the_classic_form_has_asks_a_lite_model_for_the_lite_form() {
        for member in ["instructions", "tools"] {
            let refusal = answer(400, &format!(r#"{{"detail":"Unsupported parameter: {member}"}}"#));
            let mut attempts = Attempts::new(0, BUDGET);
            attempts.set_usual_form(WireFormat::Lite);
            let retry = Retry { after: Duration::ZERO, change: Change::Lite };
            assert_eq!(attempts.judge(&refusal, MIDDLE), Some(retry), "{member}");
            assert_eq!(attempts.judge(&refusal, MIDDLE), None, "once");
        }
        let refusal = answer(400, r#"{"detail":"Unsupported parameter: tool_choice"}"#);
        let mut attempts = Attempts::new(0, BUDGET);
        attempts.set_usual_form(WireFormat::Lite);
        assert_eq!(attempts.judge(&refusal, MIDDLE), None, "both forms have it");
    }

    #[test]
    fn each_repair_is_made_once_and_costs_no_retry() {
        let mut attempts = Attempts::new(0, Duration::ZERO);
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
            assert_eq!(attempts.judge(error, MIDDLE), Some(retry));
        }
        for (error, _) in &errors {
            assert_eq!(attempts.judge(error, MIDDLE), None);
        }
    }

    proptest! {
        /// Clients are told not to try again after a transient failure, unless the wait is theirs.
        #[test]
        fn a_transient_failure_is_handed_on_only_when_attempts_budget_or_patience_are_spent(
            retries in 0u32..6,
            waits in proptest::collection::vec(proptest::option::of(0u64..40), 1..12),
        ) {
            let mut attempts = Attempts::new(retries, BUDGET);
            let (mut made, mut waited) = (0, Duration::ZERO);
            for wait in waits {
                let error = wait.map_or(ProxyError::Truncated { cause: None }, waiting);
                if let Some(retry) = attempts.judge(&error, MIDDLE) {
                    made += 1;
                    waited += retry.after;
                    continue;
                }
                let asked = wait.map_or(FIRST_BACKOFF * 2_u32.pow(made), Duration::from_secs);
                let is_clients =
                    matches!(&error, ProxyError::Upstream(failure) if failure.wait_for_client().is_some());
                prop_assert!(made == retries || waited + asked > BUDGET || is_clients);
            }
        }

        #[test]
        fn attempts_end_and_their_waits_stay_in_the_budget(
            retries in 0u32..200,
            waits in proptest::collection::vec(proptest::option::of(0u64..40), 0..300),
            jitter in 0.0f64..=1.0,
        ) {
            let mut attempts = Attempts::new(retries, BUDGET);
            let mut waited = Duration::ZERO;
            let mut made = 0;
            for wait in waits {
                let error = wait.map_or_else(|| answer(500, ""), waiting);
                if let Some(retry) = attempts.judge(&error, jitter) {
                    waited += retry.after;
                    made += 1;
                }
            }
            prop_assert!(waited <= BUDGET && made <= retries);
        }
    }
}
