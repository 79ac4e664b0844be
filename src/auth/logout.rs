//! The end of a login.
//!
//! The issuer is told if it can be reached, and the account leaves the store in any case. The
//! store's lock is held meanwhile, so that no renewal can spend or bring back what is being thrown
//! away. A borrowed login is only forgotten: revoking it would sign its owner out.

use serde::Serialize;

use crate::auth::credential::Ownership;
use crate::auth::issuer::Authority;
use crate::auth::store::{Document, Store};
use crate::token_source::AuthError;

/// Which accounts leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which<'a> {
    /// The active one.
    Active,
    /// The one with this id.
    Account(&'a str),
    /// Every one.
    All,
}

/// An account that has left the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Departure {
    /// Which account it was.
    pub account_id: String,
    /// What became of its tokens.
    pub revocation: Revocation,
}

/// What became of the tokens of an account that left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Revocation {
    /// The issuer has revoked them.
    Done,
    /// They are another program's and stay valid.
    NotOurs,
    /// The issuer could not be told; they stay valid until they end.
    Failed(String),
}

/// Signs accounts out; the answer is empty when there is none.
///
/// # Errors
/// When the store can't be read or written. A failure to revoke is none.
pub async fn logout(store: &Store, authority: &Authority, which: Which<'_>) -> Result<Vec<Departure>, AuthError> {
    // Nothing to do must not create a lock file.
    if chosen(&store.read().await?, which).is_empty() {
        return Ok(Vec::new());
    }
    let held = store.lock().await?;
    let mut document = held.read().await?;
    let mut departures = Vec::new();
    for account_id in chosen(&document, which) {
        let revocation = revoke(&document, authority, &account_id).await;
        document.remove(&account_id);
        departures.push(Departure { account_id, revocation });
    }
    held.write(&document).await?;
    Ok(departures)
}

fn chosen(document: &Document, which: Which<'_>) -> Vec<String> {
    let active = document.active().map(str::to_owned);
    let is_chosen = |id: &&str| match which {
        Which::Active => active.as_deref() == Some(id),
        Which::Account(wanted) => *id == wanted,
        Which::All => true,
    };
    document.ids().filter(is_chosen).map(str::to_owned).collect()
}

async fn revoke(document: &Document, authority: &Authority, account_id: &str) -> Revocation {
    // An entry that can't be understood can still be forgotten.
    let credential = match document.get(account_id) {
        Ok(Some(credential)) => credential,
        Ok(None) => return Revocation::Failed("the account is gone".to_owned()),
        Err(why) => return Revocation::Failed(why.to_string()),
    };
    if credential.ownership != Ownership::Owned {
        return Revocation::NotOurs;
    }
    match authority.revoke(&credential).await {
        Ok(()) => Revocation::Done,
        Err(error) => Revocation::Failed(error.to_string()),
    }
}
