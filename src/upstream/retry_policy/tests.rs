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
fn a_request_that_may_be_billed_is_retried_only_if_it_was_not_accepted() {
    let limit = Duration::from_secs(1);
    for (error, is_retried) in [
        (ProxyError::Unreachable { cause: "refused".to_owned() }, true),
        (ProxyError::Silent { phase: Phase::Connecting, limit }, true),
        (issuer_down(None), true),
        (waiting(1), true),
        (answer(429, r#"{"detail":"try again in 1s"}"#), true),
        (answer(401, ""), true),
        (answer(503, r#"{"error":{"code":"server_is_overloaded"}}"#), false),
        (answer(502, ""), false),
        (answer(524, ""), false),
        (ProxyError::Truncated { cause: None }, false),
        (ProxyError::Silent { phase: Phase::Streaming, limit }, false),
    ] {
        let mut budget = RetryBudget::new(1, BUDGET);
        budget.retry_only_unaccepted();
        assert_eq!(budget.next_attempt(&error, MIDDLE).is_some(), is_retried, "{error}");
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
        (answer(400, r#"{"detail":"Unsupported parameter: service_tier"}"#), Change::Omit("service_tier".to_owned())),
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
