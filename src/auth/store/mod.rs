//! The credential store: which accounts are signed in, and with what.
//!
//! Accounts are keyed by their id, so that a second one never overwrites the first; one is active.
//! Reading needs no lock, since a file is only ever replaced whole. Whoever changes the store locks
//! it first, which excludes other tasks and other processes, reads it again under the lock, and
//! writes it through [`Held`]. A file that can't be understood is never overwritten. The store
//! knows nothing of the issuer.

mod document;
mod file;
mod mending;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

pub use self::document::{Document, Unreadable};
pub use self::mending::Restored;
use crate::auth::credential::Credential;
use crate::bearer::AuthError;

/// Longer than the holder of the lock may wait for the issuer.
const LOCK_PATIENCE: Duration = Duration::from_secs(45);
const LOCK_PAUSE: Duration = Duration::from_millis(25);

/// A place for credentials. Clones share it.
#[derive(Clone, Debug)]
pub struct Store(Arc<Place>);

#[derive(Debug)]
enum Place {
    File { path: PathBuf, warned: AtomicBool },
    Memory { path: PathBuf, turn: Arc<tokio::sync::Mutex<()>>, state: Mutex<Memory> },
}

#[derive(Debug)]
struct Memory {
    document: Document,
    revision: u64,
}

/// What distinguishes one state of the store from another, without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp(Mark);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Mark {
    File(Option<file::Stamp>),
    Memory(u64),
}

/// The store, locked against all other writers until this is dropped.
#[derive(Debug)]
pub struct Held {
    store: Store,
    turn: Arc<Turn>,
}

#[derive(Debug)]
#[expect(dead_code, reason = "held for what their drop releases")]
enum Turn {
    File(file::FileLock),
    Memory(OwnedMutexGuard<()>),
}

impl Store {
    /// The store in a file, which need not exist yet.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Place::File { path: path.into(), warned: AtomicBool::new(false) }))
    }

    /// A store that is never written anywhere, with one account in it.
    #[must_use]
    pub fn memory(credential: &Credential) -> Self {
        let mut document = Document::empty();
        document.put(credential);
        document.set_active(&credential.account_id);
        let state = Mutex::new(Memory { document, revision: 0 });
        Self(Arc::new(Place::Memory { path: PathBuf::from("(memory)"), turn: Arc::default(), state }))
    }

    /// Where the store is, for people.
    #[must_use]
    pub fn path(&self) -> &Path {
        match &*self.0 {
            Place::File { path, .. } | Place::Memory { path, .. } => path,
        }
    }

    /// The state of the store, cheaply.
    pub async fn stamp(&self) -> Stamp {
        match &*self.0 {
            Place::File { path, .. } => {
                let path = path.clone();
                Stamp(Mark::File(off_runtime(move || Ok(file::stamp(&path))).await.unwrap_or_default()))
            }
            Place::Memory { state, .. } => {
                Stamp(Mark::Memory(state.lock().unwrap_or_else(PoisonError::into_inner).revision))
            }
        }
    }

    /// What is stored; an absent file is a store without accounts.
    ///
    /// # Errors
    /// When the file can't be read or understood.
    pub async fn read(&self) -> Result<Document, AuthError> {
        match &*self.0 {
            Place::File { path, warned } => {
                let file = path.clone();
                let read = off_runtime(move || {
                    let tightened = file::is_exposed(&file).then(|| file::tighten(&file));
                    Ok((file::read(&file)?, tightened))
                });
                let (bytes, tightened) = read.await.map_err(|error| self.fault("can't be read", &error))?;
                if let Some(tightened) = tightened.filter(|_| !warned.swap(true, Ordering::Relaxed)) {
                    warn_of_exposure(path, &tightened);
                }
                bytes.map_or_else(|| Ok(Document::empty()), |bytes| self.parse(&bytes))
            }
            Place::Memory { state, .. } => Ok(state.lock().unwrap_or_else(PoisonError::into_inner).document.clone()),
        }
    }

    /// Waits for the turn to change the store.
    ///
    /// # Errors
    /// When the lock file can't be made, or another process does not let go of it.
    pub async fn lock(&self) -> Result<Held, AuthError> {
        let turn = match &*self.0 {
            Place::File { path, .. } => Turn::File(self.lock_file(path).await?),
            Place::Memory { turn, .. } => Turn::Memory(Arc::clone(turn).lock_owned().await),
        };
        Ok(Held { store: self.clone(), turn: Arc::new(turn) })
    }

    async fn lock_file(&self, path: &Path) -> Result<file::FileLock, AuthError> {
        let until = tokio::time::Instant::now() + LOCK_PATIENCE;
        loop {
            let file = path.to_owned();
            let tried = off_runtime(move || file::try_lock(&file)).await;
            if let Some(lock) = tried.map_err(|error| self.fault("can't be locked", &error))? {
                return Ok(lock);
            }
            if tokio::time::Instant::now() >= until {
                let lock = file::lock_path(path);
                let message = format!("{}: another process has held this lock for too long; end it", lock.display());
                return Err(AuthError::Store { message });
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        }
    }

    fn parse(&self, bytes: &[u8]) -> Result<Document, AuthError> {
        Document::parse(bytes).map_err(|why| self.unreadable(&why))
    }

    fn fault(&self, what: &str, error: &io::Error) -> AuthError {
        let path = self.path().display();
        let message = format!("{path}: {what} ({error}); see to its folder's rights and free space");
        AuthError::Store { message }
    }
}

