//! The response store in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::super::shares::Shares;
use super::{LIFETIME, MAX_BYTES, MAX_RESPONSES, ResponseOwner, ResponseRecord};

/// Responses in memory.
#[derive(Debug, Default)]
pub(super) struct MemoryStore(Mutex<Entries>);

type Key = (ResponseOwner, String);

#[derive(Debug, Default)]
struct Entries {
    by_id: HashMap<Key, Entry>,
    /// The latest response that contains an item, by the item's id.
    items: HashMap<Key, String>,
    /// Responses by their last use, the least recently used first.
    order: BTreeMap<u64, Key>,
    /// Number of uses so far, which is the latest use's number.
    uses: u64,
    shares: Shares<ResponseOwner>,
}

#[derive(Debug)]
struct Entry {
    stored: Arc<ResponseRecord>,
    bytes: usize,
    use_number: u64,
    used_at: Instant,
}

impl MemoryStore {
    pub(super) fn insert(&self, owner: &ResponseOwner, stored: ResponseRecord) {
        let key = (owner.clone(), stored.id.clone());
        let bytes = stored.bytes();
        let mut entries = self.entries();
        entries.remove(&key);
        if bytes <= MAX_BYTES {
            entries.insert(key, Arc::new(stored), bytes);
        }
        entries.evict();
    }

    pub(super) fn find(&self, owner: &ResponseOwner, id: &str) -> Option<Arc<ResponseRecord>> {
        let mut entries = self.entries();
        entries.evict();
        entries.touch(&(owner.clone(), id.to_owned()))
    }

    pub(super) fn find_by_item(&self, owner: &ResponseOwner, item: &str) -> Option<Arc<ResponseRecord>> {
        let mut entries = self.entries();
        entries.evict();
        let response = entries.items.get(&(owner.clone(), item.to_owned())).cloned()?;
        entries.touch(&(owner.clone(), response))
    }

    pub(super) fn remove(&self, owner: &ResponseOwner, id: &str) -> bool {
        let mut entries = self.entries();
        entries.evict();
        entries.remove(&(owner.clone(), id.to_owned())).is_some()
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn insert(&mut self, key: Key, stored: Arc<ResponseRecord>, bytes: usize) {
        self.uses += 1;
        self.shares.add(&key.0, bytes);
        for id in stored.items().filter_map(|(id, _)| id.as_ref()) {
            self.items.insert((key.0.clone(), id.clone()), key.1.clone());
        }
        self.order.insert(self.uses, key.clone());
        self.by_id.insert(key, Entry { stored, bytes, use_number: self.uses, used_at: Instant::now() });
    }

    fn remove(&mut self, key: &Key) -> Option<Arc<ResponseRecord>> {
        let entry = self.by_id.remove(key)?;
        self.order.remove(&entry.use_number);
        self.shares.remove(&key.0, entry.bytes);
        for id in entry.stored.items().filter_map(|(id, _)| id.as_ref()) {
            let item = (key.0.clone(), id.clone());
            if self.items.get(&item) == Some(&key.1) {
                self.items.remove(&item);
            }
        }
        Some(entry.stored)
    }

    /// Returns a response and makes it the most recently used one.
    fn touch(&mut self, key: &Key) -> Option<Arc<ResponseRecord>> {
        self.uses += 1;
        let entry = self.by_id.get_mut(key)?;
        self.order.remove(&entry.use_number);
        self.order.insert(self.uses, key.clone());
        (entry.use_number, entry.used_at) = (self.uses, Instant::now());
        Some(Arc::clone(&entry.stored))
    }

    /// Removes expired responses, and those that exceed the limits.
    fn evict(&mut self) {
        while let Some(key) = self.next_victim() {
            self.remove(&key);
        }
    }

    fn next_victim(&self) -> Option<Key> {
        let first = self.order.first_key_value()?.1;
        if self.by_id.get(first).is_some_and(|entry| entry.used_at.elapsed() >= LIFETIME) {
            return Some(first.clone());
        }
        let is_largest = self.shares.largest(MAX_RESPONSES, MAX_BYTES)?;
        self.order.values().find(|(owner, _)| is_largest(owner)).cloned()
    }
}
