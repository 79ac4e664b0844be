//! The task of one response in the background.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::MaybeDone;
use http_body_util::BodyExt as _;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, oneshot};

use super::request::StoredRequest;
use super::run::Run;
use super::{BackgroundRuns, Stored, ended_record, is_stored_by_handler};
use crate::budget::Reservation;
use crate::command_hint;
use crate::error::ProxyError;
use crate::protocol::Dialect as _;
use crate::protocol::responses::background::{ForcedEnd, final_object};
use crate::protocol::responses::{Options, Responses};
use crate::protocol::stored_refs::ResponseIdentity;
use crate::server::handler::{Handler, log_refusal};
use crate::server::request_log::{RequestId, RequestRecord};
use crate::server::response_store::ResponseStore;

/// A request and what it needs to run.
pub(super) struct Job {
    pub(super) request: StoredRequest,
    pub(super) request_id: RequestId,
    pub(super) identity: ResponseIdentity,
    pub(super) body: Bytes,
    /// Memory for the body.
    pub(super) memory: Reservation,
    pub(super) store: ResponseStore,
    pub(super) record: RequestRecord,
    pub(super) stored: Stored,
}

/// A place in the queue for one of the runs at the same time.
pub(super) type Slot<F> = Pin<Box<MaybeDone<F>>>;

impl BackgroundRuns {
    /// Runs a response from the queue to its end. Sends on `written` once it is written to the disk.
    pub(super) async fn drive<F>(
        self: Arc<Self>,
        run: Arc<Run>,
        job: Job,
        mut slot: Slot<F>,
        written: oneshot::Sender<()>,
    ) where
        F: Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send,
    {
        let history = &self.handler.services.history;
        if let Some(object) = run.object().filter(|_| job.stored == Stored::No) {
            let record = job.request.record(run.owner.clone(), run.id.clone(), job.body.clone(), object);
            history.queue_run(record).await;
        }
        // Fails if the client has disconnected.
        let _ = written.send(());
        let end = tokio::select! {
            biased;
            () = run.cancel.cancelled() => Some(ForcedEnd::Cancelled),
            () = self.shutdown.stop.cancelled() => {
                if history.keeps_runs() {
                    // The next process starts it.
                    return run.close();
                }
                Some(ForcedEnd::Interrupted)
            }
            () = slot.as_mut() => None,
        };
        match end {
            Some(end) => run.force_end(&end),
            None => self.run(&run, job).await,
        }
        self.settle(&run).await;
        drop(slot);
    }

    /// Sends the request and records the events, until the response ends or is ended.
    async fn run(&self, run: &Run, job: Job) {
        self.handler.services.history.start_run(&run.owner, &run.id).await;
        let ended = tokio::select! {
            biased;
            () = run.cancel.cancelled() => return run.force_end(&ForcedEnd::Cancelled),
            () = self.handler.abort.cancelled() => return run.force_end(&ForcedEnd::Interrupted),
            ended = AssertUnwindSafe(self.respond(run, job)).catch_unwind() => ended,
        };
        let ended = ended.unwrap_or_else(|_| {
            tracing::error!("a background response panicked");
            Err(ProxyError::Internal)
        });
        // Does nothing if the backend has ended the response.
        run.force_end(&ForcedEnd::Failed(&ended.err().unwrap_or(ProxyError::Truncated { cause: None })));
    }

    async fn respond(&self, run: &Run, job: Job) -> Result<(), ProxyError> {
        let Job { request, request_id, identity, body, memory, store, record, .. } = job;
        let live = Arc::clone(&self.handler.services.live.borrow());
        let parts = match request.authorized(&request_id, &run.owner, &live) {
            Ok(parts) => parts,
            Err(error) => return Err(refused(error, Some(record))),
        };
        let options = Options { identity: Some(identity), ..Options::clone(&self.handler.options) };
        let handler = Handler { options: Arc::new(options), ..self.handler.clone() };
        run.begin();
        let mut record = Some(record);
        let response = handler.run_queued(&parts, body, memory, store, &mut record).await;
        let response = response.map_err(|error| refused(error, record))?;
        self.record_events(run, response).await;
        Ok(())
    }

    /// Records the events of a response, up to a terminal one.
    async fn record_events(&self, run: &Run, response: Response) {
        run.set_warnings(response.headers().get("x-proxy-warnings").cloned());
        let mut body = response.into_body();
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(chunk) = frame.into_data() else { continue };
            let mut object = None;
            for event in events_in(&chunk) {
                match data(&event) {
                    Some(data) => {
                        self.record(run, &event);
                        object = object.or_else(|| final_object(data, &run.object()?));
                    }
                    None if event.starts_with(b"data:") => run.append_to_last(&event),
                    // A keepalive.
                    None => {}
                }
            }
            if let Some(object) = object {
                return run.end(object);
            }
        }
    }

    /// Stores the end of a response.
    async fn settle(&self, run: &Run) {
        let history = &self.handler.services.history;
        if let Some(object) = run.object().filter(|object| !is_stored_by_handler(object)) {
            history.insert(&run.owner, ended_record(run, object));
        }
        // Checked after the response was stored: it may be deleted at any time.
        if run.is_deleted()
            && let Err(error) = history.remove(&run.owner, &run.id).await
        {
            tracing::warn!(%error, "can't delete a background response");
        }
        run.release_object();
        history.end_run(&run.owner, &run.id).await;
        self.retire(run);
    }
}

/// Logs an error as the end of the request.
fn refused(error: ProxyError, record: Option<RequestRecord>) -> ProxyError {
    let id = String::new();
    let (status, ..) = Responses::to_error_response(&error, &id, command_hint::current());
    log_refusal(&error, status, record);
    error
}

/// The events in a chunk, which contains only whole ones.
fn events_in(chunk: &Bytes) -> Vec<Bytes> {
    let ends = memchr::memmem::find_iter(chunk, b"\n\n").map(|at| at + 2);
    let mut start = 0;
    let event = |end| chunk.slice(std::mem::replace(&mut start, end)..end);
    ends.map(event).collect()
}

/// The data of an event with a type; `None` for a keepalive or `[DONE]`.
fn data(event: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(event).ok()?;
    let (_, data) = text.strip_prefix("event: ")?.split_once("\ndata: ")?;
    Some(data.trim_end())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{data, events_in};

    #[test]
    fn a_chunk_is_split_into_its_events() {
        let chunk =
            Bytes::from_static(b"event: a\ndata: {}\n\n: keepalive\n\nevent: b\ndata: {\"x\":1}\n\ndata: [DONE]\n\n");
        let events = events_in(&chunk);
        let data: Vec<_> = events.iter().map(|event| data(event)).collect();
        assert_eq!(data, [Some("{}"), None, Some(r#"{"x":1}"#), None]);
        assert_eq!(events.concat(), chunk);
    }
}
