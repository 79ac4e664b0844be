//! Errors in the Gemini API: Google's error object with a code, a message, a status and details.
//!
//! The code is the HTTP status. The details name the field at fault (`BadRequest`), the proxy's error code
//! (`ErrorInfo`) and when to retry (`RetryInfo`), which clients read in place of the header `retry-after`.

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use serde::Serialize;

use crate::command_hint::CommandHint;
use crate::error::{Fault, ProxyError};
use crate::protocol::json::to_raw;
use crate::protocol::{error_response, openai};

/// The domain of the reasons in `ErrorInfo`.
const DOMAIN: &str = "codex-proxy";

#[derive(Serialize)]
struct Body<'e> {
    error: ErrorObject<'e>,
}

#[derive(Serialize)]
struct ErrorObject<'e> {
    code: u16,
    message: &'e str,
    status: &'static str,
    details: Vec<Detail<'e>>,
}

/// A detail, by its type in `google.rpc`.
#[derive(Serialize)]
#[serde(tag = "@type")]
enum Detail<'e> {
    #[serde(rename = "type.googleapis.com/google.rpc.BadRequest", rename_all = "camelCase")]
    BadRequest { field_violations: [FieldViolation<'e>; 1] },
    #[serde(rename = "type.googleapis.com/google.rpc.ErrorInfo")]
    ErrorInfo { reason: String, domain: &'static str },
    #[serde(rename = "type.googleapis.com/google.rpc.RetryInfo", rename_all = "camelCase")]
    RetryInfo { retry_delay: String },
}

#[derive(Serialize)]
struct FieldViolation<'e> {
    field: &'e str,
    description: &'e str,
}

/// Status, headers and body of an error.
#[must_use]
pub fn to_error_response(error: &ProxyError, commands: CommandHint) -> (StatusCode, HeaderMap, Bytes) {
    let (status, headers) = openai::error::head(error);
    (status, headers, Bytes::from(body(error, commands)))
}

/// The body of an error response, or the last element of a stream that failed.
pub(super) fn body(error: &ProxyError, commands: CommandHint) -> String {
    let (status, headers) = openai::error::head(error);
    let message = error_response::message(error, commands);
    let mut details = Vec::new();
    if let Some(field) = field(error) {
        details.push(Detail::BadRequest { field_violations: [FieldViolation { field, description: &message }] });
    }
    details.push(Detail::ErrorInfo { reason: openai::error::code(error).to_ascii_uppercase(), domain: DOMAIN });
    if let Some(seconds) = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()) {
        details.push(Detail::RetryInfo { retry_delay: format!("{seconds}s") });
    }
    let error = ErrorObject { code: status.as_u16(), message: &message, status: status_name(status), details };
    to_raw(&Body { error }).get().to_owned()
}

/// The field at fault, if it is known.
fn field(error: &ProxyError) -> Option<&str> {
    match error {
        ProxyError::Upstream(failure) if failure.fault == Fault::ContextLength => Some("contents"),
        _ => error_response::param(error),
    }
}

/// The name that Google's API guide has for an HTTP status.
fn status_name(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        405 | 501 => "UNIMPLEMENTED",
        408 | 504 => "DEADLINE_EXCEEDED",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        400..=499 => "INVALID_ARGUMENT",
        502 | 503 => "UNAVAILABLE",
        _ => "INTERNAL",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::to_error_response;
    use crate::command_hint::CommandHint;
    use crate::error::{ProxyError, Refusal};
    use crate::token_source::{AuthError, CredentialSource};

    fn rendered(error: &ProxyError) -> (u16, Value) {
        let (status, headers, body) = to_error_response(error, CommandHint::default());
        assert_eq!(headers["content-type"], "application/json");
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["error"]["code"], status.as_u16());
        (status.as_u16(), body["error"].clone())
    }

    #[test]
    fn each_status_has_google_s_name() {
        for (error, status, name) in [
            (Refusal::invalid("contents", "no"), 400, "INVALID_ARGUMENT"),
            (ProxyError::KeyRequired { credentials: CredentialSource::Store }, 401, "UNAUTHENTICATED"),
            (ProxyError::Auth(AuthError::SignedOut), 401, "UNAUTHENTICATED"),
            (ProxyError::ForeignHost { host: "x".to_owned() }, 403, "PERMISSION_DENIED"),
            (ProxyError::UnknownPath { method: "GET".to_owned(), path: "/".to_owned() }, 404, "NOT_FOUND"),
            (
                ProxyError::MethodNotAllowed { method: "PUT".to_owned(), allowed: "POST".to_owned() },
                405,
                "UNIMPLEMENTED",
            ),
            (ProxyError::BodyTooLarge { limit_bytes: 1 }, 413, "INVALID_ARGUMENT"),
            (
                ProxyError::Busy { running: 1, what: "requests", retry_after: Duration::from_secs(1) },
                429,
                "RESOURCE_EXHAUSTED",
            ),
            (ProxyError::Internal, 500, "INTERNAL"),
            (ProxyError::NotOffered { service: "x", instead: "y" }, 501, "UNIMPLEMENTED"),
            (ProxyError::Truncated { cause: None }, 502, "UNAVAILABLE"),
            (ProxyError::ShuttingDown, 503, "UNAVAILABLE"),
        ] {
            let (found, body) = rendered(&error);
            assert_eq!((found, body["status"].as_str()), (status, Some(name)), "{error:?}");
        }
    }

    #[test]
    fn details_name_the_field_the_reason_and_the_wait() {
        let (_, error) = rendered(&Refusal::unsupported_value("generationConfig.candidateCount", "only one"));
        assert_eq!(
            error["details"],
            json!([
                {
                    "@type": "type.googleapis.com/google.rpc.BadRequest",
                    "fieldViolations": [{"field": "generationConfig.candidateCount", "description": "only one"}],
                },
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "UNSUPPORTED_VALUE",
                    "domain": "codex-proxy",
                },
            ])
        );
        let (_, error) =
            rendered(&ProxyError::Busy { running: 9, what: "requests", retry_after: Duration::from_millis(1500) });
        assert_eq!(
            error["details"][1],
            json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2s"})
        );
    }
}
