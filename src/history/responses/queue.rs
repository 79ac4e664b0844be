//! Changes that wait to be written, oldest first, and the work of the thread that writes them.
//!
//! Waiting changes are visible to reads, so a client can continue a response before it is written. A change stays in
//! the queue until it is written. If the queue is full, a change that no caller waits for is dropped and a warning is
//! logged. The thread ends with the store.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::database::Database;
use super::runs::RunChange;
use super::{MAX_BYTES, ResponseOwner, ResponseRecord, StoreError};
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
    /// Changes a run.
    Run(RunChange),
    /// Does nothing; its completion means that all earlier changes are complete.
    Settle,
}

/// The result of a change. For a removal, whether there was a response to remove; else `true`.
pub(super) type Outcome = Result<bool, StoreError>;

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
        let has_room = waiting.has_room(change.bytes());
        if has_room {
            waiting.push(change, None);
            self.has_changed.notify_one();
        }
        has_room
    }

    /// Adds a change, even if there is no room.
    pub(super) fn add_accepted(&self, change: Change) {
        self.waiting().push(change, None);
        self.has_changed.notify_one();
    }

    /// Adds a change, even if there is no room, and returns a receiver of its result.
    pub(super) fn add_awaited(&self, change: Change) -> oneshot::Receiver<Outcome> {
        let (done, outcome) = oneshot::channel();
        self.waiting().push(change, Some(done));
        self.has_changed.notify_one();
        outcome
    }

    /// Whether there is room for a change of this size.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.waiting().has_room(bytes)
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
                    if let Err(error) = database.expire(clock.now()) {
                        tracing::warn!(%error, "expired responses are not deleted yet");
                    }
                    tick();
                    continue;
                }
                Next::Closed => return,
            };
            let outcome = change.apply(&mut database, clock);
            if let Err(error) = &outcome {
                tracing::warn!(%error, "{}", change.loss());
            }
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

impl Waiting {
    fn has_room(&self, bytes: usize) -> bool {
        let fits = self.bytes + bytes <= MAX_BYTES || self.bytes == 0;
        fits && self.changes.len() < MAX_WAITING
    }

    fn push(&mut self, change: Change, done: Option<oneshot::Sender<Outcome>>) {
        self.bytes += change.bytes();
        self.changes.push_back((change, done));
    }
}

impl Change {
    /// The size of the content that it adds to the store.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Insert(_, stored) => stored.bytes(),
            // The request may end, with its memory, while the disk is slow.
            Self::Run(RunChange::Queue(run)) => run.body.len() + run.request.len() + run.object.len(),
            Self::Touch(..) | Self::Remove(..) | Self::Run(_) | Self::Settle => 0,
        }
    }

    fn apply(&self, database: &mut Database, clock: &dyn Clock) -> Outcome {
        let changed = match self {
            Self::Insert(owner, stored) => database.insert(owner, stored, clock.now()).map(|()| true),
            Self::Touch(owner, id) => database.touch(owner, id, clock.now()).map(|()| true),
            Self::Remove(owner, id) => database.remove(owner, id),
            Self::Run(change) => database.change_run(change).map(|()| true),
            Self::Settle => Ok(true),
        };
        changed.map_err(|error| StoreError(error.to_string()))
    }

    /// What it means if the change can't be made.
    fn loss(&self) -> &'static str {
        match self {
            Self::Insert(..) => "a response or a conversation is not stored",
            Self::Touch(..) => "a use is not recorded",
            Self::Remove(..) => "a response is not deleted",
            Self::Run(_) => "the state of a background response is not stored",
            Self::Settle => "the changes may not be made",
        }
    }
}
