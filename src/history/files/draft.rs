//! Content that has no record yet.

use std::collections::HashSet;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::Shared;

/// The id of new content. Deletes the content when it is dropped, unless a record was added.
#[derive(Debug)]
pub(super) struct Draft {
    shared: Arc<Shared>,
    id: String,
    is_recorded: bool,
}

impl Draft {
    pub(super) fn new(shared: &Arc<Shared>, id: String) -> Self {
        shared.drafts().insert(id.clone());
        Self { shared: Arc::clone(shared), id, is_recorded: false }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Keeps the content: it has a record now.
    pub(super) fn keep(mut self) {
        self.is_recorded = true;
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Content that can't be deleted now is deleted later, as any without a record.
        if !self.is_recorded
            && let Err(error) = self.shared.contents.delete(&self.id)
        {
            tracing::warn!(%error, "an incomplete file can't be deleted yet");
        }
        self.shared.drafts().remove(&self.id);
    }
}

impl Shared {
    /// The ids of contents that this process is writing.
    pub(super) fn drafts(&self) -> MutexGuard<'_, HashSet<String>> {
        self.drafts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
