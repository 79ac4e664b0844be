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
use crate::server::http_response::stream_response;

const KEEPALIVE: &[u8] = b": keepalive\n\n";

/// A client that follows a run.
struct Follower {
    run: Arc<Run>,
    changes: watch::Receiver<()>,
    /// The number of the next event to send.
    next: u64,
    keepalive: Option<Duration>,
    has_ended: bool,
}

impl BackgroundRuns {
    /// Streams the events of a run from this number on. Ends after its last event.
    pub(super) fn follow(&self, run: &Arc<Run>, from: u64) -> Response {
        let follower = Follower {
            run: Arc::clone(run),
            changes: run.changes(),
            next: from,
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
        loop {
            self.changes.mark_unchanged();
            match self.run.events_from(self.next) {
                _ if self.has_ended => return None,
                NextEvents::Some(chunk, next) => {
                    self.next = next;
                    return Some(chunk);
                }
                NextEvents::Ended => return None,
                NextEvents::Lost => {
                    self.has_ended = true;
                    return Some(lost_event(self.next));
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
    Refusal::coded("events_unavailable", "stream", lost_message())
}

fn lost_message() -> &'static str {
    "the events of this response are no longer in memory; retrieve it without 'stream'"
}

/// The last event of a stream whose further events are not recorded.
fn lost_event(sequence_number: u64) -> Bytes {
    let message = lost_message();
    Bytes::from(format!(
        "event: error\ndata: {{\"type\":\"error\",\"code\":\"events_unavailable\",\"message\":\"{message}\",\"param\":null,\
         \"sequence_number\":{sequence_number}}}\n\n"
    ))
}

async fn idle(keepalive: Option<Duration>) {
    match keepalive {
        Some(keepalive) => sleep(keepalive).await,
        None => std::future::pending().await,
    }
}
