//! Sending: one request out, its response or a typed error back.
//!
//! Never follows a redirect, keeps no cookies, and reads at most a bounded part of a body that is
//! not a stream of events. Every wait has a limit, and dropping the future ends the request.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use http::{Method, StatusCode};
use tokio::time::{Instant, timeout_at};

use super::cassette::Tape;
use super::headers::{note_failed, passed_on, request_id, text};
use crate::endpoint::Endpoint;
use crate::error::{Phase, ProxyError, UpstreamFailure};
use crate::net::{ClientError, HttpClient, InUse, SendError, error_chain};
use crate::protocol::codex::failure;

/// An error body is read up to here; what a client needs stands in its first lines.
const ERROR_LIMIT_BYTES: usize = 256 * 1024;
/// How long an error body may take, once its status is known.
const ERROR_LIMIT: Duration = Duration::from_secs(5);

/// A request to send.
#[derive(Clone)]
pub(super) struct Call<'c> {
    pub(super) method: Method,
    pub(super) endpoint: &'c Endpoint,
    pub(super) path: &'c str,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// How long the response may take.
    pub(super) limit: Duration,
}

/// Sends a request whose answer is a stream of events.
pub(super) async fn open_stream(
    http: &HttpClient,
    call: Call<'_>,
    tape: Option<&Tape>,
) -> Result<reqwest::Response, ProxyError> {
    let response = send(http, call).await?;
    let kind = text(response.headers(), CONTENT_TYPE.as_str()).unwrap_or_default();
    let is_document = kind.starts_with("text/html") || kind.starts_with("application/json");
    if !response.status().is_success() || is_document {
        return Err(refusal(response, tape).await);
    }
    if let Some(tape) = tape {
        tape.answer(response.status().as_u16(), response.headers(), None);
    }
    match text(response.headers(), CONTENT_ENCODING.as_str()) {
        Some(encoding) if !encoding.eq_ignore_ascii_case("identity") => {
            note_failed(request_id(response.headers()));
            Err(ProxyError::Damaged { reason: "it is compressed, which was not asked for".to_owned() })
        }
        _ => Ok(response),
    }
}

/// Sends a request whose answer is a document of at most `limit_bytes`.
pub(super) async fn fetch(
    http: &HttpClient,
    call: Call<'_>,
    limit_bytes: usize,
) -> Result<(HeaderMap, Bytes), ProxyError> {
    let deadline = Instant::now() + call.limit;
    let response = send(http, call).await?;
    if response.status() != StatusCode::OK {
        return Err(refusal(response, None).await);
    }
    let headers = response.headers().clone();
    match read(response, limit_bytes, deadline).await {
        Body::Whole(body) => Ok((headers, body)),
        Body::Cut(_) => Err(ProxyError::Truncated { cause: None }),
    }
}

async fn send(http: &HttpClient, call: Call<'_>) -> Result<reqwest::Response, ProxyError> {
    let Call { method, endpoint, path, headers, body, limit } = call;
    let prepare = |client: &reqwest::Client| {
        client.request(method.clone(), endpoint.join(path)).headers(headers.clone()).body(body.clone())
    };
    match timeout_at(Instant::now() + limit, http.send(endpoint, prepare)).await {
        Ok(Ok(response)) => {
            http.observe_date(response.headers());
            Ok(response)
        }
        Ok(Err(SendError::Client(error))) => Err(unusable(&error)),
        Ok(Err(SendError::Transport(error))) if error.is_connect() && error.is_timeout() => {
            Err(ProxyError::Silent { phase: Phase::Connecting, limit: http.connect_timeout() })
        }
        Ok(Err(SendError::Transport(error))) => Err(ProxyError::Unreachable { cause: error_chain(&error) }),
        Err(_) => Err(ProxyError::Silent { phase: Phase::FirstEvent, limit }),
    }
}

/// Turns an answer that is not what was asked for into a failure.
pub(super) async fn refusal(response: reqwest::Response, tape: Option<&Tape>) -> ProxyError {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let (Body::Whole(body) | Body::Cut(body)) = read(response, ERROR_LIMIT_BYTES, Instant::now() + ERROR_LIMIT).await;
    if let Some(tape) = tape {
        tape.answer(status, &headers, Some(body.clone()));
    }
    refused(status, &headers, &body)
}

/// The failure that an answer means.
pub(super) fn refused(status: u16, headers: &HeaderMap, body: &[u8]) -> ProxyError {
    let failure = failure::from_response(status, headers, body);
    let failure = UpstreamFailure { headers: passed_on(headers), ..failure };
    note_failed(failure.request_id.as_deref());
    tracing::debug!(
        status,
        fault = ?failure.fault,
        code = failure.code.as_deref(),
        upstream.request_id = failure.request_id.as_deref(),
        cf_ray = text(headers, "cf-ray"),
        authorization_error = text(headers, "x-openai-authorization-error"),
        "the backend refused a request"
    );
    ProxyError::Upstream(Box::new(failure))
}

enum Body {
    Whole(Bytes),
    /// Too long, too slow, or broken off.
    Cut(Bytes),
}

async fn read(mut response: reqwest::Response, limit_bytes: usize, deadline: Instant) -> Body {
    let _in_use = InUse::take(&mut response);
    let mut chunks = response.bytes_stream();
    let mut body = Vec::new();
    loop {
        match timeout_at(deadline, chunks.next()).await {
            Ok(None) => return Body::Whole(body.into()),
            Ok(Some(Ok(chunk))) if body.len() + chunk.len() <= limit_bytes => body.extend_from_slice(&chunk),
            Ok(Some(_)) | Err(_) => return Body::Cut(body.into()),
        }
    }
}

/// The failure where no client could be made.
pub(super) fn unusable(error: &ClientError) -> ProxyError {
    ProxyError::Unreachable { cause: error.to_string() }
}
