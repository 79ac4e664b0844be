//! What to do about a store that can't be used: the words for it, and the copy that is put back.
//!
//! Only a damaged file is ever replaced, by the last good copy and only when somebody asks for it.
//! Another program's file, and one of a later release, are left as they are.

use std::path::{Path, PathBuf};

use super::{Document, Place, Store, Unreadable, file, off_runtime};
use crate::bearer::AuthError;

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
        let path = self.path().display();
        let help = match why {
            Unreadable::Newer { .. } => {
                "use that release, or move the file away and run `codex-proxy login`".to_owned()
            }
            // A failure costs a look at the disk, as little as it is.
            Unreadable::Damaged(_) if has_copy(self.path()) => {
                "`codex-proxy accounts restore` puts its last good copy back".to_owned()
            }
            Unreadable::Damaged(_) => "move the file away and run `codex-proxy login`".to_owned(),
            Unreadable::Foreign => format!(
                "set auth.credentials to another path (or unset CHATGPT_TOKEN_DIR); if it is another program's \
                 login, `codex-proxy login --import {path}` borrows it then"
            ),
        };
        AuthError::Store { message: format!("{path}: {why}; nothing was overwritten: {help}") }
    }

    /// Puts the last good copy in the place of a damaged or absent file, which is kept beside it.
    ///
    /// # Errors
    /// When the file is not damaged, there is no good copy, or it can't be written.
    pub async fn restore(&self) -> Result<Restored, AuthError> {
        let Place::File { path, .. } = &*self.0 else { return Err(self.nothing_to_restore("it is in memory only")) };
        let held = self.lock().await?;
        let original = path.clone();
        let found = off_runtime(move || Ok((file::read(&original)?, file::read(&file::copy_path(&original))?)));
        let (bytes, copy) = found.await.map_err(|error| self.fault("can't be read", &error))?;
        match bytes.as_deref().map(whole) {
            None | Some(Err(Unreadable::Damaged(_))) => {}
            Some(Ok(_)) => return Err(self.nothing_to_restore("it is in order")),
            Some(Err(why)) => return Err(self.unreadable(&why)),
        }
        let copy = copy.and_then(|copy| whole(&copy).ok());
        let document = copy.ok_or_else(|| self.nothing_to_restore("there is no good copy of it"))?;
        let damaged = path.clone();
        let aside = off_runtime(move || file::set_aside(&damaged)).await;
        let aside = aside.map_err(|error| self.fault("can't be moved away", &error))?;
        held.write(&document).await?;
        Ok(Restored { accounts: document.ids().count(), aside })
    }

    fn nothing_to_restore(&self, why: &str) -> AuthError {
        AuthError::Store { message: format!("{}: nothing was put back: {why}", self.path().display()) }
    }
}

fn has_copy(path: &Path) -> bool {
    matches!(file::read(&file::copy_path(path)), Ok(Some(copy)) if whole(&copy).is_ok())
}

/// The document, if every account in it can be read.
fn whole(bytes: &[u8]) -> Result<Document, Unreadable> {
    let document = Document::parse(bytes)?;
    document.ids().try_for_each(|id| document.get(id).map(drop))?;
    Ok(document)
}
