//! Detects which vendor's API a client uses, and writes errors in its format.

use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use http::HeaderMap;

use super::body;
use super::http_response::with_headers;
use super::internal_request::ReportedError;
use super::request_log::RequestId;
use crate::command_hint;
use crate::error::ProxyError;
use crate::protocol::Dialect;
use crate::protocol::chat::Chat;
use crate::protocol::gemini;
use crate::protocol::messages::Messages;
use crate::protocol::ollama;

/// The vendor whose API a client uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ApiFlavor {
    OpenAi,
    Anthropic,
    Ollama,
    Gemini,
}

/// Headers that Google's SDKs send.
const GOOGLE_HEADERS: [&str; 2] = ["x-goog-api-key", "x-goog-api-client"];

impl ApiFlavor {
    /// Detects the API by the canonical path. The APIs of OpenAI, Anthropic and Google have some paths in common, to
    /// which Anthropic clients always send a version header, and Google's SDKs headers of their own.
    pub(super) fn detect(path: &str, headers: &HeaderMap) -> Self {
        let is_below =
            |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if is_below("/api") && !is_below("/api/codex") {
            Self::Ollama
        } else if is_below("/v1/messages") || headers.contains_key("anthropic-version") {
            Self::Anthropic
        } else if is_below("/v1beta")
            || is_below("/upload/v1beta")
            || (is_below("/v1/models") && has_google_header(headers))
        {
            Self::Gemini
        } else {
            Self::OpenAi
        }
    }

    /// The API that was detected for a request and attached to it.
    pub(super) fn of(request: &Request) -> Self {
        request.extensions().get().copied().unwrap_or(Self::OpenAi)
    }
}

/// Whether a request comes from one of Google's SDKs.
pub(super) fn has_google_header(headers: &HeaderMap) -> bool {
    GOOGLE_HEADERS.iter().any(|name| headers.contains_key(*name))
}

/// Responds with an error, and discards the body.
pub(super) async fn refuse_unread(error: &ProxyError, request: Request) -> Response {
    let response = refuse(error, &request);
    let (parts, body) = request.into_parts();
    body::discard(&parts.headers, body).await;
    response
}

/// An error response in the format of the client's API.
pub(super) fn refuse(error: &ProxyError, request: &Request) -> Response {
    let id = request.extensions().get::<RequestId>().map(|id| id.0.as_str()).unwrap_or_default();
    error_response(ApiFlavor::of(request), error, id)
}

/// An error response in the format of an API.
pub(super) fn error_response(flavor: ApiFlavor, error: &ProxyError, id: &str) -> Response {
    let (status, headers, body) = match flavor {
        ApiFlavor::OpenAi => Chat::to_error_response(error, id, command_hint::current()),
        ApiFlavor::Anthropic => Messages::to_error_response(error, id, command_hint::current()),
        ApiFlavor::Gemini => gemini::to_error_response(error, command_hint::current()),
        ApiFlavor::Ollama => ollama::to_error_response(error, command_hint::current()),
    };
    let mut response = with_headers(status, headers, body);
    response.extensions_mut().insert(ReportedError(Arc::new(error.clone())));
    response
}
