//! The two places of a store that outlives the process: a file, or the platform's keyring.
//!
//! Where the credentials are is decided by what is there, and by the setting only while nothing is:
//! a marker file, which holds no secret, says that they lie in the keyring; else a credential file
//! says that they lie in it. So a login is never in two places that could both be renewed, and a
//! running daemon finds what was moved. The marker is replaced at every write, so that a look at it
//! tells whether the keyring has changed. The lock is the same for both places. Where there is no
//! keyring and nothing lies in one, the file is used, with a warning. The file's path is resolved at
//! every use, so that lock, marker, copy and temporary files lie beside the real file, by whatever
//! symbolic link it is reached.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::keyring::{Vault, VaultError};
use super::{file, keyring_chunks, off_runtime};
use crate::command_hint::{command, quoted};
use crate::fs::{ExposedDirectory, beside, directory_of, make_private, resolve};
use crate::token_source::AuthError;

/// How long what the keyring said is believed without asking again, if its marker stays as it was.
const BELIEVED: Duration = Duration::from_secs(60);
/// How long a keyring that failed is left alone: each question can put a dialog before a person.
const REST: Duration = Duration::from_secs(15);
/// More than a store of several accounts takes.
const PROBE_SIZE_BYTES: usize = 16 * 1024;

/// Where credentials are kept (`auth.store`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Place {
    /// A file that only its owner can read.
    File,
    /// The keyring of the platform.
    Keyring,
}

/// Where the credentials of a store lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In a file.
    File(PathBuf),
    /// In the keyring, under this name.
    Keyring(String),
    /// Nowhere: in this process only.
    Memory,
}

/// How much the answer to a question is worth waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// What was said a moment ago will do.
    Remembered,
    /// Only what is there now will do.
    Anew,
}

/// A store in one of the two places.
pub(super) struct Kept {
    /// The file as the settings name it, perhaps by a symbolic link.
    named: PathBuf,
    pub(super) preference: Place,
    pub(super) vault: Vault,
    has_warned_of_exposure: AtomicBool,
    has_warned_of_place: AtomicBool,
    seen: Mutex<Option<Seen>>,
}

/// What the keyring said.
struct Seen {
    marker: Option<file::Stamp>,
    at: Instant,
    outcome: Result<Option<Arc<[u8]>>, AuthError>,
}

impl Kept {
    pub(super) fn new(named: PathBuf, preference: Place, vault: Vault) -> Self {
        Self {
            named,
            preference,
            vault,
            has_warned_of_exposure: AtomicBool::new(false),
            has_warned_of_place: AtomicBool::new(false),
            seen: Mutex::default(),
        }
    }

    /// The store's file, without symbolic links.
    pub(super) fn path(&self) -> PathBuf {
        resolve(&self.named)
    }

    /// The store's name in the keyring.
    pub(super) fn name(&self) -> String {
        name_of(&self.path())
    }

    /// The file that says that the credentials lie in the keyring.
    pub(super) fn marker(&self) -> PathBuf {
        beside(&self.path(), ".keyring")
    }

    /// What the copy of what was last written is filed under.
    pub(super) fn copy_name(&self) -> String {
        format!("{}.bak", self.name())
    }

    /// Where the credentials are, or would be written.
    pub(super) fn place_now(&self) -> Place {
        if self.is_marked() {
            Place::Keyring
        } else if file::stamp(&self.path()).is_some() {
            Place::File
        } else {
            self.preference
        }
    }

    pub(super) fn location_now(&self) -> Location {
        match self.place_now() {
            Place::File => Location::File(self.path()),
            Place::Keyring => Location::Keyring(self.name()),
        }
    }

    /// The state of both places.
    pub(super) fn stamps(&self) -> [Option<file::Stamp>; 2] {
        [file::stamp(&self.path()), file::stamp(&self.marker())]
    }

    /// What is stored; `None`: nothing.
    pub(super) async fn read(self: &Arc<Self>, ask: Ask) -> Result<Option<Arc<[u8]>>, AuthError> {
        self.ensure_protected().await?;
        let mut place = self.place().await;
        loop {
            let text = match place {
                Place::File => self.read_file().await?,
                Place::Keyring => self.read_keyring(ask).await?,
            };
            if text.is_some() {
                self.warn_of_place(place);
                return Ok(text);
            }
            // It may have been moved in between.
            let now = self.place().await;
            if now == place {
                return Ok(None);
            }
            place = now;
        }
    }

