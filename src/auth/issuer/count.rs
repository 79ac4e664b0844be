//! How renewals went, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use super::AuthorityError;
use crate::token_source::Refreshes;

/// Where they are counted; the clones of an authority share it.
#[derive(Debug, Default)]
pub(super) struct Count {
    granted: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

impl Count {
    pub(super) fn add<T>(&self, outcome: &Result<T, AuthorityError>) {
        let counter = match outcome {
            Ok(_) => &self.granted,
            Err(AuthorityError::Refused { .. }) => &self.refused,
            Err(AuthorityError::Unavailable { .. }) => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Refreshes {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Refreshes { granted: read(&self.granted), refused: read(&self.refused), failed: read(&self.failed) }
    }
}
