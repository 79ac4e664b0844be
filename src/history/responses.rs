//! Answers, found again by their id or by the id of one of their items.
//!
//! Each client key has its own. An hour after its last use an answer is forgotten; so is what was
//! used longest ago when there are too many or they take too much room.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::Instant;

const LIFETIME: Duration = Duration::from_secs(60 * 60);
const MAX_RESPONSES: usize = 256;
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// What an item or an answer takes beside its text, roughly.
const ENTRY_BYTES: usize = 256;

/// Whose answers: the name of the client key, where keys are set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Owner(pub Option<String>);

/// An answer, and the conversation that it ended.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Id of the response.
    pub id: String,
    /// The conversation before the answer, oldest item first: each with its id, if it has one.
    pub input: Vec<(Option<String>, Box<RawValue>)>,
    /// The items of the answer, likewise.
    pub output: Vec<(Option<String>, Box<RawValue>)>,
    /// The response object as the client got it.
    pub response: String,
    /// The prompt cache key of the conversation.
    pub cache_key: String,
}

/// An item and its id, if it has one.
type Item = (Option<String>, Box<RawValue>);

/// The memory, shared by all requests.
#[derive(Debug, Default)]
pub struct Responses(Mutex<Kept>);

type Key = (Owner, String);

#[derive(Debug, Default)]
struct Kept {
    entries: HashMap<Key, Entry>,
    /// Ids of items, and the latest answer that holds each.
    items: HashMap<Key, String>,
    /// Answers by their last use: the first is the next to go.
    order: BTreeMap<u64, Key>,
    uses: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    stored: Arc<Stored>,
    bytes: usize,
    use_number: u64,
    used_at: Instant,
}

impl Responses {
    /// Keeps an answer.
    pub fn keep(&self, owner: &Owner, stored: Stored) {
        let key = (owner.clone(), stored.id.clone());
        let bytes = stored.bytes();
        let mut kept = self.kept();
        kept.remove(&key);
        if bytes <= MAX_BYTES {
            kept.insert(key, Arc::new(stored), bytes);
        }
        kept.shrink();
    }

    /// The answer of that id.
    #[must_use]
    pub fn find(&self, owner: &Owner, id: &str) -> Option<Arc<Stored>> {
        let mut kept = self.kept();
        kept.shrink();
        kept.touch(&(owner.clone(), id.to_owned()))
    }

    /// The item of that id, of the latest answer that holds it.
    #[must_use]
    pub fn find_item(&self, owner: &Owner, id: &str) -> Option<Box<RawValue>> {
        let mut kept = self.kept();
        kept.shrink();
        let response = kept.items.get(&(owner.clone(), id.to_owned())).cloned()?;
        let stored = kept.touch(&(owner.clone(), response))?;
        let (_, item) = stored.items().find(|(own, _)| own.as_deref() == Some(id))?;
        Some(item.clone())
    }

