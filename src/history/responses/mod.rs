//! Stores responses, in memory or on disk. They are found by their id or by the id of one of their items.
//!
//! Each client key has its own responses. A response expires an hour after its last use. If the store is full, the
//! least recently used response of the key that uses the most is evicted, so no key can evict another's fair share.
//! Storing a response never waits and never fails a request: one that can't be written is logged and not found later.
//! Changes of conversations that clients request, and of runs, wait until they are written.

mod database;
mod disk;
mod locks;
mod memory;
mod queue;
mod runs;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use sha2::digest::Output;
use sha2::{Digest as _, Sha256};

use super::conversations::{Conversation, is_conversation};
use super::file::{DatabaseError, Schema};
use crate::clock::Clock;
use crate::error::ProxyError;
use disk::DiskStore;
pub use locks::ConversationLock;
use locks::ConversationLocks;
use memory::MemoryStore;
use runs::RunChange;
pub use runs::{RunRecord, UnfinishedRuns};

/// The schema of the file; its application id is `cxpr`. A row of `answers` is a response, a row of `items` the latest
/// response that contains an item.
pub(super) const SCHEMA: Schema = Schema {
    noun: "response store",
    lost: "earlier responses are lost",
    application_id: 0x6378_7072,
    migrations: &[
        "
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
",
        runs::TABLE,
    ],
    lifetime: LIFETIME,
};
/// Since the last use.
const LIFETIME: Duration = Duration::from_secs(60 * 60);
/// Limits of the whole store.
const MAX_RESPONSES: usize = 256;
pub(super) const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Approximate size of an item or a response without its text.
const ENTRY_BYTES: usize = 256;
/// Hex digits of the hash that identifies a client key.
const FINGERPRINT_DIGITS: usize = 16;

/// The owner of responses: a client key. `None` without configured keys, so that all clients share the responses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ResponseOwner(pub Option<String>);

/// A response and the conversation that it belongs to.
#[derive(Clone, Debug)]
pub struct ResponseRecord {
    /// Id of the response.
    pub id: String,
    /// The conversation before the response, oldest item first.
    pub input: Vec<Item>,
    /// The items of the response.
    pub output: Vec<Item>,
    /// The response object, as sent to the client.
    pub response: String,
    /// The prompt cache key of the conversation.
    pub cache_key: String,
    /// Id of the account that was used.
    pub account: Option<String>,
}

/// An item and its id, if it has one.
pub type Item = (Option<String>, Box<RawValue>);

/// The store couldn't be read, or a change may not have been made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the response store can't be used: {0}")]
pub struct StoreError(pub String);

impl From<StoreError> for ProxyError {
    fn from(StoreError(cause): StoreError) -> Self {
        Self::StoreFailed(cause)
    }
}

/// The response store, shared by all requests.
#[derive(Debug)]
pub struct Responses {
    kind: Kind,
    locks: Arc<ConversationLocks>,
}

#[derive(Debug)]
enum Kind {
    Memory(MemoryStore),
    Disk(DiskStore),
}

impl Default for Responses {
    /// Creates a store in memory.
    fn default() -> Self {
        Self::of(Kind::Memory(MemoryStore::default()))
    }
}

impl Responses {
    fn of(kind: Kind) -> Self {
        Self { kind, locks: Arc::default() }
    }

    /// Opens a store in a file, which other processes may use too. Also returns a notice for the log if the file was
    /// damaged.
    ///
    /// # Errors
    /// If the file can't be used. It is unchanged then.
    pub async fn on_disk(path: PathBuf, clock: Arc<dyn Clock>) -> Result<(Self, Option<String>), DatabaseError> {
        let (disk, notice) = DiskStore::open(path, clock).await?;
        Ok((Self::of(Kind::Disk(disk)), notice))
    }

    /// Stores a response.
    pub fn insert(&self, owner: &ResponseOwner, stored: ResponseRecord) {
        match &self.kind {
            Kind::Memory(memory) => memory.insert(owner, stored),
            Kind::Disk(disk) => disk.insert(owner, stored),
        }
    }

    /// Stores a response, and waits until it is written.
    ///
    /// # Errors
    /// If it may not be stored.
    pub async fn insert_written(&self, owner: &ResponseOwner, stored: ResponseRecord) -> Result<(), StoreError> {
        match &self.kind {
            Kind::Memory(memory) => {
                memory.insert(owner, stored);
                Ok(())
            }
            Kind::Disk(disk) => disk.insert_written(owner, stored).await,
        }
    }

    /// Returns the response with this id, and counts this as a use. If the store can't be read, logs that.
    pub async fn find(&self, owner: &ResponseOwner, id: &str) -> Option<Arc<ResponseRecord>> {
        let found = self.try_find(owner, id).await;
        found.inspect_err(|error| tracing::warn!(%error, "a response isn't found")).ok().flatten()
    }

    /// Returns the response with this id, and counts this as a use.
    ///
    /// # Errors
    /// If the store can't be read, so that it isn't known whether there is one.
    pub async fn try_find(&self, owner: &ResponseOwner, id: &str) -> Result<Option<Arc<ResponseRecord>>, StoreError> {
        match &self.kind {
            Kind::Memory(memory) => Ok(memory.find(owner, id)),
            Kind::Disk(disk) => disk.find(owner, id).await,
        }
    }

    /// Returns the latest response that contains the item with this id, and counts this as a use.
    pub async fn find_by_item(&self, owner: &ResponseOwner, item: &str) -> Option<Arc<ResponseRecord>> {
        match &self.kind {
            Kind::Memory(memory) => memory.find_by_item(owner, item),
            Kind::Disk(disk) => disk.find_by_item(owner, item).await,
        }
    }

