//! The platform's keyring, asked with patience but not for ever.
//!
//! A locked keyring waits for a person and a session bus can hang, so that every call runs on a
//! thread of its own and is given up after a while. What was given up goes on unseen: until it is
//! over, others are turned away at once, and whatever the call holds (the store's lock) stays held.
//! The keyring is opened anew for each call, since calls are days apart and services restart. It
//! knows names and texts, and nothing of accounts.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keyring_core::{CredentialStore, Error};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use super::keyring_chunks;

/// Enough for a person who has to type a password.
const PATIENCE: Duration = Duration::from_secs(60);
/// Windows takes no more into one entry (`CRED_MAX_CREDENTIAL_BLOB_SIZE`); elsewhere nothing is known of a limit.
const ENTRY_LIMIT_BYTES: usize = if cfg!(windows) { 2560 } else { usize::MAX };

type Open = dyn Fn() -> keyring_core::Result<Arc<CredentialStore>> + Send + Sync;

/// A keyring. Clones share it.
#[derive(Clone)]
pub struct Vault {
    open: Arc<Open>,
    turn: Arc<Semaphore>,
    is_stuck: Arc<AtomicBool>,
    patience: Duration,
    entry_limit_bytes: usize,
}

/// Why a keyring can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum VaultError {
    /// This machine, or this session, has none.
    #[error("there is no keyring here ({0})")]
    Absent(String),
    /// It did not answer in time.
    #[error(
        "the keyring did not answer within {} s: unlock it, or see to its service, and try again", .0.as_secs_f32()
    )]
    Silent(Duration),
    /// It did not let us in.
    #[error("the keyring does not let us in ({0}): unlock it and try again")]
    Locked(String),
    /// What lies there is not what was written.
    #[error("the keyring's entry is damaged")]
    Damaged,
    /// Anything else.
    #[error("the keyring failed ({0})")]
    Failed(String),
}

impl Vault {
    /// The keyring of this platform: the Secret Service, the Keychain or the Credential Manager.
    #[must_use]
    pub fn platform() -> Self {
        Self::new(open_platform)
    }

    /// A keyring that is opened in some other way.
    #[must_use]
    pub fn new(open: impl Fn() -> keyring_core::Result<Arc<CredentialStore>> + Send + Sync + 'static) -> Self {
        Self {
            open: Arc::new(open),
            turn: Arc::new(Semaphore::new(1)),
            is_stuck: Arc::default(),
            patience: PATIENCE,
            entry_limit_bytes: ENTRY_LIMIT_BYTES,
        }
    }

    /// The same keyring, given up sooner or later than a person would like to wait.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The same keyring, with entries that hold no more than this (at least 256).
    #[must_use]
    pub fn with_entry_limit(self, entry_limit_bytes: usize) -> Self {
        Self { entry_limit_bytes: entry_limit_bytes.max(256), ..self }
    }

    /// What is filed under a name.
    pub(super) async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, VaultError> {
        let name = name.to_owned();
        self.run(move |keyring| keyring_chunks::get(keyring, &name)).await
    }

    /// Files a text under a name; `kept` is let go of when that has come to its end, whoever waits for it.
    pub(super) async fn put(&self, name: &str, text: String, kept: impl Send + 'static) -> Result<(), VaultError> {
        let (name, limit_bytes) = (name.to_owned(), self.entry_limit_bytes);
        self.run(move |keyring| {
            let _kept = kept;
            keyring_chunks::put(keyring, &name, text.as_bytes(), limit_bytes)
        })
        .await
    }

    /// Takes away what is filed under a name.
    pub(super) async fn remove(&self, name: &str) -> Result<(), VaultError> {
        let name = name.to_owned();
        self.run(move |keyring| keyring_chunks::remove(keyring, &name)).await
    }

    #[expect(clippy::disallowed_methods, reason = "a call that hangs must hold up neither the runtime nor its end")]
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&CredentialStore) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, VaultError> {
        let until = Instant::now() + self.patience;
        let turn = self.turn(until).await?;
        let (sender, outcome) = oneshot::channel();
        let open = Arc::clone(&self.open);
        std::thread::spawn(move || {
            let done = open().map_err(|error| VaultError::Absent(error.to_string()));
            let done = done.and_then(|keyring| work(&*keyring).map_err(VaultError::from));
            drop(turn);
            // Nobody waits any more if it took too long.
            let _ = sender.send(done);
        });
        match timeout_at(until, outcome).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => Err(VaultError::Failed("the call broke off".to_owned())),
            Err(_) => {
                self.is_stuck.store(true, Ordering::Relaxed);
                Err(VaultError::Silent(self.patience))
            }
        }
    }

    /// One call at a time; nobody waits behind one that was given up.
    async fn turn(&self, until: Instant) -> Result<OwnedSemaphorePermit, VaultError> {
        let turns = Arc::clone(&self.turn);
        let turn = if self.is_stuck.load(Ordering::Relaxed) {
            turns.try_acquire_owned().ok()
        } else {
            timeout_at(until, turns.acquire_owned()).await.ok().and_then(Result::ok)
        };
        self.is_stuck.store(turn.is_none(), Ordering::Relaxed);
        turn.ok_or(VaultError::Silent(self.patience))
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("patience", &self.patience).finish_non_exhaustive()
    }
}

impl From<Error> for VaultError {
    fn from(error: Error) -> Self {
        match error {
            Error::NoStorageAccess(why) => Self::Locked(why.to_string()),
            Error::NoDefaultStore | Error::NotSupportedByStore(_) => Self::Absent(error.to_string()),
            Error::BadEncoding(_) | Error::BadDataFormat(..) | Error::BadStoreFormat(_) => Self::Damaged,
            other => Self::Failed(other.to_string()),
        }
    }
}

#[cfg(all(unix, not(target_vendor = "apple"), not(target_os = "android")))]
fn open_platform() -> keyring_core::Result<Arc<CredentialStore>> {
    let keyring: Arc<CredentialStore> = zbus_secret_service_keyring_store::Store::new()?;
    Ok(keyring)
}

#[cfg(target_os = "macos")]
fn open_platform() -> keyring_core::Result<Arc<CredentialStore>> {
    let keyring: Arc<CredentialStore> = apple_native_keyring_store::keychain::Store::new()?;
    Ok(keyring)
}

#[cfg(windows)]
fn open_platform() -> keyring_core::Result<Arc<CredentialStore>> {
    let keyring: Arc<CredentialStore> = windows_native_keyring_store::Store::new()?;
    Ok(keyring)
}

#[cfg(not(any(all(unix, not(target_vendor = "apple"), not(target_os = "android")), target_os = "macos", windows)))]
fn open_platform() -> keyring_core::Result<Arc<CredentialStore>> {
    Err(Error::NoDefaultStore)
}