impl Held {
    /// What is stored now.
    ///
    /// # Errors
    /// When the file can't be read or understood.
    pub async fn read(&self) -> Result<Document, AuthError> {
        self.store.read().await
    }

    /// Finds out whether [`Held::write`] would succeed, before something is spent on it.
    ///
    /// # Errors
    /// When nothing can be written.
    pub async fn probe(&self) -> Result<(), AuthError> {
        let Place::File { path, .. } = &*self.store.0 else { return Ok(()) };
        let path = path.clone();
        off_runtime(move || file::probe(&path)).await.map_err(|error| self.store.fault("can't be written", &error))
    }

    /// Replaces what is stored by a change of what [`Held::read`] gave.
    ///
    /// # Errors
    /// When it can't be written; the old content is still there then.
    pub async fn write(&self, document: &Document) -> Result<(), AuthError> {
        match &*self.store.0 {
            Place::File { path, .. } => {
                let (path, text) = (path.clone(), document.to_text());
                // The work goes on if the caller is dropped, and so must the lock.
                let turn = Arc::clone(&self.turn);
                let written = off_runtime(move || {
                    let _turn = turn;
                    file::write(&path, text.as_bytes())?;
                    if let Err(error) = file::write_copy(&path, text.as_bytes()) {
                        tracing::warn!(%error, "no copy of the credential file could be kept");
                    }
                    Ok(())
                });
                let written = written.await;
                written.map_err(|error| self.store.fault("can't be written", &error))
            }
            Place::Memory { state, .. } => {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                state.document = document.clone();
                state.revision += 1;
                Ok(())
            }
        }
    }
}

fn warn_of_exposure(path: &Path, tightened: &io::Result<()>) {
    let path = path.display();
    match tightened {
        Ok(()) => tracing::warn!(%path, "other users could read the credential file; its rights are 0600 now"),
        Err(error) => tracing::warn!(%path, %error, "other users may read the credential file: chmod 600 it"),
    }
}

/// The state of another program's file, cheaply.
pub(in crate::auth) async fn stamp_of(path: &Path) -> Stamp {
    let path = path.to_owned();
    Stamp(Mark::File(off_runtime(move || Ok(file::stamp(&path))).await.unwrap_or_default()))
}

async fn off_runtime<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(io::Error::other("the work was interrupted")))
}
