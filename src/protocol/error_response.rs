//! The parts of an error response that all APIs share.
//!
//! Status, type and body differ between APIs. The headers that say whether and when to retry, and the advice for the
//! user in the message, are the same.

use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::command_hint::CommandHint;
use crate::error::{Fault, Phase, ProxyError};
use crate::token_source::AuthError;

const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Whether the client should retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The client decides.
    Open,
    /// No: the proxy has used up its own retries, or a retry would fail the same way. The response has
    /// `x-should-retry: false`, which the official SDKs honor.
    Spent,
}

/// Whether the client should retry after a timeout. The proxy doesn't retry the wait for a first event, so the client
/// may. A document may have been billed, as images are, and takes as long the next time.
#[must_use]
pub fn after_timeout(phase: Phase) -> Retry {
    match phase {
        Phase::FirstEvent => Retry::Open,
        Phase::Connecting | Phase::Streaming | Phase::Document => Retry::Spent,
    }
}

/// Whether the client should retry a request for which there was no memory. `retry_after` is that of the error.
#[must_use]
pub fn after_full_memory(retry_after: Option<Duration>) -> Retry {
    if retry_after.is_some() { Retry::Open } else { Retry::Spent }
}

/// The headers of an error response: content type, `retry-after` in seconds if the wait is known, `x-should-retry`, and
/// `allow`.
#[must_use]
pub fn headers(error: &ProxyError, retry: Retry) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let wait = match error {
        ProxyError::Upstream(failure) => failure.retry_after,
        ProxyError::Auth(AuthError::Unavailable { retry_after, .. }) | ProxyError::MemoryFull { retry_after, .. } => {
            *retry_after
        }
        ProxyError::Auth(AuthError::TokenRefused { retry_after }) | ProxyError::Busy { retry_after, .. } => {
            Some(*retry_after)
        }
        ProxyError::Reserved(reserve) => Some(reserve.retry_after),
        _ => None,
    };
    if let Some(wait) = wait {
        headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
    }
    if retry == Retry::Spent {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    if let ProxyError::MethodNotAllowed { allowed, .. } = error
        && let Ok(allowed) = HeaderValue::from_str(allowed)
    {
        headers.insert(ALLOW, allowed);
    }
    headers
}

/// The message of an error. Adds the setting or command that may help, where the error's own text names none.
#[must_use]
pub fn message(error: &ProxyError, commands: CommandHint) -> String {
    let message = error.to_string();
    let failure = match error {
        ProxyError::Upstream(failure) => failure,
        ProxyError::Unreachable { .. } | ProxyError::Auth(AuthError::Unavailable { .. }) => {
            return format!("{message} (to find the cause, run `{}`)", commands.command("doctor"));
        }
        _ => return message,
    };
    match failure.fault {
        Fault::ClientVersion => {
            format!("{message} (raise the setting upstream.client_version, or set it to \"auto\")")
        }
        Fault::Unauthorized => format!("{message} (sign in again: `{}`)", commands.command("login")),
        _ => message,
    }
}

/// The member of the request that caused an error, if it is known.
#[must_use]
pub fn param(error: &ProxyError) -> Option<&str> {
    match error {
        ProxyError::Refused(refusal) => refusal.param.as_deref(),
        ProxyError::Upstream(failure) => failure.param.as_deref(),
        _ => None,
    }
}

/// Converts a wait to seconds, rounded up so that the client doesn't retry too early.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}
