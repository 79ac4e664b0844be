//! Restores a damaged store from its copy, and explains how to fix one that can't be read.
//!
//! Only a damaged document is replaced, and only on the user's command. Files of other programs and of later releases
//! are left unchanged.

use std::path::{Path, PathBuf};

use super::backend::{Backend, BackendKind, Location};
use super::keyring::KeyringError;
use super::{Document, DocumentError, Store, StoreKind, file, off_runtime};
use crate::command_hint::{command, quoted};
use crate::fs::beside;
use crate::token_source::AuthError;

/// The result of restoring a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreOutcome {
    /// The number of accounts in the restored store.
    pub accounts: usize,
    /// Where the damaged file was moved, if there was one.
    pub damaged: Option<PathBuf>,
}

impl Store {
    /// Returns the error for a document that can't be parsed, with the command that fixes it.
    pub(in crate::auth) fn unreadable(&self, why: &DocumentError) -> AuthError {
        if let StoreKind::Persistent(backend) = &*self.0
            && let Location::Keyring(name) = backend.location_now()
        {
            return unreadable_entry(&name, why);
        }
        let path = self.path();
        let help = match why {
            DocumentError::Newer { .. } => {
                format!("use that release, or move the file away and sign in: `{}`", move_and_login(&path, ".newer"))
            }
            DocumentError::Damaged(_) if has_copy(&path) => {
                format!("to restore its last good copy: `{}`", command("accounts restore"))
            }
            DocumentError::Damaged(_) => {
                format!("move the file away and sign in: `{}`", move_and_login(&path, ".damaged"))
            }
            DocumentError::Foreign => format!(
                "set auth.credentials to another path (or unset CHATGPT_TOKEN_DIR); if the file is another program's \
                 login, import it: `{}`",
                command(&format!("login --import {}", quoted(&path)))
            ),
        };
        AuthError::Store { message: format!("{}: {why}; nothing was overwritten: {help}", path.display()) }
    }

    /// Restores the last good copy of a damaged or missing document. A damaged file is renamed.
    ///
    /// # Errors
    /// If the document isn't damaged, there is no good copy, or it can't be written.
    pub async fn restore(&self) -> Result<RestoreOutcome, AuthError> {
        let StoreKind::Persistent(backend) = &*self.0 else {
            return Err(self.nothing_to_restore("it is in memory only"));
        };
        let locked = self.lock().await?;
        let kind = backend.kind_now();
        let (found, copy) = match kind {
            BackendKind::File => in_file(backend).await?,
            BackendKind::Keyring => in_keyring(backend).await?,
        };
        match &found {
            Found::Nothing | Found::Unreadable(DocumentError::Damaged(_)) => {}
            Found::Intact => return Err(self.nothing_to_restore("it is not damaged")),
            Found::Unreadable(why) => return Err(self.unreadable(why)),
        }
        let Some(document) = copy.and_then(|copy| parse_completely(&copy).ok()) else {
            let command = match (kind, found) {
                (BackendKind::File, Found::Unreadable(_)) => move_and_login(&self.path(), ".damaged"),
                _ => command("login"),
            };
            return Err(self.nothing_to_restore(&format!("there is no good copy of it; sign in again: `{command}`")));
        };
        let damaged = match kind {
            BackendKind::File => {
                let file = backend.path();
                let renamed = off_runtime(move || file::rename_damaged(&file)).await;
                renamed.map_err(|error| backend.fault("can't be renamed", &error))?
            }
            BackendKind::Keyring => None,
        };
        locked.write(&document).await?;
        Ok(RestoreOutcome { accounts: document.ids().count(), damaged })
    }

    fn nothing_to_restore(&self, why: &str) -> AuthError {
        AuthError::Store { message: format!("{}: nothing was restored: {why}", self.path().display()) }
    }
}

/// The state of the stored document.
enum Found {
    Nothing,
    Intact,
    Unreadable(DocumentError),
}

impl Found {
    fn of(text: Option<&[u8]>) -> Self {
        match text.map(parse_completely) {
            None => Self::Nothing,
            Some(Ok(_)) => Self::Intact,
            Some(Err(why)) => Self::Unreadable(why),
        }
    }
}

/// Returns the state of the file, and the text of its copy.
async fn in_file(backend: &Backend) -> Result<(Found, Option<Vec<u8>>), AuthError> {
    let path = backend.path();
    let found = off_runtime(move || Ok((file::read(&path)?, file::read(&file::copy_path(&path))?)));
    let (bytes, copy) = found.await.map_err(|error| backend.fault("can't be read", &error))?;
    Ok((Found::of(bytes.as_deref()), copy))
}

/// Returns the state of the entry, and the text of its copy.
async fn in_keyring(backend: &Backend) -> Result<(Found, Option<Vec<u8>>), AuthError> {
    let found = match backend.keyring.get(&backend.name()).await {
        Ok(text) => Found::of(text.as_deref()),
        Err(KeyringError::Damaged) => Found::Unreadable(DocumentError::Damaged("its parts don't match".to_owned())),
        Err(why) => return Err(backend.keyring_fault(&why)),
    };
    let copy = match backend.keyring.get(&backend.copy_name()).await {
        Ok(copy) => copy,
        Err(KeyringError::Damaged) => None,
        Err(why) => return Err(backend.keyring_fault(&why)),
    };
    Ok((found, copy))
}

fn unreadable_entry(name: &str, why: &DocumentError) -> AuthError {
    let help = match why {
        DocumentError::Newer { .. } => "use that release".to_owned(),
        DocumentError::Damaged(_) => format!("to restore its last good copy: `{}`", command("accounts restore")),
        DocumentError::Foreign => format!("delete the entry and sign in: `{}`", command("login")),
    };
    let entry = Location::Keyring(name.to_owned());
    AuthError::Store { message: format!("{entry}: {why}; nothing was overwritten: {help}") }
}

/// Returns the shell command that renames the file and signs in.
fn move_and_login(path: &Path, suffix: &str) -> String {
    format!("mv {} {} && {}", quoted(path), quoted(&beside(path, suffix)), command("login"))
}

fn has_copy(path: &Path) -> bool {
    matches!(file::read(&file::copy_path(path)), Ok(Some(copy)) if parse_completely(&copy).is_ok())
}

/// Parses a document and all of its accounts.
pub(super) fn parse_completely(bytes: &[u8]) -> Result<Document, DocumentError> {
    let document = Document::parse(bytes)?;
    document.ids().try_for_each(|id| document.get(id).map(drop))?;
    Ok(document)
}