    /// Refuses a directory in which other users could put a login of theirs, or take the lock away.
    ///
    /// # Errors
    /// If there is such a directory; the message ends with the command that fixes it.
    pub(super) async fn ensure_protected(self: &Arc<Self>) -> Result<(), AuthError> {
        let kept = Arc::clone(self);
        let exposed = off_runtime(move || Ok(ExposedDirectory::find(directory_of(&kept.path())))).await;
        let Ok(Some(exposed)) = exposed else { return Ok(()) };
        let message = format!("{exposed}, so credentials in it are refused: `{}`", exposed.command());
        Err(AuthError::Store { message })
    }

    /// Replaces what is stored. `turn` is let go of when the work is done, whoever waits for it.
    pub(super) async fn write(
        self: &Arc<Self>,
        text: String,
        turn: impl Clone + Send + 'static,
    ) -> Result<(), AuthError> {
        if self.place().await == Place::Keyring {
            match self.vault.put(&self.name(), text.clone(), turn.clone()).await {
                Ok(()) => {
                    self.mark().await;
                    self.write_copy(text, turn).await;
                    return Ok(());
                }
                Err(VaultError::Absent(why)) if !self.is_marked() => self.warn_of_absence(&why),
                Err(why) => return Err(self.keyring_fault(&why)),
            }
        }
        self.write_file(text, turn).await.map_err(|error| self.fault("can't be written", &error))
    }

    /// Finds out whether a write would succeed.
    pub(super) async fn probe(self: &Arc<Self>) -> Result<(), AuthError> {
        if self.place().await == Place::Keyring {
            let name = format!("{}.probe", self.name());
            match self.vault.put(&name, " ".repeat(PROBE_SIZE_BYTES), ()).await {
                Ok(()) => return self.vault.remove(&name).await.map_err(|why| self.keyring_fault(&why)),
                Err(VaultError::Absent(_)) if !self.is_marked() => {}
                Err(why) => return Err(self.keyring_fault(&why)),
            }
        }
        let kept = Arc::clone(self);
        off_runtime(move || file::probe(&kept.path())).await.map_err(|error| self.fault("can't be written", &error))
    }

    /// Writes the file and the copy beside it.
    pub(super) async fn write_file(&self, text: String, turn: impl Send + 'static) -> io::Result<()> {
        let path = self.path();
        // The work goes on if the caller is dropped, and so must the lock.
        off_runtime(move || {
            let _turn = turn;
            file::write(&path, text.as_bytes())?;
            if let Err(error) = file::write_copy(&path, text.as_bytes()) {
                tracing::warn!(%error, "no copy of the credential file could be kept");
            }
            Ok(())
        })
        .await
    }

    /// Keeps a copy of what was last written to the keyring.
    pub(super) async fn write_copy(&self, text: String, turn: impl Send + 'static) {
        if let Err(error) = self.vault.put(&self.copy_name(), text, turn).await {
            tracing::warn!(%error, "no copy of the keyring's entry could be kept");
        }
    }

    /// Says that the credentials lie in the keyring, and that they have changed. Without the marker they
    /// are found all the same, as long as the setting leads to the keyring.
    async fn mark(&self) {
        if let Err(error) = self.write_marker().await {
            tracing::warn!(%error, "the note that the sign-in lies in the keyring could not be written");
        }
    }

    pub(super) async fn write_marker(&self) -> io::Result<()> {
        let about = "codex-proxy keeps its sign-in in the keyring, and this file (without a secret) beside it; \
                     `codex-proxy accounts move --to file` moves it";
        let note = json!({
            "about": about, "service": keyring_chunks::SERVICE, "name": self.name(), "revision": uuid::Uuid::new_v4().to_string(),
        });
        let (marker, text) = (self.marker(), format!("{note:#}\n"));
        off_runtime(move || file::write(&marker, text.as_bytes())).await
    }

    async fn read_file(self: &Arc<Self>) -> Result<Option<Arc<[u8]>>, AuthError> {
        let kept = Arc::clone(self);
        let read = off_runtime(move || {
            let file = kept.path();
            let was_exposed = make_private(&file);
            Ok((file::read(&file)?, was_exposed))
        });
        let (bytes, was_exposed) = read.await.map_err(|error| self.fault("can't be read", &error))?;
        let is_new = || !self.has_warned_of_exposure.swap(true, Ordering::Relaxed);
        if bytes.is_some() && !matches!(was_exposed, Ok(false)) && is_new() {
            warn_of_exposure(&self.path(), was_exposed);
        }
        Ok(bytes.map(Arc::from))
    }

