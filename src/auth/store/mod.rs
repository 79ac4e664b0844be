//! The credential store: which accounts are signed in, and with what.
//!
//! Accounts are keyed by their id, so that a second one never overwrites the first; one is active.
//! Reading needs no lock, since what is stored is only ever replaced whole. Whoever changes the store
//! locks it first, which excludes other tasks and other processes, reads it again under the lock, and
//! writes it through [`Held`]. What can't be understood is never overwritten. Whether a file or the
//! keyring holds it, the lock is the same. The store knows nothing of the issuer.

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

use self::backend::{Ask, Kept};
pub use self::backend::{Location, Place};
pub use self::document::{Document, Unreadable};
pub use self::keyring::Vault;
pub use self::migration::Moved;
pub use self::recovery::Restored;
use crate::auth::credential::Credential;
use crate::fs::FileLock;
use crate::token_source::AuthError;

/// Longer than the holder of the lock may wait for the issuer.
const LOCK_PATIENCE: Duration = Duration::from_secs(45);
const LOCK_PAUSE: Duration = Duration::from_millis(25);

/// A place for credentials. Clones share it.
#[derive(Clone, Debug)]
pub struct Store(Arc<Kind>);

#[derive(Debug)]
enum Kind {
    Kept(Arc<Kept>),
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
    /// Of the file, and of the marker of the keyring.
    Kept([Option<file::Stamp>; 2]),
    Foreign(Option<file::Stamp>),
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
    File(FileLock),
    Memory(OwnedMutexGuard<()>),
}

impl Store {
    /// The store in a file, which need not exist yet.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::kept(path, Place::File, Vault::platform())
    }

    /// The store in a file or in a keyring: where it lies already, else in the place that is preferred.
    /// The file's path names it in both.
    #[must_use]
    pub fn kept(path: impl Into<PathBuf>, preference: Place, vault: Vault) -> Self {
        Self(Arc::new(Kind::Kept(Arc::new(Kept::new(path.into(), preference, vault)))))
    }

    /// A store that is never written anywhere, with one account in it.
    #[must_use]
    pub fn memory(credential: &Credential) -> Self {
        let mut document = Document::empty();
        document.put(credential);
        document.set_active(&credential.account_id);
        let state = Mutex::new(Memory { document, revision: 0 });
        Self(Arc::new(Kind::Memory { path: PathBuf::from("(memory)"), turn: Arc::default(), state }))
    }

    /// The store's file without symbolic links, whether or not it is used.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match &*self.0 {
            Kind::Kept(kept) => kept.path(),
            Kind::Memory { path, .. } => path.clone(),
        }
    }

    /// Where the credentials lie now, or would be written.
    pub async fn location(&self) -> Location {
        let Kind::Kept(kept) = &*self.0 else { return Location::Memory };
        let (kept, path) = (Arc::clone(kept), kept.path());
        off_runtime(move || Ok(kept.location_now())).await.unwrap_or(Location::File(path))
    }

    /// The state of the store, cheaply.
    pub async fn stamp(&self) -> Stamp {
        match &*self.0 {
            Kind::Kept(kept) => {
                let kept = Arc::clone(kept);
                Stamp(Mark::Kept(off_runtime(move || Ok(kept.stamps())).await.unwrap_or_default()))
            }
            Kind::Memory { state, .. } => {
                Stamp(Mark::Memory(state.lock().unwrap_or_else(PoisonError::into_inner).revision))
            }
        }
    }

    /// What is stored; where nothing is, a store without accounts.
    ///
    /// # Errors
    /// When it can't be read or understood.
    pub async fn read(&self) -> Result<Document, AuthError> {
        self.ask(Ask::Remembered).await
    }

    async fn ask(&self, ask: Ask) -> Result<Document, AuthError> {
        match &*self.0 {
            Kind::Kept(kept) => {
                let text = kept.read(ask).await?;
                text.map_or_else(|| Ok(Document::empty()), |text| self.parse(&text))
            }
            Kind::Memory { state, .. } => Ok(state.lock().unwrap_or_else(PoisonError::into_inner).document.clone()),
        }
    }

    /// Waits for the turn to change the store.
    ///
    /// # Errors
    /// When the lock file can't be made, or another process does not let go of it.
    pub async fn lock(&self) -> Result<Held, AuthError> {
        let turn = match &*self.0 {
            Kind::Kept(kept) => Turn::File(self.lock_file(kept).await?),
            Kind::Memory { turn, .. } => Turn::Memory(Arc::clone(turn).lock_owned().await),
        };
        Ok(Held { store: self.clone(), turn: Arc::new(turn) })
    }

    async fn lock_file(&self, kept: &Arc<Kept>) -> Result<FileLock, AuthError> {
        kept.ensure_protected().await?;
        let until = tokio::time::Instant::now() + LOCK_PATIENCE;
        loop {
            let store = Arc::clone(kept);
            let tried = off_runtime(move || {
                let path = store.path();
                let lock = FileLock::try_acquire(&path)?;
                // If a link was changed meanwhile, the lock is beside the file that it led to before.
                Ok(lock.filter(|_| store.path() == path))
            });
            if let Some(lock) = tried.await.map_err(|error| kept.fault("can't be locked", &error))? {
                return Ok(lock);
            }
            if tokio::time::Instant::now() >= until {
                let lock = FileLock::path(&kept.path());
                let message = format!("{}: another process has held this lock for too long; end it", lock.display());
                return Err(AuthError::Store { message });
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        }
    }

    fn parse(&self, bytes: &[u8]) -> Result<Document, AuthError> {
        Document::parse(bytes).map_err(|why| self.unreadable(&why))
    }
}

impl Held {
    /// What is stored now.
    ///
    /// # Errors
    /// When the file can't be read or understood.
    pub async fn read(&self) -> Result<Document, AuthError> {
        self.store.ask(Ask::Anew).await
    }

    /// Finds out whether [`Held::write`] would succeed, before something is spent on it.
    ///
    /// # Errors
    /// When nothing can be written.
    pub async fn probe(&self) -> Result<(), AuthError> {
        match &*self.store.0 {
            Kind::Kept(kept) => kept.probe().await,
            Kind::Memory { .. } => Ok(()),
        }
    }

    /// Replaces what is stored by a change of what [`Held::read`] gave.
    ///
    /// # Errors
    /// When it can't be written; the old content is still there then.
    pub async fn write(&self, document: &Document) -> Result<(), AuthError> {
        match &*self.store.0 {
            Kind::Kept(kept) => kept.write(document.to_text(), Arc::clone(&self.turn)).await,
            Kind::Memory { state, .. } => {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                state.document = document.clone();
                state.revision += 1;
                Ok(())
            }
        }
    }
}

/// The state of another program's file, cheaply.
pub(in crate::auth) async fn stamp_of(path: &Path) -> Stamp {
    let path = path.to_owned();
    Stamp(Mark::Foreign(off_runtime(move || Ok(file::stamp(&path))).await.unwrap_or_default()))
}

async fn off_runtime<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(io::Error::other("the work was interrupted")))
}
