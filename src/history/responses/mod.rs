//! Answers, found again by their id or by the id of one of their items: in memory, or on disk.
//!
//! Each client key has its own. An hour after its last use an answer is forgotten; so is, when there
//! are too many or they take too much room, the answer that the key which holds the most used longest
//! ago. One key therefore can't evict the answers of another from its share. Keeping never waits and
//! never fails a request: what can't be written is told in the log, and then simply not known.

mod database;
mod disk;
mod memory;
mod queue;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;

use super::file::{Form, Unusable};
use crate::clock::Clock;
use disk::Disk;
use memory::Memory;

/// The file's form (`cxpr`).
pub(super) const FORM: Form = Form {
    noun: "response store",
    lost: "no earlier answer is known",
    application: 0x6378_7072,
    steps: &["
    CREATE TABLE answers (
        number INTEGER PRIMARY KEY,
        owner TEXT NOT NULL,
        id TEXT NOT NULL,
        use_number INTEGER NOT NULL,
        used_at INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        account TEXT,
        cache_key TEXT NOT NULL,
        response TEXT NOT NULL,
        input TEXT NOT NULL,
        output TEXT NOT NULL,
        UNIQUE (owner, id)
    ) STRICT;
    CREATE INDEX answers_by_use ON answers (use_number);
    CREATE TABLE items (
        owner TEXT NOT NULL,
        id TEXT NOT NULL,
        answer INTEGER NOT NULL REFERENCES answers (number) ON DELETE CASCADE,
        PRIMARY KEY (owner, id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX items_of_answer ON items (answer);
    CREATE TABLE writer (release TEXT NOT NULL) STRICT;
"],
    lifetime: LIFETIME,
};
const LIFETIME: Duration = Duration::from_secs(60 * 60);
const MAX_RESPONSES: usize = 256;
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// What an item or an answer takes beside its text, roughly.
const ENTRY_BYTES: usize = 256;
/// As much of a key's hash as tells keys apart.
const FINGERPRINT_BYTES: usize = 8;

/// Whose answers: a client key, where keys are set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Owner(pub Option<String>);

/// An answer, and the conversation that it ended.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Id of the response.
    pub id: String,
    /// The conversation before the answer, oldest item first: each with its id, if it has one.
    pub input: Vec<Item>,
    /// The items of the answer, likewise.
    pub output: Vec<Item>,
    /// The response object as the client got it.
    pub response: String,
    /// The prompt cache key of the conversation.
    pub cache_key: String,
    /// Id of the account that answered.
    pub account: Option<String>,
}

/// An item and its id, if it has one.
pub type Item = (Option<String>, Box<RawValue>);

/// An answer that is still kept, since it could not be deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the response store can't be written: {0}")]
pub struct Undeleted(pub String);

/// The answers, shared by all requests.
#[derive(Debug)]
pub struct Responses(Kind);

#[derive(Debug)]
enum Kind {
    Memory(Memory),
    Disk(Disk),
}

impl Default for Responses {
    /// Answers in memory.
    fn default() -> Self {
        Self(Kind::Memory(Memory::default()))
    }
}

impl Responses {
    /// Answers in a file, which other processes may use too; and what had to be done to open it.
    ///
    /// # Errors
    /// When the file can't be used. It is left as it is then.
    pub async fn on_disk(path: PathBuf, clock: Arc<dyn Clock>) -> Result<(Self, Option<String>), Unusable> {
        let (disk, notice) = Disk::open(path, clock).await?;
        Ok((Self(Kind::Disk(disk)), notice))
    }

    /// Keeps an answer.
    pub fn keep(&self, owner: &Owner, stored: Stored) {
        match &self.0 {
            Kind::Memory(memory) => memory.keep(owner, stored),
            Kind::Disk(disk) => disk.keep(owner, stored),
        }
    }

    /// The answer of that id.
    pub async fn find(&self, owner: &Owner, id: &str) -> Option<Arc<Stored>> {
        match &self.0 {
            Kind::Memory(memory) => memory.find(owner, id),
            Kind::Disk(disk) => disk.find(owner, id).await,
        }
    }

    /// The latest answer that holds the item of that id.
    pub async fn find_holder(&self, owner: &Owner, item: &str) -> Option<Arc<Stored>> {
        match &self.0 {
            Kind::Memory(memory) => memory.find_holder(owner, item),
            Kind::Disk(disk) => disk.find_holder(owner, item).await,
        }
    }

    /// Forgets the answer of that id; says whether there was one.
    ///
    /// # Errors
    /// When it may be there still.
    pub async fn remove(&self, owner: &Owner, id: &str) -> Result<bool, Undeleted> {
        match &self.0 {
            Kind::Memory(memory) => Ok(memory.remove(owner, id)),
            Kind::Disk(disk) => disk.remove(owner, id).await,
        }
    }

    /// Waits until what was to be kept is kept, or can't be for a while.
    pub async fn settle(&self) {
        if let Kind::Disk(disk) = &self.0 {
            disk.settle().await;
        }
    }
}

impl Owner {
    /// The holder of a client key. The name alone may come to mean another key by the next start.
    #[must_use]
    pub fn of_key(name: &str, sha256: &[u8; 32]) -> Self {
        let mut owner = format!("{name} ");
        for byte in sha256.iter().take(FINGERPRINT_BYTES) {
            write!(owner, "{byte:02x}").expect("writing to a string can't fail");
        }
        Self(Some(owner))
    }
}

impl Stored {
    /// What it takes in memory, roughly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let items: usize = self.items().map(|(_, item)| ENTRY_BYTES + item.get().len()).sum();
        ENTRY_BYTES + self.response.len() + items
    }

    /// All items; those of the answer first, since they are what is asked for.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.output.iter().chain(&self.input)
    }

    fn holds(&self, item: &str) -> bool {
        self.items().any(|(id, _)| id.as_deref() == Some(item))
    }
}

#[cfg(test)]
mod tests;