    async fn read_keyring(&self, ask: Ask) -> Result<Option<Arc<[u8]>>, AuthError> {
        // Whoever comes meanwhile waits for the same question.
        let mut seen = self.seen.lock().await;
        let marker = file::stamp(&self.marker());
        if let Some(seen) = seen.as_ref().filter(|seen| ask == Ask::Remembered && seen.holds(marker.as_ref())) {
            return seen.outcome.clone();
        }
        let outcome = match self.vault.get(&self.name()).await {
            Ok(text) => Ok(text.map(Arc::from)),
            Err(VaultError::Absent(why)) if marker.is_none() => {
                self.warn_of_absence(&why);
                Ok(None)
            }
            Err(why) => Err(self.keyring_fault(&why)),
        };
        *seen = Some(Seen { marker, at: Instant::now(), outcome: outcome.clone() });
        outcome
    }

    async fn place(self: &Arc<Self>) -> Place {
        let kept = Arc::clone(self);
        off_runtime(move || Ok(kept.place_now())).await.unwrap_or(self.preference)
    }

    fn is_marked(&self) -> bool {
        file::stamp(&self.marker()).is_some()
    }

    pub(super) fn fault(&self, what: &str, error: &io::Error) -> AuthError {
        let path = self.path();
        let (path, cause, doctor) = (path.display(), file::cause(error), command("doctor"));
        let message = format!("{path}: {what} ({cause}); see to its folder's rights and free space: `{doctor}`");
        AuthError::Store { message }
    }

    /// A failure of the keyring, with what can be done about it.
    pub(super) fn keyring_fault(&self, why: &VaultError) -> AuthError {
        let marker = self.marker();
        let help = match why {
            VaultError::Damaged => format!("; to put its last good copy back: `{}`", command("accounts restore")),
            VaultError::Absent(_) if self.is_marked() => {
                format!(
                    ", and the sign-in lies in one; if that is gone for good: `rm {} && {}`",
                    quoted(&marker),
                    command("login")
                )
            }
            _ => String::new(),
        };
        AuthError::Store { message: format!("{}: {why}{help}", Location::Keyring(self.name())) }
    }

    fn warn_of_absence(&self, why: &str) {
        if !self.has_warned_of_place.swap(true, Ordering::Relaxed) {
            let path = self.path();
            let path = path.display();
            tracing::warn!(%path, why, "auth.store is \"keyring\", and there is none here: the file is used");
        }
    }

    fn warn_of_place(&self, place: Place) {
        if place == self.preference || self.has_warned_of_place.swap(true, Ordering::Relaxed) {
            return;
        }
        match place {
            Place::File => tracing::warn!(
                path = %self.path().display(),
                "auth.store is \"keyring\", and the sign-in lies in a file: `{}` moves it",
                command("accounts move --to keyring")
            ),
            Place::Keyring => tracing::warn!(
                "auth.store is \"file\", and the sign-in lies in the keyring: set auth.store = \"keyring\", or \
                 `{}` moves it",
                command("accounts move --to file")
            ),
        }
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("path", &self.named).field("preference", &self.preference).finish_non_exhaustive()
    }
}

impl Seen {
    fn holds(&self, marker: Option<&file::Stamp>) -> bool {
        let span = if self.outcome.is_ok() { BELIEVED } else { REST };
        self.marker.as_ref() == marker && self.at.elapsed() < span
    }
}

impl Place {
    /// Its name among the settings.
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

/// What a store is filed under: its path, so that two stores never meet in one entry. The directory's
/// path is spelled as the system spells it: earlier releases did so, and their entries must be found.
fn name_of(path: &Path) -> String {
    let real = path.ancestors().skip(1).find_map(|folder| {
        let rest = path.strip_prefix(folder).ok()?;
        Some(std::fs::canonicalize(folder).ok()?.join(rest))
    });
    let digest = Sha256::digest(real.as_deref().unwrap_or(path).as_os_str().as_encoded_bytes());
    format!("credentials|{}", URL_SAFE_NO_PAD.encode(digest.first_chunk::<12>().expect("a digest has 32 bytes")))
}

fn warn_of_exposure(path: &Path, made_private: io::Result<bool>) {
    let path = path.display();
    match made_private {
        Ok(_) => tracing::warn!(%path, "other users could read the credential file; its mode is 0600 now"),
        Err(error) => tracing::warn!(%path, %error, "other users may read the credential file: chmod 600 it"),
    }
}
