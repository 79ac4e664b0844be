//! Errors in the Chat Completions API: OpenAI's error object, with `messages` as the name of the prompt.
//!
//! Also used for paths that belong to no API.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::command_hint::CommandHint;
use crate::error::ProxyError;
use crate::protocol::openai;

/// Status, headers and body. The request id is not part of OpenAI's body: the server sends it as a header.
#[must_use]
pub fn to_error_response(
    error: &ProxyError,
    _request_id: &str,
    commands: CommandHint,
) -> (StatusCode, HeaderMap, Bytes) {
    openai::error::to_error_response(error, "messages", commands)
}
