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
use super::{BackgroundRuns, Stored, ended_record, is_stored_by_handler, note_refusal};
use crate::budget::Reservation;
use crate::command_hint;
use crate::error::ProxyError;
use crate::protocol::Dialect as _;
use crate::protocol::responses::background::{ForcedEnd, final_object, is_terminal};
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
    /// Runs a response from the queue to its end. Sends on `written` once it is written to the disk, or can't be.
    pub(super) async fn drive<F>(
        self: Arc<Self>,
        run: Arc<Run>,
        mut job: Job,
        mut slot: Slot<F>,
        written: oneshot::Sender<Result<(), ProxyError>>,
    ) where
        F: Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send,
    {
        let history = &self.handler.services.history;
        if let Err(error) = self.write(&run, &job).await {
            note_refusal(&mut job.record, &error);
            // Unlocks the conversation before the client tries again.
            drop((job, slot));
            self.remove(&run);
            let _ = written.send(Err(error));
            // The client gets the error, so the response must not run later, should the change still be made.
            return self.settle(&run).await;
        }
        // Fails if the client has disconnected.
        let _ = written.send(Ok(()));
        let outcome = job.record.early_outcome();
        let end = tokio::select! {
            biased;
            () = run.cancel.cancelled() => Some(ForcedEnd::Cancelled),
            () = self.shutdown.stop.cancelled() => {
                if history.keeps_runs() && run.hand_over() {
                    // The next process starts it.
                    return outcome.set("handed_over");
                }
                Some(ForcedEnd::Interrupted)
            }
            () = slot.as_mut() => None,
        };
        match end {
            Some(end) => {
                outcome.set(outcome_of(&end));
                // Unlocks the conversation and releases the memory before the end is written.
                drop(job);
                self.force_end(&run, &end);
            }
            None => self.run(&run, job).await,
        }
        self.settle(&run).await;
        drop(slot);
    }

    /// Writes a run to the disk, unless it is there already.
    async fn write(&self, run: &Run, job: &Job) -> Result<(), ProxyError> {
        if job.stored == Stored::Yes {
            return Ok(());
        }
        let object = run.object().unwrap_or_default();
        let record = job.request.record(run.owner.clone(), run.id.clone(), job.body.clone(), object);
        Ok(self.handler.services.history.queue_run(record).await?)
    }

    /// Sends the request and records the events, until the response ends or is ended.
    async fn run(&self, run: &Run, job: Job) {
        let outcome = job.record.early_outcome();
        let ended_early = async {
            let end = tokio::select! {
                biased;
                () = run.cancel.cancelled() => ForcedEnd::Cancelled,
                () = self.handler.abort.cancelled() => ForcedEnd::Interrupted,
            };
            // Set before the request is dropped, which logs it.
            outcome.set(outcome_of(&end));
            end
        };
        let ended = tokio::select! {
            biased;
            end = ended_early => return self.force_end(run, &end),
            ended = AssertUnwindSafe(self.respond(run, job)).catch_unwind() => ended,
        };
        let ended = ended.unwrap_or_else(|_| {
            tracing::error!("a background response panicked");
            Err(ProxyError::Internal)
        });
        // Does nothing if the backend has ended the response.
        self.force_end(run, &ForcedEnd::Failed(&ended.err().unwrap_or(ProxyError::Truncated { cause: None })));
    }

    async fn respond(&self, run: &Run, job: Job) -> Result<(), ProxyError> {
        let Job { request, request_id, identity, body, memory, store, mut record, .. } = job;
        // A request whose start isn't recorded isn't sent: the next process would send it again.
        if let Err(error) = self.handler.services.history.start_run(&run.owner, &run.id).await {
            return Err(refused(error.into(), Some(record)));
        }
        let live = Arc::clone(&self.handler.services.live.borrow());
        let parts = match request.authorized(&request_id, &run.owner, &live) {
            Ok(parts) => parts,
            Err(error) => return Err(refused(error, Some(record))),
        };
        let options = Options { identity: Some(identity), ..Options::clone(&self.handler.options) };
        let handler = Handler { options: Arc::new(options), ..self.handler.clone() };
        run.begin();
        record.restart_clock();
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
            for event in events_in(&chunk) {
                // A keepalive has no type.
                let Some((kind, data)) = kind_and_data(&event) else { continue };
                self.record(run, &event);
                if is_terminal(kind)
                    && let Some(object) = final_object(data, &run.object().unwrap_or_default())
                {
                    return run.end(object);
                }
            }
        }
    }

    /// Stores the end of a response.
    pub(super) async fn settle(&self, run: &Run) {
        let history = &self.handler.services.history;
        if let Some(object) = run.object().filter(|object| !run.is_deleted() && !is_stored_by_handler(object)) {
            let input = self.input(run).await.unwrap_or_else(|error| {
                tracing::warn!(error = error.loggable(), "the input of a background response isn't stored");
                Vec::new()
            });
            if let Err(error) = history.insert_written(&run.owner, ended_record(&run.id, object, input)).await {
                tracing::warn!(%error, "the end of a background response isn't stored");
            }
        }
        // Checked after the response was stored: it may be deleted at any time.
        if run.is_deleted()
            && let Err(error) = history.remove(&run.owner, &run.id).await
        {
            tracing::warn!(%error, "can't delete a background response");
        }
        if let Err(error) = history.end_run(&run.owner, &run.id).await {
            tracing::warn!(%error, "a background response that has ended is still in the queue on the disk");
        }
        let is_stored = matches!(history.try_find(&run.owner, &run.id).await, Ok(Some(_)));
        // If it couldn't be stored, the object is kept as long as the events.
        if is_stored || !run.has_events() {
            run.release();
        }
        self.retire(run);
    }
}

