//! The two backends of a persistent store: a file, or the platform's keyring.
//!
//! The backend in use depends on what exists: a marker file (without secrets) means the keyring, or else a credential
//! file means the file. Only if neither exists, the setting decides. So credentials are never in two backends that
//! could both refresh them, and a running daemon notices a move. The marker is replaced at every write to the keyring,
//! so that its state shows changes. Both backends share one lock. Without a keyring and a marker, the file is used,
//! with a warning. The file's path is resolved at every use: lock, marker, copy and temporary files are next to the
//! real file.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::keyring::{Keyring, KeyringError, entry_name};
use super::{file, keyring_chunks, off_runtime};
use crate::command_hint::{command, quoted};
use crate::fs::{ExposedDirectory, beside, directory_of, make_private, resolve};
use crate::token_source::AuthError;

/// How long an entry of the keyring is cached while its marker is unchanged.
const CACHE_LIFETIME: Duration = Duration::from_secs(60);
/// How long a failure of the keyring is cached: each call may show a dialog to the user.
const FAILURE_LIFETIME: Duration = Duration::from_secs(15);
/// More than the size of a store with several accounts.
const PROBE_SIZE_BYTES: usize = 16 * 1024;

/// Where credentials are stored (`auth.store`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum BackendKind {
    /// A file with mode 0600.
    File,
    /// The keyring of the platform.
    Keyring,
}

/// Where the credentials of a store are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In a file.
    File(PathBuf),
    /// In the keyring, under this name.
    Keyring(String),
    /// In this process only.
    Memory,
}

/// Whether a read may use the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    /// A cached entry of the keyring is good enough.
    Cached,
    /// The backend must be read.
    Current,
}

/// A store in one of the two backends.
pub(super) struct Backend {
    /// The path of the file as configured; may be a symbolic link.
    configured_path: PathBuf,
    pub(super) preference: BackendKind,
    pub(super) keyring: Keyring,
    has_warned_of_exposure: AtomicBool,
    has_warned_of_fallback: AtomicBool,
    keyring_cache: Mutex<Option<KeyringReply>>,
}

/// A cached result of reading the keyring.
struct KeyringReply {
    marker: Option<file::Stamp>,
    at: Instant,
    outcome: Result<Option<Arc<[u8]>>, AuthError>,
}

impl Backend {
    pub(super) fn new(configured_path: PathBuf, preference: BackendKind, keyring: Keyring) -> Self {
        Self {
            configured_path,
            preference,
            keyring,
            has_warned_of_exposure: AtomicBool::new(false),
            has_warned_of_fallback: AtomicBool::new(false),
            keyring_cache: Mutex::default(),
        }
    }

    /// Returns the path of the file without symbolic links.
    pub(super) fn path(&self) -> PathBuf {
        resolve(&self.configured_path)
    }

    /// Returns the store's name in the keyring.
    pub(super) fn name(&self) -> String {
        entry_name(&self.path())
    }

    /// Returns the path of the marker, whose existence means that the credentials are in the keyring.
    pub(super) fn marker(&self) -> PathBuf {
        beside(&self.path(), ".keyring")
    }

    /// Returns the name of the copy in the keyring.
    pub(super) fn copy_name(&self) -> String {
        format!("{}.bak", self.name())
    }

    /// Returns the backend that has the credentials, or that they would be written to.
    pub(super) fn kind_now(&self) -> BackendKind {
        if self.is_marked() {
            BackendKind::Keyring
        } else if file::stamp(&self.path()).is_some() {
            BackendKind::File
        } else {
            self.preference
        }
    }

    pub(super) fn location_now(&self) -> Location {
        match self.kind_now() {
            BackendKind::File => Location::File(self.path()),
            BackendKind::Keyring => Location::Keyring(self.name()),
        }
    }

    /// Returns the states of the file and of the marker.
    pub(super) fn stamps(&self) -> [Option<file::Stamp>; 2] {
        [file::stamp(&self.path()), file::stamp(&self.marker())]
    }

    /// Reads the stored document. Returns `None` if there is none.
    pub(super) async fn read(self: &Arc<Self>, freshness: Freshness) -> Result<Option<Arc<[u8]>>, AuthError> {
        self.ensure_protected().await?;
        let mut kind = self.kind().await;
        loop {
            let text = match kind {
                BackendKind::File => self.read_file().await?,
                BackendKind::Keyring => self.read_keyring(freshness).await?,
            };
            if text.is_some() {
                self.warn_of_backend(kind);
                return Ok(text);
            }
            // It may have been moved meanwhile.
            let now = self.kind().await;
            if now == kind {
                return Ok(None);
            }
            kind = now;
        }
    }

