//! From the file to the keyring, and back.
//!
//! Under the store's lock: what is there is written to the other place and read back, then the
//! marker says that the other place holds it, and only then the old place is cleared, its copies
//! too. Wherever this is interrupted, one place holds everything and is the one that is used; the
//! same command once more clears what was left.

use super::backend::{Kept, Location, Place};
use super::keyring::VaultError;
use super::{Document, Held, Kind, Store, file, off_runtime, recovery};
use crate::token_source::AuthError;

/// What became of a move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// How many accounts were moved.
    pub accounts: usize,
    /// Where they were; the same as `to` where nothing had to be moved.
    pub from: Location,
    /// Where they are.
    pub to: Location,
    /// What could not be cleared, in one sentence; it may hold tokens.
    pub left_over: Option<String>,
}

impl Store {
    /// Moves every account to a place.
    ///
    /// # Errors
    /// When nobody is signed in, or a place can't be read or written; then everything is where it was.
    pub async fn move_to(&self, to: Place) -> Result<Moved, AuthError> {
        let Kind::Kept(kept) = &*self.0 else { return Err(self.unmoved("it is in memory only")) };
        if self.read().await?.ids().next().is_none() {
            return Err(self.unmoved("nobody is signed in; the setting auth.store says where a sign-in will go"));
        }
        let held = self.lock().await?;
        let document = held.read().await?;
        let document = recovery::whole(document.to_text().as_bytes()).map_err(|why| self.unreadable(&why))?;
        let from = kept.location_now();
        let text = document.to_text();
        match (kept.place_now(), to) {
            (Place::File, Place::Keyring) => self.carry_to_keyring(kept, &held, text).await?,
            (Place::Keyring, Place::File) => self.carry_to_file(kept, &held, text).await?,
            (Place::File, Place::File) | (Place::Keyring, Place::Keyring) => {}
        }
        let left_over = match to {
            Place::Keyring => clear_file(kept, &document).await,
            Place::File => clear_keyring(kept).await,
        };
        Ok(Moved { accounts: document.ids().count(), from, to: kept.location_now(), left_over })
    }

    async fn carry_to_keyring(&self, kept: &Kept, held: &Held, text: String) -> Result<(), AuthError> {
        let turn = std::sync::Arc::clone(&held.turn);
        kept.vault.put(&kept.name(), text.clone(), turn).await.map_err(|why| kept.keyring_fault(&why))?;
        let back = kept.vault.get(&kept.name()).await.map_err(|why| kept.keyring_fault(&why))?;
        if back.as_deref() != Some(text.as_bytes()) {
            return Err(self.unmoved("the keyring does not give back what was put there"));
        }
        kept.write_copy(text, ()).await;
        kept.write_marker().await.map_err(|error| kept.fault("the note beside it can't be written", &error))
    }

    async fn carry_to_file(&self, kept: &Kept, held: &Held, text: String) -> Result<(), AuthError> {
        let turn = std::sync::Arc::clone(&held.turn);
        kept.write_file(text.clone(), turn).await.map_err(|error| kept.fault("can't be written", &error))?;
        let (path, marker) = (kept.path(), kept.marker());
        let back = off_runtime(move || file::read(&path)).await;
        let back = back.map_err(|error| kept.fault("can't be read", &error))?;
        if back.as_deref() != Some(text.as_bytes()) {
            return Err(self.unmoved("the file does not give back what was put there"));
        }
        let cleared = off_runtime(move || file::remove(&marker)).await;
        cleared.map_err(|error| kept.fault("the note beside it can't be deleted", &error))
    }

    fn unmoved(&self, why: &str) -> AuthError {
        AuthError::Store { message: format!("{}: nothing was moved: {why}", self.path().display()) }
    }
}

/// Deletes the file and its copy, unless it holds an account that the keyring does not.
async fn clear_file(kept: &Kept, moved: &Document) -> Option<String> {
    let path = kept.path();
    let copy = file::copy_path(&path);
    let moved: Vec<String> = moved.ids().map(str::to_owned).collect();
    let is_moved = move |bytes: &[u8]| {
        Document::parse(bytes).is_ok_and(|document| document.ids().all(|id| moved.iter().any(|other| other == id)))
    };
    let cleared = off_runtime(move || {
        let found = file::read(&path)?;
        if found.is_some_and(|bytes| !is_moved(&bytes)) {
            return Err(std::io::Error::other("it holds something else, and is not used"));
        }
        file::remove(&path)?;
        file::remove(&copy)
    });
    let error = cleared.await.err()?;
    Some(format!("{} was left ({error}): delete it, and its .bak, when you are sure", kept.path().display()))
}

async fn clear_keyring(kept: &Kept) -> Option<String> {
    for name in [kept.name(), kept.copy_name()] {
        match kept.vault.remove(&name).await {
            // No keyring, nothing in it.
            Ok(()) | Err(VaultError::Absent(_)) => {}
            Err(why) => return Some(format!("{} was left: {why}", Location::Keyring(name))),
        }
    }
    None
}
