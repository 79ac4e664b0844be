//! CORS headers, with which a browser lets a page of an allowed origin read responses.
//!
//! The access policy decides which origins are allowed; others never get these headers. Credentials are never allowed:
//! there are no cookies.

use axum::body::Body;
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, RETRY_AFTER, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, DELETE");
/// How long a browser may cache a preflight. Requests of an origin that is removed from the settings are refused
/// immediately nevertheless.
const MAX_AGE_SECONDS: HeaderValue = HeaderValue::from_static("600");
const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// The response to a preflight of an allowed origin: allows the methods and the requested headers.
pub(super) fn preflight(request: &Parts) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECONDS);
    if let Some(names) = request.headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    if request.headers.get(REQUEST_PRIVATE_NETWORK).is_some_and(|value| value == "true") {
        headers.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
    }
    headers.insert(
        VARY,
        HeaderValue::from_static(
            "access-control-request-method, access-control-request-headers, access-control-request-private-network",
        ),
    );
    response
}

/// Lets a page of this origin read the response, and its headers that are relevant to clients.
pub(super) fn allow_origin(headers: &mut HeaderMap, origin: HeaderValue) {
    let is_relevant = |name: &&str| *name == RETRY_AFTER.as_str() || *name == "request-id" || name.starts_with("x-");
    let exposed: Vec<_> = headers.keys().map(HeaderName::as_str).filter(is_relevant).collect();
    if let Ok(exposed) = HeaderValue::try_from(exposed.join(", ")) {
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
}

/// Adds `vary: origin`, so that caches keep a response for each origin.
pub(super) fn vary(headers: &mut HeaderMap) {
    headers.append(VARY, HeaderValue::from_static("origin"));
}