    /// Checks that other users can't replace the credentials or the lock.
    ///
    /// # Errors
    /// If they can write to the directory. The message ends with the command that fixes it.
    pub(super) async fn ensure_protected(self: &Arc<Self>) -> Result<(), AuthError> {
        let backend = Arc::clone(self);
        let exposed = off_runtime(move || Ok(ExposedDirectory::find(directory_of(&backend.path())))).await;
        let Ok(Some(exposed)) = exposed else { return Ok(()) };
        let message = format!("{exposed}, so credentials in it are refused: `{}`", exposed.command());
        Err(AuthError::Store { message })
    }

    /// Replaces the stored document. `lock` is dropped when the write is complete, even if the caller was dropped
    /// before.
    pub(super) async fn write(
        self: &Arc<Self>,
        text: String,
        lock: impl Clone + Send + 'static,
    ) -> Result<(), AuthError> {
        if self.kind().await == BackendKind::Keyring {
            match self.keyring.put(&self.name(), text.clone(), lock.clone()).await {
                Ok(()) => {
                    self.try_write_marker().await;
                    self.write_copy(text, lock).await;
                    return Ok(());
                }
                Err(KeyringError::Absent(why)) if !self.is_marked() => self.warn_of_absence(&why),
                Err(why) => return Err(self.keyring_fault(&why)),
            }
        }
        self.write_file(text, lock).await.map_err(|error| self.fault("can't be written", &error))
    }

    /// Checks whether a write would succeed.
    pub(super) async fn probe(self: &Arc<Self>) -> Result<(), AuthError> {
        if self.kind().await == BackendKind::Keyring {
            let name = format!("{}.probe", self.name());
            match self.keyring.put(&name, " ".repeat(PROBE_SIZE_BYTES), ()).await {
                Ok(()) => return self.keyring.remove(&name).await.map_err(|why| self.keyring_fault(&why)),
                Err(KeyringError::Absent(_)) if !self.is_marked() => {}
                Err(why) => return Err(self.keyring_fault(&why)),
            }
        }
        let backend = Arc::clone(self);
        off_runtime(move || file::probe(&backend.path())).await.map_err(|error| self.fault("can't be written", &error))
    }

    /// Writes the file and its copy.
    pub(super) async fn write_file(&self, text: String, lock: impl Send + 'static) -> io::Result<()> {
        let path = self.path();
        // The write completes even if the caller is dropped, and needs the lock until then.
        off_runtime(move || {
            let _lock = lock;
            file::write(&path, text.as_bytes())?;
            if let Err(error) = file::write_copy(&path, text.as_bytes()) {
                tracing::warn!(%error, "the copy of the credential file can't be written");
            }
            Ok(())
        })
        .await
    }

    /// Writes a copy to the keyring.
    pub(super) async fn write_copy(&self, text: String, lock: impl Send + 'static) {
        if let Err(error) = self.keyring.put(&self.copy_name(), text, lock).await {
            tracing::warn!(%error, "the copy in the keyring can't be written");
        }
    }

    /// Replaces the marker, or logs a warning. Without a marker, the credentials are found only if the setting chooses
    /// the keyring.
    async fn try_write_marker(&self) {
        if let Err(error) = self.write_marker().await {
            tracing::warn!(%error, "the marker for credentials in the keyring can't be written");
        }
    }

    pub(super) async fn write_marker(&self) -> io::Result<()> {
        let about = "codex-proxy stores its credentials in the keyring; this file marks that and contains no secret. \
                     `codex-proxy accounts move --to file` moves them to a file";
        let note = json!({
            "about": about, "service": keyring_chunks::SERVICE, "name": self.name(), "revision": uuid::Uuid::new_v4().to_string(),
        });
        let (marker, text) = (self.marker(), format!("{note:#}\n"));
        off_runtime(move || file::write(&marker, text.as_bytes())).await
    }

    async fn read_file(self: &Arc<Self>) -> Result<Option<Arc<[u8]>>, AuthError> {
        let backend = Arc::clone(self);
        let read = off_runtime(move || {
            let file = backend.path();
            let was_exposed = make_private(&file);
            Ok((file::read(&file)?, was_exposed))
        });
        let (bytes, was_exposed) = read.await.map_err(|error| self.fault("can't be read", &error))?;
        let is_new = || !self.has_warned_of_exposure.swap(true, Ordering::Relaxed);
        // The file may have been created after its mode was checked.
        let is_unchecked = matches!(&was_exposed, Err(error) if error.kind() == io::ErrorKind::NotFound);
        if bytes.is_some() && !is_unchecked && !matches!(was_exposed, Ok(false)) && is_new() {
            warn_of_exposure(&self.path(), was_exposed);
        }
        Ok(bytes.map(Arc::from))
    }

