//! Bearer tokens that keep themselves fresh.
//!
//! A fresh token costs a short lock and no file access; the store's file is looked at once a second
//! at most, and on every call while there is no sign-in or the issuer has refused it. A token that
//! is merely about to end is served while its renewal runs behind it; only an ended one makes
//! callers wait, and all of them for the same renewal. A renewal is detached from whoever asked for
//! it, since dropping it could lose a login: the old token may be spent already.

mod known;
mod renewal;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use self::known::{Flight, Known, Look, Outcome};
use self::renewal::Cause;
use crate::auth::authority::Authority;
use crate::auth::credential::{Credential, Ownership, Stale};
use crate::auth::import;
use crate::auth::store::{Document, Store, stamp_of};
use crate::bearer::{AuthError, Bearer, BoxFuture, TokenSource};
use crate::clock::Clock;
use crate::secret::Secret;

/// How long before its end a token is renewed.
const MARGIN: Duration = Duration::from_secs(5 * 60);

/// The bearer tokens of one account. Clones share everything.
#[derive(Clone, Debug)]
pub(in crate::auth) struct Tokens(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Store,
    authority: Authority,
    clock: Arc<dyn Clock>,
    account: String,
    /// Who of us writes: a kept lock of the store excludes other processes only.
    turn: tokio::sync::Mutex<()>,
    known: Mutex<Known>,
}

impl Tokens {
    /// The tokens of an account.
    pub(in crate::auth) fn new(store: Store, authority: Authority, clock: Arc<dyn Clock>, account: String) -> Self {
        Self(Arc::new(Shared {
            store,
            authority,
            clock,
            account,
            turn: tokio::sync::Mutex::default(),
            known: Mutex::default(),
        }))
    }

    /// A token that is not about to end; one that is, where it can't be renewed now.
    pub(in crate::auth) async fn fresh(&self) -> Result<Bearer, AuthError> {
        let credential = self.0.current().await?;
        match self.0.due(&credential) {
            Ok(()) => Ok(credential.bearer()),
            Err(stale) => match self.0.renewed(Cause::Due).await {
                Ok(renewed) => Ok(renewed.bearer()),
                Err(_) if stale.is_usable() => Ok(credential.bearer()),
                Err(error) => Err(error),
            },
        }
    }

    /// Whether the account is in the store.
    pub(in crate::auth) async fn is_signed_in(&self) -> Result<bool, AuthError> {
        match self.0.current().await {
            Ok(_) => Ok(true),
            Err(AuthError::SignedOut) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits for a renewal under way, and for its outcome to be stored.
    pub(in crate::auth) async fn settle(&self) {
        let flight = self.0.known().flight.clone();
        if let Some(flight) = flight {
            // Whoever asked for it has the outcome.
            let _ = land(flight).await;
        }
        if let Err(error) = self.0.save().await {
            tracing::error!(%error, "the renewed sign-in could not be stored; sign in again");
        }
    }
}

impl TokenSource for Tokens {
    fn bearer(&self) -> BoxFuture<'_, Result<Bearer, AuthError>> {
        Box::pin(self.0.bearer())
    }

    fn recover<'a>(&'a self, rejected: &'a Bearer) -> BoxFuture<'a, Result<Bearer, AuthError>> {
        Box::pin(self.0.recover(&rejected.token))
    }

    fn check(&self) -> BoxFuture<'_, Result<(), AuthError>> {
        Box::pin(self.0.check())
    }
}

impl Shared {
    async fn bearer(self: &Arc<Self>) -> Result<Bearer, AuthError> {
        let credential = self.current().await?;
        match self.due(&credential) {
            Ok(()) => Ok(credential.bearer()),
            Err(stale) if stale.is_usable() => {
                // Nobody waits for it; a failure is logged there, and the old token still serves.
                let _ = self.flight(Cause::Due);
                Ok(credential.bearer())
            }
            Err(_) => Ok(self.renewed(Cause::Due).await?.bearer()),
        }
    }

    async fn recover(self: &Arc<Self>, rejected: &Secret) -> Result<Bearer, AuthError> {
        let is_rejected = |credential: &Credential| credential.access_token.expose() == rejected.expose();
        let stored = self.look().await?;
        if !is_rejected(&stored) {
            return self.bearer().await;
        }
        let renewed = self.renewed(Cause::Refused(rejected.clone())).await?;
        if !is_rejected(&renewed) {
            return Ok(renewed.bearer());
        }
        // The renewal that was under way had another cause and found the token good.
        Ok(self.renewed(Cause::Refused(rejected.clone())).await?.bearer())
    }

