//! Responses that don't depend on the backend.

use axum::body::Body;
use axum::response::Response;
use bytes::BytesMut;
use http::StatusCode;

use super::super::http_response::{json_response, stream_response, with_warnings};
use super::super::request_log::RequestRecord;
use super::PlannedRequest;
use crate::error::ProxyError;
use crate::protocol::{Dialect, Fold, Mode, Plan, Reply, Wire};

/// Responds to a request whose reply doesn't depend on the backend.
pub(super) fn respond_locally<D: Dialect>(
    planned: PlannedRequest<'_, D>,
    record: &mut Option<RequestRecord>,
) -> Result<Response, ProxyError> {
    let PlannedRequest { plan: Plan { upstream, mode, mut reply }, warnings, .. } = planned;
    let mut wire = BytesMut::new();
    match mode {
        Mode::Stream => reply.on_commit(&mut Wire(&mut wire)),
        Mode::Document => reply.on_commit(&mut Fold),
    }
    if let Some(record) = record {
        record.set_model(&upstream.model, mode);
        record.set_summary(reply.summary());
    }
    let response = match mode {
        Mode::Stream => stream_response(Body::from(wire.freeze()), D::STREAM_TYPE),
        Mode::Document => json_response(StatusCode::OK, reply.document()?),
    };
    Ok(with_warnings(response, &warnings))
}
