//! The response store in a SQLite file, with the same lifetime and limits as in memory.
//!
//! Requests wait for the disk only to read or delete, and not longer than a timeout. A thread makes the changes
//! (`queue`). Reads use a second connection, so that they don't wait for a long write. Other processes may use the same
//! file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;

use super::super::file::DatabaseError;
use super::database::{Database, DatabaseFailure};
use super::queue::{Change, Outcome, Queue, QueuedEffect};
use super::runs::{RunChange, UnfinishedRuns};
use super::{ResponseOwner, ResponseRecord, SCHEMA, StoreError};
use crate::clock::Clock;
use crate::fs::{FileLock, beside, resolve};

/// The longest wait for a read or a change.
const DISK_TIMEOUT: Duration = Duration::from_secs(10);

/// Responses in a file.
#[derive(Debug)]
pub(super) struct DiskStore {
    queue: Arc<Queue>,
    reader: Arc<Mutex<Database>>,
    /// Held while this process owns the runs in the file.
    runs_lock: Option<FileLock>,
    clock: Arc<dyn Clock>,
}

/// How a response is found: by its id, or by the id of an item in it.
#[derive(Clone, Copy, Debug)]
enum Lookup {
    ById,
    ByItem,
}

impl DiskStore {
    /// Opens the file. Also returns a notice for the log if it was damaged.
    pub(super) async fn open(path: PathBuf, clock: Arc<dyn Clock>) -> Result<(Self, Option<String>), DatabaseError> {
        let broken = |path: PathBuf, cause: String| DatabaseError::Broken { path, cause };
        let interrupted = broken(path.clone(), "opening it was interrupted".to_owned());
        let opening = move || {
            let notice = SCHEMA.prepare(&path, clock.now())?;
            let open = || Database::open(&path).map_err(|error| broken(path.clone(), error.to_string()));
            let (mut writer, reader) = (open()?, open()?);
            // Checks that the file is writable.
            writer.expire(clock.now()).map_err(|error| broken(path.clone(), error.to_string()))?;
            let runs_lock = lock_runs(&path);
            let queue = Arc::new(Queue::default());
            let (shared, time) = (Arc::clone(&queue), Arc::clone(&clock));
            let old_copies = path.clone();
            let tick = move || SCHEMA.delete_old_copies(&old_copies, time.now());
            let time = Arc::clone(&clock);
            let thread = std::thread::Builder::new().name("response-store".to_owned());
            let started = thread.spawn(move || shared.work(writer, time.as_ref(), tick));
            started.map_err(|error| broken(path, error.to_string()))?;
            Ok((Self { queue, reader: Arc::new(Mutex::new(reader)), runs_lock, clock }, notice))
        };
        tokio::task::spawn_blocking(opening).await.unwrap_or(Err(interrupted))
    }

    pub(super) fn insert(&self, owner: &ResponseOwner, stored: ResponseRecord) {
        if !self.queue.add(Change::Insert(owner.clone(), Arc::new(stored))) {
            tracing::warn!("a response is not stored: too many changes wait for the disk of the response store");
        }
    }

    /// Stores a response that may not be lost because others wait to be written.
    pub(super) fn insert_accepted(&self, owner: &ResponseOwner, stored: ResponseRecord) {
        self.queue.add_accepted(Change::Insert(owner.clone(), Arc::new(stored)));
    }

    /// Stores a response, and waits until it is written.
    pub(super) async fn insert_written(&self, owner: &ResponseOwner, stored: ResponseRecord) -> Result<(), StoreError> {
        self.make_if_room(Change::Insert(owner.clone(), Arc::new(stored))).await.map(|_| ())
    }

