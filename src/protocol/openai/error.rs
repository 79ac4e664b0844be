//! Error responses in OpenAI's format: status, headers, and a body with message, type, code and parameter.
//!
//! Used by OpenAI's APIs and for paths that belong to no API; Ollama's API uses the same status and headers. The body
//! always has all four members, null if unknown. The matches are exhaustive, so a new error doesn't compile until it
//! has a status, a type and a code. The server adds the request id and the quota headers.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Serialize;

use crate::command_hint::CommandHint;
use crate::error::{Fault, ProxyError, Reason, UpstreamFailure};
use crate::protocol::error_response::{self, Retry};
use crate::token_source::AuthError;

/// Converts an error to status, headers and body. `prompt` is the API's member for the conversation, such as
/// `messages`; it is the parameter of the error if the conversation is too long.
#[must_use]
pub fn to_error_response(
    error: &ProxyError,
    prompt: &'static str,
    commands: CommandHint,
) -> (StatusCode, HeaderMap, Bytes) {
    let members = ErrorMembers::of(error);
    let param = if members.is_prompt { Some(prompt) } else { members.param };
    (members.status, error_response::headers(error, members.retry), members.body(error, param, commands).into())
}

/// Status and headers of an error, for an API with another body.
#[must_use]
pub fn head(error: &ProxyError) -> (StatusCode, HeaderMap) {
    let members = ErrorMembers::of(error);
    (members.status, error_response::headers(error, members.retry))
}

/// The body of an error event in a stream. It has no parameter: the request was accepted.
#[must_use]
pub fn frame(error: &ProxyError, commands: CommandHint) -> Vec<u8> {
    ErrorMembers::of(error).body(error, None, commands)
}

/// The code of an error, for the log; its type if it has no code.
#[must_use]
pub fn code(error: &ProxyError) -> String {
    let members = ErrorMembers::of(error);
    members.code.unwrap_or(members.kind).to_owned()
}

/// The members of an OpenAI error.
struct ErrorMembers<'e> {
    status: StatusCode,
    kind: &'static str,
    code: Option<&'e str>,
    param: Option<&'e str>,
    /// The error is about the whole conversation: `param` is replaced by the API's member for it.
    is_prompt: bool,
    retry: Retry,
}

#[derive(Serialize)]
struct Body<'a> {
    error: BodyMembers<'a>,
}

#[derive(Serialize)]
struct BodyMembers<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    param: Option<&'a str>,
    code: Option<&'a str>,
}

const INVALID: &str = "invalid_request_error";
const AUTHENTICATION: &str = "authentication_error";
const PERMISSION: &str = "permission_error";
const UPSTREAM: &str = "upstream_error";
const SERVER: &str = "server_error";
const RATE_LIMIT: &str = "rate_limit_error";

impl<'e> ErrorMembers<'e> {
    fn new(status: StatusCode, kind: &'static str, code: impl Into<Option<&'e str>>) -> Self {
        let code = code.into();
        Self { status, kind, code, param: None, is_prompt: false, retry: Retry::Open }
    }

    fn spent(self) -> Self {
        Self { retry: Retry::Spent, ..self }
    }

