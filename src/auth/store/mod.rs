//! Stores the credentials of all accounts, in a file or in the platform's keyring.
//!
//! Accounts are keyed by their id; one is active. Reads need no lock, because the stored document is replaced
//! atomically. To change it, [`Store::lock`] excludes other tasks and processes; then read it again and write it
//! through [`LockedStore`]. A document that can't be parsed is never overwritten. The lock is the same for both
//! backends.

mod backend;
mod document;
mod file;
mod keyring;
mod keyring_chunks;
mod migration;
mod recovery;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use self::backend::{Backend, Freshness};
pub use self::backend::{BackendKind, Location};
pub use self::document::{Document, DocumentError};
pub use self::keyring::Keyring;
pub use self::migration::MoveOutcome;
pub use self::recovery::RestoreOutcome;
use crate::auth::credential::Credential;
use crate::fs::FileLock;
use crate::token_source::AuthError;

/// Longer than a process may hold the lock to wait for the issuer.
const LOCK_TIMEOUT: Duration = Duration::from_secs(45);
const LOCK_INTERVAL: Duration = Duration::from_millis(25);

/// A credential store. Clones share it.
#[derive(Clone, Debug)]
pub struct Store(Arc<StoreKind>);

#[derive(Debug)]
enum StoreKind {
    Persistent(Arc<Backend>),
    Memory { path: PathBuf, lock: Arc<tokio::sync::Mutex<()>>, state: Mutex<Memory> },
}

#[derive(Debug)]
struct Memory {
    document: Document,
    revision: u64,
}

/// Identifies a state of the store without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp(StampKind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum StampKind {
    /// Of the credential file, and of the keyring marker.
    Persistent([Option<file::Stamp>; 2]),
    /// Of another program's file.
    Foreign(Option<file::Stamp>),
    Memory(u64),
}

/// Exclusive write access to the store, until this is dropped.
#[derive(Debug)]
pub struct LockedStore {
    store: Store,
    lock: Arc<StoreLock>,
}

#[derive(Debug)]
#[expect(dead_code, reason = "dropping them releases the lock")]
enum StoreLock {
    File(FileLock),
    Memory(OwnedMutexGuard<()>),
}

