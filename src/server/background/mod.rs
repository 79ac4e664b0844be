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
mod recovery;
mod request;
mod run;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
use super::response_store::{ResponseStore, with_ids};
use crate::blocking::off_thread;
use crate::budget::{ByteBudget, Reservation};
use crate::clock::{Clock as _, SystemClock, unix_seconds};
use crate::command_hint;
use crate::error::ProxyError;
use crate::history::{Item, ResponseOwner, ResponseRecord};
use crate::protocol::responses::Responses;
use crate::protocol::responses::background::{ForcedEnd, has_status, queued_events};
use crate::protocol::stored_refs::ResponseIdentity;
use crate::protocol::{Dialect as _, Mode, Warnings};
use driver::Job;
use event_stream::Start;
use request::{QueuedRequest, StoredRequest};
use run::Recorded;
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

/// Resolves when a response is written to the disk, or can't be.
type Written = oneshot::Receiver<Result<(), ProxyError>>;

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
        let created_at = unix_seconds(SystemClock.now());
        ResponseIdentity { id: format!("resp_{}", Uuid::new_v4().simple()), created_at }
    }

    /// Starts a response, and responds with its object, or with its events.
    ///
    /// # Errors
    /// [`ProxyError::Busy`] if too many wait; if there isn't enough memory, or the disk can't be written.
    pub(super) fn start(self: Arc<Self>, new: NewRun<'_>) -> BoxFuture<'_, Result<Response, ProxyError>> {
        // A type with a name: the task that this spawns contains the future that calls this.
        async move { self.create(new).await }.boxed()
    }

    async fn create(self: &Arc<Self>, new: NewRun<'_>) -> Result<Response, ProxyError> {
        let NewRun { identity, object, mode, warnings, parts, body, mut memory, store, mut record } = new;
        memory.end_work();
        // What was loaded to translate the request is dropped. The response object is as large as its instructions.
        let buffered_bytes = body.len() + object.len() + store.locked_bytes();
        if let Err(error) = memory.set_buffered(buffered_bytes).await {
            note_refusal(&mut record, &error);
            return Err(error);
        }
        record.return_to_queue();
        let request = StoredRequest::of(parts);
        let id = RequestId::of(parts);
        let job = Job { request, request_id: id, identity, body, memory, store, record, stored: Stored::No };
        let (run, written) = self.enqueue(job, object.clone()).await?;
        // The task continues if this future is dropped. It always sends, unless it panics.
        written.await.unwrap_or(Err(ProxyError::Internal))?;
        let response = match mode {
            // The first events name the id, so the client gets them even if the events are lost meanwhile.
            Mode::Stream => self.follow(&run, Start::Created(&object)),
            Mode::Document => json_response(http::StatusCode::OK, Bytes::from(object)),
        };
        Ok(with_warnings(response, &warnings))
    }

    /// Registers a response and spawns its task. The receiver resolves when it is written to the disk, or
    /// can't be.
    async fn enqueue(self: &Arc<Self>, mut job: Job, object: String) -> Result<(Arc<Run>, Written), ProxyError> {
        let (owner, id) = (job.store.owner().clone(), job.identity.id.clone());
        let first_events = queued_events(&object);
        let request = QueuedRequest { head: job.request.clone(), body: job.body.clone() };
        let run = Run::new(owner.clone(), id.clone(), object, Some(request), self.event_memory.reserve());
        let run = Arc::new(run);
        {
            let mut registry = self.registry();
            registry.prune();
            if registry.runs.len().saturating_sub(registry.ended.len()) >= MAX_RUNS {
                let what = "responses wait or run in the background, which is the maximum";
                let error = ProxyError::Busy { running: MAX_RUNS, what, retry_after: RETRY_AFTER };
                note_refusal(&mut job.record, &error);
                return Err(error);
            }
            registry.runs.insert((owner, id), Arc::clone(&run));
        }
        for event in first_events {
            self.record(&run, &event);
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

    /// The events of a run from this number on; without one, its response object, unless the response store has it.
    ///
    /// # Errors
    /// If the events are no longer recorded.
    pub(super) fn show(&self, run: &Arc<Run>, from: Option<u64>) -> Result<Option<Response>, ProxyError> {
        let shown = match from {
            None => run.object().map(|object| json_response(http::StatusCode::OK, Bytes::from(object))),
            Some(_) if !run.has_events() => return Err(event_stream::lost()),
            Some(from) => Some(self.follow(run, Start::At(from))),
        };
        Ok(shown.map(|response| with_run_warnings(response, run)))
    }

    /// Cancels a response, and returns its object, unless the response store has it. Does nothing if it has ended.
    pub(super) async fn cancel(&self, run: &Run) -> Option<String> {
        self.force_end(run, &ForcedEnd::Cancelled);
        run.cancel.cancel();
        let object = run.object();
        if run.is_handed_over() {
            // Its task has ended. Without this, the next process would run it.
            self.settle(run).await;
        }
        object
    }

    /// Cancels a response and forgets it. The response store may still have it.
    pub(super) async fn delete(&self, run: &Run) {
        self.remove(run);
        self.cancel(run).await;
    }

    /// Forgets a response.
    fn remove(&self, run: &Run) {
        let mut registry = self.registry();
        run.mark_deleted();
        registry.remove(&(run.owner.clone(), run.id.clone()));
    }

    /// The input of a response, by translating its request again. Empty if the response store has it.
    ///
    /// # Errors
    /// If the request is no longer valid, for example because the response that it continues has expired.
    pub(super) async fn input(&self, run: &Run) -> Result<Vec<Item>, ProxyError> {
        let Some(QueuedRequest { head, body }) = run.request() else { return Ok(Vec::new()) };
        let services = &self.handler.services;
        let (id, live) = (RequestId::fresh(), Arc::clone(&services.live.borrow()));
        // The input doesn't depend on the key.
        let parts = head.authorized(&id, &run.owner, &live).unwrap_or_else(|_| head.head(&id));
        let mut store = ResponseStore::of_owner(&services.history, run.owner.clone()).for_reading();
        let (models, mut memory) = (services.models(&parts.headers), self.handler.state.memory.reserve());
        let planned = self.handler.plan(&parts, &body, &models, &mut store, &mut memory).await?;
        let input = planned.plan.reply.into_stored_input();
        let bytes = input.iter().map(|item| item.get().len()).sum();
        Ok(off_thread(bytes, || with_ids(input)))
    }

    /// An empty reservation of the memory for requests.
    pub(super) fn reserve_memory(&self) -> Reservation {
        self.handler.state.memory.reserve()
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

    /// Records an event.
    fn record(&self, run: &Run, event: &Bytes) {
        self.make_room(run, || run.record(event));
    }

    /// Ends a run without a terminal event of the backend. Does nothing if it has ended.
    fn force_end(&self, run: &Run, end: &ForcedEnd<'_>) {
        self.make_room(run, || run.force_end(end));
    }

    /// Repeats a change until its event is recorded. If there isn't enough memory, evicts the events of ended runs, the
    /// oldest first; if that can't be enough, stops recording the events of this run.
    fn make_room(&self, run: &Run, change: impl Fn() -> Recorded) {
        loop {
            let can_fit = match change() {
                Recorded::Yes => return,
                Recorded::Full => true,
                Recorded::TooLarge => false,
            };
            if !can_fit || !self.registry().evict_events() {
                tracing::warn!("the events of a background response don't fit into memory; it continues");
                run.forget_events();
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
        // An object that couldn't be stored counts with the events.
        let evict = |run: &Arc<Run>| run.forget_events().then(|| run.release()).is_some();
        self.ended.iter().filter_map(|(key, _)| self.runs.get(key)).any(evict)
    }
}

/// Whether a run is on the disk already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    Yes,
    No,
}

/// What is stored of a response that has no output.
fn ended_record(id: &str, object: String, input: Vec<Item>) -> ResponseRecord {
    let (output, cache_key) = (Vec::new(), String::new());
    ResponseRecord { id: id.to_owned(), input, output, response: object, cache_key, account: None }
}

/// Records that a request is refused before it is queued.
fn note_refusal(record: &mut RequestRecord, error: &ProxyError) {
    let (status, ..) = Responses::to_error_response(error, "", command_hint::current());
    record.set_refused(status, error);
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