    fn of(error: &'e ProxyError) -> Self {
        use StatusCode as S;
        match error {
            ProxyError::Refused(refusal) => {
                let (status, kind) = match refusal.reason {
                    Reason::Invalid => (S::BAD_REQUEST, INVALID),
                    Reason::NotFound => (S::NOT_FOUND, INVALID),
                    Reason::Forbidden => (S::FORBIDDEN, PERMISSION),
                    Reason::TooLarge => (S::PAYLOAD_TOO_LARGE, INVALID),
                };
                Self { param: refusal.param.as_deref(), ..Self::new(status, kind, refusal.code) }
            }
            ProxyError::BodyUnreadable { .. } => Self::new(S::BAD_REQUEST, INVALID, None),
            ProxyError::BodyTooLarge { .. } | ProxyError::TooManyValues { .. } => {
                Self::new(S::PAYLOAD_TOO_LARGE, INVALID, "request_too_large")
            }
            ProxyError::BodyTooSlow { .. } => Self::new(S::REQUEST_TIMEOUT, INVALID, "request_timeout"),
            ProxyError::MemoryFull { retry_after, .. } => {
                let members = Self::new(S::SERVICE_UNAVAILABLE, SERVER, "memory_limit_reached");
                Self { retry: error_response::after_full_memory(*retry_after), ..members }
            }
            ProxyError::UnsupportedEncoding { .. } => {
                Self::new(S::UNSUPPORTED_MEDIA_TYPE, INVALID, "unsupported_content_encoding")
            }
            ProxyError::UnsupportedMediaType { .. } => {
                Self::new(S::UNSUPPORTED_MEDIA_TYPE, INVALID, "unsupported_content_type")
            }
            ProxyError::UnknownPath { .. } | ProxyError::DoubledPath { .. } => {
                Self::new(S::NOT_FOUND, INVALID, "unknown_url")
            }
            ProxyError::MethodNotAllowed { .. } => Self::new(S::METHOD_NOT_ALLOWED, INVALID, "method_not_supported"),
            ProxyError::NotOffered { .. } => Self::new(S::NOT_IMPLEMENTED, INVALID, "unsupported_endpoint").spent(),
            ProxyError::KeyRequired { .. } => Self::new(S::UNAUTHORIZED, AUTHENTICATION, "invalid_api_key"),
            ProxyError::ForeignHost { .. } => Self::new(S::FORBIDDEN, PERMISSION, "foreign_host"),
            ProxyError::ForeignOrigin { .. } => Self::new(S::FORBIDDEN, PERMISSION, "foreign_origin"),
            ProxyError::CrossSite => Self::new(S::FORBIDDEN, PERMISSION, "cross_site"),
            ProxyError::ForeignUser { .. } => Self::new(S::FORBIDDEN, PERMISSION, "foreign_user"),
            ProxyError::Busy { .. } => Self::new(S::TOO_MANY_REQUESTS, RATE_LIMIT, "too_many_requests"),
            ProxyError::Reserved(_) => Self::new(S::TOO_MANY_REQUESTS, RATE_LIMIT, "window_reserved").spent(),
            ProxyError::Auth(error) => Self::of_auth(error),
            ProxyError::Upstream(failure) => Self::of_failure(failure),
            ProxyError::Unreachable { .. } => Self::new(S::BAD_GATEWAY, UPSTREAM, "upstream_unreachable").spent(),
            ProxyError::Silent { phase, .. } => {
                let members = Self::new(S::GATEWAY_TIMEOUT, UPSTREAM, "upstream_timeout");
                Self { retry: error_response::after_timeout(*phase), ..members }
            }
            ProxyError::Truncated { .. } => Self::new(S::BAD_GATEWAY, SERVER, "upstream_stream_truncated").spent(),
            ProxyError::MessageTooLarge { .. } => Self::new(S::PAYLOAD_TOO_LARGE, INVALID, "request_too_large").spent(),
            ProxyError::EventTooLarge { .. } => Self::new(S::BAD_GATEWAY, SERVER, "upstream_event_too_large").spent(),
            ProxyError::Damaged { .. } => Self::new(S::BAD_GATEWAY, SERVER, "upstream_stream_damaged").spent(),
            ProxyError::StoreFailed(_) => Self::new(S::SERVICE_UNAVAILABLE, SERVER, "store_unavailable"),
            ProxyError::ShuttingDown => Self::new(S::SERVICE_UNAVAILABLE, SERVER, "shutting_down"),
            ProxyError::Internal => Self::new(S::INTERNAL_SERVER_ERROR, SERVER, "internal_error"),
        }
    }

    fn of_auth(error: &AuthError) -> Self {
        use StatusCode as S;
        match error {
            AuthError::ByClient | AuthError::SignedOut | AuthError::NoActiveAccount => {
                Self::new(S::UNAUTHORIZED, AUTHENTICATION, "not_signed_in")
            }
            AuthError::UnknownAccount { .. } => Self::new(S::UNAUTHORIZED, AUTHENTICATION, "unknown_account"),
            AuthError::ClientTokenUnusable { .. } => Self::new(S::UNAUTHORIZED, AUTHENTICATION, "invalid_access_token"),
            AuthError::Ended { .. } | AuthError::BorrowedEnded { .. } | AuthError::EnvTokenUnusable { .. } => {
                Self::new(S::UNAUTHORIZED, AUTHENTICATION, "sign_in_ended")
            }
            AuthError::Store { .. } => Self::new(S::UNAUTHORIZED, AUTHENTICATION, "credential_store_unusable"),
            AuthError::AccountChanged => Self::new(S::SERVICE_UNAVAILABLE, SERVER, "account_changed"),
            AuthError::Unavailable { .. } | AuthError::TokenRefused { .. } => {
                Self::new(S::SERVICE_UNAVAILABLE, SERVER, "sign_in_unavailable")
            }
        }
    }

