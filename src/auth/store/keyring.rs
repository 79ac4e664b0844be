//! Calls the platform's keyring, with a timeout.
//!
//! A locked keyring waits for the user, and a session bus can hang. So every call runs on a separate thread. A call
//! that times out keeps running: until it returns, other calls fail at once, and what it owns (the store's lock) isn't
//! released. The keyring is opened for each call, because calls are days apart and keyring services restart.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyring_core::{CredentialStore, Error};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use super::keyring_chunks;

/// Enough time for the user to enter a password.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The limit on Windows (`CRED_MAX_CREDENTIAL_BLOB_SIZE`). The other platforms document none.
const ENTRY_LIMIT_BYTES: usize = if cfg!(windows) { 2560 } else { usize::MAX };

type Open = dyn Fn() -> keyring_core::Result<Arc<CredentialStore>> + Send + Sync;

/// A keyring. Clones share it.
#[derive(Clone)]
pub struct Keyring {
    open: Arc<Open>,
    /// Admits one call at a time.
    permits: Arc<Semaphore>,
    /// Whether a call that has timed out may still be running.
    is_stuck: Arc<AtomicBool>,
    timeout: Duration,
    entry_limit_bytes: usize,
}

/// Why a keyring can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyringError {
    /// This machine or session has none.
    #[error("there is no keyring ({0})")]
    Absent(String),
    /// It didn't respond in time.
    #[error(
        "the keyring did not respond within {} s: unlock it or restart its service, and try again", .0.as_secs_f32()
    )]
    TimedOut(Duration),
    /// It refused access.
    #[error("the keyring refused access ({0}): unlock it and try again")]
    Locked(String),
    /// The entry isn't what was written.
    #[error("the keyring's entry is damaged")]
    Damaged,
    /// Anything else.
    #[error("the keyring failed ({0})")]
    Failed(String),
}

impl Keyring {
    /// The keyring of this platform: Secret Service, Keychain or Credential Manager.
    #[must_use]
    pub fn platform() -> Self {
        Self::new(open_platform)
    }

    /// A keyring that is opened by a function.
    #[must_use]
    pub fn new(open: impl Fn() -> keyring_core::Result<Arc<CredentialStore>> + Send + Sync + 'static) -> Self {
        Self {
            open: Arc::new(open),
            permits: Arc::new(Semaphore::new(1)),
            is_stuck: Arc::default(),
            timeout: TIMEOUT,
            entry_limit_bytes: ENTRY_LIMIT_BYTES,
        }
    }

    /// Changes the timeout of a call.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Changes the maximum size of an entry (at least 256).
    #[must_use]
    pub fn with_entry_limit(self, entry_limit_bytes: usize) -> Self {
        Self { entry_limit_bytes: entry_limit_bytes.max(256), ..self }
    }

    /// Reads the text with this name. Returns `None` if there is none.
    pub(super) async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, KeyringError> {
        let name = name.to_owned();
        self.run(move |keyring| keyring_chunks::get(keyring, &name)).await
    }

    /// Writes a text. `guard` is dropped when the write is complete, even if the caller was dropped before.
    pub(super) async fn put(&self, name: &str, text: String, guard: impl Send + 'static) -> Result<(), KeyringError> {
        let (name, limit_bytes) = (name.to_owned(), self.entry_limit_bytes);
        self.run(move |keyring| {
            let _guard = guard;
            keyring_chunks::put(keyring, &name, text.as_bytes(), limit_bytes)
        })
        .await
    }

    /// Deletes the text with this name.
    pub(super) async fn remove(&self, name: &str) -> Result<(), KeyringError> {
        let name = name.to_owned();
        self.run(move |keyring| keyring_chunks::remove(keyring, &name)).await
    }

    /// Runs a call on a separate thread, with the timeout.
    #[expect(clippy::disallowed_methods, reason = "a call that hangs must not block the runtime or its shutdown")]
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&CredentialStore) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, KeyringError> {
        let until = Instant::now() + self.timeout;
        let permit = self.permit(until).await?;
        let (sender, outcome) = oneshot::channel();
        let open = Arc::clone(&self.open);
        std::thread::spawn(move || {
            let result = open().map_err(|error| KeyringError::Absent(error.to_string()));
            let result = result.and_then(|keyring| work(&*keyring).map_err(KeyringError::from));
            drop(permit);
            // Fails if the call has timed out.
            let _ = sender.send(result);
        });
        match timeout_at(until, outcome).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(KeyringError::Failed("the call was aborted".to_owned())),
            Err(_) => {
                self.is_stuck.store(true, Ordering::Relaxed);
                Err(KeyringError::TimedOut(self.timeout))
            }
        }
    }

    /// Waits until no other call is running. Fails at once if a call that has timed out is still running.
    async fn permit(&self, until: Instant) -> Result<OwnedSemaphorePermit, KeyringError> {
        let permits = Arc::clone(&self.permits);
        let permit = if self.is_stuck.load(Ordering::Relaxed) {
            permits.try_acquire_owned().ok()
        } else {
            timeout_at(until, permits.acquire_owned()).await.ok().and_then(Result::ok)
        };
        self.is_stuck.store(permit.is_none(), Ordering::Relaxed);
        permit.ok_or(KeyringError::TimedOut(self.timeout))
    }
}

/// Returns the name of a store's entry, derived from the path of the credential file: each store has a separate entry.
/// The directory is canonicalized, because earlier releases did so.
pub(super) fn entry_name(path: &Path) -> String {
    let real = path.ancestors().skip(1).find_map(|folder| {
        let rest = path.strip_prefix(folder).ok()?;
        Some(std::fs::canonicalize(folder).ok()?.join(rest))
    });
    let digest = Sha256::digest(real.as_deref().unwrap_or(path).as_os_str().as_encoded_bytes());
    format!("credentials|{}", URL_SAFE_NO_PAD.encode(digest.first_chunk::<12>().expect("a digest has 32 bytes")))
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl From<Error> for KeyringError {
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
