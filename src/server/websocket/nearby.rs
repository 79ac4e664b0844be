//! What one connection remembers of its own answers, beside the history.
//!
//! A client may go on from an answer that is not to be stored, as long as it stays on the socket that
//! the answer came by. A few answers are remembered, since a conversation goes on from its last; all
//! of it is gone with the socket.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::history::Stored;
use crate::server::budget::{ByteBudget, Reservation};

const MAX_RESPONSES: usize = 8;
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// The memory of a connection.
#[derive(Debug)]
pub(in crate::server) struct Nearby {
    kept: Mutex<VecDeque<Kept>>,
    /// What all connections may take together.
    memory: Arc<ByteBudget>,
}

#[derive(Debug)]
struct Kept {
    stored: Arc<Stored>,
    bytes: usize,
    _memory: Reservation,
}

impl Nearby {
    pub(super) fn new(memory: &Arc<ByteBudget>) -> Self {
        Self { kept: Mutex::default(), memory: Arc::clone(memory) }
    }

    /// Remembers an answer; forgets the oldest where there are too many or they take too much room. If
    /// other connections have taken all the memory, the answer isn't remembered.
    pub(in crate::server) fn keep(&self, stored: Stored) {
        let bytes = stored.bytes();
        let mut kept = self.kept();
        kept.retain(|other| other.stored.id != stored.id);
        while kept.len() >= MAX_RESPONSES || kept.iter().map(|kept| kept.bytes).sum::<usize>() + bytes > MAX_BYTES {
            if kept.pop_front().is_none() {
                return;
            }
        }
        let mut memory = self.memory.reserve();
        while !memory.try_buffer(bytes) {
            if kept.pop_front().is_none() {
                tracing::debug!("an answer is not remembered with its socket: other sockets take all the memory");
                return;
            }
        }
        kept.push_back(Kept { stored: Arc::new(stored), bytes, _memory: memory });
    }

    /// The answer of that id.
    pub(in crate::server) fn find(&self, id: &str) -> Option<Arc<Stored>> {
        self.kept().iter().find(|kept| kept.stored.id == id).map(|kept| Arc::clone(&kept.stored))
    }

    /// The latest answer that holds the item of that id.
    pub(in crate::server) fn find_holder(&self, id: &str) -> Option<Arc<Stored>> {
        let holds = |kept: &&Kept| kept.stored.items().any(|(own, _)| own.as_deref() == Some(id));
        self.kept().iter().rev().find(holds).map(|kept| Arc::clone(&kept.stored))
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use std::sync::Arc;

    use super::{MAX_BYTES, MAX_RESPONSES, Nearby};
    use crate::history::Stored;
    use crate::server::budget::ByteBudget;

    fn nearby() -> Nearby {
        Nearby::new(&Arc::new(ByteBudget::new(2 * MAX_BYTES)))
    }

    fn stored(id: &str, bytes: usize) -> Stored {
        let item = |id: String| (Some(id.clone()), RawValue::from_string(format!(r#"{{"id":"{id}"}}"#)).unwrap());
        Stored {
            id: id.to_owned(),
            input: Vec::new(),
            output: vec![item(format!("msg_{id}"))],
            response: "x".repeat(bytes),
            cache_key: String::new(),
            account: None,
        }
    }

    #[test]
    fn the_latest_answers_are_remembered() {
        let nearby = nearby();
        for number in 0..=MAX_RESPONSES {
            nearby.keep(stored(&number.to_string(), 1));
        }
        assert!(nearby.find("0").is_none() && nearby.find_holder("msg_0").is_none());
        assert!(nearby.find("1").is_some());
        assert_eq!(nearby.find_holder("msg_1").unwrap().id, "1");
    }

    #[test]
    fn their_size_is_bounded() {
        let nearby = nearby();
        nearby.keep(stored("a", MAX_BYTES - 1000));
        nearby.keep(stored("b", 2000));
        assert!(nearby.find("a").is_none() && nearby.find("b").is_some());
        nearby.keep(stored("c", MAX_BYTES + 1));
        assert!(nearby.find("b").is_none() && nearby.find("c").is_none(), "what is too large alone is not kept");
    }

    #[test]
    fn all_sockets_share_one_budget() {
        let memory = Arc::new(ByteBudget::new(10_000));
        let (first, second) = (Nearby::new(&memory), Nearby::new(&memory));
        first.keep(stored("a", 3000));
        second.keep(stored("b", 4000));
        second.keep(stored("c", 4000));
        assert!(second.find("b").is_none() && second.find("c").is_some(), "a socket forgets its own first");
        second.keep(stored("d", 9000));
        assert!(second.find("c").is_none() && second.find("d").is_none() && first.find("a").is_some());
        drop((first, second));
        assert_eq!(memory.used_bytes(), 0);
    }
}
