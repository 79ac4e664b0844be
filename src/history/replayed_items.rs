//! Caches items of responses that clients don't get and later requests need: reasoning, and the calls that the proxy
//! has run, with their outputs.
//!
//! Entries are found by the id of the client's item that they precede or replace, within the scope in which the backend
//! accepts them: the same client key, account and model. An entry expires an hour after its last use. If the cache is
//! full, the least recently used entry of the key that uses the most is evicted. The items are not parsed here.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::shares::Shares;

const LIFETIME: Duration = Duration::from_secs(60 * 60);
const MAX_CALLS: usize = 4096;
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Approximate size of an entry without its texts.
const ENTRY_BYTES: usize = 256;

/// Where the backend accepts the items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayScope {
    /// Name of the client key, if keys are configured.
    pub key: Option<String>,
    /// Id of the account.
    pub account: String,
    /// The backend's name for the model.
    pub model: String,
}

/// The items around a tool call of the client, as the backend sent them.
#[derive(Clone, Debug, Default)]
pub struct PrecedingItems {
    /// Items before the message that precedes the call.
    pub before_message: Vec<Box<RawValue>>,
    /// Items directly before the call.
    pub before_call: Vec<Box<RawValue>>,
    /// Items after this call and the calls that follow it directly: outputs of calls that were made at the same time,
    /// and the proxy's calls after the last call of the client.
    pub after_calls: Vec<Box<RawValue>>,
}

/// The cache, shared by all requests.
#[derive(Debug, Default)]
pub struct ReplayedItems(Mutex<Entries>);

type Key = [u8; 32];

#[derive(Debug, Default)]
struct Entries {
    by_key: HashMap<Key, Entry>,
    /// Keys by their last use, the least recently used first.
    order: BTreeMap<u64, Key>,
    uses: u64,
    shares: Shares<Option<String>>,
}

#[derive(Debug)]
struct Entry {
    /// Name of the client key.
    owner: Option<String>,
    preceding: PrecedingItems,
    bytes: usize,
    use_number: u64,
    used_at: Instant,
}

impl ReplayedItems {
    /// Stores the items before a call.
    pub fn insert(&self, scope: &ReplayScope, call_id: &str, preceding: PrecedingItems) {
        let bytes = ENTRY_BYTES + preceding.bytes();
        let mut entries = self.entries();
        entries.remove(&scope.key_of(call_id));
        if bytes <= MAX_BYTES && !preceding.is_empty() {
            entries.insert(scope, call_id, preceding, bytes);
        }
        entries.evict();
    }

    /// Returns the items around a call, and counts this as a use.
    pub fn get(&self, scope: &ReplayScope, call_id: &str) -> Option<PrecedingItems> {
        let mut entries = self.entries();
        entries.evict();
        let Entry { preceding, bytes, .. } = entries.remove(&scope.key_of(call_id))?;
        entries.insert(scope, call_id, preceding.clone(), bytes);
        Some(preceding)
    }

    /// Whether there are no entries, so that nothing can be found.
    pub fn is_empty(&self) -> bool {
        self.entries().by_key.is_empty()
    }

