//! Who is signed in, for people and scripts.
//!
//! A view of the store without any token: made for `status`, and stable as JSON. It asks nobody,
//! renews nothing and writes nothing. The e-mail address in it is for the user's own eyes and is
//! never logged.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

use crate::auth::credential::{Credential, Ownership, Stale};
use crate::auth::import;
use crate::auth::store::{Location, Store};
use crate::clock::Clock;
use crate::token_source::AuthError;

const MARGIN: Duration = Duration::from_secs(5 * 60);

/// The accounts of the store.
#[derive(Clone, Debug)]
pub struct Status {
    /// Where they are kept.
    pub location: Location,
    /// Every account, by id.
    pub accounts: Vec<Profile>,
}

/// One account, without its tokens.
#[derive(Clone, Serialize)]
pub struct Profile {
    /// The workspace's id.
    pub account_id: String,
    /// Whether it is the one in use.
    pub is_active: bool,
    /// The user's e-mail address.
    pub email: Option<String>,
    /// The plan, as the issuer spells it.
    pub plan: Option<String>,
    /// Whether it is a FedRAMP workspace.
    pub is_fedramp: bool,
    /// How its access token is.
    pub state: State,
    /// Whether it can be renewed when it ends.
    pub is_renewable: bool,
    /// When the access token ends.
    #[serde(serialize_with = "timestamp")]
    pub expires_at: Option<SystemTime>,
    /// When the tokens were last granted.
    #[serde(serialize_with = "timestamp")]
    pub last_refresh: Option<SystemTime>,
    /// The program and file that a borrowed login comes from.
    pub borrowed_from: Option<Lender>,
    /// Why the issuer has refused for good to renew it.
    pub refusal: Option<Refused>,
    /// When the backend refused the access token, if nothing could replace it.
    #[serde(serialize_with = "timestamp")]
    pub refused_at: Option<SystemTime>,
}

/// The issuer's last word on a login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Why.
    pub reason: String,
    /// When it was said.
    #[serde(serialize_with = "timestamp")]
    pub at: Option<SystemTime>,
}

/// Where a borrowed login comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lender {
    /// The program that renews it.
    pub owner: String,
    /// Its file.
    pub path: PathBuf,
}

/// How an access token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Good.
    Fresh,
    /// Good, and due for its renewal.
    Due,
    /// Ended; the next use renews it.
    Renewable,
    /// Expired or refused by the backend, and nothing here can renew it.
    Ended,
}

/// Looks at the store; `chosen` is the account that is used instead of the active one.
///
/// # Errors
/// When the store can't be read or understood.
pub async fn status(store: &Store, clock: &dyn Clock, chosen: Option<&str>) -> Result<Status, AuthError> {
    let document = store.read().await?;
    let mut accounts = Vec::new();
    for id in document.ids() {
        let Some(credential) = document.get(id).map_err(|why| store.unreadable(&why))? else { continue };
        let credential = renewed_by_owner(credential).await;
        let is_active = chosen.or(document.active()) == Some(id);
        accounts.push(Profile::of(&credential, is_active, clock.now()));
    }
    Ok(Status { location: store.location().await, accounts })
}

impl Status {
    /// The account in use.
    #[must_use]
    pub fn active(&self) -> Option<&Profile> {
        self.accounts.iter().find(|profile| profile.is_active)
    }
}

/// A borrowed login as its owner's file has it now, if that can be read and is the same account.
async fn renewed_by_owner(credential: Credential) -> Credential {
    let Ownership::Borrowed { path, .. } = &credential.ownership else { return credential };
    match import::reread(path).await {
        Ok(found) if found.account_id == credential.account_id => found,
        _ => credential,
    }
}

impl Profile {
    /// What can be told of a credential.
    #[must_use]
    pub fn of(credential: &Credential, is_active: bool, now: SystemTime) -> Self {
        let borrowed_from = match &credential.ownership {
            Ownership::Owned => None,
            Ownership::Borrowed { path, owner } => Some(Lender { owner: owner.clone(), path: path.clone() }),
        };
        let state = match (credential.state(now), credential.check(now, MARGIN)) {
            (Err(_), _) => State::Ended,
            (Ok(_), Err(Stale::Expired)) => State::Renewable,
            (Ok(_), Err(Stale::Expiring | Stale::NoExpiry)) if credential.is_renewable() => State::Due,
            (Ok(_), _) => State::Fresh,
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
                .map(|refusal| Refused { reason: refusal.reason.clone(), at: Some(refusal.at) }),
            refused_at: credential.refused_at,
        }
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile").field("state", &self.state).field("plan", &self.plan).finish_non_exhaustive()
    }
}

#[expect(clippy::ref_option, reason = "serde passes the field by reference")]
fn timestamp<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(&humantime::format_rfc3339_seconds(*time)),
        None => serializer.serialize_none(),
    }
}
