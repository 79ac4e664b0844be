//! Counters of the backend client, for metrics. Never updated per delta.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Values of the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CounterValues {
    /// Attempts after the first of each request.
    pub retries: u64,
    /// Requests that failed without an attempt because their quota is known to be exhausted.
    pub quota_answers: u64,
    /// Requests in progress, until the end of their response.
    pub open: u64,
    /// Connections opened since the process started.
    pub connections_opened: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) retries: AtomicU64,
    pub(super) quota_answers: AtomicU64,
    open: Arc<AtomicU64>,
}

/// Guard that counts a response as open until it is dropped.
#[derive(Debug)]
pub(super) struct OpenResponse(Arc<AtomicU64>);

impl Counters {
    pub(super) fn begin(&self) -> OpenResponse {
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenResponse(Arc::clone(&self.open))
    }

    pub(super) fn read(&self, connections_opened: u64) -> CounterValues {
        CounterValues {
            retries: self.retries.load(Ordering::Relaxed),
            quota_answers: self.quota_answers.load(Ordering::Relaxed),
            open: self.open.load(Ordering::Relaxed),
            connections_opened,
        }
    }
}

impl Drop for OpenResponse {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
