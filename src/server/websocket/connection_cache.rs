//! The answers that each WebSocket connection remembers, apart from the history.
//!
//! A client may continue from an answer that isn't stored as long as it uses the same connection. Each connection
//! remembers its latest answer and, while there is room, a few earlier ones. All connections share one memory budget:
//! if it is full, earlier answers are dropped before an answer isn't remembered. A connection's answers are dropped
//! when it closes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::history::Stored;
use crate::server::budget::{ByteBudget, Reservation};

const MAX_RESPONSES: usize = 8;
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// The answers of all connections.
#[derive(Debug)]
pub(super) struct ConnectionCaches {
    connections: Mutex<CacheEntries>,
    memory: Arc<ByteBudget>,
}

#[derive(Debug, Default)]
struct CacheEntries {
    next_id: u64,
    /// The answers of each connection, oldest first.
    answers: BTreeMap<u64, VecDeque<CachedResponse>>,
}

/// The answers of one connection.
#[derive(Debug)]
pub(in crate::server) struct ConnectionCache {
    id: u64,
    all: Arc<ConnectionCaches>,
}

#[derive(Debug)]
struct CachedResponse {
    stored: Arc<Stored>,
    bytes: usize,
    _memory: Reservation,
}

impl ConnectionCaches {
    pub(super) fn new(memory: ByteBudget) -> Self {
        Self { connections: Mutex::default(), memory: Arc::new(memory) }
    }

    fn lock(&self) -> MutexGuard<'_, CacheEntries> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CacheEntries {
    fn of(&mut self, id: u64) -> &mut VecDeque<CachedResponse> {
        self.answers.entry(id).or_default()
    }

    /// Drops an earlier answer of the connection whose answers take the most memory; says whether there was one.
    fn drop_earlier(&mut self) -> bool {
        let largest = self.answers.values_mut().filter(|kept| kept.len() > 1).max_by_key(|kept| total_bytes(kept));
        largest.and_then(VecDeque::pop_front).is_some()
    }
}

impl ConnectionCache {
    pub(super) fn new(all: &Arc<ConnectionCaches>) -> Self {
        let mut connections = all.lock();
        let id = connections.next_id;
        connections.next_id += 1;
        Self { id, all: Arc::clone(all) }
    }

    /// Remembers an answer as the latest of its connection. If memory is short, drops this connection's earlier
    /// answers, then those of other connections. The latest answers of other connections stay; if they take all the
    /// memory, the answer isn't remembered.
    pub(in crate::server) fn keep(&self, stored: Stored) {
        let bytes = stored.bytes();
        let mut connections = self.all.lock();
        let kept = connections.of(self.id);
        kept.retain(|other| other.stored.id != stored.id);
        while kept.len() >= MAX_RESPONSES || total_bytes(kept) + bytes > MAX_BYTES {
            if kept.pop_front().is_none() {
                return;
            }
        }
        let mut memory = self.all.memory.reserve();
        while !memory.try_buffer(bytes) {
            if connections.of(self.id).pop_front().is_none() && !connections.drop_earlier() {
                tracing::debug!("an answer is not remembered: the latest answers of other sockets take all the memory");
                return;
            }
        }
        connections.of(self.id).push_back(CachedResponse { stored: Arc::new(stored), bytes, _memory: memory });
    }

    /// The answer of that id.
    pub(in crate::server) fn find(&self, id: &str) -> Option<Arc<Stored>> {
        let is_it = |kept: &&CachedResponse| kept.stored.id == id;
        self.all.lock().of(self.id).iter().find(is_it).map(|kept| Arc::clone(&kept.stored))
    }

    /// The latest answer that holds the item of that id.
    pub(in crate::server) fn find_holder(&self, id: &str) -> Option<Arc<Stored>> {
        let holds = |kept: &&CachedResponse| kept.stored.items().any(|(own, _)| own.as_deref() == Some(id));
        self.all.lock().of(self.id).iter().rev().find(holds).map(|kept| Arc::clone(&kept.stored))
    }
}

impl Drop for ConnectionCache {
    fn drop(&mut self) {
        self.all.lock().answers.remove(&self.id);
    }
}

fn total_bytes(kept: &VecDeque<CachedResponse>) -> usize {
    kept.iter().map(|kept| kept.bytes).sum()
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use std::sync::Arc;

    use super::{ConnectionCache, ConnectionCaches, MAX_BYTES, MAX_RESPONSES};
    use crate::history::Stored;
    use crate::server::budget::ByteBudget;

    fn all(limit_bytes: usize) -> Arc<ConnectionCaches> {
        Arc::new(ConnectionCaches::new(ByteBudget::new(limit_bytes)))
    }

    fn cache() -> ConnectionCache {
        ConnectionCache::new(&all(2 * MAX_BYTES))
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
        let cache = cache();
        for number in 0..=MAX_RESPONSES {
            cache.keep(stored(&number.to_string(), 1));
        }
        assert!(cache.find("0").is_none() && cache.find_holder("msg_0").is_none());
        assert!(cache.find("1").is_some());
        assert_eq!(cache.find_holder("msg_1").unwrap().id, "1");
    }

    #[test]
    fn their_size_is_bounded() {
        let cache = cache();
        cache.keep(stored("a", MAX_BYTES - 1000));
        cache.keep(stored("b", 2000));
        assert!(cache.find("a").is_none() && cache.find("b").is_some());
        cache.keep(stored("c", MAX_BYTES + 1));
        assert!(cache.find("b").is_none() && cache.find("c").is_none(), "what is too large alone is not kept");
    }

    #[test]
    fn all_sockets_share_one_budget() {
        let all = all(10_000);
        let (first, second) = (ConnectionCache::new(&all), ConnectionCache::new(&all));
        first.keep(stored("a", 3000));
        second.keep(stored("b", 4000));
        second.keep(stored("c", 4000));
        assert!(second.find("b").is_none() && second.find("c").is_some(), "a socket drops its own answers first");
        second.keep(stored("d", 9000));
        assert!(second.find("c").is_none() && second.find("d").is_none() && first.find("a").is_some());
        drop((first, second));
        assert_eq!(all.memory.used_bytes(), 0);
        assert!(all.lock().answers.is_empty());
    }

    #[test]
    fn the_latest_answer_takes_the_memory_of_earlier_ones_of_other_sockets() {
        let all = all(20_000);
        let [small, large, new] = [(); 3].map(|()| ConnectionCache::new(&all));
        for id in ["a", "b"] {
            small.keep(stored(id, 2000));
        }
        for id in ["c", "d", "e"] {
            large.keep(stored(id, 4000));
        }
        new.keep(stored("f", 4000));
        assert!(new.find("f").is_some());
        assert!(large.find("c").is_none() && large.find("e").is_some(), "the socket that holds the most drops first");
        assert!(small.find("a").is_some() && small.find("b").is_some());
        new.keep(stored("g", 12_000));
        assert!(new.find("g").is_some() && small.find("b").is_some() && large.find("e").is_some());
        assert!(small.find("a").is_none() && large.find("d").is_none() && new.find("f").is_none());
    }
}
