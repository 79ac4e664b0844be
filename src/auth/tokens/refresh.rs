//! Refreshes an access token: locks the store, calls the issuer, stores the new tokens.
//!
//! Runs in a separate task, one at a time. Reads the store first: if another process has refreshed the token, its token
//! is used and no refresh is sent. After the issuer's response, only the new document is built before it is written. A
//! process that is killed in between loses the session, and the issuer refuses the next refresh.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::cache::{RenewalResult, SaveTask};
use super::{Shared, detach};
use crate::auth::credential::{
    Credential, EXPIRED_WITHOUT_REFRESH_TOKEN, Ownership, REFUSED_WITHOUT_REFRESH_TOKEN, RenewalRefusal, Staleness,
};
use crate::auth::import;
use crate::auth::issuer::{IssuerError, RefreshReason};
use crate::auth::store::{Document, LockedStore};
use crate::secret::Secret;
use crate::token_source::AuthError;

/// Delays before an unsaved credential is written again; each is twice as long as the one before.
const FIRST_SAVE_DELAY: Duration = Duration::from_secs(1);
const MAX_SAVE_DELAY: Duration = Duration::from_secs(60);

/// Why a token is refreshed.
#[derive(Debug)]
pub(super) enum RenewalCause {
    /// The token has expired or expires soon.
    Due,
    /// The backend refused this access token.
    Rejected(Secret),
}

impl Shared {
    /// Obtains a valid credential, caches it or the failure, and logs the result.
    pub(super) async fn renew(self: &Arc<Self>, cause: RenewalCause) -> RenewalResult {
        let outcome = self.attempt(&cause).await;
        if let (Ok(credential), RenewalCause::Rejected(_)) = (&outcome, &cause) {
            self.record_recovery(credential);
        }
        if let Err(error) = &outcome {
            if matches!(error, AuthError::Store { .. }) {
                self.cache().back_off_briefly(error);
            }
            tracing::warn!(%error, "the access token can't be refreshed");
        }
        outcome
    }

    /// Uses the credential that another process has stored, or else the refresh token.
    async fn attempt(self: &Arc<Self>, cause: &RenewalCause) -> RenewalResult {
        let stored = self.newest(&self.store.read().await?)?;
        if let Ownership::Borrowed { path, owner } = &stored.ownership {
            return self.reread(cause, &stored, path, owner).await;
        }
        let _guard = self.write_lock.lock().await;
        let locked = self.store_lock().await?;
        let document = locked.read().await?;
        let stored = self.newest(&document)?;
        if self.is_better(cause, &stored) {
            self.cache().adopt(Some(&stored));
            return Ok(stored);
        }
        self.refresh(cause, &locked, document, &stored).await
    }

    /// Locks the store, or returns the lock that is kept for an unsaved credential.
    async fn store_lock(&self) -> Result<Arc<LockedStore>, AuthError> {
        let kept = self.cache().unsaved().map(|unsaved| unsaved.locked);
        match kept {
            Some(locked) => Ok(locked),
            None => Ok(Arc::new(self.store.lock().await?)),
        }
    }

    /// Returns the stored credential, or the unsaved one that has replaced it.
    fn newest(&self, document: &Document) -> RenewalResult {
        let found = self.pick(document)?;
        let mut cache = self.cache();
        let Some(stored) = found else {
            cache.adopt(None);
            return Err(AuthError::SignedOut);
        };
        Ok(cache.newest(stored))
    }

    /// Whether this credential makes a refresh unnecessary.
    fn is_better(&self, cause: &RenewalCause, stored: &Credential) -> bool {
        match cause {
            RenewalCause::Due => self.due(stored).is_ok(),
            RenewalCause::Rejected(token) => {
                stored.access_token.expose() != token.expose()
                    && !self.due(stored).is_err_and(|stale| !stale.is_usable())
            }
        }
    }

