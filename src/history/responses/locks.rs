//! Locks of conversations, in this process: one request at a time may change a conversation.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::ResponseOwner;

/// The conversations that are locked.
#[derive(Debug, Default)]
pub(super) struct ConversationLocks(Mutex<HashSet<(ResponseOwner, String)>>);

/// The right to change a conversation; released when dropped.
#[derive(Debug)]
pub struct ConversationLock {
    locks: Arc<ConversationLocks>,
    conversation: (ResponseOwner, String),
}

impl ConversationLocks {
    /// Locks a conversation; `None` if it is locked already.
    pub(super) fn acquire(self: &Arc<Self>, owner: &ResponseOwner, id: &str) -> Option<ConversationLock> {
        let conversation = (owner.clone(), id.to_owned());
        let is_free = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(conversation.clone());
        is_free.then(|| ConversationLock { locks: Arc::clone(self), conversation })
    }
}

impl ConversationLock {
    /// The id of the conversation.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.conversation.1
    }
}

impl Drop for ConversationLock {
    fn drop(&mut self) {
        self.locks.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.conversation);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::ResponseOwner;
    use super::ConversationLocks;

    #[test]
    fn a_conversation_is_locked_until_its_lock_is_dropped() {
        let locks = Arc::new(ConversationLocks::default());
        let (ann, bob) = (ResponseOwner(Some("ann".to_owned())), ResponseOwner(Some("bob".to_owned())));
        let held = locks.acquire(&ann, "conv_1").unwrap();
        assert!(locks.acquire(&ann, "conv_1").is_none());
        assert!(locks.acquire(&bob, "conv_1").is_some() && locks.acquire(&ann, "conv_2").is_some());
        assert_eq!(held.id(), "conv_1");
        drop(held);
        assert!(locks.acquire(&ann, "conv_1").is_some());
    }
}
