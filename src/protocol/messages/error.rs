//! Errors in the Messages API: status, type, headers and body.
//!
//! Clients act on the type, and on some texts: `prompt is too long` makes Claude Code compact the conversation. The
//! official SDKs retry unless `x-should-retry: false` forbids it, as for a used-up quota.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::command_hint::CommandHint;
use crate::error::{Fault, ProxyError, Reason, UpstreamFailure};
use crate::protocol::error_response::{self, Retry};
use crate::protocol::json::quoted;
use crate::token_source::AuthError;

/// When the used-up quota resets, in Unix seconds.
const QUOTA_RESET: HeaderName = HeaderName::from_static("anthropic-ratelimit-unified-reset");
/// The code that makes clients send the whole conversation in place of a reference to a stored one.
pub(super) const THREAD_NOT_FOUND: &str = "thread_not_found";
/// The start of the message for a conversation that is too long.
const TOO_LONG: &str = "prompt is too long: ";

/// The error types of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    InvalidRequest,
    Authentication,
    Permission,
    NotFound,
    TooLarge,
    RateLimit,
    Api,
    Timeout,
    Overloaded,
}

/// Status, headers and body of an error.
#[must_use]
pub fn to_error_response(
    error: &ProxyError,
    request_id: &str,
    commands: CommandHint,
) -> (StatusCode, HeaderMap, Bytes) {
    let (status, _, retry) = classify(error);
    let body =
        format!(r#"{{"type":"error","error":{},"request_id":{}}}"#, error_object(error, commands), quoted(request_id));
    (status, headers(error, retry), Bytes::from(body))
}

/// The object `error` in the body of an error response or in an `error` event, as JSON.
pub(super) fn error_object(error: &ProxyError, commands: CommandHint) -> String {
    let (_, kind, _) = classify(error);
    let details = match error {
        ProxyError::Refused(refusal) if refusal.code == Some(THREAD_NOT_FOUND) => {
            format!(r#","details":{{"error_code":"{THREAD_NOT_FOUND}"}}"#)
        }
        _ => String::new(),
    };
    format!(r#"{{"type":"{}","message":{}{details}}}"#, kind.as_str(), quoted(&message(error, commands)))
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request_error",
            Self::Authentication => "authentication_error",
            Self::Permission => "permission_error",
            Self::NotFound => "not_found_error",
            Self::TooLarge => "request_too_large",
            Self::RateLimit => "rate_limit_error",
            Self::Api => "api_error",
            Self::Timeout => "timeout_error",
            Self::Overloaded => "overloaded_error",
        }
    }
}

/// Anthropic's status for insufficient capacity.
fn overloaded() -> StatusCode {
    StatusCode::from_u16(529).expect("529 is in the range of statuses")
}

/// The status and type of an error, and whether the client should retry.
fn classify(error: &ProxyError) -> (StatusCode, Kind, Retry) {
    use StatusCode as S;
    match error {
        ProxyError::Refused(refusal) => match refusal.reason {
            Reason::Invalid => (S::BAD_REQUEST, Kind::InvalidRequest, Retry::Open),
            Reason::NotFound => (S::NOT_FOUND, Kind::NotFound, Retry::Open),
            Reason::Forbidden => (S::FORBIDDEN, Kind::Permission, Retry::Open),
            Reason::TooLarge => (S::PAYLOAD_TOO_LARGE, Kind::TooLarge, Retry::Open),
        },
        ProxyError::BodyUnreadable { .. } => (S::BAD_REQUEST, Kind::InvalidRequest, Retry::Open),
        ProxyError::BodyTooLarge { .. } | ProxyError::TooManyValues { .. } => {
            (S::PAYLOAD_TOO_LARGE, Kind::TooLarge, Retry::Open)
        }
        ProxyError::BodyTooSlow { .. } => (S::REQUEST_TIMEOUT, Kind::Timeout, Retry::Open),
        ProxyError::MemoryFull { retry_after, .. } => {
            (S::SERVICE_UNAVAILABLE, Kind::Overloaded, error_response::after_full_memory(*retry_after))
        }
        ProxyError::UnsupportedEncoding { .. } | ProxyError::UnsupportedMediaType { .. } => {
            (S::UNSUPPORTED_MEDIA_TYPE, Kind::InvalidRequest, Retry::Open)
        }
        ProxyError::UnknownPath { .. } | ProxyError::DoubledPath { .. } => (S::NOT_FOUND, Kind::NotFound, Retry::Open),
        ProxyError::MethodNotAllowed { .. } => (S::METHOD_NOT_ALLOWED, Kind::InvalidRequest, Retry::Open),
        ProxyError::NotOffered { .. } => (S::NOT_IMPLEMENTED, Kind::InvalidRequest, Retry::Spent),
        ProxyError::KeyRequired { .. } => (S::UNAUTHORIZED, Kind::Authentication, Retry::Open),
        ProxyError::ForeignHost { .. }
        | ProxyError::ForeignOrigin { .. }
        | ProxyError::CrossSite
        | ProxyError::ForeignUser { .. } => (S::FORBIDDEN, Kind::Permission, Retry::Open),
        ProxyError::Busy { .. } => (S::TOO_MANY_REQUESTS, Kind::RateLimit, Retry::Open),
        ProxyError::Reserved(_) => (S::TOO_MANY_REQUESTS, Kind::RateLimit, Retry::Spent),
        ProxyError::Auth(error) => match error {
            AuthError::ByClient
            | AuthError::ClientTokenUnusable { .. }
            | AuthError::SignedOut
            | AuthError::NoActiveAccount
            | AuthError::UnknownAccount { .. }
            | AuthError::Ended { .. }
            | AuthError::BorrowedEnded { .. }
            | AuthError::EnvTokenUnusable { .. }
            | AuthError::Store { .. } => (S::UNAUTHORIZED, Kind::Authentication, Retry::Open),
            AuthError::AccountChanged | AuthError::TokenRefused { .. } => {
                (S::SERVICE_UNAVAILABLE, Kind::Api, Retry::Open)
            }
            AuthError::Unavailable { .. } => (S::INTERNAL_SERVER_ERROR, Kind::Api, Retry::Open),
        },
        ProxyError::Upstream(failure) => classify_failure(failure),
        ProxyError::Unreachable { .. } => (S::BAD_GATEWAY, Kind::Api, Retry::Spent),
        ProxyError::Silent { phase, .. } => (S::GATEWAY_TIMEOUT, Kind::Timeout, error_response::after_timeout(*phase)),
        ProxyError::MessageTooLarge { .. } => (S::PAYLOAD_TOO_LARGE, Kind::TooLarge, Retry::Spent),
        ProxyError::Truncated { .. } | ProxyError::EventTooLarge { .. } | ProxyError::Damaged { .. } => {
            (S::INTERNAL_SERVER_ERROR, Kind::Api, Retry::Spent)
        }
        ProxyError::StoreFailed(_) => (S::SERVICE_UNAVAILABLE, Kind::Overloaded, Retry::Open),
        ProxyError::ShuttingDown => (overloaded(), Kind::Overloaded, Retry::Open),
        ProxyError::Internal => (S::INTERNAL_SERVER_ERROR, Kind::Api, Retry::Open),
    }
}

fn classify_failure(failure: &UpstreamFailure) -> (StatusCode, Kind, Retry) {
    use StatusCode as S;
    let (status, kind) = match failure.fault {
        Fault::InvalidRequest | Fault::ContextLength | Fault::Policy | Fault::InvalidImage => {
            (S::BAD_REQUEST, Kind::InvalidRequest)
        }
        Fault::ModelNotFound => (S::NOT_FOUND, Kind::NotFound),
        Fault::Unauthorized | Fault::ClientUnauthorized => (S::UNAUTHORIZED, Kind::Authentication),
        Fault::Permission => (S::FORBIDDEN, Kind::Permission),
        Fault::TooLarge => (S::PAYLOAD_TOO_LARGE, Kind::TooLarge),
        Fault::UsageLimit | Fault::InsufficientQuota | Fault::RateLimited => (S::TOO_MANY_REQUESTS, Kind::RateLimit),
        Fault::FlexUnavailable | Fault::Overloaded | Fault::PolicyCapacity => (overloaded(), Kind::Overloaded),
        Fault::ClientVersion | Fault::Challenge | Fault::WrongPlace => (S::BAD_GATEWAY, Kind::Api),
        Fault::Server if failure.wait_for_client().is_some() => (overloaded(), Kind::Overloaded),
        Fault::EncryptedContent | Fault::Server => (S::INTERNAL_SERVER_ERROR, Kind::Api),
    };
    let retry = if failure.wait_for_client().is_some() { Retry::Open } else { Retry::Spent };
    (status, kind, retry)
}

fn headers(error: &ProxyError, retry: Retry) -> HeaderMap {
    let mut headers = error_response::headers(error, retry);
    if let ProxyError::Upstream(failure) = error
        && let Some(reset) = failure.resets_at
    {
        headers.insert(QUOTA_RESET, HeaderValue::from(reset));
    }
    headers
}

/// The error message, with the texts that clients look for.
fn message(error: &ProxyError, commands: CommandHint) -> String {
    let message = error_response::message(error, commands);
    match error {
        ProxyError::Upstream(failure) if failure.fault == Fault::ContextLength && !message.starts_with(TOO_LONG) => {
            too_long(&message)
        }
        _ => message,
    }
}

/// Puts the two token counts of the backend's message in the format that clients parse: they then shorten the
/// conversation by the right amount at once.
fn too_long(message: &str) -> String {
    let is_number = |c: char| c.is_ascii_digit() || c == ',';
    let words = message.split(|c: char| !is_number(c)).map(|word| word.replace(',', ""));
    let counts: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
    match counts.as_slice() {
        [one, other] if one != other && message.contains("token") => {
            format!("{TOO_LONG}{} tokens > {} maximum ({message})", one.max(other), one.min(other))
        }
        _ => format!("{TOO_LONG}{message}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderMap;
    use serde_json::{Value, json};

    use super::{error_object, to_error_response};
    use crate::command_hint::CommandHint;
    use crate::error::{Fault, Phase, ProxyError, Refusal, UpstreamFailure};
    use crate::token_source::{AuthError, CredentialSource};

    fn failure(fault: Fault) -> UpstreamFailure {
        UpstreamFailure {
            fault,
            status: None,
            code: None,
            message: "what went wrong".to_owned(),
            param: None,
            request_id: None,
            retry_after: None,
            resets_at: None,
            headers: HeaderMap::new(),
        }
    }

    fn failed(fault: Fault) -> ProxyError {
        ProxyError::Upstream(Box::new(failure(fault)))
    }

    fn rendered(error: &ProxyError) -> (u16, String) {
        let (status, _, body) = to_error_response(error, "req_1", CommandHint::default());
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&body["type"], &body["request_id"]), (&json!("error"), &json!("req_1")));
        assert_eq!(
            body["error"].to_string(),
            serde_json::from_str::<Value>(&error_object(error, CommandHint::default())).unwrap().to_string()
        );
        (status.as_u16(), body["error"]["type"].as_str().unwrap().to_owned())
    }

    #[test]
    fn each_fault_has_its_row() {
        for (fault, status, kind) in [
            (Fault::InvalidRequest, 400, "invalid_request_error"),
            (Fault::ContextLength, 400, "invalid_request_error"),
            (Fault::Policy, 400, "invalid_request_error"),
            (Fault::InvalidImage, 400, "invalid_request_error"),
            (Fault::EncryptedContent, 500, "api_error"),
            (Fault::ModelNotFound, 404, "not_found_error"),
            (Fault::ClientVersion, 502, "api_error"),
            (Fault::Unauthorized, 401, "authentication_error"),
            (Fault::Permission, 403, "permission_error"),
            (Fault::TooLarge, 413, "request_too_large"),
            (Fault::UsageLimit, 429, "rate_limit_error"),
            (Fault::InsufficientQuota, 429, "rate_limit_error"),
            (Fault::RateLimited, 429, "rate_limit_error"),
            (Fault::FlexUnavailable, 529, "overloaded_error"),
            (Fault::Overloaded, 529, "overloaded_error"),
            (Fault::PolicyCapacity, 529, "overloaded_error"),
            (Fault::Challenge, 502, "api_error"),
            (Fault::Server, 500, "api_error"),
            (Fault::WrongPlace, 502, "api_error"),
        ] {
            assert_eq!(rendered(&failed(fault)), (status, kind.to_owned()), "{fault:?}");
        }
    }

    #[test]
    fn errors_of_our_own_have_anthropic_s_types_too() {
        let silent = ProxyError::Silent { phase: Phase::Streaming, limit: Duration::from_secs(1) };
        for (error, status, kind) in [
            (Refusal::invalid("model", "no"), 400, "invalid_request_error"),
            (Refusal::unknown("Response", "resp_1", None), 404, "not_found_error"),
            (ProxyError::BodyTooLarge { limit_bytes: 1 }, 413, "request_too_large"),
            (ProxyError::BodyTooSlow { limit: Duration::from_secs(1) }, 408, "timeout_error"),
            (ProxyError::MemoryFull { limit_bytes: 1, retry_after: None }, 503, "overloaded_error"),
            (ProxyError::UnknownPath { method: "GET".to_owned(), path: "/".to_owned() }, 404, "not_found_error"),
            (ProxyError::KeyRequired { credentials: CredentialSource::Store }, 401, "authentication_error"),
            (ProxyError::ForeignHost { host: "x".to_owned() }, 403, "permission_error"),
            (ProxyError::ForeignUser { uid: Some(1) }, 403, "permission_error"),
            (ProxyError::Auth(AuthError::SignedOut), 401, "authentication_error"),
            (ProxyError::Unreachable { cause: "x".to_owned() }, 502, "api_error"),
            (silent, 504, "timeout_error"),
            (ProxyError::Truncated { cause: None }, 500, "api_error"),
            (ProxyError::StoreFailed("x".to_owned()), 503, "overloaded_error"),
            (ProxyError::ShuttingDown, 529, "overloaded_error"),
            (ProxyError::Internal, 500, "api_error"),
        ] {
            assert_eq!(rendered(&error), (status, kind.to_owned()), "{error:?}");
        }
    }

    #[test]
    fn a_spent_quota_keeps_clients_from_trying_again() {
        let retry_after = Some(Duration::from_millis(90_500));
        let failure = UpstreamFailure { retry_after, resets_at: Some(1_777_936_568), ..failure(Fault::UsageLimit) };
        let (status, headers, _) =
            to_error_response(&ProxyError::Upstream(Box::new(failure)), "req_1", CommandHint::default());
        assert_eq!(
            (status.as_u16(), &headers["retry-after"], &headers["x-should-retry"]),
            (429, &"91".parse().unwrap(), &"false".parse().unwrap())
        );
        assert_eq!(headers["anthropic-ratelimit-unified-reset"], "1777936568");
    }

    #[test]
    fn context_length_errors_have_the_text_that_makes_clients_compact() {
        let message = |message: &str| {
            let failure = UpstreamFailure { message: message.to_owned(), ..failure(Fault::ContextLength) };
            error_object(&ProxyError::Upstream(Box::new(failure)), CommandHint::default())
        };
        assert!(message("too much").contains("\"prompt is too long: too much\""));
        assert!(message("prompt is too long: 9 > 8").contains("\"prompt is too long: 9 > 8\""));
        let counted = message("The maximum is 272,000 tokens, and the prompt has 280123 tokens.");
        assert!(counted.contains("\"prompt is too long: 280123 tokens > 272000 maximum (The maximum"), "{counted}");
        assert!(message("at most 272000 tokens").contains("\"prompt is too long: at most"));
    }

    #[test]
    fn a_wrong_method_names_the_right_one() {
        let error = ProxyError::MethodNotAllowed { method: "PUT".to_owned(), allowed: "POST".to_owned() };
        let (status, headers, _) = to_error_response(&error, "req_1", CommandHint::default());
        assert_eq!((status.as_u16(), headers["allow"].to_str().unwrap()), (405, "POST"));
    }
}
