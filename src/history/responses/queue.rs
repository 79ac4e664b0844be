//! Changes that wait to be written, oldest first, and the work of the thread that writes them.
//!
//! Waiting changes are visible to reads, so a client can continue a response before it is written. A change stays in
//! the queue until it is written. If the queue is full, a change is dropped and a warning is logged. The thread ends
//! with the store.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::database::{Database, DatabaseFailure};
use super::runs::RunChange;
use super::{DeleteError, MAX_BYTES, ResponseOwner, ResponseRecord};
use crate::clock::Clock;

/// The maximum number of waiting changes. A change that a caller waits for is queued even if there are more.
const MAX_WAITING: usize = 1024;
/// How often an idle thread deletes expired responses.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);

/// A change to the store.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Insert(ResponseOwner, Arc<ResponseRecord>),
    Touch(ResponseOwner, String),
    Remove(ResponseOwner, String),
    /// Changes a run. Its size isn't counted: the request that it belongs to has reserved memory.
    Run(RunChange),
    /// Does nothing; its completion means that all earlier changes are complete.
    Settle,
}

/// The result of a change. For a removal, whether there was a response to remove; else `true`.
pub(super) type Outcome = Result<bool, DeleteError>;

/// The effect of the waiting changes on a response.
#[derive(Debug)]
pub(super) enum QueuedEffect {
    Stored(Arc<ResponseRecord>),
    Removed,
    /// None, so the database has to be read. After a search by item, contains the ids of the responses that are going
    /// to be removed.
    None(Vec<String>),
}

/// The next work of the thread.
#[derive(Debug)]
enum Next {
    Change(Change),
    /// There was no change for a while.
    Idle,
    /// The store is closed and the queue is empty.
    Closed,
}

/// The queue, shared by requests and the thread.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    has_changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    changes: VecDeque<(Change, Option<oneshot::Sender<Outcome>>)>,
    bytes: usize,
    is_closed: bool,
}

impl Queue {
    /// Adds a change. Returns whether there was room.
    pub(super) fn add(&self, change: Change) -> bool {
        let mut waiting = self.waiting();
        let bytes = waiting.bytes + change.bytes();
        let is_too_much = bytes > MAX_BYTES && waiting.bytes > 0;
        if is_too_much || waiting.changes.len() >= MAX_WAITING {
            return false;
        }
        waiting.bytes = bytes;
        waiting.changes.push_back((change, None));
        self.has_changed.notify_one();
        true
    }

    /// Adds a change and returns a receiver of its result.
    pub(super) fn add_awaited(&self, change: Change) -> oneshot::Receiver<Outcome> {
        let (done, outcome) = oneshot::channel();
        self.waiting().changes.push_back((change, Some(done)));
        self.has_changed.notify_one();
        outcome
    }

    /// Ends the thread when it has made the waiting changes.
    pub(super) fn close(&self) {
        self.waiting().is_closed = true;
        self.has_changed.notify_one();
    }

    /// Returns the effect of the waiting changes on a response.
    pub(super) fn find(&self, owner: &ResponseOwner, id: &str) -> QueuedEffect {
        for (change, _) in self.waiting().changes.iter().rev() {
            match change {
                Change::Insert(other, stored) if other == owner && stored.id == id => {
                    return QueuedEffect::Stored(Arc::clone(stored));
                }
                Change::Remove(other, removed) if other == owner && removed == id => return QueuedEffect::Removed,
                _ => {}
            }
        }
        QueuedEffect::None(Vec::new())
    }

    /// Returns the latest waiting response that contains an item.
    pub(super) fn find_by_item(&self, owner: &ResponseOwner, item: &str) -> QueuedEffect {
        let mut removed = Vec::new();
        for (change, _) in self.waiting().changes.iter().rev() {
            match change {
                Change::Insert(other, stored)
                    if other == owner && !removed.contains(&stored.id) && stored.contains(item) =>
                {
                    return QueuedEffect::Stored(Arc::clone(stored));
                }
                Change::Remove(other, id) if other == owner => removed.push(id.clone()),
                _ => {}
            }
        }
        QueuedEffect::None(removed)
    }

    /// Makes the changes until the queue is closed and empty. Calls `tick` when it is idle.
    pub(super) fn work(&self, mut database: Database, clock: &dyn Clock, mut tick: impl FnMut()) {
        loop {
            let change = match self.next() {
                Next::Change(change) => change,
                Next::Idle => {
                    report("expired responses are not deleted yet", database.expire(clock.now()));
                    tick();
                    continue;
                }
                Next::Closed => return,
            };
            let outcome = change.apply(&mut database, clock);
            let mut waiting = self.waiting();
            waiting.bytes = waiting.bytes.saturating_sub(change.bytes());
            if let Some((_, Some(done))) = waiting.changes.pop_front() {
                // Fails if the caller has given up.
                let _ = done.send(outcome);
            }
        }
    }

    /// Waits for work. Returns a copy of the next change, which stays in the queue until it is made.
    fn next(&self) -> Next {
        let waiting = self.waiting();
        let is_idle = |waiting: &mut Waiting| waiting.changes.is_empty() && !waiting.is_closed;
        let waited = self.has_changed.wait_timeout_while(waiting, IDLE_INTERVAL, is_idle);
        let (waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match waiting.changes.front() {
            Some((change, _)) => Next::Change(change.clone()),
            None if waiting.is_closed => Next::Closed,
            None => Next::Idle,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Change {
    fn bytes(&self) -> usize {
        match self {
            Self::Insert(_, stored) => stored.bytes(),
            Self::Touch(..) | Self::Remove(..) | Self::Run(_) | Self::Settle => 0,
        }
    }

    fn apply(&self, database: &mut Database, clock: &dyn Clock) -> Outcome {
        match self {
            Self::Insert(owner, stored) => {
                report("a response is not stored", database.insert(owner, stored, clock.now()));
            }
            Self::Touch(owner, id) => report("a use is not recorded", database.touch(owner, id, clock.now())),
            Self::Remove(owner, id) => {
                return database.remove(owner, id).map_err(|error| DeleteError(error.to_string()));
            }
            Self::Run(change) => report("a background response may be lost", database.change_run(change)),
            Self::Settle => {}
        }
        Ok(true)
    }
}

/// Logs a failed change.
fn report(what: &'static str, done: Result<(), DatabaseFailure>) {
    if let Err(error) = done {
        tracing::warn!(%error, "the response store can't be written: {what}");
    }
}
