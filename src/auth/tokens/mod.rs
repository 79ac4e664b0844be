//! The bearer tokens of one account, refreshed as needed.
//!
//! A cached token needs a short lock and no file access. The store is checked once a second at most, and on every call
//! while the account isn't signed in or the issuer has refused to refresh it. A token that expires soon is returned
//! while it is refreshed in the background. Callers wait only if the token has expired, and all of them for the same
//! refresh. A refresh runs in a separate task, because dropping it could lose the session: the refresh token may
//! already be used.

mod cache;
mod refresh;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use self::cache::{RenewalResult, SharedRenewal, SourceStamps, TokenCache};
use self::refresh::RenewalCause;
use crate::auth::credential::{Credential, Ownership, Staleness};
use crate::auth::import;
use crate::auth::issuer::Issuer;
use crate::auth::store::{Document, Store, stamp_of};
use crate::clock::Clock;
use crate::secret::Secret;
use crate::token_source::{AuthError, Bearer, BoxFuture, RECOVERY_DELAY, SessionState, TokenSource};

/// How long before its expiry a token is refreshed.
const MARGIN: Duration = Duration::from_secs(5 * 60);

/// The bearer tokens of one account. Clones share everything.
#[derive(Clone, Debug)]
pub(in crate::auth) struct Tokens(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Store,
    issuer: Issuer,
    clock: Arc<dyn Clock>,
    account: String,
    /// Serializes writes within this process: a store lock that is kept for an unsaved credential excludes only other
    /// processes.
    write_lock: tokio::sync::Mutex<()>,
    cache: Mutex<TokenCache>,
}

impl Tokens {
    /// Creates the tokens of an account. A process must have only one for each account.
    pub(in crate::auth) fn new(store: Store, issuer: Issuer, clock: Arc<dyn Clock>, account: String) -> Self {
        Self(Arc::new(Shared {
            store,
            issuer,
            clock,
            account,
            write_lock: tokio::sync::Mutex::default(),
            cache: Mutex::default(),
        }))
    }

