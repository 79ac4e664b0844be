//! What one process remembers between two looks at the store.
//!
//! The credential in use, how renewing it failed and until when it rests, and a renewed credential
//! that could not be written yet. No I/O: the renewal and the token source ask and tell. Memory is
//! never preferred to the store, save for what replaces the very token that the store still holds.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::auth::credential::Credential;
use crate::auth::store::{Held, Stamp};
use crate::secret::Secret;
use crate::token_source::{AuthError, RECOVERY_REST};

/// How often the store's file is looked at while all is well.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The longest that the issuer may make us wait.
const LONGEST_WISH: Duration = Duration::from_secs(300);
/// A token that was renewed this recently is not renewed again, whatever our clock thinks of it.
const JUST_GRANTED: Duration = Duration::from_secs(30);

/// What a renewal comes to.
pub(super) type Outcome = Result<Arc<Credential>, AuthError>;
/// A renewal under way, or landed.
pub(super) type Flight = watch::Receiver<Option<Outcome>>;

/// The memory.
#[derive(Debug, Default)]
pub(super) struct Known {
    current: Option<Arc<Credential>>,
    stamp: Option<Look>,
    looked_at: Option<Instant>,
    /// Counts what renewals put here, so that a slower look at the file does not undo it.
    generation: u64,
    refused: Option<Refused>,
    pause: Option<Pause>,
    unsaved: Option<Unsaved>,
    recovery: Option<Recovery>,
    /// When our last renewal was granted, in wall time.
    granted_at: Option<SystemTime>,
    pub(super) flight: Option<Flight>,
}

/// A state of the store, and of the file that a borrowed login comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) store: Stamp,
    pub(super) lender: Option<Stamp>,
}

/// A refresh token that the issuer won't take.
#[derive(Debug)]
struct Refused {
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

/// A rest after a failure that may pass.
#[derive(Debug)]
struct Pause {
    until: Instant,
    step: Duration,
    error: AuthError,
}

/// A renewed credential that is not in the store yet.
#[derive(Clone, Debug)]
pub(super) struct Unsaved {
    /// The spent token that the store still holds.
    pub(super) replaces: Secret,
    /// What belongs there.
    pub(super) credential: Arc<Credential>,
    /// Kept until it is written: another process would send the spent token again.
    pub(super) held: Arc<Held>,
}

/// Whether somebody already sees to an unsaved credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Saving {
    /// Nobody does: start.
    New,
    /// A loop runs, and will find it.
    Running,
}

impl Known {
    /// The credential, unless it is time to look at the store. A caller that gets `None` looks.
    pub(super) fn recent(&mut self) -> Option<Arc<Credential>> {
        let now = Instant::now();
        let is_recent = self.looked_at.is_some_and(|at| now < at + LOOK_INTERVAL);
        if is_recent && self.refused.is_none() {
            return self.current.clone();
        }
        // Others need not look at the same time.
        self.looked_at = Some(now);
        None
    }

    /// The credential in memory.
    pub(super) fn current(&self) -> Option<Arc<Credential>> {
        self.current.clone()
    }

