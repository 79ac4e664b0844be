//! What one connection remembers of its own answers, beside the history.
//!
//! A client may go on from an answer that is not to be stored, as long as it stays on the socket that
//! the answer came by. A few answers are remembered, since a conversation goes on from its last; all
//! of it is gone with the socket.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::history::Stored;

const MAX_RESPONSES: usize = 8;
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// The memory of a connection.
#[derive(Debug, Default)]
pub(in crate::server) struct Nearby(Mutex<VecDeque<Arc<Stored>>>);

impl Nearby {
    /// Remembers an answer; forgets the oldest where there are too many or they take too much room.
    pub(in crate::server) fn keep(&self, stored: Stored) {
        let mut kept = self.kept();
        kept.retain(|other| other.id != stored.id);
        kept.push_back(Arc::new(stored));
        while kept.len() > MAX_RESPONSES || kept.iter().map(|stored| bytes(stored)).sum::<usize>() > MAX_BYTES {
            kept.pop_front();
        }
    }

    /// The answer of that id.
    pub(in crate::server) fn find(&self, id: &str) -> Option<Arc<Stored>> {
        self.kept().iter().find(|stored| stored.id == id).cloned()
    }

    /// The latest answer that holds the item of that id.
    pub(in crate::server) fn find_holder(&self, id: &str) -> Option<Arc<Stored>> {
        let holds = |stored: &&Arc<Stored>| stored.items().any(|(own, _)| own.as_deref() == Some(id));
        self.kept().iter().rev().find(holds).cloned()
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Arc<Stored>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes(stored: &Stored) -> usize {
    let items = stored.items().map(|(_, item)| item.get().len()).sum::<usize>();
    stored.response.len() + items
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::{MAX_BYTES, MAX_RESPONSES, Nearby};
    use crate::history::Stored;

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
        let nearby = Nearby::default();
        for number in 0..=MAX_RESPONSES {
            nearby.keep(stored(&number.to_string(), 1));
        }
        assert!(nearby.find("0").is_none() && nearby.find_holder("msg_0").is_none());
        assert!(nearby.find("1").is_some());
        assert_eq!(nearby.find_holder("msg_1").unwrap().id, "1");
    }

    #[test]
    fn their_size_is_bounded() {
        let nearby = Nearby::default();
        nearby.keep(stored("a", MAX_BYTES - 1000));
        nearby.keep(stored("b", 2000));
        assert!(nearby.find("a").is_none() && nearby.find("b").is_some());
        nearby.keep(stored("c", MAX_BYTES + 1));
        assert!(nearby.find("b").is_none() && nearby.find("c").is_none(), "what is too large alone is not kept");
    }
}
