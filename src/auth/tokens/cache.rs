//! The state of one account that a process caches.
//!
//! Holds the credential in use, the last failure to refresh it and the backoff, and a refreshed credential that isn't
//! stored yet. The store takes precedence over the cache, except over a refresh token that the cached credential has
//! replaced. No I/O.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::auth::credential::Credential;
use crate::auth::store::{LockedStore, Stamp};
use crate::secret::Secret;
use crate::token_source::{AuthError, RECOVERY_DELAY};

/// How long the cache is used before the store is checked again.
const CACHE_LIFETIME: Duration = Duration::from_secs(1);
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// The longest wait that the issuer can request.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);
/// A token that was refreshed less than this ago isn't refreshed again, even if it has expired according to our clock.
const JUST_GRANTED: Duration = Duration::from_secs(30);

pub(super) type RenewalResult = Result<Arc<Credential>, AuthError>;
/// A refresh that several callers wait for; `Some` once it is complete.
pub(super) type SharedRenewal = watch::Receiver<Option<RenewalResult>>;

#[derive(Debug, Default)]
pub(super) struct TokenCache {
    current: Option<Arc<Credential>>,
    stamp: Option<SourceStamps>,
    checked_at: Option<Instant>,
    /// Counts changes by refreshes, so that a slower read of the store doesn't undo one.
    generation: u64,
    refused: Option<RefusedToken>,
    backoff: Option<Backoff>,
    unsaved: Option<Unsaved>,
    recovery: Option<Recovery>,
    /// When the last refresh was granted, in wall time.
    granted_at: Option<SystemTime>,
    pub(super) renewal: Option<SharedRenewal>,
}

/// The states of the store and of the file of an imported login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SourceStamps {
    pub(super) store: Stamp,
    pub(super) borrowed: Option<Stamp>,
}

/// A refresh token that the issuer has refused.
#[derive(Debug)]
struct RefusedToken {
    token: Secret,
    error: AuthError,
}

/// The token that replaced a refused one.
#[derive(Debug)]
struct Recovery {
    token: Secret,
    at: Instant,
    /// Whether the backend has refused it as well.
    is_refused: bool,
}

#[derive(Debug)]
struct Backoff {
    until: Instant,
    step: Duration,
    error: AuthError,
}

/// A refreshed credential that isn't in the store yet.
#[derive(Clone, Debug)]
pub(super) struct Unsaved {
    /// The used refresh token that is still in the store.
    pub(super) replaces: Secret,
    /// The credential that replaces it.
    pub(super) credential: Arc<Credential>,
    /// Kept until the credential is written: otherwise another process would send the used token again.
    pub(super) locked: Arc<LockedStore>,
}

/// Whether a task that writes unsaved credentials is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SaveTask {
    /// The caller has to start it.
    Missing,
    /// It will find the credential.
    Running,
}

impl TokenCache {
    /// Returns the credential, or `None` if the caller has to check the store.
    pub(super) fn recent(&mut self) -> Option<Arc<Credential>> {
        let now = Instant::now();
        let is_recent = self.checked_at.is_some_and(|at| now < at + CACHE_LIFETIME);
        if is_recent && self.refused.is_none() {
            return self.current.clone();
        }
        // Concurrent callers don't have to check the store too.
        self.checked_at = Some(now);
        None
    }

    pub(super) fn current(&self) -> Option<Arc<Credential>> {
        self.current.clone()
    }

