//! The accounts of the store without their tokens, for `status`.
//!
//! The JSON form is stable. Makes no requests, refreshes nothing and writes nothing. The e-mail address is shown to the
//! user and never logged.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::auth::credential::{Credential, Ownership, Staleness};
use crate::auth::import;
use crate::auth::store::{Location, Store};
use crate::clock::{Clock, serialize_rfc3339};
use crate::token_source::AuthError;

/// A token that expires within this time is refreshed at its next use.
const MARGIN: Duration = Duration::from_secs(5 * 60);

/// The accounts of a store.
#[derive(Clone, Debug)]
pub struct Status {
    /// Where they are stored.
    pub location: Location,
    /// All accounts, ordered by id.
    pub accounts: Vec<AccountStatus>,
}

/// One account, without its tokens.
#[derive(Clone, Serialize)]
pub struct AccountStatus {
    /// The id of the workspace.
    pub account_id: String,
    /// Whether it is the account in use: the configured one, or else the active one.
    pub is_active: bool,
    /// The user's e-mail address.
    pub email: Option<String>,
    /// The plan, as the issuer spells it.
    pub plan: Option<String>,
    /// Whether it is a FedRAMP workspace.
    pub is_fedramp: bool,
    /// State of the access token.
    pub state: TokenState,
    /// Whether the access token can be refreshed.
    pub is_renewable: bool,
    /// When the access token expires.
    #[serde(serialize_with = "serialize_rfc3339")]
    pub expires_at: Option<SystemTime>,
    /// When the tokens were last issued.
    #[serde(serialize_with = "serialize_rfc3339")]
    pub last_refresh: Option<SystemTime>,
    /// Where an imported login comes from.
    pub borrowed_from: Option<LoginSource>,
    /// Set once the issuer has permanently refused to refresh it.
    pub refusal: Option<RefusalStatus>,
    /// When the backend refused the access token and no other could be obtained.
    #[serde(serialize_with = "serialize_rfc3339")]
    pub refused_at: Option<SystemTime>,
}

/// A permanent refusal to refresh a login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusalStatus {
    /// The reason.
    pub reason: String,
    /// When the issuer refused.
    #[serde(serialize_with = "serialize_rfc3339")]
    pub at: Option<SystemTime>,
}

/// Where an imported login comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LoginSource {
    /// The program that owns and refreshes it.
    pub owner: String,
    /// Its file.
    pub path: PathBuf,
}

/// State of an access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenState {
    /// Valid, and not due for a refresh or can't be refreshed.
    Fresh,
    /// Valid, and refreshed at its next use.
    Due,
    /// Expired, and refreshed at its next use.
    Renewable,
    /// Expired or refused by the backend, and can't be refreshed.
    Ended,
}

/// Reads the accounts of a store. `chosen` is the account that is used instead of the active one.
///
/// # Errors
/// If the store can't be read or parsed.
pub async fn status(store: &Store, clock: &dyn Clock, chosen: Option<&str>) -> Result<Status, AuthError> {
    let document = store.read().await?;
    let mut accounts = Vec::new();
    for id in document.ids() {
        let Some(credential) = document.get(id).map_err(|why| store.unreadable(&why))? else { continue };
        let credential = reread_borrowed(credential).await;
        let is_active = chosen.or(document.active()) == Some(id);
        accounts.push(AccountStatus::new(&credential, is_active, clock.now()));
    }
    Ok(Status { location: store.location().await, accounts })
}

impl Status {
    /// Returns the account in use.
    #[must_use]
    pub fn active(&self) -> Option<&AccountStatus> {
        self.accounts.iter().find(|account| account.is_active)
    }
}

/// Returns an imported login as its owner's file has it now, if the file can be read and has the same account.
async fn reread_borrowed(credential: Credential) -> Credential {
    let Ownership::Borrowed { path, .. } = &credential.ownership else { return credential };
    match import::reread(path).await {
        Ok(found) if found.account_id == credential.account_id => found,
        _ => credential,
    }
}

impl AccountStatus {
    /// Describes a credential.
    #[must_use]
    pub fn new(credential: &Credential, is_active: bool, now: SystemTime) -> Self {
        let borrowed_from = match &credential.ownership {
            Ownership::Owned => None,
            Ownership::Borrowed { path, owner } => Some(LoginSource { owner: owner.clone(), path: path.clone() }),
        };
        let state = match (credential.state(now), credential.check(now, MARGIN)) {
            (Err(_), _) => TokenState::Ended,
            (Ok(_), Err(Staleness::Expired)) => TokenState::Renewable,
            (Ok(_), Err(Staleness::Expiring | Staleness::NoExpiry)) if credential.is_renewable() => TokenState::Due,
            (Ok(_), _) => TokenState::Fresh,
        };
        Self {
            account_id: credential.account_id.clone(),
            is_active,
            email: credential.email.as_ref().map(|email| email.expose().to_owned()),
            plan: credential.plan.clone(),
            is_fedramp: credential.is_fedramp,
            state,
            is_renewable: credential.is_renewable(),
            expires_at: credential.expires_at,
            last_refresh: credential.last_refresh,
            borrowed_from,
            refusal: credential
                .refusal
                .as_ref()
                .map(|refusal| RefusalStatus { reason: refusal.reason.clone(), at: Some(refusal.at) }),
            refused_at: credential.refused_at,
        }
    }
}

impl fmt::Debug for AccountStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountStatus").field("state", &self.state).field("plan", &self.plan).finish_non_exhaustive()
    }
}