    async fn check(self: &Arc<Self>) -> Result<(), AuthError> {
        let credential = self.current().await?;
        match (self.due(&credential), &credential.ownership) {
            (Err(Stale::Expired), Ownership::Borrowed { .. }) => self.renewed(Cause::Due).await.map(drop),
            (Err(Stale::Expired), Ownership::Owned) if credential.refresh_token.is_none() => {
                Err(renewal::not_renewable())
            }
            (Err(Stale::Expired), Ownership::Owned) => match self.known().verdict(&credential) {
                Some(error) => Err(error),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// The credential in use, from memory or, when it is time to look, from the store.
    async fn current(&self) -> Outcome {
        let recent = self.known().recent();
        match recent {
            Some(credential) => Ok(credential),
            None => self.look().await,
        }
    }

    /// The credential in use after a look at the store.
    async fn look(&self) -> Outcome {
        let stamp = self.stamp().await;
        let generation = {
            let known = self.known();
            if let Some(credential) = known.of_stamp(&stamp) {
                return Ok(credential);
            }
            known.generation()
        };
        let found = match self.store.read().await {
            Ok(document) => self.pick(&document),
            Err(error) => Err(error),
        };
        let (stamp, found) = match found {
            Ok(Some(credential)) => self.as_lent(stamp, credential).await,
            Ok(None) => (stamp, Ok(None)),
            Err(error) => (stamp, Err(error)),
        };
        let mut known = self.known();
        match found {
            Ok(found) => known.looked(generation, stamp, found),
            Err(error) if known.current().is_some() => {
                tracing::warn!(%error, "going on with the sign-in in memory");
                known.skip(stamp);
            }
            Err(error) => return Err(error),
        }
        known.current().ok_or(AuthError::SignedOut)
    }

    /// The state of what the credential in use comes from.
    async fn stamp(&self) -> Look {
        let store = self.store.stamp().await;
        let current = self.known().current();
        let lender = match current.as_deref().map(|credential| &credential.ownership) {
            Some(Ownership::Borrowed { path, .. }) => Some(stamp_of(path).await),
            _ => None,
        };
        Look { store, lender }
    }

    /// A borrowed login as its owner's file has it now, unless that is another account's or can't be read.
    async fn as_lent(&self, stamp: Look, stored: Credential) -> (Look, Result<Option<Credential>, AuthError>) {
        let Ownership::Borrowed { path, .. } = &stored.ownership else { return (stamp, Ok(Some(stored))) };
        let stamp = Look { lender: Some(stamp_of(path).await), ..stamp };
        match import::reread(path).await {
            Ok(found) if found.account_id == stored.account_id => (stamp, Ok(Some(found))),
            // What was read before is younger than what was stored when it was borrowed.
            _ => {
                let before = self.known().current().filter(|current| current.ownership == stored.ownership);
                (stamp, Ok(Some(before.map_or(stored, |current| Credential::clone(&current)))))
            }
        }
    }

    fn pick(&self, document: &Document) -> Result<Option<Credential>, AuthError> {
        document.get(&self.account).map_err(|why| self.store.unreadable(&why))
    }

    fn due(&self, credential: &Credential) -> Result<(), Stale> {
        let now = self.clock.now();
        if self.known().is_just_granted(credential, now) {
            return Ok(());
        }
        match credential.check(now, MARGIN) {
            // Nothing can be done about it before its end.
            Err(stale) if stale.is_usable() && !credential.is_renewable() => Ok(()),
            checked => checked,
        }
    }

    async fn renewed(self: &Arc<Self>, cause: Cause) -> Outcome {
        let flight = self.flight(cause)?;
        land(flight).await
    }

    /// The renewal under way, else a new one, else the error that it would end in.
    fn flight(self: &Arc<Self>, cause: Cause) -> Result<Flight, AuthError> {
        let mut known = self.known();
        if let Some(flight) = known.flight.as_ref().filter(|flight| is_in_the_air(flight)) {
            return Ok(flight.clone());
        }
        if let Some(error) = known.current().and_then(|credential| known.verdict(&credential)) {
            return Err(error);
        }
        if matches!(cause, Cause::Refused(_)) && known.is_recovery_recent() {
            return Err(AuthError::Ended { reason: "the backend refuses a token that was just renewed".to_owned() });
        }
        let (landed, flight) = watch::channel(None);
        known.flight = Some(flight.clone());
        drop(known);
        let shared = Arc::clone(self);
        detach(async move {
            let outcome = shared.renew(cause).await;
            landed.send_replace(Some(outcome));
        });
        Ok(flight)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_in_the_air(flight: &Flight) -> bool {
    flight.borrow().is_none() && flight.has_changed().is_ok()
}

async fn land(mut flight: Flight) -> Outcome {
    let landed = match flight.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone(),
        Err(_) => None,
    };
    let interrupted =
        || AuthError::Unavailable { message: "the renewal was interrupted".to_owned(), retry_after: None };
    landed.unwrap_or_else(|| Err(interrupted()))
}

#[expect(clippy::disallowed_methods, reason = "a refresh that was sent must be finished and stored, whoever hangs up")]
fn detach(work: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(work);
}
