//! What the faces of an error have in common, whatever the dialect.
//!
//! A face has its own status, type and body. The headers by which clients decide when to come back,
//! and the words that tell the person at the keyboard what to do, are the same for all of them.

use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::command_hint::command;
use crate::error::{Fault, Phase, ProxyError};
use crate::token_source::AuthError;

const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Whether another try can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The client may try again.
    Open,
    /// Our own attempts are spent, or another would fail the same way. Upstream's retry loop hands on a
    /// transient failure only when the attempts or the budget are spent, or when it leaves the wait to
    /// the client.
    Spent,
}

/// Whether another try can help after a silence. We don't wait twice for a first event, so the client may.
#[must_use]
pub fn after_silence(phase: Phase) -> Retry {
    match phase {
        Phase::FirstEvent => Retry::Open,
        Phase::Connecting | Phase::Streaming => Retry::Spent,
    }
}

/// The headers of an error.
#[must_use]
pub fn headers(error: &ProxyError, retry: Retry) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let wait = match error {
        ProxyError::Upstream(failure) => failure.retry_after,
        ProxyError::Auth(AuthError::Unavailable { retry_after, .. }) => *retry_after,
        ProxyError::Auth(AuthError::TokenRefused { retry_after })
        | ProxyError::Busy { retry_after, .. }
        | ProxyError::MemoryFull { retry_after, .. } => Some(*retry_after),
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

/// The error's own words, and what the person at the keyboard can do where the backend doesn't say.
#[must_use]
pub fn message(error: &ProxyError) -> String {
    let message = error.to_string();
    let failure = match error {
        ProxyError::Upstream(failure) => failure,
        // What is in the way can be seen from the daemon's machine alone.
        ProxyError::Unreachable { .. } | ProxyError::Auth(AuthError::Unavailable { .. }) => {
            return format!("{message} (what is wrong, and what to do: `{}`)", command("doctor"));
        }
        _ => return message,
    };
    match failure.fault {
        Fault::ClientVersion => {
            format!("{message} (raise the setting upstream.client_version, or set it to auto)")
        }
        Fault::Unauthorized => format!("{message} (sign in again: `{}`)", command("login")),
        _ => message,
    }
}

/// Rounded up: a client that comes back too early is turned away again.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}
