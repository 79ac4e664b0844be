//! Error responses of the handlers, and their log lines.

use std::sync::Arc;

use axum::response::Response;
use http::header::CONNECTION;
use http::{HeaderValue, StatusCode};

use super::super::http_response::with_headers;
use super::super::internal_request::ReportedError;
use super::super::request_log::{RequestId, RequestRecord};
use crate::command_hint;
use crate::error::ProxyError;
use crate::protocol::Dialect;

/// Builds an error response in the format of the API, and logs the error.
pub(in crate::server) fn refuse<D: Dialect>(
    error: &ProxyError,
    id: &RequestId,
    record: Option<RequestRecord>,
) -> Response {
    refuse_with_status::<D>(error, None, id, record)
}

/// The same, with another status than the API's for this error.
pub(in crate::server) fn refuse_with_status<D: Dialect>(
    error: &ProxyError,
    status: Option<StatusCode>,
    id: &RequestId,
    record: Option<RequestRecord>,
) -> Response {
    let (api_status, mut headers, body) = D::to_error_response(error, &id.0, command_hint::current());
    let status = status.unwrap_or(api_status);
    if let ProxyError::Upstream(failure) = error {
        headers.extend(failure.headers.clone());
    }
    if let ProxyError::BodyTooSlow { .. } = error {
        // Otherwise, the rest of the body would be read as the next request.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    log_refusal(error, status, record);
    let mut response = with_headers(status, headers, body);
    response.extensions_mut().insert(ReportedError(Arc::new(error.clone())));
    response
}

/// Logs an error, and records it as the end of the request.
pub(in crate::server) fn log_refusal(error: &ProxyError, status: StatusCode, record: Option<RequestRecord>) {
    if let Some(mut record) = record {
        record.set_refused(status, error);
    }
    if status.is_server_error() {
        tracing::warn!(error = error.loggable(), "request failed");
    } else {
        tracing::debug!(error = error.loggable(), "request refused");
    }
}
