//! Sends HTTP requests to the backend and classifies failures.
//!
//! Bodies that aren't event streams are read up to a limit of their decoded size. Every wait has a timeout, and
//! dropping the future cancels the request. Repeats a request only if its connection was stale (see `net`); redirects
//! are failures.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, HeaderMap};
use http::{Method, StatusCode};
use tokio::time::{Instant, timeout_at};

use super::cassette::Recording;
use super::headers::{client_headers, record_failed_id, request_id};
use super::response_body::{AcceptEncoding, ResponseBody};
use crate::endpoint::Endpoint;
use crate::error::{Phase, ProxyError, UpstreamFailure};
use crate::net::{ClientError, HttpClient, SendError, error_chain};
use crate::protocol::codex::failure;

/// Bytes that are read of an error body. The relevant part is at the start.
const MAX_ERROR_BODY_BYTES: usize = 256 * 1024;
/// Time limit for an error body after its status has arrived.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// A request to `path` below `endpoint`.
#[derive(Clone)]
pub(super) struct HttpRequest<'r> {
    pub(super) method: Method,
    pub(super) endpoint: &'r Endpoint,
    pub(super) path: &'r str,
    pub(super) headers: HeaderMap,
    /// The header that is added last, where the official client has it.
    pub(super) accept_encoding: AcceptEncoding,
    pub(super) body: Bytes,
    /// Time limit for the head of the response; for [`fetch`], for the whole response.
    pub(super) limit: Duration,
}

/// Sends a request whose response is an event stream, and returns its headers and body before its first event. Any
/// other response is an error.
pub(super) async fn open_stream(
    http: &HttpClient,
    request: HttpRequest<'_>,
    recording: Option<&Recording>,
) -> Result<(HeaderMap, ResponseBody), ProxyError> {
    let response = send(http, request, unreachable).await?;
    let is_json = failure::has_media_type(response.headers(), "application/json");
    if !is_success(response.status(), response.headers()) || is_json {
        return Err(read_failure(response, recording).await);
    }
    if let Some(recording) = recording {
        recording.response(response.status().as_u16(), response.headers(), None);
    }
    with_headers(response)
}

/// Splits a response with a successful status.
fn with_headers(response: reqwest::Response) -> Result<(HeaderMap, ResponseBody), ProxyError> {
    let headers = response.headers().clone();
    match ResponseBody::new(response) {
        Ok(body) => Ok((headers, body)),
        Err(error) => {
            record_failed_id(request_id(&headers));
            Err(error)
        }
    }
}

/// Sends a request whose response is a document or a file, and returns its headers and body before the body is read. A
/// failure status or a web page is an error.
pub(super) async fn open_document(
    http: &HttpClient,
    request: HttpRequest<'_>,
    recording: Option<&Recording>,
) -> Result<(HeaderMap, ResponseBody), ProxyError> {
    // The backend may have begun to work on the document.
    let on_break = |cause| ProxyError::Truncated { cause: Some(cause) };
    let response = send(http, request, on_break).await.map_err(|error| match error {
        ProxyError::Silent { phase: Phase::FirstEvent, limit } => ProxyError::Silent { phase: Phase::Document, limit },
        error => error,
    })?;
    if !is_success(response.status(), response.headers()) {
        return Err(read_failure(response, recording).await);
    }
    if let Some(recording) = recording {
        recording.response(response.status().as_u16(), response.headers(), None);
    }
    with_headers(response)
}

/// Whether a response is a success: its status says so, and it isn't a web page.
pub(super) fn is_success(status: StatusCode, headers: &HeaderMap) -> bool {
    status.is_success() && !failure::is_html(headers)
}

/// Sends a request whose response is a document, and reads it. A document over `limit_bytes` is an error.
pub(super) async fn fetch(
    http: &HttpClient,
    request: HttpRequest<'_>,
    limit_bytes: usize,
) -> Result<(HeaderMap, Bytes), ProxyError> {
    let deadline = Instant::now() + request.limit;
    let response = send(http, request, unreachable).await?;
    if response.status() != StatusCode::OK {
        return Err(read_failure(response, None).await);
    }
    let (headers, body) = with_headers(response)?;
    let (bytes, end) = read(body, limit_bytes, deadline).await;
    end.map(|()| (headers, bytes))
}

