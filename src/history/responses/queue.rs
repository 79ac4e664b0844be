//! Changes that wait for the disk, oldest first, made by one thread of their own.
//!
//! What waits is known already: an answer can be gone on from before it is written. A change leaves
//! the queue only when the disk has it. The queue is bounded; what does not fit is told in the log
//! and not kept. The thread ends with the store.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::database::{Database, Failure};
use super::{MAX_BYTES, Owner, Stored, Undeleted};
use crate::clock::Clock;

/// Changes that may wait, apart from those that somebody waits for.
const MAX_WAITING: usize = 1024;
/// How often old answers are looked for when nothing else is to be done.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);

/// A change to the store.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Keep(Owner, Arc<Stored>),
    Touch(Owner, String),
    Remove(Owner, String),
    /// Nothing; to see when those before it are made.
    Settle,
}

/// What became of a change, for whoever waits for it.
pub(super) type Outcome = Result<bool, Undeleted>;

/// What the waiting changes say about an id.
#[derive(Debug)]
pub(super) enum Known {
    Kept(Arc<Stored>),
    Removed,
    /// They say nothing; the ids are those of answers about to be removed.
    Nothing(Vec<String>),
}

/// What the thread has to do.
#[derive(Debug)]
enum Next {
    Change(Change),
    /// Nothing came for a while.
    Idle,
    /// The store is closed, and all is done.
    Over,
}

/// The changes, shared by those who ask for them and the thread that makes them.
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
    /// Adds a change that nobody waits for; says whether there was room.
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

    /// Adds a change, and tells what becomes of it.
    pub(super) fn add_awaited(&self, change: Change) -> oneshot::Receiver<Outcome> {
        let (done, outcome) = oneshot::channel();
        self.waiting().changes.push_back((change, Some(done)));
        self.has_changed.notify_one();
        outcome
    }

    /// Lets the thread end, once it has made what waits.
    pub(super) fn close(&self) {
        self.waiting().is_closed = true;
        self.has_changed.notify_one();
    }

    /// What is about to become of an answer.
    pub(super) fn find(&self, owner: &Owner, id: &str) -> Known {
        for (change, _) in self.waiting().changes.iter().rev() {
            match change {
                Change::Keep(whose, stored) if whose == owner && stored.id == id => {
                    return Known::Kept(Arc::clone(stored));
                }
                Change::Remove(whose, removed) if whose == owner && removed == id => return Known::Removed,
                _ => {}
            }
        }
        Known::Nothing(Vec::new())
    }

    /// The answer about to be kept that holds an item.
    pub(super) fn find_holder(&self, owner: &Owner, item: &str) -> Known {
        let mut removed = Vec::new();
        for (change, _) in self.waiting().changes.iter().rev() {
            match change {
                Change::Keep(whose, stored)
                    if whose == owner && !removed.contains(&stored.id) && stored.holds(item) =>
                {
                    return Known::Kept(Arc::clone(stored));
                }
                Change::Remove(whose, id) if whose == owner => removed.push(id.clone()),
                _ => {}
            }
        }
        Known::Nothing(removed)
    }

    /// Makes one change after the other until the queue is closed and empty.
    pub(super) fn work(&self, mut database: Database, clock: &dyn Clock, mut tick: impl FnMut()) {
        loop {
            let change = match self.next() {
                Next::Change(change) => change,
                Next::Idle => {
                    report("old answers are not forgotten yet", database.expire(clock.now()));
                    tick();
                    continue;
                }
                Next::Over => return,
            };
            let outcome = change.make(&mut database, clock);
            let mut waiting = self.waiting();
            waiting.bytes = waiting.bytes.saturating_sub(change.bytes());
            if let Some((_, Some(done))) = waiting.changes.pop_front() {
                // Nobody may wait any longer.
                let _ = done.send(outcome);
            }
        }
    }

    /// What to do next; a change stays in the queue meanwhile.
    fn next(&self) -> Next {
        let waiting = self.waiting();
        let is_idle = |waiting: &mut Waiting| waiting.changes.is_empty() && !waiting.is_closed;
        let waited = self.has_changed.wait_timeout_while(waiting, IDLE_INTERVAL, is_idle);
        let (waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match waiting.changes.front() {
            Some((change, _)) => Next::Change(change.clone()),
            None if waiting.is_closed => Next::Over,
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
            Self::Keep(_, stored) => stored.bytes(),
            Self::Touch(..) | Self::Remove(..) | Self::Settle => 0,
        }
    }

    fn make(&self, database: &mut Database, clock: &dyn Clock) -> Outcome {
        match self {
            Self::Keep(owner, stored) => {
                report("an answer is not kept", database.keep(owner, stored, clock.now()));
            }
            Self::Touch(owner, id) => report("a use is not noted", database.touch(owner, id, clock.now())),
            Self::Remove(owner, id) => {
                return database.remove(owner, id).map_err(|error| Undeleted(error.to_string()));
            }
            Self::Settle => {}
        }
        Ok(true)
    }
}

/// A failure is told, and the answer is then simply not known.
fn report(what: &'static str, done: Result<(), Failure>) {
    if let Err(error) = done {
        tracing::warn!(%error, "the response store can't be written: {what}");
    }
}
