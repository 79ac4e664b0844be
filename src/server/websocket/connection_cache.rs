//! Responses that each WebSocket connection keeps in memory, apart from the history.
//!
//! A client may continue a response that isn't stored as long as it uses the same connection. Each connection keeps its
//! latest response and, while there is room, a few earlier ones. All connections share one memory budget: if it is
//! full, earlier responses are dropped first. The responses of a connection are dropped when it closes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::budget::{ByteBudget, Reservation};
use crate::history::ResponseRecord;

/// Maximum number and size of the responses that one connection keeps.
const MAX_RESPONSES: usize = 8;
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// The cached responses of all connections, and the memory that they share.
#[derive(Debug)]
pub(super) struct ConnectionCaches {
    connections: Mutex<CacheEntries>,
    memory: Arc<ByteBudget>,
}

#[derive(Debug, Default)]
struct CacheEntries {
    next_id: u64,
    /// The responses of each connection, oldest first.
    responses: BTreeMap<u64, VecDeque<CachedResponse>>,
}

/// The cached responses of one connection.
#[derive(Debug)]
pub(in crate::server) struct ConnectionCache {
    id: u64,
    all: Arc<ConnectionCaches>,
}

#[derive(Debug)]
struct CachedResponse {
    stored: Arc<ResponseRecord>,
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
        self.responses.entry(id).or_default()
    }

    /// Drops the oldest response of the connection that uses the most memory, among those with more than one. Returns
    /// whether there was such a connection.
    fn drop_earlier(&mut self) -> bool {
        let largest = self
            .responses
            .values_mut()
            .filter(|responses| responses.len() > 1)
            .max_by_key(|responses| total_bytes(responses));
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

    /// Adds a response as the latest of its connection. If memory is short, drops earlier responses of this connection,
    /// then of others. The latest responses of other connections stay; if they use all the memory, the response isn't
    /// cached.
    pub(in crate::server) fn insert(&self, stored: ResponseRecord) {
        let bytes = stored.bytes();
        let mut connections = self.all.lock();
        let responses = connections.of(self.id);
        responses.retain(|other| other.stored.id != stored.id);
        while responses.len() >= MAX_RESPONSES || total_bytes(responses) + bytes > MAX_BYTES {
            if responses.pop_front().is_none() {
                return;
            }
        }
        let mut memory = self.all.memory.reserve();
        while !memory.try_set_buffered(bytes) {
            if connections.of(self.id).pop_front().is_none() && !connections.drop_earlier() {
                tracing::debug!(
                    "a response is not cached: the latest responses of other WebSockets use all the memory"
                );
                return;
            }
        }
        connections.of(self.id).push_back(CachedResponse { stored: Arc::new(stored), bytes, _memory: memory });
    }

    /// Finds a response by id.
    pub(in crate::server) fn find(&self, id: &str) -> Option<Arc<ResponseRecord>> {
        let has_id = |cached: &&CachedResponse| cached.stored.id == id;
        self.all.lock().of(self.id).iter().find(has_id).map(|cached| Arc::clone(&cached.stored))
    }

    /// Finds the latest response that has an item with this id.
    pub(in crate::server) fn find_by_item(&self, id: &str) -> Option<Arc<ResponseRecord>> {
        let has_item = |cached: &&CachedResponse| cached.stored.items().any(|(own, _)| own.as_deref() == Some(id));
        self.all.lock().of(self.id).iter().rev().find(has_item).map(|cached| Arc::clone(&cached.stored))
    }
}

impl Drop for ConnectionCache {
    fn drop(&mut self) {
        self.all.lock().responses.remove(&self.id);
    }
}

fn total_bytes(responses: &VecDeque<CachedResponse>) -> usize {
    responses.iter().map(|cached| cached.bytes).sum()
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use std::sync::Arc;

    use super::{ConnectionCache, ConnectionCaches, MAX_BYTES, MAX_RESPONSES};
    use crate::budget::ByteBudget;
    use crate::history::ResponseRecord;

    fn all(limit_bytes: usize) -> Arc<ConnectionCaches> {
        Arc::new(ConnectionCaches::new(ByteBudget::new(limit_bytes)))
    }

    fn cache() -> ConnectionCache {
        ConnectionCache::new(&all(2 * MAX_BYTES))
    }

    fn stored(id: &str, bytes: usize) -> ResponseRecord {
        let item = |id: String| (Some(id.clone()), RawValue::from_string(format!(r#"{{"id":"{id}"}}"#)).unwrap());
        ResponseRecord {
            id: id.to_owned(),
            input: Vec::new(),
            output: vec![item(format!("msg_{id}"))],
            response: "x".repeat(bytes),
            cache_key: String::new(),
            account: None,
        }
    }

    #[test]
    fn the_latest_responses_are_cached() {
        let cache = cache();
        for number in 0..=MAX_RESPONSES {
            cache.insert(stored(&number.to_string(), 1));
        }
        assert!(cache.find("0").is_none() && cache.find_by_item("msg_0").is_none());
        assert!(cache.find("1").is_some());
        assert_eq!(cache.find_by_item("msg_1").unwrap().id, "1");
    }

    #[test]
    fn their_size_is_bounded() {
        let cache = cache();
        cache.insert(stored("a", MAX_BYTES - 1000));
        cache.insert(stored("b", 2000));
        assert!(cache.find("a").is_none() && cache.find("b").is_some());
        cache.insert(stored("c", MAX_BYTES + 1));
        assert!(cache.find("b").is_none() && cache.find("c").is_none(), "a response over the limit isn't cached");
    }

    #[test]
    fn all_connections_share_one_budget() {
        let all = all(10_000);
        let (first, second) = (ConnectionCache::new(&all), ConnectionCache::new(&all));
        first.insert(stored("a", 3000));
        second.insert(stored("b", 4000));
        second.insert(stored("c", 4000));
        assert!(second.find("b").is_none() && second.find("c").is_some(), "a connection drops its own responses first");
        second.insert(stored("d", 9000));
        assert!(second.find("c").is_none() && second.find("d").is_none() && first.find("a").is_some());
        drop((first, second));
        assert_eq!(all.memory.used_bytes(), 0);
        assert!(all.lock().responses.is_empty());
    }

    #[test]
    fn the_latest_response_displaces_earlier_ones_of_other_connections() {
        let all = all(20_000);
        let [small, large, new] = [(); 3].map(|()| ConnectionCache::new(&all));
        for id in ["a", "b"] {
            small.insert(stored(id, 2000));
        }
        for id in ["c", "d", "e"] {
            large.insert(stored(id, 4000));
        }
        new.insert(stored("f", 4000));
        assert!(new.find("f").is_some());
        assert!(
            large.find("c").is_none() && large.find("e").is_some(),
            "the connection that uses the most drops first"
        );
        assert!(small.find("a").is_some() && small.find("b").is_some());
        new.insert(stored("g", 12_000));
        assert!(new.find("g").is_some() && small.find("b").is_some() && large.find("e").is_some());
        assert!(small.find("a").is_none() && large.find("d").is_none() && new.find("f").is_none());
    }
}
