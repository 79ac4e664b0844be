//! Moves credentials from the file to the keyring, or back.
//!
//! Under the store's lock, the document is written to the other backend and read back, the marker is updated, and then
//! the old backend and its copies are cleared. If this is interrupted at any point, one backend has everything and is
//! in use. Repeating the command clears what was left.

use super::backend::{Backend, BackendKind, Location};
use super::keyring::KeyringError;
use super::{Document, LockedStore, Store, StoreKind, file, off_runtime, recovery};
use crate::token_source::AuthError;

/// The result of a move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveOutcome {
    /// The number of accounts that were moved.
    pub accounts: usize,
    /// Where they were; the same as `to` if nothing had to be moved.
    pub from: Location,
    /// Where they are.
    pub to: Location,
    /// A sentence about what couldn't be cleared and may contain tokens.
    pub left_over: Option<String>,
}

impl Store {
    /// Moves all accounts to a backend.
    ///
    /// # Errors
    /// If no account is signed in, or a backend can't be read or written. Nothing is moved then.
    pub async fn move_to(&self, to: BackendKind) -> Result<MoveOutcome, AuthError> {
        let StoreKind::Persistent(backend) = &*self.0 else { return Err(self.unmoved("it is in memory only")) };
        if self.read().await?.ids().next().is_none() {
            return Err(self.unmoved("no account is signed in; the setting auth.store chooses where a login is stored"));
        }
        let locked = self.lock().await?;
        let document = locked.read().await?;
        let document =
            recovery::parse_completely(document.to_text().as_bytes()).map_err(|why| self.unreadable(&why))?;
        let from = backend.location_now();
        let text = document.to_text();
        match (backend.kind_now(), to) {
            (BackendKind::File, BackendKind::Keyring) => self.copy_to_keyring(backend, &locked, text).await?,
            (BackendKind::Keyring, BackendKind::File) => self.copy_to_file(backend, &locked, text).await?,
            (BackendKind::File, BackendKind::File) | (BackendKind::Keyring, BackendKind::Keyring) => {}
        }
        let left_over = match to {
            BackendKind::Keyring => clear_file(backend, &document).await,
            BackendKind::File => clear_keyring(backend).await,
        };
        Ok(MoveOutcome { accounts: document.ids().count(), from, to: backend.location_now(), left_over })
    }

    async fn copy_to_keyring(&self, backend: &Backend, locked: &LockedStore, text: String) -> Result<(), AuthError> {
        let lock = std::sync::Arc::clone(&locked.lock);
        backend.keyring.put(&backend.name(), text.clone(), lock).await.map_err(|why| backend.keyring_fault(&why))?;
        let back = backend.keyring.get(&backend.name()).await.map_err(|why| backend.keyring_fault(&why))?;
        if back.as_deref() != Some(text.as_bytes()) {
            return Err(self.unmoved("the keyring doesn't return what was written to it"));
        }
        backend.write_copy(text, ()).await;
        backend.write_marker().await.map_err(|error| backend.fault("the marker next to it can't be written", &error))
    }

    async fn copy_to_file(&self, backend: &Backend, locked: &LockedStore, text: String) -> Result<(), AuthError> {
        let lock = std::sync::Arc::clone(&locked.lock);
        backend.write_file(text.clone(), lock).await.map_err(|error| backend.fault("can't be written", &error))?;
        let (path, marker) = (backend.path(), backend.marker());
        let back = off_runtime(move || file::read(&path)).await;
        let back = back.map_err(|error| backend.fault("can't be read", &error))?;
        if back.as_deref() != Some(text.as_bytes()) {
            return Err(self.unmoved("the file doesn't contain what was written to it"));
        }
        let cleared = off_runtime(move || file::remove(&marker)).await;
        cleared.map_err(|error| backend.fault("the marker next to it can't be deleted", &error))
    }

    fn unmoved(&self, why: &str) -> AuthError {
        AuthError::Store { message: format!("{}: nothing was moved: {why}", self.path().display()) }
    }
}

/// Deletes the file and its copy, unless the file has an account that the keyring doesn't have.
async fn clear_file(backend: &Backend, moved: &Document) -> Option<String> {
    let path = backend.path();
    let copy = file::copy_path(&path);
    let moved: Vec<String> = moved.ids().map(str::to_owned).collect();
    let is_moved = move |bytes: &[u8]| {
        Document::parse(bytes).is_ok_and(|document| document.ids().all(|id| moved.iter().any(|other| other == id)))
    };
    let cleared = off_runtime(move || {
        let found = file::read(&path)?;
        if found.is_some_and(|bytes| !is_moved(&bytes)) {
            return Err(std::io::Error::other("it has other contents, and isn't used"));
        }
        file::remove(&path)?;
        file::remove(&copy)
    });
    let error = cleared.await.err()?;
    Some(format!("{} was not deleted ({error}): check it, and delete it and its .bak", backend.path().display()))
}

async fn clear_keyring(backend: &Backend) -> Option<String> {
    for name in [backend.name(), backend.copy_name()] {
        match backend.keyring.remove(&name).await {
            // There is no keyring, so there is nothing to remove.
            Ok(()) | Err(KeyringError::Absent(_)) => {}
            Err(why) => return Some(format!("{} was not deleted: {why}", Location::Keyring(name))),
        }
    }
    None
}
