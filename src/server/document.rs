//! The answer for a client that wants a document and no stream.
//!
//! Nothing is sent before the document is whole. A failure in the middle of an answer is therefore
//! hidden by another attempt, with a new reply machine, as long as the request has attempts left.

use bytes::Bytes;
use http::HeaderMap;
use tracing::Instrument as _;

use super::request_log::RequestRecord;
use super::response_stream::ReplyProcessor;
use crate::error::ProxyError;
use crate::protocol::Reply;
use crate::upstream::{Answer, Pending};

/// A whole answer.
pub(super) struct Document {
    pub(super) body: Bytes,
    /// Headers of the answer that became the document.
    pub(super) headers: HeaderMap,
    /// Its warnings.
    pub(super) warnings: Vec<String>,
}

/// Reads an answer to its end, and further attempts at it where it fails.
pub(super) async fn read<R: Reply>(
    mut pending: Pending<'_>,
    mut answer: Answer,
    mut passage: ReplyProcessor<R>,
    record: &mut RequestRecord,
) -> Result<Document, ProxyError> {
    loop {
        let Answer { events, headers, request_id, warnings } = answer;
        record.opened(request_id.as_deref());
        passage.fold(events, record).await;
        let Some(error) = passage.reply.failure().cloned() else {
            return Ok(Document { body: passage.reply.document()?, headers, warnings });
        };
        record.give_up();
        let again = async {
            pending.retry(identified(error, headers, request_id)).await?;
            pending.open().await
        };
        answer = again.instrument(record.span()).await?;
        passage = passage.restarted(&answer.warnings);
    }
}

/// A failure in the middle of an answer has the headers and the request id of that answer.
fn identified(mut error: ProxyError, headers: HeaderMap, request_id: Option<String>) -> ProxyError {
    if let ProxyError::Upstream(failure) = &mut error {
        failure.headers = headers;
        failure.request_id = failure.request_id.take().or(request_id);
    }
    error
}