    async fn refresh(
        self: &Arc<Self>,
        cause: &RenewalCause,
        locked: &Arc<LockedStore>,
        document: Document,
        stored: &Arc<Credential>,
    ) -> RenewalResult {
        self.cache().adopt(Some(stored));
        if cause.is_about(&stored.access_token)
            && let Some(retry_after) = self.cache().refuse_recovered(&stored.access_token)
        {
            return Err(AuthError::TokenRefused { retry_after });
        }
        let Some(used) = &stored.refresh_token else {
            let error = AuthError::Ended { reason: cause.without_refresh_token().to_owned() };
            self.cache().back_off(&error);
            self.mark(locked, stored, cause, &error).await;
            return Err(error);
        };
        let known_error = self.cache().known_error(stored);
        if let Some(error) = known_error {
            self.mark(locked, stored, cause, &error).await;
            return Err(error);
        }
        locked.probe().await?;
        let granted = self.issuer.refresh(used, cause.reason()).await;
        let renewed = granted.and_then(|grant| {
            let renewed = stored.renewed(grant, self.clock.now());
            renewed.map_err(|error| IssuerError::Refused { reason: error.to_string() })
        });
        let renewed = match renewed {
            Ok(renewed) => Arc::new(renewed),
            Err(error) => {
                let error = self.cache_error(used, error);
                self.mark(locked, stored, cause, &error).await;
                return Err(error);
            }
        };
        self.save_renewed(locked, document, used, &renewed).await;
        Ok(renewed)
    }

    /// Caches and stores a refreshed credential. If it can't be written, it is used from the cache and written later.
    /// Until then the store stays locked.
    async fn save_renewed(
        self: &Arc<Self>,
        locked: &Arc<LockedStore>,
        mut document: Document,
        used: &Secret,
        renewed: &Arc<Credential>,
    ) {
        document.put(renewed);
        self.cache().grant(renewed);
        match locked.write(&document).await {
            Ok(()) => {
                let stamp = self.store.stamp().await;
                self.cache().saved(stamp);
                tracing::info!("the access token was refreshed");
            }
            Err(error) => {
                tracing::error!(%error, "the refreshed tokens can't be stored yet; retrying");
                let task = self.cache().keep_unsaved(used.clone(), Arc::clone(renewed), Arc::clone(locked));
                if task == SaveTask::Missing {
                    detach(Arc::clone(self).save_later());
                }
            }
        }
    }

    fn cache_error(&self, used: &Secret, error: IssuerError) -> AuthError {
        match error {
            IssuerError::Refused { reason } => {
                let error = AuthError::Ended { reason };
                self.cache().refuse(used.clone(), &error);
                error
            }
            IssuerError::Unavailable { message, retry_after } => {
                let error = AuthError::Unavailable { message, retry_after };
                let delay = self.cache().back_off(&error);
                error.with_retry_after(delay)
            }
        }
    }

    /// If the session has ended, stores the marks of the credential: that the issuer has permanently refused to refresh
    /// it, and that the backend refuses its access token. This prevents other processes from sending the refresh token
    /// again.
    async fn mark(&self, locked: &LockedStore, stored: &Credential, cause: &RenewalCause, error: &AuthError) {
        let AuthError::Ended { reason } = error else { return };
        let now = self.clock.now();
        let refusal = stored.refresh_token.as_ref().map(|_| RenewalRefusal { reason: reason.clone(), at: now });
        let refusal = stored.refusal.clone().or(refusal);
        // Not earlier than the grant, even if the clock was set back: an earlier mark is ignored when the store is
        // read.
        let refused = stored.last_refresh.map_or(now, |granted| granted.max(now));
        let refused_at = stored.refused_at.or_else(|| cause.is_about(&stored.access_token).then_some(refused));
        if (&refusal, refused_at) == (&stored.refusal, stored.refused_at) {
            return;
        }
        let marked = Arc::new(Credential { refusal, refused_at, ..stored.clone() });
        self.cache().adopt(Some(&marked));
        self.write_marks(locked, &marked).await;
    }