    /// Returns the cached credential if it was read from the store in this state.
    pub(super) fn of_stamp(&self, stamp: &SourceStamps) -> Option<Arc<Credential>> {
        self.current.clone().filter(|_| self.stamp.as_ref() == Some(stamp))
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Stores what was read from the store, unless a refresh was faster.
    pub(super) fn update(&mut self, generation: u64, stamp: SourceStamps, found: Option<Credential>) {
        if generation != self.generation {
            return;
        }
        let found = found.map(|credential| self.newest(credential));
        self.stamp = Some(stamp);
        self.set_current(found);
    }

    /// Records a state of the store that can't be parsed, so that it isn't read again.
    pub(super) fn skip(&mut self, stamp: SourceStamps) {
        self.stamp = Some(stamp);
    }

    /// Returns the stored credential, or the unsaved one that has replaced it.
    pub(super) fn newest(&mut self, stored: Credential) -> Arc<Credential> {
        match &self.unsaved {
            Some(unsaved) if stored.has_refresh_token(&unsaved.replaces) => Arc::clone(&unsaved.credential),
            Some(_) => {
                self.unsaved = None;
                Arc::new(stored)
            }
            None => Arc::new(stored),
        }
    }

    /// Sets the credential that a refresh found or received.
    pub(super) fn adopt(&mut self, credential: Option<&Arc<Credential>>) {
        self.generation += 1;
        self.set_current(credential.cloned());
    }

    /// Records that the cached credential is in the store.
    pub(super) fn saved(&mut self, stamp: Stamp) {
        self.generation += 1;
        self.stamp = Some(SourceStamps { store: stamp, borrowed: None });
        self.unsaved = None;
    }

    /// Records a credential that couldn't be written to the store, and the refresh token that it replaces.
    pub(super) fn keep_unsaved(
        &mut self,
        used: Secret,
        credential: Arc<Credential>,
        locked: Arc<LockedStore>,
    ) -> SaveTask {
        let earlier = self.unsaved.take();
        let task = if earlier.is_some() { SaveTask::Running } else { SaveTask::Missing };
        let replaces = earlier.map_or(used, |unsaved| unsaved.replaces);
        self.unsaved = Some(Unsaved { replaces, credential, locked });
        task
    }

    pub(super) fn unsaved(&self) -> Option<Unsaved> {
        self.unsaved.clone()
    }

    /// Removes an unsaved credential, unless a later one has replaced it.
    pub(super) fn drop_unsaved(&mut self, done: &Unsaved) {
        if self.unsaved.as_ref().is_some_and(|own| Arc::ptr_eq(&own.credential, &done.credential)) {
            self.unsaved = None;
        }
    }

    /// Returns the error that another refresh would fail with now, if that is known.
    pub(super) fn known_error(&self, credential: &Credential) -> Option<AuthError> {
        if let Some(refused) = &self.refused
            && credential.has_refresh_token(&refused.token)
        {
            return Some(refused.error.clone());
        }
        if let Some(refusal) = &credential.refusal {
            return Some(AuthError::Ended { reason: refusal.reason.clone() });
        }
        let backoff = self.backoff.as_ref()?;
        let delay = backoff.until.checked_duration_since(Instant::now()).filter(|delay| !delay.is_zero())?;
        Some(backoff.error.clone().with_retry_after(delay))
    }

    /// Records that the issuer has permanently refused a refresh token.
    pub(super) fn refuse(&mut self, token: Secret, error: &AuthError) {
        self.backoff = None;
        self.refused = Some(RefusedToken { token, error: error.clone() });
    }

    /// Starts a backoff after a temporary failure: twice as long each time, or as long as the issuer requests. Returns
    /// its length.
    pub(super) fn back_off(&mut self, error: &AuthError) -> Duration {
        let step = self.backoff.as_ref().map_or(FIRST_BACKOFF, |backoff| (backoff.step * 2).min(MAX_BACKOFF));
        let requested = match error {
            AuthError::Unavailable { retry_after, .. } => retry_after.unwrap_or_default().min(MAX_RETRY_AFTER),
            _ => Duration::ZERO,
        };
        let delay = step.max(requested);
        self.backoff = Some(Backoff { until: Instant::now() + delay, step, error: error.clone() });
        delay
    }

    /// Starts the shortest backoff, after a failure whose repetition is cheap: reading or writing a file.
    pub(super) fn back_off_briefly(&mut self, error: &AuthError) {
        self.backoff = None;
        self.back_off(error);
    }

    /// Sets the credential that the issuer has just granted.
    pub(super) fn grant(&mut self, credential: &Arc<Credential>) {
        self.granted_at = credential.last_refresh;
        self.adopt(Some(credential));
    }

    /// Whether this credential was refreshed by this process moments ago.
    pub(super) fn is_just_granted(&self, credential: &Credential, now: SystemTime) -> bool {
        let age = self.granted_at.and_then(|granted| now.duration_since(granted).ok());
        credential.last_refresh == self.granted_at && age.is_some_and(|age| age < JUST_GRANTED)
    }

    /// Records the token that replaces a refused one.
    pub(super) fn record_recovery(&mut self, token: &Secret) {
        if !self.recovery.as_ref().is_some_and(|recovery| recovery.is_of(token)) {
            self.recovery = Some(Recovery { token: token.clone(), at: Instant::now(), is_refused: false });
        }
    }

    /// Records that a token was refused. If it replaced a refused token moments ago, returns how long the next recovery
    /// has to wait.
    pub(super) fn refuse_recovered(&mut self, token: &Secret) -> Option<Duration> {
        let recovery = self.recovery.as_mut().filter(|recovery| recovery.is_of(token))?;
        recovery.is_refused = true;
        recovery.delay()
    }

    /// Returns how long the next recovery has to wait, if this token was refused.
    pub(super) fn recovery_delay(&self, token: &Secret) -> Option<Duration> {
        self.recovery.as_ref().filter(|recovery| recovery.is_refused && recovery.is_of(token))?.delay()
    }

    /// Records that the backend has accepted a token. Returns the cached credential if it was marked as refused.
    pub(super) fn accepted(&mut self, token: &Secret) -> Option<Arc<Credential>> {
        if let Some(recovery) = self.recovery.as_mut().filter(|recovery| recovery.is_of(token)) {
            recovery.is_refused = false;
        }
        let current = self.current.as_ref().filter(|current| current.refused_at.is_some())?;
        if current.access_token.expose() != token.expose() {
            return None;
        }
        let cleared = Arc::new(Credential { refused_at: None, ..Credential::clone(current) });
        self.adopt(Some(&cleared));
        Some(cleared)
    }

    fn set_current(&mut self, credential: Option<Arc<Credential>>) {
        let is_same = match (&self.current, &credential) {
            (Some(old), Some(new)) => old.has_same_tokens(new),
            (None, None) => true,
            _ => false,
        };
        if !is_same {
            self.refused = None;
            self.backoff = None;
        }
        self.checked_at = Some(Instant::now());
        self.current = credential;
    }
}

impl Recovery {
    fn is_of(&self, token: &Secret) -> bool {
        self.token.expose() == token.expose()
    }