    fn of_failure(failure: &'e UpstreamFailure) -> Self {
        use StatusCode as S;
        let code = failure.code.as_deref();
        let members = match failure.fault {
            Fault::InvalidRequest => Self::new(S::BAD_REQUEST, INVALID, code),
            Fault::ContextLength => Self::new(S::BAD_REQUEST, INVALID, code.or(Some("context_length_exceeded"))),
            Fault::Policy => Self::new(S::BAD_REQUEST, INVALID, code.or(Some("content_policy_violation"))),
            Fault::InvalidImage => Self::new(S::BAD_REQUEST, INVALID, media_code(code)),
            Fault::EncryptedContent => Self::new(S::BAD_GATEWAY, SERVER, code.or(Some("invalid_encrypted_content"))),
            Fault::ModelNotFound => Self::new(S::NOT_FOUND, INVALID, "model_not_found"),
            Fault::ClientVersion => Self::new(S::BAD_GATEWAY, UPSTREAM, "client_version_too_old"),
            Fault::Unauthorized | Fault::ClientUnauthorized => {
                Self::new(S::UNAUTHORIZED, AUTHENTICATION, code.or(Some("unauthorized")))
            }
            Fault::Permission => Self::new(S::FORBIDDEN, PERMISSION, code.or(Some("permission_denied"))),
            Fault::TooLarge => Self::new(S::PAYLOAD_TOO_LARGE, INVALID, code.or(Some("request_too_large"))),
            Fault::UsageLimit => Self::new(S::TOO_MANY_REQUESTS, "usage_limit_reached", "usage_limit_reached"),
            Fault::InsufficientQuota => {
                Self::new(S::TOO_MANY_REQUESTS, "insufficient_quota", code.or(Some("insufficient_quota")))
            }
            Fault::RateLimited => Self::new(S::TOO_MANY_REQUESTS, RATE_LIMIT, code.or(Some("rate_limit_exceeded"))),
            Fault::FlexUnavailable => Self::new(S::TOO_MANY_REQUESTS, RATE_LIMIT, code.or(Some("flex_unavailable"))),
            Fault::Overloaded => Self::new(S::SERVICE_UNAVAILABLE, SERVER, code.or(Some("server_is_overloaded"))),
            Fault::PolicyCapacity => {
                Self::new(S::SERVICE_UNAVAILABLE, SERVER, code.or(Some("policy_capacity_unavailable")))
            }
            Fault::Challenge => Self::new(S::BAD_GATEWAY, UPSTREAM, "cloudflare_challenge"),
            Fault::Server => {
                let status = if failure.wait_for_client().is_some() { S::SERVICE_UNAVAILABLE } else { S::BAD_GATEWAY };
                Self::new(status, SERVER, code.or(Some("server_error")))
            }
            Fault::WrongPlace => Self::new(S::BAD_GATEWAY, UPSTREAM, code.or(Some("upstream_unexpected_answer"))),
        };
        Self {
            param: failure.param.as_deref(),
            is_prompt: failure.fault == Fault::ContextLength,
            retry: if failure.wait_for_client().is_some() { Retry::Open } else { Retry::Spent },
            ..members
        }
    }

    fn body(&self, error: &ProxyError, param: Option<&str>, commands: CommandHint) -> Vec<u8> {
        let message = error_response::message(error, commands);
        let body = Body { error: BodyMembers { message: &message, kind: self.kind, param, code: self.code } };
        serde_json::to_vec(&body).expect("strings always serialize")
    }
}

