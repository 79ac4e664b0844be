//! Counters of the backend client, for metrics. Updated per request and attempt, never per event.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Values of the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CounterValues {
    /// Attempts after the first of each request, and repeated token requests.
    pub retries: u64,
    /// Requests that failed without an attempt, because their limit is known to be exhausted.
    pub quota_refusals: u64,
    /// Attempts in progress, until they fail or their response is dropped.
    pub open: u64,
    /// HTTP and WebSocket connections opened since the process started.
    pub connections_opened: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) retries: AtomicU64,
    pub(super) quota_refusals: AtomicU64,
    open: Arc<AtomicU64>,
}

/// Guard that counts an attempt, and then its response, as open until it is dropped.
#[derive(Debug)]
pub(super) struct OpenResponse(Arc<AtomicU64>);

impl Counters {
    /// Counts an attempt as open until the guard is dropped.
    pub(super) fn begin(&self) -> OpenResponse {
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenResponse(Arc::clone(&self.open))
    }

    /// The values, with a count that the HTTP client keeps.
    pub(super) fn read(&self, connections_opened: u64) -> CounterValues {
        CounterValues {
            retries: self.retries.load(Ordering::Relaxed),
            quota_refusals: self.quota_refusals.load(Ordering::Relaxed),
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