    fn delay(&self) -> Option<Duration> {
        RECOVERY_DELAY.checked_sub(self.at.elapsed()).filter(|delay| !delay.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::TokenCache;
    use crate::auth::credential::{Credential, Ownership};
    use crate::auth::store::Store;
    use crate::secret::Secret;
    use crate::token_source::AuthError;

    fn credential(refresh_token: &str) -> Credential {
        Credential {
            account_id: "a".to_owned(),
            email: None,
            plan: None,
            is_fedramp: false,
            id_token: None,
            access_token: Secret::new("at"),
            refresh_token: Some(Secret::new(refresh_token)),
            expires_at: None,
            last_refresh: None,
            ownership: Ownership::Owned,
            refusal: None,
            refused_at: None,
        }
    }

    fn unavailable(retry_after: Option<Duration>) -> AuthError {
        AuthError::Unavailable { message: "500".to_owned(), retry_after }
    }

    fn backoff_of(cache: &TokenCache) -> Duration {
        match cache.known_error(&credential("rt")) {
            Some(AuthError::Unavailable { retry_after: Some(delay), .. }) => delay,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_backoff_doubles_up_to_a_minute() {
        let mut cache = TokenCache::default();
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            cache.back_off(&unavailable(None));
            assert_eq!(backoff_of(&cache), Duration::from_secs(seconds));
            tokio::time::advance(Duration::from_secs(seconds)).await;
            assert!(cache.known_error(&credential("rt")).is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_the_issuer_requests_is_limited() {
        let mut cache = TokenCache::default();
        cache.back_off(&unavailable(Some(Duration::from_secs(30))));
        assert_eq!(backoff_of(&cache), Duration::from_secs(30));
        cache.back_off(&unavailable(Some(Duration::from_secs(1_000_000))));
        assert_eq!(backoff_of(&cache), Duration::from_secs(300));
    }

    #[tokio::test(start_paused = true)]
    async fn recovery_waits_ten_seconds_after_a_token_that_is_refused_too() {
        let (old, new) = (Secret::new("at_1"), Secret::new("at_2"));
        let mut cache = TokenCache::default();
        assert_eq!(cache.refuse_recovered(&old), None);
        cache.record_recovery(&new);
        assert_eq!((cache.refuse_recovered(&old), cache.recovery_delay(&new)), (None, None));
        tokio::time::advance(Duration::from_secs(3)).await;
        cache.record_recovery(&new);
        assert_eq!(cache.refuse_recovered(&new), Some(Duration::from_secs(7)));
        assert_eq!(cache.recovery_delay(&new), Some(Duration::from_secs(7)));
        cache.accepted(&new);
        assert_eq!(cache.recovery_delay(&new), None);
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!((cache.refuse_recovered(&new), cache.recovery_delay(&new)), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_applies_to_one_refresh_token() {
        let mut cache = TokenCache::default();
        let ended = AuthError::Ended { reason: "used".to_owned() };
        cache.refuse(Secret::new("rt"), &ended);
        tokio::time::advance(Duration::from_secs(1_000_000)).await;
        assert_eq!(cache.known_error(&credential("rt")), Some(ended));
        assert_eq!(cache.known_error(&credential("rt_other")), None);
    }

    #[tokio::test]
    async fn an_unsaved_credential_replaces_only_its_predecessor() {
        let mut cache = TokenCache::default();
        let newest = |cache: &mut TokenCache, stored: &str| {
            let credential = cache.newest(credential(stored));
            credential.refresh_token.as_ref().map(|token| token.expose().to_owned())
        };
        let locked = Arc::new(Store::memory(&credential("rt_1")).lock().await.unwrap());
        cache.keep_unsaved(Secret::new("rt_1"), credential("rt_2").into(), Arc::clone(&locked));
        cache.keep_unsaved(Secret::new("rt_2"), credential("rt_3").into(), locked);
        assert_eq!(newest(&mut cache, "rt_1").as_deref(), Some("rt_3"));
        assert_eq!(newest(&mut cache, "rt_9").as_deref(), Some("rt_9"));
        assert!(cache.unsaved().is_none());
    }
}
