//! Bearer tokens that keep themselves fresh.
//!
//! A fresh token costs a short lock and no file access; the store's file is looked at once a second
//! at most, and on every call while there is no sign-in or the issuer has refused it. A token that
//! is merely about to end is served while its renewal runs behind it; only an ended one makes
//! callers wait, and all of them for the same renewal. A renewal is detached from whoever asked for
//! it, since dropping it could lose a login: the old token may be spent already.

mod cache;
mod refresh;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use self::cache::{Flight, Known, Look, Outcome};
use self::refresh::Cause;
use crate::auth::credential::{Credential, Ownership, Stale};
use crate::auth::import;
use crate::auth::issuer::Authority;
use crate::auth::store::{Document, Store, stamp_of};
use crate::clock::Clock;
use crate::secret::Secret;
use crate::token_source::{AuthError, Bearer, BoxFuture, RECOVERY_REST, SignIn, TokenSource};

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

    /// A token that is not about to end; one that is, where it can't be renewed now. An error if the sign-in is dead.
    pub(in crate::auth) async fn fresh(&self) -> Result<Bearer, AuthError> {
        let credential = self.0.current().await?;
        match self.0.due(&credential) {
            Ok(()) => credential.state(self.0.clock.now()).map(|_| credential.bearer()),
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

    fn check(&self) -> BoxFuture<'_, Result<SignIn, AuthError>> {
        Box::pin(self.0.check())
    }

    fn accepted(&self, bearer: &Bearer) {
        self.0.accepted(&bearer.token);
    }

    fn refused(&self, bearer: &Bearer) -> Option<Duration> {
        self.0.known().refuse_recovered(&bearer.token)
    }
}

impl Shared {
    async fn bearer(self: &Arc<Self>) -> Result<Bearer, AuthError> {
        Ok(self.usable().await?.bearer())
    }

    /// A credential whose token has not expired.
    async fn usable(self: &Arc<Self>) -> Outcome {
        let credential = self.current().await?;
        match self.due(&credential) {
            Ok(()) => Ok(credential),
            Err(stale) if stale.is_usable() => {
                // The caller doesn't wait for the renewal, which logs its own failure: the old token still works.
                let _ = self.flight(Cause::Due);
                Ok(credential)
            }
            Err(_) => self.renewed(Cause::Due).await,
        }
    }

    async fn recover(self: &Arc<Self>, rejected: &Secret) -> Result<Bearer, AuthError> {
        let is_rejected = |credential: &Credential| credential.access_token.expose() == rejected.expose();
        let stored = self.look().await?;
        if !is_rejected(&stored) {
            let found = self.usable().await?;
            self.note_recovery(&found);
            return Ok(found.bearer());
        }
        let renewed = self.renewed(Cause::Refused(rejected.clone())).await;
        // A renewal that was under way may have had another cause, and knows nothing of the refusal.
        let is_marked = |credential: &Credential| !is_rejected(credential) || credential.refused_at.is_some();
        let is_settled = match &renewed {
            Ok(credential) => !is_rejected(credential),
            Err(AuthError::Ended { .. }) => self.known().current().is_none_or(|current| is_marked(&current)),
            Err(_) => true,
        };
        let renewed = if is_settled { renewed } else { self.renewed(Cause::Refused(rejected.clone())).await };
        Ok(renewed?.bearer())
    }

    /// Notes a token that replaces a refused one, if it was granted moments ago. An older token that is refused as
    /// well is renewed at once.
    fn note_recovery(&self, credential: &Credential) {
        let now = self.clock.now();
        let age = credential.last_refresh.and_then(|granted| now.duration_since(granted).ok());
        if age.is_some_and(|age| age < RECOVERY_REST) {
            self.known().note_recovery(&credential.access_token);
        }
    }

    async fn check(self: &Arc<Self>) -> Result<SignIn, AuthError> {
        let credential = self.current().await?;
        let is_expired = self.due(&credential) == Err(Stale::Expired);
        if is_expired && credential.ownership != Ownership::Owned {
            return self.renewed(Cause::Due).await.map(|_| SignIn::Working);
        }
        let state = credential.state(self.clock.now())?;
        let known = self.known();
        if let Some(retry_after) = known.recovery_rest(&credential.access_token) {
            return Err(AuthError::TokenRefused { retry_after });
        }
        known.verdict(&credential).filter(|_| is_expired).map_or(Ok(state), Err)
    }

    /// Clears what an earlier refusal of this token has left behind.
    fn accepted(self: &Arc<Self>, token: &Secret) {
        let Some(cleared) = self.known().accepted(token) else { return };
        if cleared.ownership == Ownership::Owned {
            let shared = Arc::clone(self);
            detach(async move { shared.store_marks(&cleared).await });
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
            // A refused token is compared with the store first, and marked as refused if nothing can replace it.
            let is_compared = matches!((&cause, &error), (Cause::Refused(_), AuthError::Ended { .. }));
            if !is_compared {
                return Err(error);
            }
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