    /// Removes the items of a call for which the predicate is false.
    pub fn retain(&self, scope: &ReplayScope, call_id: &str, is_kept: impl Fn(&RawValue) -> bool) {
        let Some(Entry { mut preceding, .. }) = self.entries().remove(&scope.key_of(call_id)) else { return };
        for items in [&mut preceding.before_message, &mut preceding.before_call, &mut preceding.after_calls] {
            items.retain(|item| is_kept(item));
        }
        self.insert(scope, call_id, preceding);
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReplayScope {
    fn key_of(&self, call_id: &str) -> Key {
        let mut digest = Sha256::new();
        for part in [self.key.as_deref().unwrap_or_default(), &self.account, &self.model, call_id] {
            digest.update(part.len().to_le_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }
}

impl PrecedingItems {
    /// Whether there are no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items().next().is_none()
    }

    fn bytes(&self) -> usize {
        self.items().map(|item| item.get().len()).sum()
    }

    fn items(&self) -> impl Iterator<Item = &Box<RawValue>> {
        self.before_message.iter().chain(&self.before_call).chain(&self.after_calls)
    }
}

impl Entries {
    fn insert(&mut self, scope: &ReplayScope, call_id: &str, preceding: PrecedingItems, bytes: usize) {
        let (key, owner) = (scope.key_of(call_id), scope.key.clone());
        self.uses += 1;
        self.shares.add(&owner, bytes);
        self.order.insert(self.uses, key);
        self.by_key.insert(key, Entry { owner, preceding, bytes, use_number: self.uses, used_at: Instant::now() });
    }

    fn remove(&mut self, key: &Key) -> Option<Entry> {
        let entry = self.by_key.remove(key)?;
        self.order.remove(&entry.use_number);
        self.shares.remove(&entry.owner, entry.bytes);
        Some(entry)
    }

    /// Removes expired entries, and those that exceed the limits.
    fn evict(&mut self) {
        while let Some(key) = self.next_victim() {
            self.remove(&key);
        }
    }

    fn next_victim(&self) -> Option<Key> {
        let first = *self.order.first_key_value()?.1;
        if self.by_key.get(&first).is_some_and(|entry| entry.used_at.elapsed() >= LIFETIME) {
            return Some(first);
        }
        let is_largest = self.shares.largest(MAX_CALLS, MAX_BYTES)?;
        self.order.values().find(|key| self.by_key.get(*key).is_some_and(|entry| is_largest(&entry.owner))).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::value::RawValue;
    use tokio::time::advance;

    use super::{ENTRY_BYTES, LIFETIME, MAX_BYTES, MAX_CALLS, PrecedingItems, ReplayScope, ReplayedItems};

    fn scope() -> ReplayScope {
        ReplayScope { key: Some("laptop".to_owned()), account: "acct-1".to_owned(), model: "gpt-5.5".to_owned() }
    }

    fn preceding(length: usize) -> PrecedingItems {
        let item = format!("\"{}\"", "x".repeat(length.saturating_sub(2)));
        PrecedingItems { before_call: vec![RawValue::from_string(item).unwrap()], ..PrecedingItems::default() }
    }

    fn has(memory: &ReplayedItems, call_id: &str) -> bool {
        memory.get(&scope(), call_id).is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_expires_an_hour_after_its_last_use() {
        let memory = ReplayedItems::default();
        memory.insert(&scope(), "call_1", preceding(9));
        let almost = LIFETIME.checked_sub(Duration::from_secs(1)).unwrap();
        advance(almost).await;
        assert!(has(&memory, "call_1"));
        advance(almost).await;
        assert!(has(&memory, "call_1"));
        advance(LIFETIME).await;
        assert!(!has(&memory, "call_1"));
        assert_eq!(memory.entries().shares.total.bytes, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn another_key_account_or_model_finds_nothing() {
        let memory = ReplayedItems::default();
        memory.insert(&scope(), "call_1", preceding(9));
        for other in [
            ReplayScope { key: None, ..scope() },
            ReplayScope { account: "acct-2".to_owned(), ..scope() },
            ReplayScope { model: "gpt-5.4".to_owned(), ..scope() },
        ] {
            assert!(memory.get(&other, "call_1").is_none(), "{other:?}");
        }
        assert!(!has(&memory, "call_2") && has(&memory, "call_1"));
        memory.retain(&scope(), "call_1", |_| true);
        assert!(has(&memory, "call_1"));
        memory.retain(&scope(), "call_1", |_| false);
        assert!(!has(&memory, "call_1"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_least_recently_used_entry_is_evicted() {
        let memory = ReplayedItems::default();
        for call in 0..MAX_CALLS {
            memory.insert(&scope(), &format!("call_{call}"), preceding(9));
        }
        assert!(has(&memory, "call_0"));
        memory.insert(&scope(), "call_more", preceding(9));
        assert!(has(&memory, "call_0") && has(&memory, "call_more") && !has(&memory, "call_1"));
        assert_eq!(memory.entries().by_key.len(), MAX_CALLS);
    }

    #[tokio::test(start_paused = true)]
    async fn the_size_is_bounded() {
        let memory = ReplayedItems::default();
        let half = MAX_BYTES / 2 - ENTRY_BYTES;
        for call in ["call_1", "call_2", "call_3", "call_3"] {
            memory.insert(&scope(), call, preceding(half));
        }
        assert!(!has(&memory, "call_1") && has(&memory, "call_2") && has(&memory, "call_3"));
        memory.insert(&scope(), "call_2", preceding(MAX_BYTES));
        assert!(!has(&memory, "call_2"), "an entry over the limit is not stored");
        let entries = memory.entries();
        assert_eq!((entries.shares.total.bytes, entries.by_key.len(), entries.order.len()), (half + ENTRY_BYTES, 1, 1));
    }

    #[test]
    fn one_key_can_not_evict_entries_of_another() {
        let memory = ReplayedItems::default();
        let other = ReplayScope { key: Some("batch".to_owned()), ..scope() };
        memory.insert(&scope(), "mine", preceding(9));
        for number in 0..=MAX_CALLS {
            memory.insert(&other, &format!("call_{number}"), preceding(9));
        }
        assert!(has(&memory, "mine"));
        let is_cached = |number: usize| memory.get(&other, &format!("call_{number}")).is_some();
        assert!(!is_cached(0) && !is_cached(1) && is_cached(2) && is_cached(MAX_CALLS));
    }
}