    /// Returns a token that doesn't expire soon, or one that does if it can't be refreshed now.
    ///
    /// # Errors
    /// If there is no valid token and none can be obtained.
    pub(in crate::auth) async fn fresh(&self) -> Result<Bearer, AuthError> {
        let credential = self.0.current().await?;
        match self.0.due(&credential) {
            Ok(()) => credential.state(self.0.clock.now()).map(|_| credential.bearer()),
            Err(stale) => match self.0.renewed(RenewalCause::Due).await {
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

    /// Waits until a running refresh is complete and stored.
    pub(in crate::auth) async fn settle(&self) {
        let renewal = self.0.cache().renewal.clone();
        if let Some(renewal) = renewal {
            // The caller that started it gets the result.
            let _ = join(renewal).await;
        }
        if let Err(error) = self.0.save().await {
            tracing::error!(%error, "the refreshed tokens can't be stored; sign in again");
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

    fn check(&self) -> BoxFuture<'_, Result<SessionState, AuthError>> {
        Box::pin(self.0.check())
    }

    fn accepted(&self, bearer: &Bearer) {
        self.0.accepted(&bearer.token);
    }

    fn refused(&self, bearer: &Bearer) -> Option<Duration> {
        self.0.cache().refuse_recovered(&bearer.token)
    }
}

impl Shared {
    async fn bearer(self: &Arc<Self>) -> Result<Bearer, AuthError> {
        Ok(self.usable().await?.bearer())
    }

    /// Returns a credential whose token hasn't expired. If the token expires soon, starts a refresh in the background.
    async fn usable(self: &Arc<Self>) -> RenewalResult {
        let credential = self.current().await?;
        match self.due(&credential) {
            Ok(()) => Ok(credential),
            Err(stale) if stale.is_usable() => {
                // The old token still works, so the caller doesn't wait. A failed refresh logs its error.
                let _ = self.renewal(RenewalCause::Due);
                Ok(credential)
            }
            Err(_) => self.renewed(RenewalCause::Due).await,
        }
    }

    async fn recover(self: &Arc<Self>, rejected: &Secret) -> Result<Bearer, AuthError> {
        let is_rejected = |credential: &Credential| credential.access_token.expose() == rejected.expose();
        let stored = self.check_store().await?;
        if !is_rejected(&stored) {
            let found = self.usable().await?;
            self.record_recovery(&found);
            return Ok(found.bearer());
        }
        let renewed = self.renewed(RenewalCause::Rejected(rejected.clone())).await;
        // A refresh that was already running may have had another cause, and doesn't handle the refusal.
        let is_marked = |credential: &Credential| !is_rejected(credential) || credential.refused_at.is_some();
        let is_settled = match &renewed {
            Ok(credential) => !is_rejected(credential),
            Err(AuthError::Ended { .. }) => self.cache().current().is_none_or(|current| is_marked(&current)),
            Err(_) => true,
        };
        let renewed = if is_settled { renewed } else { self.renewed(RenewalCause::Rejected(rejected.clone())).await };
        Ok(renewed?.bearer())
    }

    /// Records a token that replaces a refused one, if it was issued moments ago. If an older token is refused as well,
    /// it is refreshed at once.
    fn record_recovery(&self, credential: &Credential) {
        let now = self.clock.now();
        let age = credential.last_refresh.and_then(|granted| now.duration_since(granted).ok());
        if age.is_some_and(|age| age < RECOVERY_DELAY) {
            self.cache().record_recovery(&credential.access_token);
        }
    }

    async fn check(self: &Arc<Self>) -> Result<SessionState, AuthError> {
        let credential = self.current().await?;
        let is_expired = self.due(&credential) == Err(Staleness::Expired);
        if is_expired && credential.ownership != Ownership::Owned {
            return self.renewed(RenewalCause::Due).await.map(|_| SessionState::Working);
        }
        let state = credential.state(self.clock.now())?;
        let cache = self.cache();
        if let Some(retry_after) = cache.recovery_delay(&credential.access_token) {
            return Err(AuthError::TokenRefused { retry_after });
        }
        cache.known_error(&credential).filter(|_| is_expired).map_or(Ok(state), Err)
    }

    /// Clears the marks of an earlier refusal of this token.
    fn accepted(self: &Arc<Self>, token: &Secret) {
        let Some(cleared) = self.cache().accepted(token) else { return };
        if cleared.ownership == Ownership::Owned {
            let shared = Arc::clone(self);
            detach(async move { shared.store_marks(&cleared).await });
        }
    }

    /// Returns the credential in use, from the cache or, if that is too old, from the store.
    async fn current(&self) -> RenewalResult {
        let recent = self.cache().recent();
        match recent {
            Some(credential) => Ok(credential),
            None => self.check_store().await,
        }
    }

    /// Checks the store, and returns the credential in use.
    async fn check_store(&self) -> RenewalResult {
        let stamp = self.stamp().await;
        let generation = {
            let cache = self.cache();
            if let Some(credential) = cache.of_stamp(&stamp) {
                return Ok(credential);
            }
            cache.generation()
        };
        let found = match self.store.read().await {
            Ok(document) => self.pick(&document),
            Err(error) => Err(error),
        };
        let (stamp, found) = match found {
            Ok(Some(credential)) => self.reread_borrowed(stamp, credential).await,
            Ok(None) => (stamp, Ok(None)),
            Err(error) => (stamp, Err(error)),
        };
        let mut cache = self.cache();
        match found {
            Ok(found) => cache.update(generation, stamp, found),
            Err(error) if cache.current().is_some() => {
                tracing::warn!(%error, "the tokens in memory stay in use");
                cache.skip(stamp);
            }
            Err(error) => return Err(error),
        }
        cache.current().ok_or(AuthError::SignedOut)
    }

    /// Returns the state of the files that the credential in use comes from.
    async fn stamp(&self) -> SourceStamps {
        let store = self.store.stamp().await;
        let current = self.cache().current();
        let borrowed = match current.as_deref().map(|credential| &credential.ownership) {
            Some(Ownership::Borrowed { path, .. }) => Some(stamp_of(path).await),
            _ => None,
        };
        SourceStamps { store, borrowed }
    }

    /// Returns an imported login as its owner's file has it now, if the file can be read and has the same account.
    async fn reread_borrowed(
        &self,
        stamp: SourceStamps,
        stored: Credential,
    ) -> (SourceStamps, Result<Option<Credential>, AuthError>) {
        let Ownership::Borrowed { path, .. } = &stored.ownership else { return (stamp, Ok(Some(stored))) };
        let stamp = SourceStamps { borrowed: Some(stamp_of(path).await), ..stamp };
        match import::reread(path).await {
            Ok(found) if found.account_id == stored.account_id => (stamp, Ok(Some(found))),
            // An earlier read is newer than what was stored at the import.
            _ => {
                let before = self.cache().current().filter(|current| current.ownership == stored.ownership);
                (stamp, Ok(Some(before.map_or(stored, |current| Credential::clone(&current)))))
            }
        }
    }

    /// Returns this account's credential in a document.
    fn pick(&self, document: &Document) -> Result<Option<Credential>, AuthError> {
        document.get(&self.account).map_err(|why| self.store.unreadable(&why))
    }

    /// Checks that the token needn't be refreshed: it is valid for [`MARGIN`], was issued moments ago, or can't be
    /// refreshed and hasn't expired.
    fn due(&self, credential: &Credential) -> Result<(), Staleness> {
        let now = self.clock.now();
        if self.cache().is_just_granted(credential, now) {
            return Ok(());
        }
        match credential.check(now, MARGIN) {
            // It can't be refreshed, so it is used until it expires.
            Err(stale) if stale.is_usable() && !credential.is_renewable() => Ok(()),
            checked => checked,
        }
    }

    /// Waits for the running refresh, or for one that this call starts.
    async fn renewed(self: &Arc<Self>, cause: RenewalCause) -> RenewalResult {
        let renewal = self.renewal(cause)?;
        join(renewal).await
    }

    /// Joins the running refresh or starts one. Returns the error if the refresh is known to fail.
    fn renewal(self: &Arc<Self>, cause: RenewalCause) -> Result<SharedRenewal, AuthError> {
        let mut cache = self.cache();
        if let Some(renewal) = cache.renewal.as_ref().filter(|renewal| is_running(renewal)) {
            return Ok(renewal.clone());
        }
        if let Some(error) = cache.current().and_then(|credential| cache.known_error(&credential)) {
            // A refused token must still be compared with the store, and marked as refused if nothing replaces it.
            let is_compared = matches!((&cause, &error), (RenewalCause::Rejected(_), AuthError::Ended { .. }));
            if !is_compared {
                return Err(error);
            }
        }
        let (sender, renewal) = watch::channel(None);
        cache.renewal = Some(renewal.clone());
        drop(cache);
        let shared = Arc::clone(self);
        detach(async move {
            let outcome = shared.renew(cause).await;
            sender.send_replace(Some(outcome));
        });
        Ok(renewal)
    }

    fn cache(&self) -> MutexGuard<'_, TokenCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_running(renewal: &SharedRenewal) -> bool {
    renewal.borrow().is_none() && renewal.has_changed().is_ok()
}

async fn join(mut renewal: SharedRenewal) -> RenewalResult {
    let result = match renewal.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone(),
        Err(_) => None,
    };
    let interrupted =
        || AuthError::Unavailable { message: "the refresh was interrupted".to_owned(), retry_after: None };
    result.unwrap_or_else(|| Err(interrupted()))
}

/// Runs work in a task that completes even if the caller is dropped.
#[expect(
    clippy::disallowed_methods,
    reason = "a refresh that was sent must be completed and stored, even if the client disconnects"
)]
fn detach(work: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(work);
}
