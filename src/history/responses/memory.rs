//! Answers in memory, forgotten when the process ends.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::super::shares::Shares;
use super::{LIFETIME, MAX_BYTES, MAX_RESPONSES, Owner, Stored};

/// The memory, shared by all requests.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Kept>);

type Key = (Owner, String);

#[derive(Debug, Default)]
struct Kept {
    entries: HashMap<Key, Entry>,
    /// Ids of items, and the latest answer that holds each.
    items: HashMap<Key, String>,
    /// Answers by their last use: the first is the next to go.
    order: BTreeMap<u64, Key>,
    uses: u64,
    shares: Shares<Owner>,
}

#[derive(Debug)]
struct Entry {
    stored: Arc<Stored>,
    bytes: usize,
    use_number: u64,
    used_at: Instant,
}

impl Memory {
    pub(super) fn keep(&self, owner: &Owner, stored: Stored) {
        let key = (owner.clone(), stored.id.clone());
        let bytes = stored.bytes();
        let mut kept = self.kept();
        kept.remove(&key);
        if bytes <= MAX_BYTES {
            kept.insert(key, Arc::new(stored), bytes);
        }
        kept.shrink();
    }

    pub(super) fn find(&self, owner: &Owner, id: &str) -> Option<Arc<Stored>> {
        let mut kept = self.kept();
        kept.shrink();
        kept.touch(&(owner.clone(), id.to_owned()))
    }

    pub(super) fn find_holder(&self, owner: &Owner, item: &str) -> Option<Arc<Stored>> {
        let mut kept = self.kept();
        kept.shrink();
        let response = kept.items.get(&(owner.clone(), item.to_owned())).cloned()?;
        kept.touch(&(owner.clone(), response))
    }

    pub(super) fn remove(&self, owner: &Owner, id: &str) -> bool {
        let mut kept = self.kept();
        kept.shrink();
        kept.remove(&(owner.clone(), id.to_owned())).is_some()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn insert(&mut self, key: Key, stored: Arc<Stored>, bytes: usize) {
        self.uses += 1;
        self.shares.add(&key.0, bytes);
        for id in stored.items().filter_map(|(id, _)| id.as_ref()) {
            self.items.insert((key.0.clone(), id.clone()), key.1.clone());
        }
        self.order.insert(self.uses, key.clone());
        self.entries.insert(key, Entry { stored, bytes, use_number: self.uses, used_at: Instant::now() });
    }

    fn remove(&mut self, key: &Key) -> Option<Arc<Stored>> {
        let entry = self.entries.remove(key)?;
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

    /// The answer, which is now the one used last.
    fn touch(&mut self, key: &Key) -> Option<Arc<Stored>> {
        self.uses += 1;
        let entry = self.entries.get_mut(key)?;
        self.order.remove(&entry.use_number);
        self.order.insert(self.uses, key.clone());
        (entry.use_number, entry.used_at) = (self.uses, Instant::now());
        Some(Arc::clone(&entry.stored))
    }

    /// Lets go of what is too old or too much.
    fn shrink(&mut self) {
        while let Some(key) = self.next_to_go() {
            self.remove(&key);
        }
    }

    fn next_to_go(&self) -> Option<Key> {
        let first = self.order.first_key_value()?.1;
        if self.entries.get(first).is_some_and(|entry| entry.used_at.elapsed() >= LIFETIME) {
            return Some(first.clone());
        }
        let is_largest = self.shares.largest(MAX_RESPONSES, MAX_BYTES)?;
        self.order.values().find(|(owner, _)| is_largest(owner)).cloned()
    }
}