/// The code for an invalid image or audio: the backend's if it is specific, which `invalid_value` isn't.
fn media_code(code: Option<&str>) -> &str {
    code.filter(|code| code.starts_with("invalid_image") || code.starts_with("invalid_audio"))
        .unwrap_or("invalid_image")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::to_error_response;
    use crate::command_hint::CommandHint;
    use crate::error::{Fault, ProxyError, Refusal, UpstreamFailure};
    use crate::token_source::AuthError;

    fn failed(fault: Fault, code: Option<&str>) -> ProxyError {
        ProxyError::Upstream(Box::new(UpstreamFailure {
            fault,
            status: None,
            code: code.map(str::to_owned),
            message: "what went wrong".to_owned(),
            param: None,
            request_id: None,
            retry_after: None,
            resets_at: None,
            headers: http::HeaderMap::new(),
        }))
    }

    fn response(error: &ProxyError) -> (u16, String, Value) {
        let (status, _, body) = to_error_response(error, "messages", CommandHint::default());
        let body: Value = serde_json::from_slice(&body).unwrap();
        let members: Vec<_> = body["error"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(members, ["code", "message", "param", "type"]);
        (status.as_u16(), body["error"]["type"].as_str().unwrap().to_owned(), body["error"]["code"].clone())
    }

    #[test]
    fn each_fault_has_its_status_type_and_code() {
        let rows: [(Fault, Option<&str>, u16, &str, Value); 18] = [
            (Fault::InvalidRequest, None, 400, "invalid_request_error", Value::Null),
            (
                Fault::InvalidRequest,
                Some("unsupported_parameter"),
                400,
                "invalid_request_error",
                json!("unsupported_parameter"),
            ),
            (Fault::ContextLength, None, 400, "invalid_request_error", json!("context_length_exceeded")),
            (Fault::Policy, Some("cyber_policy"), 400, "invalid_request_error", json!("cyber_policy")),
            (Fault::InvalidImage, Some("invalid_value"), 400, "invalid_request_error", json!("invalid_image")),
            (Fault::ModelNotFound, None, 404, "invalid_request_error", json!("model_not_found")),
            (Fault::ClientVersion, None, 502, "upstream_error", json!("client_version_too_old")),
            (Fault::Unauthorized, Some("token_expired"), 401, "authentication_error", json!("token_expired")),
            (Fault::Permission, Some("deactivated_workspace"), 403, "permission_error", json!("deactivated_workspace")),
            (Fault::TooLarge, None, 413, "invalid_request_error", json!("request_too_large")),
            (Fault::UsageLimit, None, 429, "usage_limit_reached", json!("usage_limit_reached")),
            (
                Fault::InsufficientQuota,
                Some("credit_balance_exhausted"),
                429,
                "insufficient_quota",
                json!("credit_balance_exhausted"),
            ),
            (Fault::RateLimited, None, 429, "rate_limit_error", json!("rate_limit_exceeded")),
            (Fault::FlexUnavailable, None, 429, "rate_limit_error", json!("flex_unavailable")),
            (Fault::Overloaded, None, 503, "server_error", json!("server_is_overloaded")),
            (Fault::PolicyCapacity, None, 503, "server_error", json!("policy_capacity_unavailable")),
            (Fault::Challenge, None, 502, "upstream_error", json!("cloudflare_challenge")),
            (Fault::Server, None, 502, "server_error", json!("server_error")),
        ];
        for (fault, code, status, kind, expected) in rows {
            assert_eq!(response(&failed(fault, code)), (status, kind.to_owned(), expected), "{fault:?}");
        }
    }

    #[test]
    fn an_error_names_its_parameter() {
        let (status, headers, body) = to_error_response(
            &Refusal::invalid("messages[0].role", "no such role"),
            "messages",
            CommandHint::default(),
        );
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(status, 400);
        assert!(!headers.contains_key("x-should-retry"));
        assert_eq!(
            body,
            json!({"error": {"message": "no such role", "type": "invalid_request_error", "param": "messages[0].role", "code": "invalid_value"}})
        );
    }

    #[test]
    fn the_parameter_of_a_too_long_prompt_is_the_api_s_member() {
        let (_, _, body) = to_error_response(&failed(Fault::ContextLength, None), "input", CommandHint::default());
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["error"]["param"], "input");
    }

    #[test]
    fn retry_after_is_rounded_up_and_spent_retries_are_reported() {
        let ProxyError::Upstream(mut failure) = failed(Fault::RateLimited, None) else { panic!("upstream") };
        failure.retry_after = Some(Duration::from_millis(1200));
        let (_, headers, _) = to_error_response(&ProxyError::Upstream(failure), "messages", CommandHint::default());
        assert_eq!(headers["retry-after"], "2");
        assert_eq!(headers["x-should-retry"], "false");
        let ProxyError::Upstream(mut failure) = failed(Fault::Server, None) else { panic!("upstream") };
        failure.retry_after = Some(Duration::from_secs(21));
        let (status, headers, _) =
            to_error_response(&ProxyError::Upstream(failure), "messages", CommandHint::default());
        assert_eq!((status.as_u16(), &headers["retry-after"]), (503, &http::HeaderValue::from_static("21")));
        assert!(!headers.contains_key("x-should-retry"), "the client may retry after the wait");
        let unavailable =
            AuthError::Unavailable { message: "down".to_owned(), retry_after: Some(Duration::from_secs(3)) };
        let (status, headers, _) =
            to_error_response(&ProxyError::Auth(unavailable), "messages", CommandHint::default());
        assert_eq!((status.as_u16(), &headers["retry-after"]), (503, &http::HeaderValue::from_static("3")));
    }

    #[test]
    fn a_wrong_method_names_the_allowed_one() {
        let error = ProxyError::MethodNotAllowed { method: "PUT".to_owned(), allowed: "POST".to_owned() };
        let (status, headers, _) = to_error_response(&error, "messages", CommandHint::default());
        assert_eq!((status.as_u16(), headers["allow"].to_str().unwrap()), (405, "POST"));
    }

    #[test]
    fn an_old_client_version_names_the_setting() {
        let (_, _, body) = to_error_response(&failed(Fault::ClientVersion, None), "messages", CommandHint::default());
        assert!(String::from_utf8_lossy(&body).contains("upstream.client_version"));
    }
}
