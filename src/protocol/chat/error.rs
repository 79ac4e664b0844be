//! Errors in the Chat Completions API: OpenAI's error object. If the conversation is too long, the parameter is
//! `messages`.
//!
//! Also used for paths that belong to no API.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::command_hint::CommandHint;
use crate::error::ProxyError;
use crate::protocol::openai;

/// Status, headers and body of an error. OpenAI's body has no request id: the server sends it as a header.
#[must_use]
pub fn to_error_response(
    error: &ProxyError,
    _request_id: &str,
    commands: CommandHint,
) -> (StatusCode, HeaderMap, Bytes) {
    openai::error::to_error_response(error, "messages", commands)
}
