//! Streams the images of a request: an event for each, when it is complete.
//!
//! The response starts with the first image, or when the first keepalive is due; a failure before that is an error
//! status. A later one is an error event, which ends the stream and cancels the remaining calls.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::HeaderMap;
use tokio::time::{Instant, sleep, timeout};

use super::super::http_response::stream_response;
use super::super::request_log::{RequestRecord, ServedRequest};
use super::super::response_stream::AbortSignal;
use super::completed;
use super::image_calls::{CompletedImage, ImageCalls};
use crate::budget::Reservation;
use crate::command_hint;
use crate::error::ProxyError;
use crate::protocol::codex::Usage;
use crate::protocol::images::{Operation, event};
use crate::protocol::openai;
use crate::protocol::responses::Responses;
use crate::protocol::{Dialect as _, Summary};

/// A stream whose first image has arrived, or whose first keepalive is due.
pub(super) struct ImageStream {
    operation: Operation,
    calls: ImageCalls,
    keepalive: Option<Duration>,
    abort: AbortSignal,
    first: Option<CompletedImage>,
}

/// The stream of a response.
struct OpenStream {
    source: ImageStream,
    record: RequestRecord,
    /// Recorded with the first image.
    served: Option<ServedRequest>,
    usage: Option<Usage>,
    /// The pieces of an event that are still to be sent, and their memory.
    pieces: VecDeque<Bytes>,
    memory: Option<Reservation>,
    is_finished: bool,
}

impl ImageStream {
    /// Waits for the first image, or until the first keepalive is due.
    ///
    /// # Errors
    /// If a call fails in that time.
    pub(super) async fn open(
        operation: Operation,
        mut calls: ImageCalls,
        keepalive: Option<Duration>,
        abort: AbortSignal,
    ) -> Result<Self, ProxyError> {
        let next = calls.next();
        let first = match keepalive {
            Some(interval) => timeout(interval, next).await.ok().flatten(),
            None => next.await,
        };
        Ok(Self { operation, calls, keepalive, abort, first: first.transpose()? })
    }

    /// The response. `record` ends with it.
    pub(super) fn respond(mut self, served: ServedRequest, mut record: RequestRecord) -> Response {
        record.mark_streaming();
        let first = self.first.take();
        let mut open = OpenStream {
            source: self,
            record,
            served: Some(served),
            usage: None,
            pieces: VecDeque::new(),
            memory: None,
            is_finished: false,
        };
        let mut headers = HeaderMap::new();
        if let Some(mut image) = first {
            headers = std::mem::take(&mut image.headers);
            open.add(image);
        } else {
            open.pieces.push_back(Bytes::from_static(event::KEEPALIVE));
        }
        let body = stream::unfold(open, |mut open| async {
            let piece = open.next().await?;
            Some((Ok::<_, Infallible>(piece), open))
        });
        let mut response = stream_response(Body::from_stream(body), Responses::STREAM_TYPE);
        response.headers_mut().extend(headers);
        response
    }
}

impl OpenStream {
    /// The next piece of the body; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Some(piece);
            }
            self.memory = None;
            if self.is_finished {
                return None;
            }
            tokio::select! {
                completed_call = self.source.calls.next() => match completed_call {
                    Some(Ok(image)) => self.add(image),
                    Some(Err(error)) => self.fail(&error),
                    None => self.finish(completed(self.usage)),
                },
                error = &mut self.source.abort => self.fail(&error),
                () = after(self.source.keepalive) => return Some(Bytes::from_static(event::KEEPALIVE)),
            }
        }
    }

    fn add(&mut self, image: CompletedImage) {
        if let Some(served) = self.served.take() {
            self.record.set_served(served);
        }
        self.record.set_upstream_id(image.request_id.as_deref());
        self.record.count_event(Some(Instant::now()));
        self.usage = self.usage.into_iter().chain(image.reply.usage()).reduce(Usage::plus);
        self.pieces.extend(event::completed(self.source.operation, &image.reply));
        self.memory = Some(image.memory);
    }

    fn fail(&mut self, error: &ProxyError) {
        self.record.set_error(error);
        self.pieces.push_back(event::failed(error, command_hint::current()));
        self.finish(Summary { usage: self.usage, outcome: openai::error::code(error) });
    }

    fn finish(&mut self, summary: Summary) {
        self.source.calls.clear();
        self.record.set_summary(summary);
        self.is_finished = true;
    }
}

/// Resolves after the interval; never without one.
async fn after(interval: Option<Duration>) {
    match interval {
        Some(interval) => sleep(interval).await,
        None => pending().await,
    }
}
