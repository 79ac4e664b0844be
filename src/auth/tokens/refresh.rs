//! One renewal, from the lock to the store.
//!
//! Runs in a task of its own, one at a time. It never trusts memory: the store may have been
//! renewed by another process, and then its token is adopted and none is spent. Between the
//! issuer's answer and the write lies nothing but the making of the new text; a process that is
//! killed right there loses the login, which the issuer's next refusal says plainly.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::cache::{Outcome, Saving};
use super::{Shared, detach};
use crate::auth::credential::{
    Credential, NOTHING_RENEWS_A_REFUSED_TOKEN, NOTHING_RENEWS_AN_EXPIRED_TOKEN, Ownership, Refusal, Stale,
};
use crate::auth::import;
use crate::auth::issuer::{AuthorityError, RefreshReason};
use crate::auth::store::{Document, Held};
use crate::secret::Secret;
use crate::token_source::AuthError;

const FIRST_SAVE_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_SAVE_PAUSE: Duration = Duration::from_secs(60);

/// Why a renewal was asked for.
#[derive(Debug)]
pub(super) enum Cause {
    /// The token has ended or is about to.
    Due,
    /// The backend refused this access token.
    Refused(Secret),
}

impl Shared {
    /// Comes by a better credential, remembers it or the failure, and logs.
    pub(super) async fn renew(self: &Arc<Self>, cause: Cause) -> Outcome {
        let outcome = self.attempt(&cause).await;
        if let (Ok(credential), Cause::Refused(_)) = (&outcome, &cause) {
            self.note_recovery(credential);
        }
        if let Err(error) = &outcome {
            if matches!(error, AuthError::Store { .. }) {
                self.known().rest_briefly(error);
            }
            tracing::warn!(%error, "the access token could not be renewed");
        }
        outcome
    }

    async fn attempt(self: &Arc<Self>, cause: &Cause) -> Outcome {
        let stored = self.newest(&self.store.read().await?)?;
        if let Ownership::Borrowed { path, owner } = &stored.ownership {
            return self.reread(cause, &stored, path, owner).await;
        }
        let _turn = self.turn.lock().await;
        let held = self.hold().await?;
        let document = held.read().await?;
        let stored = self.newest(&document)?;
        if self.is_better(cause, &stored) {
            self.known().adopt(Some(&stored));
            return Ok(stored);
        }
        self.refresh(cause, &held, document, &stored).await
    }

    /// The store's lock, which we may have kept for what could not be written.
    async fn hold(&self) -> Result<Arc<Held>, AuthError> {
        let kept = self.known().unsaved().map(|unsaved| unsaved.held);
        match kept {
            Some(held) => Ok(held),
            None => Ok(Arc::new(self.store.lock().await?)),
        }
    }

    /// The stored credential, or what replaced it and could not be written.
    fn newest(&self, document: &Document) -> Outcome {
        let found = self.pick(document)?;
        let mut known = self.known();
        let Some(stored) = found else {
            known.adopt(None);
            return Err(AuthError::SignedOut);
        };
        Ok(known.newest(stored))
    }

    fn is_better(&self, cause: &Cause, stored: &Credential) -> bool {
        match cause {
            Cause::Due => self.due(stored).is_ok(),
            Cause::Refused(token) => {
                stored.access_token.expose() != token.expose()
                    && !self.due(stored).is_err_and(|stale| !stale.is_usable())
            }
        }
    }

    async fn refresh(
        self: &Arc<Self>,
        cause: &Cause,
        held: &Arc<Held>,
        document: Document,
        stored: &Arc<Credential>,
    ) -> Outcome {
        self.known().adopt(Some(stored));
        if cause.is_about(&stored.access_token)
            && let Some(retry_after) = self.known().refuse_recovered(&stored.access_token)
        {
            return Err(AuthError::TokenRefused { retry_after });
        }
        let Some(spent) = &stored.refresh_token else {
            let error = AuthError::Ended { reason: cause.without_refresh_token().to_owned() };
            self.known().rest(&error);
            self.note(held, stored, cause, &error).await;
            return Err(error);
        };
        let verdict = self.known().verdict(stored);
        if let Some(error) = verdict {
            self.note(held, stored, cause, &error).await;
            return Err(error);
        }
        held.probe().await?;
        let granted = self.authority.refresh(spent, cause.reason()).await;
        let renewed = granted.and_then(|grant| {
            let renewed = stored.renewed(grant, self.clock.now());
            renewed.map_err(|error| AuthorityError::Refused { reason: error.to_string() })
        });
        let renewed = match renewed {
            Ok(renewed) => Arc::new(renewed),
            Err(error) => {
                let error = self.remember(spent, error);
                self.note(held, stored, cause, &error).await;
                return Err(error);
            }
        };
        self.keep(held, document, spent, &renewed).await;
        Ok(renewed)
    }

    /// Memory first, then disk: what could not be written is still served, and written later. Until
    /// then the store stays locked.
    async fn keep(
        self: &Arc<Self>,
        held: &Arc<Held>,
        mut document: Document,
        spent: &Secret,
        renewed: &Arc<Credential>,
    ) {
        document.put(renewed);
        self.known().grant(renewed);
        match held.write(&document).await {
            Ok(()) => {
                let stamp = self.store.stamp().await;
                self.known().saved(stamp);
                tracing::info!("the access token was renewed");
            }
            Err(error) => {
                tracing::error!(%error, "the renewed sign-in is in memory only; trying to write it again");
                let saving = self.known().keep_unsaved(spent.clone(), Arc::clone(renewed), Arc::clone(held));
                if saving == Saving::New {
                    detach(Arc::clone(self).save_later());
                }
            }
        }
    }

