//! Responses in the background (`background: true`): they run in the daemon, whether or not a client is connected.
//!
//! [`BackgroundRuns::start`] creates one from a request that has been translated once, so that an invalid request is
//! refused at once. At most `responses.background_concurrency` run at the same time; the others wait in order. Each is
//! run by a task of its own (`driver`), through the same handler as a request of a connection. Its events are recorded
//! (`run`), and clients can follow them from any number on (`event_stream`). A finished response is in the response
//! store like any other; its events are kept here for an hour, or until their memory is needed.
//!
//! If the server stops, running responses fail with the code `interrupted` when the drain time has passed. With a
//! response store on disk, the next process runs those that were queued ([`BackgroundRuns::recover`]).

mod driver;
mod event_stream;
mod request;
mod run;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use axum::response::Response;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, maybe_done};
use http::request::Parts;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

use super::handler::Handler;
use super::http_response::{json_response, with_warnings};
use super::listen::Shutdown;
use super::request_log::{RequestId, RequestRecord};
use super::response_store::ResponseStore;
use crate::budget::{ByteBudget, Reservation};
use crate::clock::{Clock as _, SystemClock};
use crate::error::ProxyError;
use crate::history::{ResponseOwner, ResponseRecord, RunRecord};
use crate::protocol::responses::Responses;
use crate::protocol::responses::background::{ForcedEnd, has_status};
use crate::protocol::stored_refs::ResponseIdentity;
use crate::protocol::{Dialect, Mode, Warnings};
use driver::Job;
use request::StoredRequest;
pub(super) use run::Run;

/// Maximum number of responses that wait or run, and of ended ones whose events are kept.
const MAX_RUNS: usize = 256;
/// How long the events of an ended response are kept, as long as the response itself.
const EVENT_LIFETIME: Duration = Duration::from_secs(60 * 60);
/// The memory for the events of all responses is `limits.memory` divided by this, in addition to it.
const EVENTS_DIVISOR: usize = 4;
/// When a client that was refused should try again.
const RETRY_AFTER: Duration = Duration::from_secs(30);

type Key = (ResponseOwner, String);

/// The responses in the background.
#[derive(Debug)]
pub(super) struct BackgroundRuns {
    /// Handles the requests. Doesn't divert them to the background.
    handler: Handler<Responses>,
    /// Has a permit for each further response that may run.
    slots: Arc<Semaphore>,
    registry: Mutex<Registry>,
    event_memory: Arc<ByteBudget>,
    shutdown: Shutdown,
}

#[derive(Debug, Default)]
struct Registry {
    runs: HashMap<Key, Arc<Run>>,
    /// The runs that have ended, and when, the oldest first.
    ended: VecDeque<(Key, Instant)>,
}

/// A request that is to run in the background.
pub(super) struct NewRun<'p> {
    pub(super) identity: ResponseIdentity,
    /// The response object, with the status `queued`.
    pub(super) object: String,
    /// Whether the client wants to follow the events.
    pub(super) mode: Mode,
    pub(super) warnings: Warnings,
    pub(super) parts: &'p Parts,
    pub(super) body: Bytes,
    /// Memory for the body.
    pub(super) memory: Reservation,
    /// The store with what the request has locked.
    pub(super) store: ResponseStore,
    pub(super) record: RequestRecord,
}

