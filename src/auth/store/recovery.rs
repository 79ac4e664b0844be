//! What to do about a store that can't be used: the words for it, and the copy that is put back.
//!
//! Only what is damaged is ever replaced, by the last good copy and only when somebody asks for it.
//! Another program's file, and one of a later release, are left as they are.

use std::path::{Path, PathBuf};

use super::backend::{Kept, Location, Place};
use super::keyring::VaultError;
use super::{Document, Kind, Store, Unreadable, file, off_runtime};
use crate::command_hint::{command, quoted};
use crate::fs::beside;
use crate::token_source::AuthError;

/// A store that was put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The accounts that are in it now.
    pub accounts: usize,
    /// Where the damaged file is; `None`: there was no file.
    pub aside: Option<PathBuf>,
}

impl Store {
    /// What a part of the document could not be read for, as the store's error.
    pub(in crate::auth) fn unreadable(&self, why: &Unreadable) -> AuthError {
        if let Kind::Kept(kept) = &*self.0
            && let Location::Keyring(name) = kept.location_now()
        {
            return unreadable_entry(&name, why);
        }
        let path = self.path();
        let help = match why {
            Unreadable::Newer { .. } => {
                format!("use that release, or move the file away and sign in: `{}`", anew(&path, ".newer"))
            }
            // A failure costs a look at the disk, as little as it is.
            Unreadable::Damaged(_) if has_copy(&path) => {
                format!("to put its last good copy back: `{}`", command("accounts restore"))
            }
            Unreadable::Damaged(_) => {
                format!("move the file away and sign in: `{}`", anew(&path, ".damaged"))
            }
            Unreadable::Foreign => format!(
                "set auth.credentials to another path (or unset CHATGPT_TOKEN_DIR), and then, to borrow it if it is \
                 another program's login: `{}`",
                command(&format!("login --import {}", quoted(&path)))
            ),
        };
        AuthError::Store { message: format!("{}: {why}; nothing was overwritten: {help}", path.display()) }
    }

    /// Puts the last good copy in the place of a damaged or absent file, which is kept beside it.
    ///
    /// # Errors
    /// When the file is not damaged, there is no good copy, or it can't be written.
    pub async fn restore(&self) -> Result<Restored, AuthError> {
        let Kind::Kept(kept) = &*self.0 else { return Err(self.nothing_to_restore("it is in memory only")) };
        let held = self.lock().await?;
        let place = kept.place_now();
        let (found, copy) = match place {
            Place::File => in_file(kept).await?,
            Place::Keyring => in_keyring(kept).await?,
        };
        match &found {
            Found::Nothing | Found::Unreadable(Unreadable::Damaged(_)) => {}
            Found::Whole => return Err(self.nothing_to_restore("it is in order")),
            Found::Unreadable(why) => return Err(self.unreadable(why)),
        }
        let Some(document) = copy.and_then(|copy| whole(&copy).ok()) else {
            let way_out = match (place, found) {
                (Place::File, Found::Unreadable(_)) => anew(&self.path(), ".damaged"),
                _ => command("login"),
            };
            return Err(self.nothing_to_restore(&format!("there is no good copy of it; sign in anew: `{way_out}`")));
        };
        let aside = match place {
            Place::File => {
                let damaged = kept.path();
                let aside = off_runtime(move || file::set_aside(&damaged)).await;
                aside.map_err(|error| kept.fault("can't be moved away", &error))?
            }
            Place::Keyring => None,
        };
        held.write(&document).await?;
        Ok(Restored { accounts: document.ids().count(), aside })
    }

    fn nothing_to_restore(&self, why: &str) -> AuthError {
        AuthError::Store { message: format!("{}: nothing was put back: {why}", self.path().display()) }
    }
}

/// What lies where the store should be.
enum Found {
    Nothing,
    Whole,
    Unreadable(Unreadable),
}

impl Found {
    fn of(text: Option<&[u8]>) -> Self {
        match text.map(whole) {
            None => Self::Nothing,
            Some(Ok(_)) => Self::Whole,
            Some(Err(why)) => Self::Unreadable(why),
        }
    }
}

async fn in_file(kept: &Kept) -> Result<(Found, Option<Vec<u8>>), AuthError> {
    let path = kept.path();
    let found = off_runtime(move || Ok((file::read(&path)?, file::read(&file::copy_path(&path))?)));
    let (bytes, copy) = found.await.map_err(|error| kept.fault("can't be read", &error))?;
    Ok((Found::of(bytes.as_deref()), copy))
}

async fn in_keyring(kept: &Kept) -> Result<(Found, Option<Vec<u8>>), AuthError> {
    let found = match kept.vault.get(&kept.name()).await {
        Ok(text) => Found::of(text.as_deref()),
        Err(VaultError::Damaged) => Found::Unreadable(Unreadable::Damaged("its parts do not fit".to_owned())),
        Err(why) => return Err(kept.keyring_fault(&why)),
    };
    let copy = match kept.vault.get(&kept.copy_name()).await {
        Ok(copy) => copy,
        Err(VaultError::Damaged) => None,
        Err(why) => return Err(kept.keyring_fault(&why)),
    };
    Ok((found, copy))
}

fn unreadable_entry(name: &str, why: &Unreadable) -> AuthError {
    let help = match why {
        Unreadable::Newer { .. } => "use that release".to_owned(),
        Unreadable::Damaged(_) => format!("to put its last good copy back: `{}`", command("accounts restore")),
        Unreadable::Foreign => format!("delete the entry and sign in: `{}`", command("login")),
    };
    let entry = Location::Keyring(name.to_owned());
    AuthError::Store { message: format!("{entry}: {why}; nothing was overwritten: {help}") }
}

/// Keeps the file under another name, and signs in.
fn anew(path: &Path, suffix: &str) -> String {
    format!("mv {} {} && {}", quoted(path), quoted(&beside(path, suffix)), command("login"))
}

fn has_copy(path: &Path) -> bool {
    matches!(file::read(&file::copy_path(path)), Ok(Some(copy)) if whole(&copy).is_ok())
}

/// The document, if every account in it can be read.
pub(super) fn whole(bytes: &[u8]) -> Result<Document, Unreadable> {
    let document = Document::parse(bytes)?;
    document.ids().try_for_each(|id| document.get(id).map(drop))?;
    Ok(document)
}
