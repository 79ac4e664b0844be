//! Responses in the background that an earlier process has left.

use std::sync::Arc;

use bytes::Bytes;

use super::driver::Job;
use super::request::StoredRequest;
use super::run::Run;
use super::{BackgroundRuns, Stored, ended_record};
use crate::blocking::off_thread;
use crate::error::{ProxyError, Refusal};
use crate::history::{Responses as History, RunRecord};
use crate::protocol::Dialect as _;
use crate::protocol::responses::Responses;
use crate::protocol::responses::background::ForcedEnd;
use crate::protocol::stored_refs::ResponseIdentity;
use crate::server::request_log::{RequestId, RequestRecord};
use crate::server::response_store::ResponseStore;

impl BackgroundRuns {
    /// Ends the responses that were running when an earlier process ended, and queues those that were waiting.
    pub(in crate::server) async fn recover(self: &Arc<Self>) {
        let unfinished = match self.history().unfinished_runs().await {
            Ok(unfinished) => unfinished,
            Err(error) => {
                return tracing::warn!(%error, "background responses of an earlier process wait for the next start");
            }
        };
        for run in &unfinished.interrupted {
            self.end_left(run, &ForcedEnd::Interrupted).await;
        }
        for run in unfinished.queued {
            let left = RunRecord { body: Bytes::new(), ..run.clone() };
            if let Err(error) = self.requeue(run).await {
                tracing::warn!(error = error.loggable(), "a background response of an earlier process isn't run");
                self.end_left(&left, &ForcedEnd::Failed(&error)).await;
            }
        }
    }

    /// Ends a response that isn't run, unless it is stored already: then the earlier process has ended it. If the store
    /// can't be read or written, the next process tries again.
    async fn end_left(&self, run: &RunRecord, end: &ForcedEnd<'_>) {
        if let Err(error) = self.try_end_left(run, end).await {
            tracing::warn!(error = error.loggable(), "a background response of an earlier process is not ended yet");
        }
    }

    async fn try_end_left(&self, run: &RunRecord, end: &ForcedEnd<'_>) -> Result<(), ProxyError> {
        if self.history().try_find(&run.owner, &run.id).await?.is_none() {
            let memory = self.event_memory.reserve();
            let ended = Run::new(run.owner.clone(), run.id.clone(), run.object.clone(), None, memory);
            self.force_end(&ended, end);
            let object = ended.object().unwrap_or_default();
            self.history().insert_written(&run.owner, ended_record(&run.id, object, Vec::new())).await?;
        }
        Ok(self.history().end_run(&run.owner, &run.id).await?)
    }

    /// Queues a response that was waiting.
    ///
    /// # Errors
    /// If its request can't be read, or too many wait.
    async fn requeue(self: &Arc<Self>, run: RunRecord) -> Result<(), ProxyError> {
        if self.history().try_find(&run.owner, &run.id).await?.is_some() {
            // It has ended, and its end couldn't be recorded.
            return Ok(self.history().end_run(&run.owner, &run.id).await?);
        }
        let Some(request) = StoredRequest::of_record(&run) else {
            let message = "the request was stored by another release of the proxy and can't be read; send it again";
            return Err(Refusal::coded("request_unreadable", "background", message));
        };
        let request_id = RequestId::fresh();
        let mut record = RequestRecord::new(Responses::NAME, &request_id, &self.handler.state);
        let live = Arc::clone(&self.handler.services.live.borrow());
        // A key that no longer exists is an error when the request runs.
        let parts = request.authorized(&request_id, &run.owner, &live).unwrap_or_else(|_| request.head(&request_id));
        record.register(&request_id, &parts);
        record.return_to_queue();
        let mut store = ResponseStore::of_owner(self.history(), run.owner.clone());
        if let Some(id) = conversation_of(&run.body) {
            // Nothing may change the conversation before the response does. Why it can't be locked is an error when the
            // request runs.
            let _ = store.load_conversation(&id, run.body.len()).await;
        }
        let mut memory = self.handler.state.memory.reserve();
        // The earlier process had enough memory. If this one has less, the request is refused when it runs.
        memory.try_set_buffered(run.body.len() + run.object.len() + store.locked_bytes());
        let identity = ResponseIdentity { id: run.id, created_at: created_at(&run.object) };
        let job = Job { request, request_id, identity, body: run.body, memory, store, record, stored: Stored::Yes };
        self.enqueue(job, run.object).await.map(|_| ())
    }

    fn history(&self) -> &Arc<History> {
        &self.handler.services.history
    }
}

/// The conversation that a request continues.
fn conversation_of(body: &[u8]) -> Option<String> {
    off_thread(body.len(), || Responses::references(&Responses::decode(body).ok()?).conversation)
}

fn created_at(object: &str) -> u64 {
    #[derive(serde::Deserialize)]
    struct Created {
        created_at: u64,
    }
    serde_json::from_str::<Created>(object).map_or(0, |created| created.created_at)
}
