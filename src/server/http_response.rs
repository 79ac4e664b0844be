//! HTTP responses: JSON, event streams, and the warnings header.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;

use crate::protocol::Warnings;

#[derive(Serialize)]
struct Deletion<'d> {
    id: &'d str,
    object: &'static str,
    deleted: bool,
}

/// Adds `x-proxy-warnings`, if there are any.
pub(super) fn with_warnings(mut response: Response, warnings: &Warnings) -> Response {
    if let Some(tokens) = warnings.header().and_then(|tokens| HeaderValue::try_from(tokens).ok()) {
        response.headers_mut().insert("x-proxy-warnings", tokens);
    }
    response
}

/// A JSON response with more headers.
pub(super) fn with_headers(status: StatusCode, headers: HeaderMap, body: Bytes) -> Response {
    let mut response = json_response(status, body);
    response.headers_mut().extend(headers);
    response
}

/// A JSON response.
pub(super) fn json_response(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Serializes a value to a JSON response with status 200.
pub(super) fn json(body: &impl Serialize) -> Response {
    json_response(StatusCode::OK, Bytes::from(serde_json::to_vec(body).expect("response types always serialize")))
}

/// The response to a deletion; `object` is the type in it.
pub(super) fn deleted(id: &str, object: &'static str) -> Response {
    json(&Deletion { id, object, deleted: true })
}

/// A response that streams events.
pub(super) fn stream_response(body: Body, kind: &'static str) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Keeps reverse proxies from buffering the stream.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
