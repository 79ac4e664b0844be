//! The reasoning that led to a call, kept until the call comes back with its output.
//!
//! Found again by the call's id, within the scope in which the backend can read it: the same client
//! key, account and model. An hour after its last use it is forgotten; so is, when there is too much,
//! what the key that holds the most used longest ago. What is kept is encrypted by the backend and
//! stays unread here.

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
/// What an entry takes beside its texts, roughly.
const ENTRY_BYTES: usize = 256;

/// Where reasoning can be used again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Name of the client key, where keys are set.
    pub key: Option<String>,
    /// Id of the account that got the answer.
    pub account: String,
    /// The model, as the backend calls it.
    pub model: String,
}

/// The reasoning items between a call and what came before it, as the backend sent them.
#[derive(Clone, Debug, Default)]
pub struct Lead {
    /// Those before the message that stood before the call.
    pub before_message: Vec<Box<RawValue>>,
    /// Those right before the call.
    pub before_call: Vec<Box<RawValue>>,
}

/// The memory, shared by all requests.
#[derive(Debug, Default)]
pub struct Reasoning(Mutex<Kept>);

type Key = [u8; 32];

#[derive(Debug, Default)]
struct Kept {
    entries: HashMap<Key, Entry>,
    /// Keys by their last use: the first is the next to go.
    order: BTreeMap<u64, Key>,
    uses: u64,
    shares: Shares<Option<String>>,
}

#[derive(Debug)]
struct Entry {
    /// Name of the client key.
    owner: Option<String>,
    lead: Lead,
    bytes: usize,
    use_number: u64,
    used_at: Instant,
}

impl Reasoning {
    /// Keeps what led to a call.
    pub fn keep(&self, scope: &Scope, call_id: &str, lead: Lead) {
        let bytes = ENTRY_BYTES + lead.bytes();
        let mut kept = self.kept();
        kept.remove(&scope.key_of(call_id));
        if bytes <= MAX_BYTES && !lead.is_empty() {
            kept.insert(scope, call_id, lead, bytes);
        }
        kept.shrink();
    }

    /// What led to a call, if it is known.
    pub fn recall(&self, scope: &Scope, call_id: &str) -> Option<Lead> {
        let mut kept = self.kept();
        kept.shrink();
        let Entry { lead, bytes, .. } = kept.remove(&scope.key_of(call_id))?;
        kept.insert(scope, call_id, lead.clone(), bytes);
        Some(lead)
    }