    /// Deletes the response with this id. Returns whether there was one.
    ///
    /// # Errors
    /// If it may still be stored.
    pub async fn remove(&self, owner: &ResponseOwner, id: &str) -> Result<bool, StoreError> {
        match &self.kind {
            Kind::Memory(memory) => Ok(memory.remove(owner, id)),
            Kind::Disk(disk) => disk.remove(owner, id).await,
        }
    }

    /// Waits until all responses are written. Gives up after a timeout.
    pub async fn settle(&self) {
        if let Kind::Disk(disk) = &self.kind {
            disk.settle().await;
        }
    }

    /// Stores a conversation to which a response was added, in place of its earlier state. Doesn't wait: the change is
    /// written even if many others wait, since the response can't be refused anymore.
    pub fn extend_conversation(&self, owner: &ResponseOwner, conversation: ResponseRecord) {
        match &self.kind {
            Kind::Memory(memory) => memory.insert(owner, conversation),
            Kind::Disk(disk) => disk.insert_accepted(owner, conversation),
        }
    }

    /// Whether a change of this size would be accepted now.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        match &self.kind {
            Kind::Memory(_) => true,
            Kind::Disk(disk) => disk.has_room(bytes),
        }
    }

    /// Returns the conversation with this id, and counts this as a use.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn find_conversation(&self, owner: &ResponseOwner, id: &str) -> Result<Option<Conversation>, StoreError> {
        let record = if is_conversation(id) { self.try_find(owner, id).await? } else { None };
        Ok(record.map(Conversation::of_record))
    }

    /// Locks a conversation; `None` if it is locked already.
    #[must_use]
    pub fn lock_conversation(&self, owner: &ResponseOwner, id: &str) -> Option<ConversationLock> {
        self.locks.acquire(owner, id)
    }

    /// Whether a later process finds the runs of this one.
    #[must_use]
    pub fn keeps_runs(&self) -> bool {
        matches!(&self.kind, Kind::Disk(disk) if disk.owns_runs())
    }

    /// Writes a run that waits to be started, and waits until it is written.
    ///
    /// # Errors
    /// If it may not be written.
    pub async fn queue_run(&self, run: RunRecord) -> Result<(), StoreError> {
        self.change_run(RunChange::Queue(run)).await
    }

    /// Records that a run has started, and waits until that is written: a later process must not start it again.
    ///
    /// # Errors
    /// If that may not be written.
    pub async fn start_run(&self, owner: &ResponseOwner, id: &str) -> Result<(), StoreError> {
        self.change_run(RunChange::Start(owner.clone(), id.to_owned())).await
    }

    /// Deletes a run that has ended.
    ///
    /// # Errors
    /// If it may still be there.
    pub async fn end_run(&self, owner: &ResponseOwner, id: &str) -> Result<(), StoreError> {
        self.change_run(RunChange::End(owner.clone(), id.to_owned())).await
    }

    /// Returns the runs that an earlier process has left.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn unfinished_runs(&self) -> Result<UnfinishedRuns, StoreError> {
        match &self.kind {
            Kind::Disk(disk) if disk.owns_runs() => disk.unfinished_runs().await,
            _ => Ok(UnfinishedRuns::default()),
        }
    }

    async fn change_run(&self, change: RunChange) -> Result<(), StoreError> {
        match &self.kind {
            Kind::Disk(disk) if disk.owns_runs() => disk.change_run(change).await,
            _ => Ok(()),
        }
    }
}

impl ResponseOwner {
    /// Returns the owner for a client key. Includes its hash, because the name may be given to another key later.
    #[must_use]
    pub fn of_key(name: &str, sha256: &[u8; 32]) -> Self {
        Self(Some(format!("{name} {:.FINGERPRINT_DIGITS$x}", Output::<Sha256>::from(*sha256))))
    }

    /// Returns the owner for a client that signs in itself: contains a hash of its account.
    #[must_use]
    pub fn with_login(self, account_id: &str) -> Self {
        let key = self.0.unwrap_or_default();
        Self(Some(format!("{key} login {:.FINGERPRINT_DIGITS$x}", Sha256::digest(account_id))))
    }

    /// Returns the name of the client key.
    #[must_use]
    pub fn key_name(&self) -> Option<&str> {
        self.0.as_ref()?.rsplit_once(' ').map(|(name, _)| name)
    }

    /// Returns the value of the columns `owner`. Without client keys, everything has the same owner.
    pub(super) fn column(&self) -> String {
        self.0.as_ref().map_or_else(String::new, |name| format!("key {name}"))
    }

    /// Returns the owner for the value of a column.
    pub(super) fn of_column(column: &str) -> Self {
        Self(column.strip_prefix("key ").map(str::to_owned))
    }
}

impl ResponseRecord {
    /// Returns the approximate size in memory, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let items: usize = self.items().map(|(_, item)| ENTRY_BYTES + item.get().len()).sum();
        ENTRY_BYTES + self.response.len() + items
    }

    /// Whether the record is small enough to be stored.
    #[must_use]
    pub fn is_storable(&self) -> bool {
        self.bytes() <= MAX_BYTES
    }

    /// Returns all items, those of the response first.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.output.iter().chain(&self.input)
    }

    fn contains(&self, item: &str) -> bool {
        self.items().any(|(id, _)| id.as_deref() == Some(item))
    }
}

#[cfg(test)]
mod tests;
