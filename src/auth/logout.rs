//! Signs accounts out.
//!
//! Revokes the tokens if the issuer can be reached, and removes the account from the store in any case. Holds the
//! store's lock meanwhile, so that no refresh can use or restore these tokens. An imported login is only removed:
//! revoking it would sign out the program that owns it.

use serde::Serialize;

use crate::auth::credential::Ownership;
use crate::auth::issuer::Issuer;
use crate::auth::store::{Document, Store};
use crate::token_source::AuthError;

/// The accounts to sign out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountSelection<'a> {
    /// The active account.
    Active,
    /// The account with this id.
    Account(&'a str),
    /// All accounts.
    All,
}

/// An account that was removed from the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RemovedAccount {
    /// The account's id.
    pub account_id: String,
    /// Whether its tokens were revoked.
    pub revocation: Revocation,
}

/// Whether the tokens of a removed account were revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Revocation {
    /// The issuer has revoked them.
    Done,
    /// They belong to another program and stay valid.
    NotOurs,
    /// Revoking failed for this reason; they stay valid until they expire.
    Failed(String),
}

/// Signs accounts out. Returns an empty list if no account matches.
///
/// # Errors
/// If the store can't be read or written. A failed revocation is not an error.
pub async fn logout(
    store: &Store,
    issuer: &Issuer,
    which: AccountSelection<'_>,
) -> Result<Vec<RemovedAccount>, AuthError> {
    // Don't create a lock file if there is nothing to do.
    if selected(&store.read().await?, which).is_empty() {
        return Ok(Vec::new());
    }
    let locked = store.lock().await?;
    let mut document = locked.read().await?;
    let mut removed = Vec::new();
    for account_id in selected(&document, which) {
        let revocation = revoke(&document, issuer, &account_id).await;
        document.remove(&account_id);
        removed.push(RemovedAccount { account_id, revocation });
    }
    locked.write(&document).await?;
    Ok(removed)
}

fn selected(document: &Document, which: AccountSelection<'_>) -> Vec<String> {
    let active = document.active().map(str::to_owned);
    let is_selected = |id: &&str| match which {
        AccountSelection::Active => active.as_deref() == Some(id),
        AccountSelection::Account(wanted) => *id == wanted,
        AccountSelection::All => true,
    };
    document.ids().filter(is_selected).map(str::to_owned).collect()
}

async fn revoke(document: &Document, issuer: &Issuer, account_id: &str) -> Revocation {
    // An account that can't be parsed is still removed.
    let credential = match document.get(account_id) {
        Ok(Some(credential)) => credential,
        Ok(None) => return Revocation::Failed("the account was removed".to_owned()),
        Err(why) => return Revocation::Failed(why.to_string()),
    };
    if credential.ownership != Ownership::Owned {
        return Revocation::NotOurs;
    }
    match issuer.revoke(&credential).await {
        Ok(()) => Revocation::Done,
        Err(error) => Revocation::Failed(error.to_string()),
    }
}