    /// Forgets what led to a call: the backend can't read it.
    pub fn forget(&self, scope: &Scope, call_id: &str) {
        self.kept().remove(&scope.key_of(call_id));
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scope {
    fn key_of(&self, call_id: &str) -> Key {
        let mut digest = Sha256::new();
        for part in [self.key.as_deref().unwrap_or_default(), &self.account, &self.model, call_id] {
            digest.update(part.len().to_le_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }
}

impl Lead {
    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.before_message.is_empty() && self.before_call.is_empty()
    }

    fn bytes(&self) -> usize {
        self.before_message.iter().chain(&self.before_call).map(|item| item.get().len()).sum()
    }
}

impl Kept {
    fn insert(&mut self, scope: &Scope, call_id: &str, lead: Lead, bytes: usize) {
        let (key, owner) = (scope.key_of(call_id), scope.key.clone());
        self.uses += 1;
        self.shares.add(&owner, bytes);
        self.order.insert(self.uses, key);
        self.entries.insert(key, Entry { owner, lead, bytes, use_number: self.uses, used_at: Instant::now() });
    }

    fn remove(&mut self, key: &Key) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        self.order.remove(&entry.use_number);
        self.shares.remove(&entry.owner, entry.bytes);
        Some(entry)
    }

    /// Lets go of what is too old or too much.
    fn shrink(&mut self) {
        while let Some(key) = self.next_to_go() {
            self.remove(&key);
        }
    }

    fn next_to_go(&self) -> Option<Key> {
        let first = *self.order.first_key_value()?.1;
        if self.entries.get(&first).is_some_and(|entry| entry.used_at.elapsed() >= LIFETIME) {
            return Some(first);
        }
        let is_largest = self.shares.largest(MAX_CALLS, MAX_BYTES)?;
        self.order.values().find(|key| self.entries.get(*key).is_some_and(|entry| is_largest(&entry.owner))).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::value::RawValue;
    use tokio::time::advance;

    use super::{ENTRY_BYTES, LIFETIME, Lead, MAX_BYTES, MAX_CALLS, Reasoning, Scope};

    fn scope() -> Scope {
        Scope { key: Some("laptop".to_owned()), account: "acct-1".to_owned(), model: "gpt-5.5".to_owned() }
    }

    fn lead(length: usize) -> Lead {
        let item = format!("\"{}\"", "x".repeat(length.saturating_sub(2)));
        Lead { before_call: vec![RawValue::from_string(item).unwrap()], ..Lead::default() }
    }

    fn knows(memory: &Reasoning, call_id: &str) -> bool {
        memory.recall(&scope(), call_id).is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn an_hour_after_its_last_use_it_is_gone() {
        let memory = Reasoning::default();
        memory.keep(&scope(), "call_1", lead(9));
        let almost = LIFETIME.checked_sub(Duration::from_secs(1)).unwrap();
        advance(almost).await;
        assert!(knows(&memory, "call_1"));
        advance(almost).await;
        assert!(knows(&memory, "call_1"));
        advance(LIFETIME).await;
        assert!(!knows(&memory, "call_1"));
        assert_eq!(memory.kept().shares.total.bytes, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn another_key_account_or_model_finds_nothing() {
        let memory = Reasoning::default();
        memory.keep(&scope(), "call_1", lead(9));
        for other in [
            Scope { key: None, ..scope() },
            Scope { account: "acct-2".to_owned(), ..scope() },
            Scope { model: "gpt-5.4".to_owned(), ..scope() },
        ] {
            assert!(memory.recall(&other, "call_1").is_none(), "{other:?}");
        }
        assert!(!knows(&memory, "call_2") && knows(&memory, "call_1"));
        memory.forget(&scope(), "call_1");
        assert!(!knows(&memory, "call_1"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_used_longest_ago_makes_room() {
        let memory = Reasoning::default();
        for call in 0..MAX_CALLS {
            memory.keep(&scope(), &format!("call_{call}"), lead(9));
        }
        assert!(knows(&memory, "call_0"));
        memory.keep(&scope(), "call_more", lead(9));
        assert!(knows(&memory, "call_0") && knows(&memory, "call_more") && !knows(&memory, "call_1"));
        assert_eq!(memory.kept().entries.len(), MAX_CALLS);
    }

    #[tokio::test(start_paused = true)]
    async fn its_size_is_bounded() {
        let memory = Reasoning::default();
        let half = MAX_BYTES / 2 - ENTRY_BYTES;
        for call in ["call_1", "call_2", "call_3", "call_3"] {
            memory.keep(&scope(), call, lead(half));
        }
        assert!(!knows(&memory, "call_1") && knows(&memory, "call_2") && knows(&memory, "call_3"));
        memory.keep(&scope(), "call_2", lead(MAX_BYTES));
        assert!(!knows(&memory, "call_2"), "what is too large alone is not kept");
        let kept = memory.kept();
        assert_eq!((kept.shares.total.bytes, kept.entries.len(), kept.order.len()), (half + ENTRY_BYTES, 1, 1));
    }

    #[test]
    fn one_key_can_not_evict_what_another_keeps() {
        let memory = Reasoning::default();
        let other = Scope { key: Some("batch".to_owned()), ..scope() };
        memory.keep(&scope(), "mine", lead(9));
        for number in 0..=MAX_CALLS {
            memory.keep(&other, &format!("call_{number}"), lead(9));
        }
        assert!(knows(&memory, "mine"));
        let is_kept = |number: usize| memory.recall(&other, &format!("call_{number}")).is_some();
        assert!(!is_kept(0) && !is_kept(1) && is_kept(2) && is_kept(MAX_CALLS));
    }
}