    /// Forgets the answer of that id; says whether there was one.
    #[must_use]
    pub fn remove(&self, owner: &Owner, id: &str) -> bool {
        let mut kept = self.kept();
        kept.shrink();
        kept.remove(&(owner.clone(), id.to_owned())).is_some()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stored {
    fn bytes(&self) -> usize {
        let items: usize = self.items().map(|(_, item)| ENTRY_BYTES + item.get().len()).sum();
        ENTRY_BYTES + self.response.len() + items
    }

    /// All items; those of the answer first, since they are what is asked for.
    fn items(&self) -> impl Iterator<Item = &Item> {
        self.output.iter().chain(&self.input)
    }
}

impl Kept {
    fn insert(&mut self, key: Key, stored: Arc<Stored>, bytes: usize) {
        self.uses += 1;
        self.bytes += bytes;
        for id in stored.items().filter_map(|(id, _)| id.as_ref()) {
            self.items.insert((key.0.clone(), id.clone()), key.1.clone());
        }
        self.order.insert(self.uses, key.clone());
        self.entries.insert(key, Entry { stored, bytes, use_number: self.uses, used_at: Instant::now() });
    }

    fn remove(&mut self, key: &Key) -> Option<Arc<Stored>> {
        let entry = self.entries.remove(key)?;
        self.order.remove(&entry.use_number);
        self.bytes -= entry.bytes;
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
        while let Some(key) = self.order.first_entry().map(|first| first.get().clone()) {
            let is_old = self.entries.get(&key).is_some_and(|entry| entry.used_at.elapsed() >= LIFETIME);
            if !is_old && self.entries.len() <= MAX_RESPONSES && self.bytes <= MAX_BYTES {
                return;
            }
            self.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::value::RawValue;
    use tokio::time::advance;

    use super::{LIFETIME, MAX_BYTES, MAX_RESPONSES, Owner, Responses, Stored};

    fn stored(id: &str, bytes: usize) -> Stored {
        let item = |id: String| {
            let json = format!(r#"{{"id":"{id}"}}"#);
            (Some(id), RawValue::from_string(json).unwrap())
        };
        Stored {
            id: id.to_owned(),
            input: vec![item("shared".to_owned())],
            output: vec![item(format!("msg_{id}"))],
            response: "x".repeat(bytes),
            cache_key: String::new(),
        }
    }

    fn knows(memory: &Responses, id: &str) -> bool {
        memory.find(&Owner::default(), id).is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn an_hour_after_its_last_use_it_is_gone() {
        let memory = Responses::default();
        memory.keep(&Owner::default(), stored("a", 1));
        let almost = LIFETIME.checked_sub(Duration::from_secs(1)).unwrap();
        advance(almost).await;
        assert!(knows(&memory, "a"));
        advance(almost).await;
        assert!(memory.find_item(&Owner::default(), "msg_a").is_some());
        advance(LIFETIME).await;
        assert!(!knows(&memory, "a"));
        let kept = memory.kept();
        assert_eq!((kept.bytes, kept.items.len(), kept.order.len()), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn another_key_finds_nothing() {
        let memory = Responses::default();
        let own = Owner(Some("laptop".to_owned()));
        memory.keep(&own, stored("a", 1));
        assert!(!knows(&memory, "a") && !memory.remove(&Owner::default(), "a"));
        assert!(memory.find_item(&Owner::default(), "msg_a").is_none());
        assert!(memory.find(&own, "a").is_some() && memory.remove(&own, "a") && !memory.remove(&own, "a"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_used_longest_ago_makes_room() {
        let memory = Responses::default();
        (0..MAX_RESPONSES).for_each(|number| memory.keep(&Owner::default(), stored(&number.to_string(), 1)));
        assert!(knows(&memory, "0"));
        memory.keep(&Owner::default(), stored("more", 1));
        assert!(knows(&memory, "0") && knows(&memory, "more") && !knows(&memory, "1"));
        assert_eq!(memory.kept().entries.len(), MAX_RESPONSES);
    }

    #[tokio::test(start_paused = true)]
    async fn its_size_is_bounded() {
        let memory = Responses::default();
        for id in ["a", "b", "c", "c"] {
            memory.keep(&Owner::default(), stored(id, MAX_BYTES / 2 - 2048));
        }
        assert!(!knows(&memory, "a") && knows(&memory, "b") && knows(&memory, "c"));
        memory.keep(&Owner::default(), stored("b", MAX_BYTES));
        assert!(!knows(&memory, "b"), "what is too large alone is not kept");
        assert!(memory.kept().bytes <= MAX_BYTES);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shared_item_is_found_while_its_latest_answer_is_there() {
        let memory = Responses::default();
        memory.keep(&Owner::default(), stored("a", 1));
        memory.keep(&Owner::default(), stored("b", 1));
        assert!(memory.remove(&Owner::default(), "a"));
        assert!(memory.find_item(&Owner::default(), "shared").is_some());
        assert!(memory.find_item(&Owner::default(), "msg_a").is_none());
    }
}
