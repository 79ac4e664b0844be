//! Errors of the Responses API: OpenAI's error body, and in a stream the flat `error` event or the `error` member of
//! the response object.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Serialize;

use crate::command_hint::CommandHint;
use crate::error::{ProxyError, UpstreamFailure};
use crate::protocol::openai;

/// Status, headers and body of an error. OpenAI's body has no request id: the server sends it as a header.
#[must_use]
pub fn to_error_response(
    error: &ProxyError,
    _request_id: &str,
    commands: CommandHint,
) -> (StatusCode, HeaderMap, Bytes) {
    openai::error::to_error_response(error, "input", commands)
}

#[derive(Serialize)]
struct Flat<'e> {
    r#type: &'static str,
    code: &'e str,
    message: &'e str,
    param: Option<&'e str>,
    sequence_number: u64,
}

/// The `error` event. Its members are not nested in `error`, which would make the SDKs throw (case `09-error-event`).
pub(super) fn flat_event(failure: &UpstreamFailure, code: &str, sequence_number: u64) -> String {
    let (message, param) = (failure.message.as_str(), failure.param.as_deref());
    to_json(&Flat { r#type: "error", code, message, param, sequence_number })
}

/// The `error` member of a response.
#[derive(Serialize)]
pub(super) struct InResponse<'e> {
    pub(super) code: &'e str,
    pub(super) message: &'e str,
}

/// The `error` member of a response whose own error contains a web page.
pub(super) fn of_failure(failure: &UpstreamFailure, code: &str) -> String {
    to_json(&InResponse { code, message: &failure.message })
}

/// The `error` member of a response that the proxy ends.
pub(super) fn of_local_error(error: &ProxyError) -> String {
    let text = error.to_string();
    let message = match error {
        ProxyError::Truncated { cause: None } => "The upstream stream ended before the response was complete.",
        _ => &text,
    };
    to_json(&InResponse { code: "server_error", message })
}

pub(super) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings and numbers always serialize")
}