    /// The credential that belongs to a state of the store, if that state was read before.
    pub(super) fn of_stamp(&self, stamp: &Look) -> Option<Arc<Credential>> {
        self.current.clone().filter(|_| self.stamp.as_ref() == Some(stamp))
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Takes over what a look at the store found, unless a renewal has been faster.
    pub(super) fn looked(&mut self, generation: u64, stamp: Look, found: Option<Credential>) {
        if generation != self.generation {
            return;
        }
        let found = found.map(|credential| self.newest(credential));
        self.stamp = Some(stamp);
        self.set_current(found);
    }

    /// Remembers a state of the store that can't be understood, so that it is not read again.
    pub(super) fn skip(&mut self, stamp: Look) {
        self.stamp = Some(stamp);
    }

    /// The stored credential, or the one that has replaced it and could not be written.
    pub(super) fn newest(&mut self, stored: Credential) -> Arc<Credential> {
        match &self.unsaved {
            Some(unsaved) if stored.is_renewed_by(&unsaved.replaces) => Arc::clone(&unsaved.credential),
            Some(_) => {
                self.unsaved = None;
                Arc::new(stored)
            }
            None => Arc::new(stored),
        }
    }

    /// Takes over what a renewal found or got.
    pub(super) fn adopt(&mut self, credential: Option<&Arc<Credential>>) {
        self.generation += 1;
        self.set_current(credential.cloned());
    }

    /// The store now holds what is in memory.
    pub(super) fn saved(&mut self, stamp: Stamp) {
        self.generation += 1;
        self.stamp = Some(Look { store: stamp, lender: None });
        self.unsaved = None;
    }

    /// Notes what could not be written over a spent token.
    pub(super) fn keep_unsaved(&mut self, spent: Secret, credential: Arc<Credential>, held: Arc<Held>) -> Saving {
        let earlier = self.unsaved.take();
        let saving = if earlier.is_some() { Saving::Running } else { Saving::New };
        let replaces = earlier.map_or(spent, |unsaved| unsaved.replaces);
        self.unsaved = Some(Unsaved { replaces, credential, held });
        saving
    }

    pub(super) fn unsaved(&self) -> Option<Unsaved> {
        self.unsaved.clone()
    }

    /// Forgets an unsaved credential, unless a later one has taken its place.
    pub(super) fn drop_unsaved(&mut self, done: &Unsaved) {
        if self.unsaved.as_ref().is_some_and(|own| Arc::ptr_eq(&own.credential, &done.credential)) {
            self.unsaved = None;
        }
    }

    /// What another renewal would come to right now, where that is known without trying.
    pub(super) fn verdict(&self, credential: &Credential) -> Option<AuthError> {
        if let Some(refused) = &self.refused
            && credential.is_renewed_by(&refused.token)
        {
            return Some(refused.error.clone());
        }
        if let Some(refusal) = &credential.refusal {
            return Some(AuthError::Ended { reason: refusal.reason.clone() });
        }
        let pause = self.pause.as_ref()?;
        let rest = pause.until.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero())?;
        Some(pause.error.clone().resting(rest))
    }

    /// Remembers that a refresh token is worthless.
    pub(super) fn refuse(&mut self, token: Secret, error: &AuthError) {
        self.pause = None;
        self.refused = Some(Refused { token, error: error.clone() });
    }

    /// Rests after a failure that may pass: longer each time, or as long as the issuer wishes. Returns how long.
    pub(super) fn rest(&mut self, error: &AuthError) -> Duration {
        let step = self.pause.as_ref().map_or(FIRST_PAUSE, |pause| (pause.step * 2).min(LONGEST_PAUSE));
        let wish = match error {
            AuthError::Unavailable { retry_after, .. } => retry_after.unwrap_or_default().min(LONGEST_WISH),
            _ => Duration::ZERO,
        };
        let rest = step.max(wish);
        self.pause = Some(Pause { until: Instant::now() + rest, step, error: error.clone() });
        rest
    }

    /// Rests for a moment: a file costs little to read again.
    pub(super) fn rest_briefly(&mut self, error: &AuthError) {
        self.pause = None;
        self.rest(error);
    }

    /// Takes over what the issuer has just granted.
    pub(super) fn grant(&mut self, credential: &Arc<Credential>) {
        self.granted_at = credential.last_refresh;
        self.adopt(Some(credential));
    }

    /// Whether we renewed this very credential moments ago.
    pub(super) fn is_just_granted(&self, credential: &Credential, now: SystemTime) -> bool {
        let age = self.granted_at.and_then(|granted| now.duration_since(granted).ok());
        credential.last_refresh == self.granted_at && age.is_some_and(|age| age < JUST_GRANTED)
    }

    /// Notes the token that replaces a refused one.
    pub(super) fn note_recovery(&mut self, token: &Secret) {
        if !self.recovery.as_ref().is_some_and(|recovery| recovery.is_of(token)) {
            self.recovery = Some(Recovery { token: token.clone(), at: Instant::now(), is_refused: false });
        }
    }

    /// Notes that a token is refused. Returns how long the next recovery rests if that token itself replaced
    /// a refused one moments ago.
    pub(super) fn refuse_recovered(&mut self, token: &Secret) -> Option<Duration> {
        let recovery = self.recovery.as_mut().filter(|recovery| recovery.is_of(token))?;
        recovery.is_refused = true;
        recovery.rest()
    }