/// Sends a request. `on_break` is the error if the connection breaks before the head of the response; its argument is
/// the cause.
async fn send(
    http: &HttpClient,
    request: HttpRequest<'_>,
    on_break: fn(String) -> ProxyError,
) -> Result<reqwest::Response, ProxyError> {
    let HttpRequest { method, endpoint, path, mut headers, accept_encoding, body, limit } = request;
    headers.extend(accept_encoding.header_value().map(|value| (ACCEPT_ENCODING, value)));
    let prepare = |client: &reqwest::Client| {
        client.request(method.clone(), endpoint.join(path)).headers(headers.clone()).body(body.clone())
    };
    match timeout_at(Instant::now() + limit, http.send(endpoint, prepare)).await {
        Ok(Ok(response)) => {
            http.observe_date(response.headers());
            Ok(response)
        }
        Ok(Err(SendError::Client(error))) => Err(no_client(&error)),
        Ok(Err(SendError::Transport(error))) if error.is_connect() && error.is_timeout() => {
            Err(ProxyError::Silent { phase: Phase::Connecting, limit: http.connect_timeout() })
        }
        Ok(Err(SendError::Transport(error))) if error.is_connect() => Err(unreachable(error_chain(&error))),
        Ok(Err(SendError::Transport(error))) => Err(on_break(error_chain(&error))),
        Err(_) => Err(ProxyError::Silent { phase: Phase::FirstEvent, limit }),
    }
}

fn unreachable(cause: String) -> ProxyError {
    ProxyError::Unreachable { cause }
}

/// Reads the body of a failure response, or of one that isn't an event stream, and classifies it. A body with an
/// unsupported encoding counts as empty, because the status decides whether a retry or another token can help.
pub(super) async fn read_failure(response: reqwest::Response, recording: Option<&Recording>) -> ProxyError {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let deadline = Instant::now() + ERROR_BODY_TIMEOUT;
    let body = match ResponseBody::new(response) {
        // The start of an error body is enough to classify it.
        Ok(body) => read(body, MAX_ERROR_BODY_BYTES, deadline).await.0,
        Err(error) => {
            tracing::debug!(cause = error.loggable(), "the body of a failure can't be read");
            Bytes::new()
        }
    };
    if let Some(recording) = recording {
        recording.response(status, &headers, Some(body.clone()));
    }
    classify(status, &headers, &body)
}

/// Converts a failure response to an error, and logs it. Of the headers, the error has those for clients.
pub(super) fn classify(status: u16, headers: &HeaderMap, body: &[u8]) -> ProxyError {
    let failure = failure::from_response(status, headers, body);
    let failure = UpstreamFailure { headers: client_headers(headers), ..failure };
    record_failed_id(failure.request_id.as_deref());
    tracing::debug!(
        status,
        fault = ?failure.fault,
        code = failure.code.as_deref(),
        upstream.request_id = failure.request_id.as_deref(),
        cf_ray = failure::text_header(headers, "cf-ray"),
        authorization_error = failure::text_header(headers, "x-openai-authorization-error"),
        "the backend rejected a request"
    );
    ProxyError::Upstream(Box::new(failure))
}

/// Reads a body up to the limits. Also returns why it is incomplete, if it is.
async fn read(mut body: ResponseBody, limit_bytes: usize, deadline: Instant) -> (Bytes, Result<(), ProxyError>) {
    let mut bytes = Vec::new();
    let end = loop {
        match timeout_at(deadline, poll_fn(|cx| body.poll_chunk(cx))).await {
            Ok(None) => break Ok(()),
            Ok(Some(Ok(chunk))) if bytes.len() + chunk.len() <= limit_bytes => bytes.extend_from_slice(&chunk),
            Ok(Some(Err(error))) => break Err(error),
            // Too large or too slow.
            Ok(Some(Ok(_))) | Err(_) => break Err(ProxyError::Truncated { cause: None }),
        }
    };
    (bytes.into(), end)
}

/// Converts the error of an HTTP client that can't be built.
pub(super) fn no_client(error: &ClientError) -> ProxyError {
    ProxyError::Unreachable { cause: error.to_string() }
}