    fn remember(&self, spent: &Secret, error: AuthorityError) -> AuthError {
        match error {
            AuthorityError::Refused { reason } => {
                let error = AuthError::Ended { reason };
                self.known().refuse(spent.clone(), &error);
                error
            }
            AuthorityError::Unavailable { message, retry_after } => {
                let error = AuthError::Unavailable { message, retry_after };
                let rest = self.known().rest(&error);
                error.resting(rest)
            }
        }
    }

    /// Marks a credential with what is final: that the issuer has refused to renew it, and that the backend
    /// refuses its access token. Every process then knows, and none sends the refresh token again.
    async fn note(&self, held: &Held, stored: &Credential, cause: &Cause, error: &AuthError) {
        let AuthError::Ended { reason } = error else { return };
        let now = self.clock.now();
        let refusal = stored.refresh_token.as_ref().map(|_| Refusal { reason: reason.clone(), at: now });
        let refusal = stored.refusal.clone().or(refusal);
        // Not before the grant, whatever the clocks say: an earlier mark is ignored when the store is read.
        let refused = stored.last_refresh.map_or(now, |granted| granted.max(now));
        let refused_at = stored.refused_at.or_else(|| cause.is_about(&stored.access_token).then_some(refused));
        if (&refusal, refused_at) == (&stored.refusal, stored.refused_at) {
            return;
        }
        let marked = Arc::new(Credential { refusal, refused_at, ..stored.clone() });
        self.known().adopt(Some(&marked));
        self.write_marks(held, &marked).await;
    }

    /// Writes the marks of a credential, unless the store holds other tokens by now.
    async fn write_marks(&self, held: &Held, marked: &Credential) {
        let written = async {
            let mut document = held.read().await?;
            if self.pick(&document)?.is_some_and(|stored| stored.has_same_tokens(marked)) {
                document.put(marked);
                held.write(&document).await?;
            }
            Ok::<_, AuthError>(())
        };
        if let Err(error) = written.await {
            tracing::debug!(%error, "the state of the sign-in could not be stored");
        }
    }

    /// Waits for the turn to write the marks of a credential.
    pub(super) async fn store_marks(&self, marked: &Credential) {
        let _turn = self.turn.lock().await;
        match self.hold().await {
            Ok(held) => self.write_marks(&held, marked).await,
            Err(error) => tracing::debug!(%error, "the state of the sign-in could not be stored"),
        }
    }

    /// Reads the file of a login's owner again, which is all that we may do about it.
    async fn reread(&self, cause: &Cause, stored: &Credential, path: &Path, owner: &str) -> Outcome {
        let ended = || AuthError::BorrowedEnded { owner: owner.to_owned() };
        let found = match import::reread(path).await {
            Ok(found) if found.account_id == stored.account_id => Ok(Arc::new(found)),
            Ok(_) => Err(AuthError::Ended { reason: format!("{owner} is signed in to another account now") }),
            Err(error) => {
                tracing::warn!(%error, "the borrowed login can't be read");
                Err(ended())
            }
        };
        let found = found.inspect_err(|error| self.known().rest_briefly(error))?;
        let now = self.clock.now();
        let is_better = self.is_better(cause, &found);
        let is_good = is_better || matches!(cause, Cause::Due) && self.due(&found).is_err_and(Stale::is_usable);
        let mut known = self.known();
        if is_good {
            known.adopt(Some(&found));
        }
        if !is_better {
            if cause.is_about(&found.access_token) {
                known.adopt(Some(&Arc::new(Credential { refused_at: Some(now), ..Credential::clone(&found) })));
            }
            known.rest_briefly(&ended());
        }
        if is_good { Ok(found) } else { Err(ended()) }
    }

    async fn save_later(self: Arc<Self>) {
        let mut pause = FIRST_SAVE_PAUSE;
        loop {
            tokio::time::sleep(pause).await;
            if self.save().await.is_ok() {
                return;
            }
            pause = (pause * 2).min(LONGEST_SAVE_PAUSE);
        }
    }

    /// Writes what could not be written before, unless the store has moved on.
    pub(super) async fn save(&self) -> Result<(), AuthError> {
        let _turn = self.turn.lock().await;
        let Some(unsaved) = self.known().unsaved() else { return Ok(()) };
        let mut document = unsaved.held.read().await?;
        let stored = document.get(&unsaved.credential.account_id).map_err(|why| self.store.unreadable(&why))?;
        if !stored.is_some_and(|stored| stored.is_renewed_by(&unsaved.replaces)) {
            self.known().drop_unsaved(&unsaved);
            return Ok(());
        }
        document.put(&unsaved.credential);
        unsaved.held.write(&document).await?;
        let stamp = self.store.stamp().await;
        self.known().saved(stamp);
        tracing::info!("the renewed sign-in is stored now");
        Ok(())
    }
}

impl Cause {
    /// Whether it is the refusal of this access token.
    fn is_about(&self, access_token: &Secret) -> bool {
        matches!(self, Self::Refused(token) if token.expose() == access_token.expose())
    }

    /// Why a credential without a refresh token can't be renewed.
    fn without_refresh_token(&self) -> &'static str {
        match self {
            Self::Due => NOTHING_RENEWS_AN_EXPIRED_TOKEN,
            Self::Refused(_) => NOTHING_RENEWS_A_REFUSED_TOKEN,
        }
    }

    fn reason(&self) -> RefreshReason {
        match self {
            Self::Due => RefreshReason::ProactiveExpiry,
            Self::Refused(_) => RefreshReason::UnauthorizedRecovery,
        }
    }
}
