//! Counts refreshes by outcome.

use std::sync::atomic::{AtomicU64, Ordering};

use super::IssuerError;
use crate::token_source::RefreshCounts;

/// The counters. All clones of an issuer share them.
#[derive(Debug, Default)]
pub(super) struct RefreshCounter {
    granted: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

impl RefreshCounter {
    pub(super) fn add<T>(&self, outcome: &Result<T, IssuerError>) {
        let counter = match outcome {
            Ok(_) => &self.granted,
            Err(IssuerError::Refused { .. }) => &self.refused,
            Err(IssuerError::Unavailable { .. }) => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> RefreshCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RefreshCounts { granted: read(&self.granted), refused: read(&self.refused), failed: read(&self.failed) }
    }
}
