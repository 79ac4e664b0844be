//! Reads a response that is sent as one document.
//!
//! Nothing is sent before the document is complete, so a response that fails in the middle is requested again, and read
//! from its start, while the request has attempts left. A response in which the proxy has run calls of the model isn't:
//! the calls would be run again, and each of its rounds has had attempts of its own.

use bytes::Bytes;
use http::HeaderMap;
use tracing::Instrument as _;

use super::request_log::RequestRecord;
use super::response_stream::ReplyProcessor;
use crate::error::ProxyError;
use crate::protocol::Reply;
use crate::upstream::{BackendResponse, Pending};

/// A complete response.
pub(super) struct Document {
    pub(super) body: Bytes,
    /// Headers of the backend response that became the document.
    pub(super) headers: HeaderMap,
    /// Warnings of that response.
    pub(super) warnings: Vec<String>,
}

/// Reads a response to its end, retrying if it fails.
///
/// # Errors
/// The failure, if it isn't retried.
pub(super) async fn read<R: Reply>(
    mut pending: Pending<'_>,
    mut response: BackendResponse,
    mut processor: ReplyProcessor<R>,
    record: &mut RequestRecord,
) -> Result<Document, ProxyError> {
    loop {
        let BackendResponse { mut events, headers, request_id, warnings } = response;
        record.set_upstream_id(request_id.as_deref());
        processor.fold(&mut events, record).await;
        let Some(error) = processor.reply.failure().cloned() else {
            return Ok(Document { body: processor.reply.document()?, headers, warnings });
        };
        record.discard_attempt();
        let error = with_response_meta(error, headers, request_id);
        if events.has_run_calls() {
            return Err(error);
        }
        drop(events);
        let again = async {
            pending.retry(error).await?;
            pending.open().await
        };
        response = again.instrument(record.span()).await?;
        processor = processor.restarted(&response.warnings);
    }
}

/// Adds the headers and request id of the response that failed to its error.
fn with_response_meta(mut error: ProxyError, headers: HeaderMap, request_id: Option<String>) -> ProxyError {
    if let ProxyError::Upstream(failure) = &mut error {
        failure.headers = headers;
        failure.request_id = failure.request_id.take().or(request_id);
    }
    error
}