    /// Writes the marks of a credential, unless the store contains other tokens by now.
    async fn write_marks(&self, locked: &LockedStore, marked: &Credential) {
        let written = async {
            let mut document = locked.read().await?;
            if self.pick(&document)?.is_some_and(|stored| stored.has_same_tokens(marked)) {
                document.put(marked);
                locked.write(&document).await?;
            }
            Ok::<_, AuthError>(())
        };
        if let Err(error) = written.await {
            tracing::debug!(%error, "the state of the session can't be stored");
        }
    }

    /// Locks the store and writes the marks of a credential.
    pub(super) async fn store_marks(&self, marked: &Credential) {
        let _guard = self.write_lock.lock().await;
        match self.store_lock().await {
            Ok(locked) => self.write_marks(&locked, marked).await,
            Err(error) => tracing::debug!(%error, "the state of the session can't be stored"),
        }
    }

    /// Reads the file of an imported login again; only its owner can refresh it.
    async fn reread(&self, cause: &RenewalCause, stored: &Credential, path: &Path, owner: &str) -> RenewalResult {
        let ended = || AuthError::BorrowedEnded { owner: owner.to_owned() };
        let found = match import::reread(path).await {
            Ok(found) if found.account_id == stored.account_id => Ok(Arc::new(found)),
            Ok(_) => Err(AuthError::Ended { reason: format!("{owner} is signed in to another account now") }),
            Err(error) => {
                tracing::warn!(%error, "the imported login can't be read");
                Err(ended())
            }
        };
        let found = found.inspect_err(|error| self.cache().back_off_briefly(error))?;
        let now = self.clock.now();
        let is_better = self.is_better(cause, &found);
        let is_good =
            is_better || matches!(cause, RenewalCause::Due) && self.due(&found).is_err_and(Staleness::is_usable);
        let mut cache = self.cache();
        if is_good {
            cache.adopt(Some(&found));
        }
        if !is_better {
            if cause.is_about(&found.access_token) {
                cache.adopt(Some(&Arc::new(Credential { refused_at: Some(now), ..Credential::clone(&found) })));
            }
            cache.back_off_briefly(&ended());
        }
        if is_good { Ok(found) } else { Err(ended()) }
    }

    async fn save_later(self: Arc<Self>) {
        let mut delay = FIRST_SAVE_DELAY;
        loop {
            tokio::time::sleep(delay).await;
            if self.save().await.is_ok() {
                return;
            }
            delay = (delay * 2).min(MAX_SAVE_DELAY);
        }
    }

    /// Writes the unsaved credential, unless the store contains other tokens by now.
    pub(super) async fn save(&self) -> Result<(), AuthError> {
        let _guard = self.write_lock.lock().await;
        let Some(unsaved) = self.cache().unsaved() else { return Ok(()) };
        let mut document = unsaved.locked.read().await?;
        let stored = document.get(&unsaved.credential.account_id).map_err(|why| self.store.unreadable(&why))?;
        if !stored.is_some_and(|stored| stored.has_refresh_token(&unsaved.replaces)) {
            self.cache().drop_unsaved(&unsaved);
            return Ok(());
        }
        document.put(&unsaved.credential);
        unsaved.locked.write(&document).await?;
        let stamp = self.store.stamp().await;
        self.cache().saved(stamp);
        tracing::info!("the refreshed tokens are stored now");
        Ok(())
    }
}

impl RenewalCause {
    /// Whether this is a refusal of this access token.
    fn is_about(&self, access_token: &Secret) -> bool {
        matches!(self, Self::Rejected(token) if token.expose() == access_token.expose())
    }

    /// Returns why a credential without a refresh token can't be refreshed.
    fn without_refresh_token(&self) -> &'static str {
        match self {
            Self::Due => EXPIRED_WITHOUT_REFRESH_TOKEN,
            Self::Rejected(_) => REFUSED_WITHOUT_REFRESH_TOKEN,
        }
    }

    fn reason(&self) -> RefreshReason {
        match self {
            Self::Due => RefreshReason::ProactiveExpiry,
            Self::Rejected(_) => RefreshReason::UnauthorizedRecovery,
        }
    }
}
