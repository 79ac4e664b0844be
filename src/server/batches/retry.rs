//! Decides what the error of a line means: the result of the line, or a pause of its batch.

use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;

use super::activity::Obstacle;
use super::gate::MIN_WAIT;
use super::runner::BatchRunner;
use crate::error::{Fault, ProxyError};
use crate::history::BatchRecord;

/// The longest pause after a failed attempt.
const MAX_WAIT: Duration = Duration::from_secs(10 * 60);
/// How often a line is tried if its failures may be caused by the line.
const MAX_ATTEMPTS: u32 = 3;

/// What caused the failure of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FailureCause {
    /// The line. The failure is its result.
    Line,
    /// Maybe the line. It is tried at most [`MAX_ATTEMPTS`] times.
    Unknown,
    /// Something else. The line is tried until it doesn't fail in this way.
    Circumstances,
}

impl BatchRunner {
    /// Why and how long to wait before a line that failed is tried again; `None`: its failure is its result.
    pub(super) fn retry(&self, batch: &BatchRecord, error: &ProxyError, headers: &HeaderMap) -> Option<Obstacle> {
        let cause = cause(error);
        if cause == FailureCause::Line {
            return None;
        }
        let attempts = self.state.batches.count_attempt(batch.number, cause == FailureCause::Unknown);
        if cause == FailureCause::Unknown && attempts.unexplained >= MAX_ATTEMPTS {
            return None;
        }
        let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let backoff = MIN_WAIT * 2_u32.saturating_pow(attempts.all.min(10));
        let wait = seconds.map_or(backoff, Duration::from_secs).clamp(MIN_WAIT, MAX_WAIT);
        let reason = format!("the last line couldn't be run: {}; it is run again", description(error));
        Some(Obstacle { kind: error.class(), reason, wait })
    }
}

fn cause(error: &ProxyError) -> FailureCause {
    match error {
        ProxyError::Upstream(failure) => cause_of_fault(failure.fault),
        ProxyError::Auth(_)
        | ProxyError::Busy { .. }
        | ProxyError::MemoryFull { .. }
        | ProxyError::Reserved(_)
        | ProxyError::ShuttingDown
        | ProxyError::StoreFailed(_)
        | ProxyError::Unreachable { .. } => FailureCause::Circumstances,
        ProxyError::Internal
        | ProxyError::Silent { .. }
        | ProxyError::Truncated { .. }
        | ProxyError::Damaged { .. } => FailureCause::Unknown,
        ProxyError::Refused(_)
        | ProxyError::BodyTooLarge { .. }
        | ProxyError::BodyUnreadable { .. }
        | ProxyError::BodyTooSlow { .. }
        | ProxyError::TooManyValues { .. }
        | ProxyError::UnsupportedEncoding { .. }
        | ProxyError::UnsupportedMediaType { .. }
        | ProxyError::UnknownPath { .. }
        | ProxyError::DoubledPath { .. }
        | ProxyError::MethodNotAllowed { .. }
        | ProxyError::NotOffered { .. }
        | ProxyError::KeyRequired { .. }
        | ProxyError::ForeignHost { .. }
        | ProxyError::ForeignOrigin { .. }
        | ProxyError::ForeignUser { .. }
        | ProxyError::CrossSite
        | ProxyError::MessageTooLarge { .. }
        | ProxyError::EventTooLarge { .. } => FailureCause::Line,
    }
}

fn cause_of_fault(fault: Fault) -> FailureCause {
    match fault {
        Fault::InvalidRequest
        | Fault::ContextLength
        | Fault::Policy
        | Fault::InvalidImage
        | Fault::EncryptedContent
        | Fault::ModelNotFound
        | Fault::TooLarge => FailureCause::Line,
        Fault::Server => FailureCause::Unknown,
        Fault::ClientVersion
        | Fault::Unauthorized
        | Fault::ClientUnauthorized
        | Fault::Permission
        | Fault::UsageLimit
        | Fault::InsufficientQuota
        | Fault::RateLimited
        | Fault::FlexUnavailable
        | Fault::Overloaded
        | Fault::PolicyCapacity
        | Fault::Challenge
        | Fault::WrongPlace => FailureCause::Circumstances,
    }
}

/// The error in words, without those of the backend, which may quote the prompt.
fn description(error: &ProxyError) -> String {
    let ProxyError::Upstream(failure) = error else { return error.to_string() };
    let text = match failure.fault {
        Fault::ClientVersion => "the backend requires a later version of the client for this model",
        Fault::Unauthorized | Fault::ClientUnauthorized => {
            "the backend refused the access token (run `codex-proxy login`)"
        }
        Fault::Permission => "the account lacks permission, for example because its workspace is deactivated",
        Fault::UsageLimit => "the quota of the account is used up",
        Fault::InsufficientQuota => "the credits or the spend limit of the account are used up",
        Fault::RateLimited => "the backend limits the rate of requests",
        Fault::FlexUnavailable => "the flex tier has no capacity",
        Fault::Overloaded => "the model is at capacity",
        Fault::PolicyCapacity => "the backend has no capacity for this account because of a policy",
        Fault::Challenge => "the backend's network refused the connection (a Cloudflare challenge)",
        Fault::WrongPlace => "the address isn't that of the backend",
        _ => "the backend reported an internal error",
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::{FailureCause, cause, cause_of_fault};
    use crate::error::{Fault, ProxyError, Refusal};

    #[test]
    fn an_invalid_line_is_not_tried_again_and_a_failed_connection_pauses_the_batch() {
        assert_eq!(cause(&Refusal::missing("model")), FailureCause::Line);
        assert_eq!(cause(&ProxyError::Unreachable { cause: String::new() }), FailureCause::Circumstances);
        assert_eq!(cause(&ProxyError::ShuttingDown), FailureCause::Circumstances);
        assert_eq!(cause(&ProxyError::Truncated { cause: None }), FailureCause::Unknown);
        assert_eq!(cause(&ProxyError::Internal), FailureCause::Unknown);
    }

    #[test]
    fn a_state_of_the_account_is_not_the_result_of_a_line() {
        for fault in [Fault::Permission, Fault::PolicyCapacity, Fault::ClientVersion] {
            assert_eq!(cause_of_fault(fault), FailureCause::Circumstances);
        }
    }
}
