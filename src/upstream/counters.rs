//! What the client of the backend counts.
//!
//! Plain numbers, added to at the turns of a request and never for a piece of an answer. Whoever
//! shows them asks for a [`Tally`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The numbers as they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Attempts after the first.
    pub retries: u64,
    /// Requests that were answered here since their quota is known to be spent.
    pub quota_answers: u64,
    /// Answers that are being waited for or read, each over a connection or stream of its own.
    pub open: u64,
    /// Connections opened so far.
    pub connections_opened: u64,
}

/// Where it is counted.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) retries: AtomicU64,
    pub(super) quota_answers: AtomicU64,
    open: Arc<AtomicU64>,
}

/// Counts as open until it is dropped.
#[derive(Debug)]
pub(super) struct Ticket(Arc<AtomicU64>);

impl Counters {
    pub(super) fn begin(&self) -> Ticket {
        self.open.fetch_add(1, Ordering::Relaxed);
        Ticket(Arc::clone(&self.open))
    }

    pub(super) fn read(&self, connections_opened: u64) -> Tally {
        Tally {
            retries: self.retries.load(Ordering::Relaxed),
            quota_answers: self.quota_answers.load(Ordering::Relaxed),
            open: self.open.load(Ordering::Relaxed),
            connections_opened,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
