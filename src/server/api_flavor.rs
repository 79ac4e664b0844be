//! Whose API a client speaks, and how what no dialect has answered is refused in that service's words.

use axum::extract::Request;
use axum::response::Response;

use super::http_response::with_headers;
use super::request_log::RequestId;
use super::{body, paths};
use crate::error::ProxyError;
use crate::protocol::Dialect;
use crate::protocol::chat::Chat;
use crate::protocol::messages::Messages;
use crate::protocol::ollama;

/// Whose API a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ApiFlavor {
    OpenAi,
    Anthropic,
    Ollama,
}

impl ApiFlavor {
    /// Paths that two of them have are told apart by a header that Anthropic's clients always send.
    pub(super) fn of(request: &Request) -> Self {
        let path = paths::canonical(request.uri().path()).path;
        let is_messages =
            path.strip_prefix("/v1/messages").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if path == "/api" || path.starts_with("/api/") {
            return Self::Ollama;
        }
        if is_messages || request.headers().contains_key("anthropic-version") { Self::Anthropic } else { Self::OpenAi }
    }
}

/// Refuses a request whose body nobody has read.
pub(super) async fn refuse_unread(error: &ProxyError, request: Request) -> Response {
    let response = refuse(error, &request);
    let (parts, body) = request.into_parts();
    body::discard(&parts.headers, body).await;
    response
}

/// An error of a path that no dialect has answered, in the words of the client's own service.
pub(super) fn refuse(error: &ProxyError, request: &Request) -> Response {
    let id = request.extensions().get::<RequestId>().map(|id| id.0.as_str()).unwrap_or_default();
    error_response(ApiFlavor::of(request), error, id)
}

/// The same for a request that is gone.
pub(super) fn error_response(flavor: ApiFlavor, error: &ProxyError, id: &str) -> Response {
    let (status, headers, body) = match flavor {
        ApiFlavor::OpenAi => Chat::to_error_response(error, id),
        ApiFlavor::Anthropic => Messages::to_error_response(error, id),
        ApiFlavor::Ollama => ollama::to_error_response(error),
    };
    with_headers(status, headers, body)
}