impl Store {
    /// A store in a file, which need not exist.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::persistent(path, BackendKind::File, Keyring::platform())
    }

    /// A store in a file or in a keyring. If there are no credentials yet, they go to the preferred backend. The path
    /// identifies the store in both.
    #[must_use]
    pub fn persistent(path: impl Into<PathBuf>, preference: BackendKind, keyring: Keyring) -> Self {
        Self(Arc::new(StoreKind::Persistent(Arc::new(Backend::new(path.into(), preference, keyring)))))
    }

    /// A store in memory with one account.
    #[must_use]
    pub fn memory(credential: &Credential) -> Self {
        let mut document = Document::empty();
        document.put(credential);
        document.set_active(&credential.account_id);
        let state = Mutex::new(Memory { document, revision: 0 });
        Self(Arc::new(StoreKind::Memory { path: PathBuf::from("(memory)"), lock: Arc::default(), state }))
    }

    /// Returns the path of the credential file without symbolic links, whether or not the file is used.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match &*self.0 {
            StoreKind::Persistent(backend) => backend.path(),
            StoreKind::Memory { path, .. } => path.clone(),
        }
    }

    /// Returns where the credentials are, or would be written.
    pub async fn location(&self) -> Location {
        let StoreKind::Persistent(backend) = &*self.0 else { return Location::Memory };
        let (backend, path) = (Arc::clone(backend), backend.path());
        off_runtime(move || Ok(backend.location_now())).await.unwrap_or(Location::File(path))
    }

    /// Returns a stamp that changes when the store changes. Reads metadata only, so it is cheap.
    pub async fn stamp(&self) -> Stamp {
        match &*self.0 {
            StoreKind::Persistent(backend) => {
                let backend = Arc::clone(backend);
                Stamp(StampKind::Persistent(off_runtime(move || Ok(backend.stamps())).await.unwrap_or_default()))
            }
            StoreKind::Memory { state, .. } => {
                Stamp(StampKind::Memory(state.lock().unwrap_or_else(PoisonError::into_inner).revision))
            }
        }
    }

    /// Reads the store. If there is none, returns a document without accounts.
    ///
    /// # Errors
    /// If it can't be read or parsed.
    pub async fn read(&self) -> Result<Document, AuthError> {
        self.read_with(Freshness::Cached).await
    }

    async fn read_with(&self, freshness: Freshness) -> Result<Document, AuthError> {
        match &*self.0 {
            StoreKind::Persistent(backend) => {
                let text = backend.read(freshness).await?;
                text.map_or_else(|| Ok(Document::empty()), |text| self.parse(&text))
            }
            StoreKind::Memory { state, .. } => {
                Ok(state.lock().unwrap_or_else(PoisonError::into_inner).document.clone())
            }
        }
    }

    /// Waits for exclusive write access.
    ///
    /// # Errors
    /// If the lock file can't be created, or the lock isn't free within 45 seconds.
    pub async fn lock(&self) -> Result<LockedStore, AuthError> {
        let lock = match &*self.0 {
            StoreKind::Persistent(backend) => StoreLock::File(self.lock_file(backend).await?),
            StoreKind::Memory { lock, .. } => StoreLock::Memory(Arc::clone(lock).lock_owned().await),
        };
        Ok(LockedStore { store: self.clone(), lock: Arc::new(lock) })
    }

    async fn lock_file(&self, backend: &Arc<Backend>) -> Result<FileLock, AuthError> {
        backend.ensure_protected().await?;
        let until = tokio::time::Instant::now() + LOCK_TIMEOUT;
        loop {
            let store = Arc::clone(backend);
            let attempt = off_runtime(move || {
                let path = store.path();
                let lock = FileLock::try_acquire(&path)?;
                // If a symbolic link has changed meanwhile, this lock belongs to its previous target.
                Ok(lock.filter(|_| store.path() == path))
            });
            if let Some(lock) = attempt.await.map_err(|error| backend.fault("can't be locked", &error))? {
                return Ok(lock);
            }
            if tokio::time::Instant::now() >= until {
                let lock = FileLock::path(&backend.path());
                let message = format!("{}: another process holds this lock for too long; stop it", lock.display());
                return Err(AuthError::Store { message });
            }
            tokio::time::sleep(LOCK_INTERVAL).await;
        }
    }

    fn parse(&self, bytes: &[u8]) -> Result<Document, AuthError> {
        Document::parse(bytes).map_err(|why| self.unreadable(&why))
    }
}

impl LockedStore {
    /// Reads the store, without any cache.
    ///
    /// # Errors
    /// If it can't be read or parsed.
    pub async fn read(&self) -> Result<Document, AuthError> {
        self.store.read_with(Freshness::Current).await
    }

    /// Checks whether [`LockedStore::write`] would succeed, before a refresh token is used.
    ///
    /// # Errors
    /// If the store can't be written.
    pub async fn probe(&self) -> Result<(), AuthError> {
        match &*self.store.0 {
            StoreKind::Persistent(backend) => backend.probe().await,
            StoreKind::Memory { .. } => Ok(()),
        }
    }

    /// Replaces the stored document with a changed version of what [`LockedStore::read`] returned.
    ///
    /// # Errors
    /// If it can't be written. The old document is still stored then.
    pub async fn write(&self, document: &Document) -> Result<(), AuthError> {
        match &*self.store.0 {
            StoreKind::Persistent(backend) => backend.write(document.to_text(), Arc::clone(&self.lock)).await,
            StoreKind::Memory { state, .. } => {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                state.document = document.clone();
                state.revision += 1;
                Ok(())
            }
        }
    }
}

/// Returns a stamp that changes when another program's file changes. Reads metadata only, so it is cheap.
pub(in crate::auth) async fn stamp_of(path: &Path) -> Stamp {
    let path = path.to_owned();
    Stamp(StampKind::Foreign(off_runtime(move || Ok(file::stamp(&path))).await.unwrap_or_default()))
}

async fn off_runtime<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(io::Error::other("the operation was interrupted")))
}