    async fn read_keyring(&self, freshness: Freshness) -> Result<Option<Arc<[u8]>>, AuthError> {
        // Concurrent callers wait for one call.
        let mut cached = self.keyring_cache.lock().await;
        let marker = file::stamp(&self.marker());
        if let Some(reply) =
            cached.as_ref().filter(|reply| freshness == Freshness::Cached && reply.is_valid(marker.as_ref()))
        {
            return reply.outcome.clone();
        }
        let outcome = match self.keyring.get(&self.name()).await {
            Ok(text) => Ok(text.map(Arc::from)),
            Err(KeyringError::Absent(why)) if marker.is_none() => {
                self.warn_of_absence(&why);
                Ok(None)
            }
            Err(why) => Err(self.keyring_fault(&why)),
        };
        *cached = Some(KeyringReply { marker, at: Instant::now(), outcome: outcome.clone() });
        outcome
    }

    async fn kind(self: &Arc<Self>) -> BackendKind {
        let backend = Arc::clone(self);
        off_runtime(move || Ok(backend.kind_now())).await.unwrap_or(self.preference)
    }

    fn is_marked(&self) -> bool {
        file::stamp(&self.marker()).is_some()
    }

    pub(super) fn fault(&self, what: &str, error: &io::Error) -> AuthError {
        let path = self.path();
        let (path, cause, doctor) = (path.display(), file::cause(error), command("doctor"));
        let message =
            format!("{path}: {what} ({cause}); check the permissions of its directory and the free space: `{doctor}`");
        AuthError::Store { message }
    }

    /// Returns the error for a failure of the keyring, with the command that fixes it.
    pub(super) fn keyring_fault(&self, why: &KeyringError) -> AuthError {
        let marker = self.marker();
        let help = match why {
            KeyringError::Damaged => format!("; to restore its last good copy: `{}`", command("accounts restore")),
            KeyringError::Absent(_) if self.is_marked() => {
                format!(
                    ", and the credentials are in one; if it no longer exists: `rm {} && {}`",
                    quoted(&marker),
                    command("login")
                )
            }
            _ => String::new(),
        };
        AuthError::Store { message: format!("{}: {why}{help}", Location::Keyring(self.name())) }
    }

    fn warn_of_absence(&self, why: &str) {
        if !self.has_warned_of_fallback.swap(true, Ordering::Relaxed) {
            let path = self.path();
            let path = path.display();
            tracing::warn!(%path, why, "auth.store is \"keyring\", but there is no keyring: the file is used");
        }
    }

    fn warn_of_backend(&self, kind: BackendKind) {
        if kind == self.preference || self.has_warned_of_fallback.swap(true, Ordering::Relaxed) {
            return;
        }
        match kind {
            BackendKind::File => tracing::warn!(
                path = %self.path().display(),
                "auth.store is \"keyring\", but the credentials are in a file: `{}` moves them",
                command("accounts move --to keyring")
            ),
            BackendKind::Keyring => tracing::warn!(
                "auth.store is \"file\", but the credentials are in the keyring: set auth.store = \"keyring\", or move \
                 them: `{}`",
                command("accounts move --to file")
            ),
        }
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("path", &self.configured_path)
            .field("preference", &self.preference)
            .finish_non_exhaustive()
    }
}

impl KeyringReply {
    fn is_valid(&self, marker: Option<&file::Stamp>) -> bool {
        let span = if self.outcome.is_ok() { CACHE_LIFETIME } else { FAILURE_LIFETIME };
        self.marker.as_ref() == marker && self.at.elapsed() < span
    }
}

impl BackendKind {
    /// Returns the value of the setting.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Keyring => "keyring",
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Keyring(name) => write!(f, "the keyring ({}, {name})", keyring_chunks::SERVICE),
            Self::Memory => f.write_str("memory only"),
        }
    }
}

fn warn_of_exposure(path: &Path, made_private: io::Result<bool>) {
    let path = path.display();
    match made_private {
        Ok(_) => tracing::warn!(%path, "other users could read the credential file; its mode is 0600 now"),
        Err(error) => tracing::warn!(%path, %error, "other users may read the credential file: chmod 600 it"),
    }
}