impl BackgroundRuns {
    pub(super) fn new(handler: Handler<Responses>, concurrency: usize, shutdown: Shutdown) -> Arc<Self> {
        let event_memory = Arc::new(handler.state.memory.fraction(EVENTS_DIVISOR));
        let slots = Arc::new(Semaphore::new(concurrency.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self { handler, slots, registry: Mutex::default(), event_memory, shutdown })
    }

    /// The identity of a new response.
    pub(super) fn identity() -> ResponseIdentity {
        let created_at = SystemClock.now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        ResponseIdentity { id: format!("resp_{}", Uuid::new_v4().simple()), created_at }
    }

    /// Starts a response, and responds with its object, or with its events.
    ///
    /// # Errors
    /// [`ProxyError::Busy`] if too many wait.
    pub(super) fn start(self: Arc<Self>, new: NewRun<'_>) -> BoxFuture<'_, Result<Response, ProxyError>> {
        // A type with a name: the task that this spawns contains the future that calls this.
        async move { self.create(new).await }.boxed()
    }

    async fn create(self: &Arc<Self>, new: NewRun<'_>) -> Result<Response, ProxyError> {
        let NewRun { identity, object, mode, warnings, parts, body, mut memory, store, mut record } = new;
        memory.end_work();
        record.return_to_queue();
        let request = StoredRequest::of(parts);
        let id = RequestId::of(parts);
        let job = Job { request, request_id: id, identity, body, memory, store, record, stored: Stored::No };
        let (run, written) = self.enqueue(job, object.clone()).await?;
        // The task continues if this future is dropped. It always sends, unless it panics.
        let _ = written.await;
        let response = match mode {
            Mode::Stream => self.follow(&run, 0),
            Mode::Document => json_response(http::StatusCode::OK, Bytes::from(object)),
        };
        Ok(with_warnings(response, &warnings))
    }

    /// Registers a response and spawns its task. The receiver resolves when the response is written to the disk.
    async fn enqueue(
        self: &Arc<Self>,
        job: Job,
        object: String,
    ) -> Result<(Arc<Run>, oneshot::Receiver<()>), ProxyError> {
        let (owner, id) = (job.store.owner().clone(), job.identity.id.clone());
        let run = Arc::new(Run::new(owner.clone(), id.clone(), object, self.event_memory.reserve()));
        {
            let mut registry = self.registry();
            registry.prune();
            if registry.runs.len() - registry.ended.len() >= MAX_RUNS {
                let what = "responses wait or run in the background, which is the maximum";
                return Err(ProxyError::Busy { running: MAX_RUNS, what, retry_after: RETRY_AFTER });
            }
            registry.runs.insert((owner, id), Arc::clone(&run));
        }
        let mut slot = Box::pin(maybe_done(Arc::clone(&self.slots).acquire_owned()));
        // Takes the place in the queue now: tasks may be polled in any order.
        let _ = futures_util::poll!(slot.as_mut());
        let (written, receiver) = oneshot::channel();
        // The task outlives the request. The server waits for it before it stops.
        self.shutdown.open.spawn(Arc::clone(self).drive(Arc::clone(&run), job, slot, written));
        Ok((run, receiver))
    }

    /// The response with this id, if it is in the background or was until less than an hour ago.
    pub(super) fn find(&self, owner: &ResponseOwner, id: &str) -> Option<Arc<Run>> {
        let mut registry = self.registry();
        registry.prune();
        registry.runs.get(&(owner.clone(), id.to_owned())).cloned()
    }

    /// Streams the events of a run from this number on.
    ///
    /// # Errors
    /// If the events are no longer recorded.
    pub(super) fn stream(&self, run: &Arc<Run>, from: u64) -> Result<Response, ProxyError> {
        if !run.has_events() {
            return Err(event_stream::lost());
        }
        Ok(with_run_warnings(self.follow(run, from), run))
    }

    /// Responds with the response object of a run; `None` if the response store has it.
    pub(super) fn show(run: &Run) -> Option<Response> {
        let response = json_response(http::StatusCode::OK, Bytes::from(run.object()?));
        Some(with_run_warnings(response, run))
    }

    /// Cancels a response, and returns its object; `None` if the response store has it. Does nothing if it has ended.
    pub(super) fn cancel(run: &Run) -> Option<String> {
        run.force_end(&ForcedEnd::Cancelled);
        run.cancel.cancel();
        run.object()
    }

    /// Cancels a response and forgets it. The response store may still have it.
    pub(super) fn remove(&self, run: &Run) {
        run.mark_deleted();
        Self::cancel(run);
        self.registry().remove(&(run.owner.clone(), run.id.clone()));
    }

    /// Ends the responses that were running when an earlier process ended, and queues those that were waiting.
    pub(super) async fn recover(self: &Arc<Self>) {
        let history = &self.handler.services.history;
        let unfinished = history.unfinished_runs().await;
        for run in &unfinished.interrupted {
            if history.find(&run.owner, &run.id).await.is_none() {
                let ended =
                    Run::new(run.owner.clone(), run.id.clone(), run.object.clone(), self.event_memory.reserve());
                ended.force_end(&ForcedEnd::Interrupted);
                history.insert(&run.owner, ended_record(&ended, ended.object().unwrap_or_default()));
            }
            history.end_run(&run.owner, &run.id).await;
        }
        for run in unfinished.queued {
            self.requeue(run).await;
        }
    }

    async fn requeue(self: &Arc<Self>, run: RunRecord) {
        let Some(request) = StoredRequest::of_record(&run) else {
            tracing::warn!("a background response of an earlier process can't be read");
            return;
        };
        let request_id = RequestId::fresh();
        let mut record = RequestRecord::new(Responses::NAME, &request_id, &self.handler.state);
        let live = Arc::clone(&self.handler.services.live.borrow());
        // A key that no longer exists is an error when the request runs.
        let parts = request.authorized(&request_id, &run.owner, &live).unwrap_or_else(|_| request.head(&request_id));
        record.register(&request_id, &parts);
        record.return_to_queue();
        let mut memory = self.handler.state.memory.reserve();
        // The earlier process had enough memory. If this one has less, the request is refused when it runs.
        memory.try_set_buffered(run.body.len());
        let store = ResponseStore::of_owner(&self.handler.services.history, run.owner);
        let created_at = created_at(&run.object);
        let identity = ResponseIdentity { id: run.id, created_at };
        let job = Job { request, request_id, identity, body: run.body, memory, store, record, stored: Stored::Yes };
        if let Err(error) = self.enqueue(job, run.object).await {
            tracing::warn!(error = error.loggable(), "a background response of an earlier process isn't run");
        }
    }

    /// Keeps the events of a run that has ended.
    fn retire(&self, run: &Run) {
        let key = (run.owner.clone(), run.id.clone());
        let mut registry = self.registry();
        if registry.runs.contains_key(&key) {
            registry.ended.push_back((key, Instant::now()));
            registry.prune();
        }
    }

    /// Records an event. If there isn't enough memory, evicts the events of ended runs, the oldest first.
    fn record(&self, run: &Run, event: &Bytes) {
        while !run.record(event) {
            if !self.registry().evict_events() {
                return run.lose(event);
            }
        }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    /// Removes the runs that ended an hour ago, and the oldest ones if there are too many.
    fn prune(&mut self) {
        while self.ended.len() > MAX_RUNS || self.ended.front().is_some_and(|(_, at)| at.elapsed() >= EVENT_LIFETIME) {
            if let Some((key, _)) = self.ended.pop_front() {
                self.runs.remove(&key);
            }
        }
    }

    fn remove(&mut self, key: &Key) {
        self.runs.remove(key);
        self.ended.retain(|(ended, _)| ended != key);
    }

    /// Deletes the events of the run that ended first and has some. Returns whether there was one.
    fn evict_events(&self) -> bool {
        self.ended.iter().filter_map(|(key, _)| self.runs.get(key)).any(|run| run.forget_events())
    }
}

/// Whether a run is on the disk already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    Yes,
    No,
}

/// What is stored of a run that the handler hasn't stored: its response object.
fn ended_record(run: &Run, response: String) -> ResponseRecord {
    ResponseRecord {
        id: run.id.clone(),
        input: Vec::new(),
        output: Vec::new(),
        response,
        cache_key: String::new(),
        account: None,
    }
}

/// Adds the warnings that the response would have had in the foreground.
pub(super) fn with_run_warnings(mut response: Response, run: &Run) -> Response {
    if let Some(warnings) = run.warnings() {
        response.headers_mut().insert("x-proxy-warnings", warnings);
    }
    response
}

/// Whether the handler has stored a response with this object.
fn is_stored_by_handler(object: &str) -> bool {
    has_status(object, "completed") || has_status(object, "incomplete")
}

fn created_at(object: &str) -> u64 {
    #[derive(serde::Deserialize)]
    struct Created {
        created_at: u64,
    }
    serde_json::from_str::<Created>(object).map_or(0, |created| created.created_at)
}