    /// Whether the queue has room for a change of this size.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.queue.has_room(bytes)
    }

    pub(super) async fn find(
        &self,
        owner: &ResponseOwner,
        id: &str,
    ) -> Result<Option<Arc<ResponseRecord>>, StoreError> {
        let found = match self.queue.find(owner, id) {
            QueuedEffect::Stored(stored) => Some(stored),
            QueuedEffect::Removed => None,
            QueuedEffect::None(_) => self.read(Lookup::ById, owner, id).await?,
        };
        if let Some(found) = &found {
            self.touch(owner, found);
        }
        Ok(found)
    }

    pub(super) async fn find_by_item(&self, owner: &ResponseOwner, item: &str) -> Option<Arc<ResponseRecord>> {
        let holder = match self.queue.find_by_item(owner, item) {
            QueuedEffect::Stored(stored) => stored,
            QueuedEffect::Removed => return None,
            QueuedEffect::None(removed) => {
                let read = self.read(Lookup::ByItem, owner, item).await;
                let read = read.inspect_err(|error| tracing::warn!(%error, "an item isn't found"));
                read.ok().flatten().filter(|holder| !removed.contains(&holder.id))?
            }
        };
        self.touch(owner, &holder);
        Some(holder)
    }

    pub(super) async fn remove(&self, owner: &ResponseOwner, id: &str) -> Result<bool, StoreError> {
        // A response that waits to be written exists, even if the database doesn't have it yet.
        let is_pending = matches!(self.queue.find(owner, id), QueuedEffect::Stored(_));
        let was_there = self.make(Change::Remove(owner.clone(), id.to_owned())).await?;
        Ok(was_there || is_pending)
    }

    pub(super) async fn settle(&self) {
        if self.make(Change::Settle).await.is_err() {
            tracing::warn!("the disk of the response store is too slow; the latest responses may be lost");
        }
    }

    /// Whether this process owns the runs in the file.
    pub(super) fn owns_runs(&self) -> bool {
        self.runs_lock.is_some()
    }

    /// Changes a run, and waits until that is written.
    pub(super) async fn change_run(&self, change: RunChange) -> Result<(), StoreError> {
        self.make_if_room(Change::Run(change)).await.map(|_| ())
    }

    /// The runs in the file.
    pub(super) async fn unfinished_runs(&self) -> Result<UnfinishedRuns, StoreError> {
        self.read_with(Database::unfinished_runs).await
    }

    /// Makes a change, and waits until it is written. Fails if it adds content and the queue has no room for it; the
    /// start or the end of a run adds none.
    async fn make_if_room(&self, change: Change) -> Outcome {
        let bytes = change.bytes();
        if bytes > 0 && !self.has_room(bytes) {
            return Err(StoreError("too many changes wait for the disk".to_owned()));
        }
        self.make(change).await
    }

    /// Makes a change, and waits until it is written.
    async fn make(&self, change: Change) -> Outcome {
        match timeout(DISK_TIMEOUT, self.queue.add_awaited(change)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Err(stalled()),
        }
    }

    /// Records a use. Does nothing if the queue is full.
    fn touch(&self, owner: &ResponseOwner, stored: &ResponseRecord) {
        self.queue.add(Change::Touch(owner.clone(), stored.id.clone()));
    }

    async fn read(
        &self,
        lookup: Lookup,
        owner: &ResponseOwner,
        id: &str,
    ) -> Result<Option<Arc<ResponseRecord>>, StoreError> {
        let (owner, id, now) = (owner.clone(), id.to_owned(), self.clock.now());
        let found = self.read_with(move |reader| match lookup {
            Lookup::ById => reader.find(&owner, &id, now),
            Lookup::ByItem => reader.find_by_item(&owner, &id, now),
        });
        Ok(found.await?.map(Arc::new))
    }

    async fn read_with<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Database) -> Result<T, DatabaseFailure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let reading = async {
            // Locked until the read is complete: a disk that hangs blocks only one thread.
            let reader = Arc::clone(&self.reader).lock_owned().await;
            let found = tokio::task::spawn_blocking(move || read(&reader));
            found.await.unwrap_or(Err(DatabaseFailure::Unreadable))
        };
        match timeout(DISK_TIMEOUT, reading).await {
            Ok(found) => found.map_err(|error| StoreError(error.to_string())),
            Err(_) => Err(stalled()),
        }
    }
}

fn stalled() -> StoreError {
    StoreError("the disk doesn't respond".to_owned())
}

/// Locks the runs in the file; `None` if another process owns them.
fn lock_runs(path: &Path) -> Option<FileLock> {
    let lock = FileLock::try_acquire(&beside(&resolve(path), ".runs"));
    let lock = lock.inspect_err(|error| tracing::warn!(%error, "background responses are not written to the disk"));
    let lock = lock.ok()?;
    if lock.is_none() {
        tracing::warn!("another process uses the response store; background responses of this one end with it");
    }
    lock
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        self.queue.close();
    }
}