/// The outcome of the request in the log.
fn outcome_of(end: &ForcedEnd<'_>) -> &'static str {
    match end {
        ForcedEnd::Cancelled => "cancelled",
        ForcedEnd::Failed(_) => "failed",
        ForcedEnd::Interrupted => "interrupted",
    }
}

/// Logs an error as the end of the request.
fn refused(error: ProxyError, record: Option<RequestRecord>) -> ProxyError {
    let id = String::new();
    let (status, ..) = Responses::to_error_response(&error, &id, command_hint::current());
    log_refusal(&error, status, record);
    error
}

/// The events in a chunk, which contains only whole ones. The mark `[DONE]` is part of the event before it.
fn events_in(chunk: &Bytes) -> Vec<Bytes> {
    let rest = |end: usize| chunk.get(end..).unwrap_or_default();
    let ends =
        memchr::memmem::find_iter(chunk, b"\n\n").map(|at| at + 2).filter(|end| !rest(*end).starts_with(b"data:"));
    let mut start = 0;
    let event = |end| chunk.slice(std::mem::replace(&mut start, end)..end);
    ends.map(event).collect()
}

/// The type and the data of an event; `None` for a keepalive.
fn kind_and_data(event: &[u8]) -> Option<(&str, &str)> {
    let text = std::str::from_utf8(event).ok()?;
    let (kind, data) = text.strip_prefix("event: ")?.split_once("\ndata: ")?;
    Some((kind, data.split("\n\n").next()?))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{events_in, kind_and_data};

    #[test]
    fn a_chunk_is_split_into_its_events() {
        let chunk =
            Bytes::from_static(b"event: a\ndata: {}\n\n: keepalive\n\nevent: b\ndata: {\"x\":1}\n\ndata: [DONE]\n\n");
        let events = events_in(&chunk);
        let data: Vec<_> = events.iter().map(|event| kind_and_data(event)).collect();
        assert_eq!(data, [Some(("a", "{}")), None, Some(("b", r#"{"x":1}"#))]);
        assert_eq!(events.concat(), chunk);
    }
}