    /// How long the next recovery rests, if a token is known to be refused.
    pub(super) fn recovery_rest(&self, token: &Secret) -> Option<Duration> {
        self.recovery.as_ref().filter(|recovery| recovery.is_refused && recovery.is_of(token))?.rest()
    }

    /// Notes that the backend has accepted a token. Returns the credential in use if it was marked as refused.
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
            self.pause = None;
        }
        self.looked_at = Some(Instant::now());
        self.current = credential;
    }
}

impl Recovery {
    fn is_of(&self, token: &Secret) -> bool {
        self.token.expose() == token.expose()
    }

    /// How long the next recovery has to wait.
    fn rest(&self) -> Option<Duration> {
        RECOVERY_REST.checked_sub(self.at.elapsed()).filter(|rest| !rest.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::Known;
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

    fn trouble(retry_after: Option<Duration>) -> AuthError {
        AuthError::Unavailable { message: "500".to_owned(), retry_after }
    }

    /// How long the memory says that it rests.
    fn rest_of(known: &Known) -> Duration {
        match known.verdict(&credential("rt")) {
            Some(AuthError::Unavailable { retry_after: Some(rest), .. }) => rest,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_doubles_up_to_a_minute() {
        let mut known = Known::default();
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            known.rest(&trouble(None));
            assert_eq!(rest_of(&known), Duration::from_secs(seconds));
            tokio::time::advance(Duration::from_secs(seconds)).await;
            assert!(known.verdict(&credential("rt")).is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_issuers_wish_is_heard_within_reason() {
        let mut known = Known::default();
        known.rest(&trouble(Some(Duration::from_secs(30))));
        assert_eq!(rest_of(&known), Duration::from_secs(30));
        known.rest(&trouble(Some(Duration::from_secs(1_000_000))));
        assert_eq!(rest_of(&known), Duration::from_secs(300));
    }

    #[tokio::test(start_paused = true)]
    async fn recovery_rests_for_ten_seconds_after_a_token_that_is_refused_too() {
        let (old, new) = (Secret::new("at_1"), Secret::new("at_2"));
        let mut known = Known::default();
        assert_eq!(known.refuse_recovered(&old), None);
        known.note_recovery(&new);
        assert_eq!((known.refuse_recovered(&old), known.recovery_rest(&new)), (None, None));
        tokio::time::advance(Duration::from_secs(3)).await;
        known.note_recovery(&new);
        assert_eq!(known.refuse_recovered(&new), Some(Duration::from_secs(7)));
        assert_eq!(known.recovery_rest(&new), Some(Duration::from_secs(7)));
        known.accepted(&new);
        assert_eq!(known.recovery_rest(&new), None);
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!((known.refuse_recovered(&new), known.recovery_rest(&new)), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_concerns_one_refresh_token() {
        let mut known = Known::default();
        let ended = AuthError::Ended { reason: "used".to_owned() };
        known.refuse(Secret::new("rt"), &ended);
        tokio::time::advance(Duration::from_secs(1_000_000)).await;
        assert_eq!(known.verdict(&credential("rt")), Some(ended));
        assert_eq!(known.verdict(&credential("rt_other")), None);
    }

    #[tokio::test]
    async fn an_unsaved_credential_stands_in_for_the_one_it_replaces_and_no_other() {
        let mut known = Known::default();
        let stands_for = |known: &mut Known, stored: &str| {
            let newest = known.newest(credential(stored));
            newest.refresh_token.as_ref().map(|token| token.expose().to_owned())
        };
        let held = Arc::new(Store::memory(&credential("rt_1")).lock().await.unwrap());
        known.keep_unsaved(Secret::new("rt_1"), credential("rt_2").into(), Arc::clone(&held));
        known.keep_unsaved(Secret::new("rt_2"), credential("rt_3").into(), held);
        assert_eq!(stands_for(&mut known, "rt_1").as_deref(), Some("rt_3"));
        assert_eq!(stands_for(&mut known, "rt_9").as_deref(), Some("rt_9"));
        assert!(known.unsaved().is_none());
    }
}
