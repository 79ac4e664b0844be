//! Streams the recorded events of a response in the background to a client.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::watch;
use tokio::time::sleep;

use super::BackgroundRuns;
use super::run::{NextEvents, Run};
use crate::error::{ProxyError, Refusal};
use crate::protocol::Dialect as _;
use crate::protocol::responses::Responses;
use crate::protocol::responses::background::queued_events;
use crate::server::http_response::stream_response;

const KEEPALIVE: &[u8] = b": keepalive\n\n";
const LOST_CODE: &str = "events_unavailable";
const LOST: &str = "the events of this response are no longer in memory; retrieve it without 'stream'";
const HANDED_OVER: &str =
    "the proxy is stopping and will run this response after it restarts; retrieve the response by its id then";

/// A client that follows a run.
struct Follower {
    run: Arc<Run>,
    changes: watch::Receiver<()>,
    /// Sent before the recorded events.
    first: Option<Bytes>,
    /// The number of the next event to send.
    next: u64,
    keepalive: Option<Duration>,
    has_ended: bool,
}

/// Where a stream begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start<'o> {
    /// With the events of a response that was just created with this object.
    Created(&'o str),
    /// With the event of this number.
    At(u64),
}

impl BackgroundRuns {
    /// Streams the events of a run. Ends after its last event.
    pub(super) fn follow(&self, run: &Arc<Run>, start: Start<'_>) -> Response {
        let (first, next) = match start {
            Start::Created(object) => {
                let events = queued_events(object);
                (Some(Bytes::from(events.concat())), events.len() as u64)
            }
            Start::At(number) => (None, number),
        };
        let follower = Follower {
            run: Arc::clone(run),
            changes: run.changes(),
            first,
            next,
            keepalive: self.handler.limits.keepalive,
            has_ended: false,
        };
        let chunks = stream::unfold(follower, |mut follower| async move {
            let chunk = follower.next_chunk().await?;
            Some((Ok::<_, Infallible>(chunk), follower))
        });
        stream_response(Body::from_stream(chunks), Responses::STREAM_TYPE)
    }
}

impl Follower {
    async fn next_chunk(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            self.changes.mark_unchanged();
            match self.run.events_from(self.next) {
                _ if self.has_ended => return None,
                NextEvents::Some(chunk, next) => {
                    self.next = next;
                    return Some(chunk);
                }
                NextEvents::Ended => return None,
                NextEvents::HandedOver => {
                    self.has_ended = true;
                    return Some(error_event("interrupted", HANDED_OVER, self.next));
                }
                NextEvents::Lost => {
                    self.has_ended = true;
                    return Some(error_event(LOST_CODE, LOST, self.next));
                }
                NextEvents::Pending => {}
            }
            tokio::select! {
                // The sender is part of the run, so it isn't dropped.
                _ = self.changes.changed() => {}
                () = idle(self.keepalive) => return Some(Bytes::from_static(KEEPALIVE)),
            }
        }
    }
}

/// The refusal of a stream whose events are no longer recorded.
pub(super) fn lost() -> ProxyError {
    Refusal::coded(LOST_CODE, "stream", LOST)
}

/// The last event of a stream that ends before its response does.
fn error_event(code: &str, message: &str, sequence_number: u64) -> Bytes {
    Bytes::from(format!(
        "event: error\ndata: {{\"type\":\"error\",\"code\":\"{code}\",\"message\":\"{message}\",\"param\":null,\
         \"sequence_number\":{sequence_number}}}\n\n"
    ))
}

async fn idle(keepalive: Option<Duration>) {
    match keepalive {
        Some(keepalive) => sleep(keepalive).await,
        None => std::future::pending().await,
    }
}
