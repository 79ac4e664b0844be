//! Stores uploaded files, and the batches that read and write them.
//!
//! Records are in a SQLite database, contents in files next to it; a store without a directory keeps both in memory.
//! Each client key has its own files and batches. Files expire, and their total size is bounded. A result of a batch is
//! recorded together with the position behind its line, so a killed process neither loses a result nor records two for
//! a line. All functions run on blocking threads.

mod batches;
mod contents;
mod database;
mod draft;
mod output;
mod progress;
mod record;
mod upload;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use rusqlite::Connection;

use super::file::{self, DatabaseError, Schema};
use super::responses::ResponseOwner;
use crate::clock::Clock;
use crate::fs::{FileLock, create_private_directory};
pub use batches::{BatchCounts, BatchRecord, BatchStatus, BatchTimes, LineOutcome, LinePosition, LineResult, NewBatch};
use contents::Contents;
pub use contents::{FileReader, InputLine};
pub use output::OutputIds;
pub use record::{FileError, FileRecord, ListOrder, ListQuery, Listing, NewFile};
pub use upload::Upload;

/// The schema of the database; its application id is `cxpf`. Times are Unix seconds. A row of `results` is the result
/// of a line of a batch that hasn't ended.
pub(super) const SCHEMA: Schema = Schema {
    noun: "file store",
    lost: "uploaded files and batches are lost",
    application_id: 0x6378_7066,
    migrations: &["
    CREATE TABLE files (
        number INTEGER PRIMARY KEY,
        owner TEXT NOT NULL,
        id TEXT NOT NULL UNIQUE,
        filename TEXT NOT NULL,
        purpose TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX files_by_owner ON files (owner, number);
    CREATE TABLE batches (
        number INTEGER PRIMARY KEY,
        owner TEXT NOT NULL,
        id TEXT NOT NULL UNIQUE,
        input_file TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        completion_window TEXT NOT NULL,
        metadata TEXT,
        account TEXT,
        output_seconds INTEGER,
        status TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        in_progress_at INTEGER,
        finalizing_at INTEGER,
        completed_at INTEGER,
        failed_at INTEGER,
        cancelling_at INTEGER,
        cancelled_at INTEGER,
        errors TEXT,
        output_file TEXT,
        error_file TEXT,
        total INTEGER NOT NULL DEFAULT 0,
        completed INTEGER NOT NULL DEFAULT 0,
        failed INTEGER NOT NULL DEFAULT 0,
        next_line INTEGER NOT NULL DEFAULT 1,
        next_offset INTEGER NOT NULL DEFAULT 0,
        result_bytes INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX batches_by_owner ON batches (owner, number);
    CREATE TABLE results (
        number INTEGER PRIMARY KEY,
        batch INTEGER NOT NULL REFERENCES batches (number) ON DELETE CASCADE,
        line INTEGER NOT NULL,
        is_error INTEGER NOT NULL,
        text TEXT NOT NULL,
        UNIQUE (batch, line)
    ) STRICT;
    CREATE TABLE writer (release TEXT NOT NULL) STRICT;
"],
    lifetime: Duration::from_secs(30 * 24 * 60 * 60),
};
const DATABASE: &str = "files.sqlite3";
const MAX_FILES: u64 = 10_000;
/// Maximum number of batches that haven't ended, of all owners.
const MAX_ACTIVE_BATCHES: u64 = 200;
/// Maximum number of ended batches that are kept.
const MAX_ENDED_BATCHES: u64 = 1_000;
/// The longest time between two deletions of expired files.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// Settings of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSettings {
    /// Maximum size of all files and of the results of batches (`files.max_bytes`).
    pub max_bytes: u64,
    /// How long files and batches are kept (`files.expires`).
    pub lifetime: Duration,
}

/// The store, shared by all requests.
#[derive(Clone, Debug)]
pub struct FileStore(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    database: Mutex<Connection>,
    contents: Contents,
    settings: FileSettings,
    clock: Arc<dyn Clock>,
    /// Bytes of uploads that have no record yet.
    uploading_bytes: AtomicU64,
    /// The ids of contents that have no record yet.
    drafts: Mutex<HashSet<String>>,
}

/// The right to run the batches of a store, which one process has.
#[derive(Debug)]
pub struct BatchLock {
    _lock: Option<FileLock>,
}

impl FileStore {
    /// A store in memory.
    ///
    /// # Panics
    /// If there is no memory for an empty database.
    #[must_use]
    pub fn in_memory(settings: FileSettings, clock: Arc<dyn Clock>) -> Self {
        let mut database = Connection::open_in_memory().expect("an empty database needs only memory");
        database.pragma_update(None, "foreign_keys", true).expect("the name of the setting is valid");
        SCHEMA.create(&mut database).expect("the schema is valid, and the database empty");
        Self::new(database, Contents::in_memory(), settings, clock)
    }

    /// Opens the store in a directory, which is created if it doesn't exist. Also returns a notice for the log if the
    /// database was damaged.
    ///
    /// # Errors
    /// If the directory or the database can't be used.
    pub async fn on_disk(
        directory: PathBuf,
        settings: FileSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Option<String>), DatabaseError> {
        let path = directory.join(DATABASE);
        let interrupted = broken(&path, &"opening it was interrupted");
        let opening = move || {
            create_private_directory(&directory).map_err(|error| broken(&path, &error))?;
            let notice = SCHEMA.prepare(&path, clock.now())?;
            let database = file::connect(&path).map_err(|error| broken(&path, &error))?;
            let store = Self::new(database, Contents::in_directory(directory), settings, clock);
            // Checks that the database is writable.
            store.0.expire().map_err(|error| broken(&path, &error))?;
            store.0.delete_orphans().map_err(|error| broken(&path, &error))?;
            Ok((store, notice))
        };
        tokio::task::spawn_blocking(opening).await.unwrap_or(Err(interrupted))
    }

    fn new(database: Connection, contents: Contents, settings: FileSettings, clock: Arc<dyn Clock>) -> Self {
        let database = Mutex::new(database);
        Self(Arc::new(Shared {
            database,
            contents,
            settings,
            clock,
            uploading_bytes: AtomicU64::new(0),
            drafts: Mutex::default(),
        }))
    }

    /// How long files are kept at most.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.0.settings.lifetime
    }

    /// Returns the record of a file that hasn't expired.
    ///
    /// # Errors
    /// [`FileError::NotFound`], or if the database fails.
    pub async fn find(&self, owner: &ResponseOwner, id: &str) -> Result<FileRecord, FileError> {
        let (owner, id) = (owner.column(), id.to_owned());
        self.run(move |shared| {
            let now = shared.now();
            database::find(&shared.lock(), &owner, &id, now)
        })
        .await
    }

    /// Lists files that haven't expired.
    ///
    /// # Errors
    /// [`FileError::NotFound`] if `after` isn't the id of a file, or if the database fails.
    pub async fn list(&self, owner: &ResponseOwner, query: ListQuery) -> Result<Listing<FileRecord>, FileError> {
        let owner = owner.column();
        self.run(move |shared| {
            let now = shared.now();
            database::list(&shared.lock(), &owner, &query, now)
        })
        .await
    }

    /// Opens a file to read it from its start.
    ///
    /// # Errors
    /// [`FileError::NotFound`], or if the disk or the database fails.
    pub async fn open(&self, owner: &ResponseOwner, id: &str) -> Result<(FileRecord, FileReader), FileError> {
        let (owner, id) = (owner.column(), id.to_owned());
        self.run(move |shared| {
            let now = shared.now();
            let record = database::find(&shared.lock(), &owner, &id, now)?;
            let reader = shared.contents.open(&id)?;
            Ok((record, reader))
        })
        .await
    }

    /// Deletes a file.
    ///
    /// # Errors
    /// [`FileError::NotFound`]; [`FileError::InUse`]; or if the disk or the database fails.
    pub async fn remove(&self, owner: &ResponseOwner, id: &str) -> Result<(), FileError> {
        let (owner, id) = (owner.column(), id.to_owned());
        self.run(move |shared| {
            let now = shared.now();
            database::remove(&mut shared.lock(), &owner, &id, now)?;
            Ok(shared.contents.delete(&id)?)
        })
        .await
    }

    /// Deletes expired files and batches when they are due. Runs until dropped.
    pub async fn delete_expired(&self) {
        loop {
            let expired = self.run(|shared| {
                let next = shared.expire()?;
                shared.delete_orphans()?;
                Ok(next)
            });
            let wait = match expired.await {
                Ok(next) => next.min(EXPIRY_INTERVAL),
                Err(error) => {
                    tracing::warn!(%error, "expired files can't be deleted");
                    EXPIRY_INTERVAL
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// The right to run batches; `None` while another process has it.
    pub async fn lock_batches(&self) -> Option<BatchLock> {
        let locked = self.run(|shared| match shared.contents.directory() {
            None => Ok(Some(None)),
            Some(directory) => Ok(FileLock::try_acquire(&directory.join("batches"))?.map(Some)),
        });
        match locked.await {
            Ok(lock) => lock.map(|lock| BatchLock { _lock: lock }),
            Err(error) => {
                tracing::warn!(%error, "batches can't be run");
                None
            }
        }
    }

    /// Runs work on a blocking thread.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Shared>) -> Result<T, FileError> + Send + 'static,
    ) -> Result<T, FileError> {
        let shared = Arc::clone(&self.0);
        let worked = tokio::task::spawn_blocking(move || work(&shared));
        worked.await.unwrap_or_else(|_| Err(FileError::Storage("it was interrupted".to_owned())))
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Connection> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        self.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    /// Deletes expired files and batches. Returns when the next file expires, from now.
    fn expire(&self) -> Result<Duration, FileError> {
        let (now, lifetime) = (self.now(), self.settings.lifetime.as_secs());
        let expired = database::expire(&mut self.lock(), now, lifetime)?;
        for id in &expired {
            self.contents.delete(id)?;
        }
        let ended = database::ended_with_results(&self.lock())?;
        for batch in ended {
            self.delete_results(batch)?;
        }
        let next = database::next_expiry(&self.lock(), now)?;
        Ok(next.map_or(EXPIRY_INTERVAL, |next| Duration::from_secs(next.saturating_sub(now).max(1))))
    }

    /// Deletes contents without a record, which a killed process left.
    fn delete_orphans(&self) -> Result<(), FileError> {
        let is_known = |id: &str| {
            // Unlocked before the database is locked: requests wait for it.
            let is_draft = self.drafts().contains(id);
            is_draft || database::exists(&self.lock(), id).unwrap_or(true)
        };
        Ok(self.contents.delete_orphans(self.clock.now(), is_known)?)
    }
}

fn broken(path: &Path, cause: &dyn ToString) -> DatabaseError {
    DatabaseError::Broken { path: path.to_owned(), cause: cause.to_string() }
}

#[cfg(test)]
mod tests;
