//! The tokens of every account, each from one place.
//!
//! Whoever asks for no account gets the one that the settings name, else the active one, whichever
//! that is at the time. There is one [`Tokens`] for an account in a process, since two would not
//! know of what the other could not store. A refused token is replaced by one of the same account
//! and no other: accounts are never rotated, and none stands in for another. A token that the
//! environment gives outranks all of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::auth::env_token::{Given, GivenTokens};
use crate::auth::issuer::Authority;
use crate::auth::store::{Stamp, Store};
use crate::auth::tokens::Tokens;

use crate::clock::Clock;
use crate::clock::sleep_detector::Watch;
use crate::token_source::{AuthError, Bearer, BoxFuture, Choice, Refreshes, SignIn, TokenSource};

/// How often the store is looked at for the active account while there is one.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How many looks a sleep is followed by.
const LOOKS_AFTER_SLEEP: u32 = 8;

/// The bearer tokens of all accounts. Clones share everything.
#[derive(Clone, Debug)]
pub struct Accounts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    authority: Authority,
    clock: Arc<dyn Clock>,
    chosen: Option<Choice>,
    given: Option<GivenTokens>,
    tokens: Mutex<BTreeMap<String, Tokens>>,
    active: Mutex<Active>,
}

/// The active account, as last seen in the store.
#[derive(Debug, Default)]
struct Active {
    id: Option<String>,
    stamp: Option<Stamp>,
    looked_at: Option<Instant>,
}

impl Accounts {
    /// The accounts of a store; `chosen` is the one that the settings name.
    #[must_use]
    pub fn new(store: Store, authority: Authority, clock: Arc<dyn Clock>, chosen: Option<Choice>) -> Self {
        let (tokens, active) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { store, authority, clock, chosen, given: None, tokens, active }))
    }

    /// Only the token that the environment gives; the store is left alone.
    #[must_use]
    pub fn given(given: Given, store: Store, authority: Authority, clock: Arc<dyn Clock>) -> Self {
        let given = Some(GivenTokens::new(given, authority.clone(), Arc::clone(&clock)));
        let (tokens, active) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { store, authority, clock, chosen: None, given, tokens, active }))
    }

    /// A token of the account in use that is not about to end, where that can be had.
    ///
    /// # Errors
    /// When no token can be had that is still good.
    pub async fn fresh(&self) -> Result<Bearer, AuthError> {
        match &self.0.given {
            Some(given) => given.bearer().await,
            None => self.0.current().await?.fresh().await,
        }
    }

    /// Sees to the tokens soon after the machine has slept, so that the first request does not have
    /// to; runs until dropped. `every` is how often it looks.
    pub async fn keep_awake(&self, every: Duration) {
        let mut watch = Watch::new(self.0.clock.now(), Instant::now());
        let mut looks_left = 0;
        loop {
            tokio::time::sleep(every).await;
            if watch.has_slept(self.0.clock.now(), Instant::now()) {
                tracing::debug!("the machine has slept");
                looks_left = LOOKS_AFTER_SLEEP;
            }
            if looks_left > 0 {
                // The network may need a moment to come back; a failure is logged where it happens.
                looks_left -= 1;
                let _ = self.bearer().await;
            }
        }
    }

    /// Waits for renewals under way, and for their outcome to be stored: call it before the process ends.
    pub async fn settle(&self) {
        let all: Vec<Tokens> = self.0.tokens().values().cloned().collect();
        for tokens in all {
            tokens.settle().await;
        }
    }
}

impl TokenSource for Accounts {
    fn bearer(&self) -> BoxFuture<'_, Result<Bearer, AuthError>> {
        Box::pin(async {
            match &self.0.given {
                Some(given) => given.bearer().await,
                None => self.0.current().await?.bearer().await,
            }
        })
    }

    fn recover<'a>(&'a self, rejected: &'a Bearer) -> BoxFuture<'a, Result<Bearer, AuthError>> {
        Box::pin(async {
            match &self.0.given {
                Some(given) => given.recover(rejected).await,
                None => self.0.of(&rejected.account.id).recover(rejected).await,
            }
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<SignIn, AuthError>> {
        Box::pin(async {
            match &self.0.given {
                Some(given) => given.check().await,
                None => self.0.current().await?.check().await,
            }
        })
    }

    fn accepted(&self, bearer: &Bearer) {
        match &self.0.given {
            Some(given) => given.accepted(bearer),
            None => self.0.of(&bearer.account.id).accepted(bearer),
        }
    }

    fn refused(&self, bearer: &Bearer) -> Option<Duration> {
        match &self.0.given {
            Some(given) => given.refused(bearer),
            None => self.0.of(&bearer.account.id).refused(bearer),
        }
    }

    fn refreshes(&self) -> Refreshes {
        self.0.authority.refreshes()
    }

    fn choose<'a>(&'a self, choice: &'a Choice) -> BoxFuture<'a, Result<Arc<dyn TokenSource>, AuthError>> {
        Box::pin(async {
            let Some(given) = &self.0.given else {
                return Ok(Arc::new(self.0.choose(choice).await?) as Arc<dyn TokenSource>);
            };
            if given.credential().await?.account_id == choice.account_id {
                return Ok(Arc::new(given.clone()) as Arc<dyn TokenSource>);
            }
            Err(AuthError::UnknownAccount { chosen_by: choice.by.clone() })
        })
    }

    fn prefer<'a>(&'a self, account_id: &'a str) -> BoxFuture<'a, Option<Arc<dyn TokenSource>>> {
        Box::pin(async move {
            if self.0.given.is_some() || self.0.chosen.is_some() {
                return None;
            }
            let choice = Choice { account_id: account_id.to_owned(), by: "an earlier answer".to_owned() };
            let tokens = self.0.choose(&choice).await.ok()?;
            match tokens.check().await {
                // A failure that passes is no reason to send a conversation to another account.
                Ok(_) | Err(AuthError::Unavailable { .. } | AuthError::TokenRefused { .. }) => {
                    Some(Arc::new(tokens) as Arc<dyn TokenSource>)
                }
                Err(_) => None,
            }
        })
    }
}

impl Inner {
    /// The tokens of the account in use.
    async fn current(&self) -> Result<Tokens, AuthError> {
        match &self.chosen {
            Some(choice) => self.choose(choice).await,
            None => Ok(self.of(&self.active_id().await?)),
        }
    }

    /// The tokens of an account that somebody names: it may not be there.
    async fn choose(&self, choice: &Choice) -> Result<Tokens, AuthError> {
        let known = self.tokens().get(&choice.account_id).cloned();
        let tokens = known.unwrap_or_else(|| self.make(&choice.account_id));
        match tokens.is_signed_in().await {
            Ok(true) => Ok(self.tokens().entry(choice.account_id.clone()).or_insert(tokens).clone()),
            Ok(false) => Err(AuthError::UnknownAccount { chosen_by: choice.by.clone() }),
            Err(error) => Err(error),
        }
    }

    /// The tokens of an account that is in the store.
    fn of(&self, id: &str) -> Tokens {
        self.tokens().entry(id.to_owned()).or_insert_with(|| self.make(id)).clone()
    }

    fn make(&self, id: &str) -> Tokens {
        Tokens::new(self.store.clone(), self.authority.clone(), Arc::clone(&self.clock), id.to_owned())
    }

    async fn active_id(&self) -> Result<String, AuthError> {
        if let Some(id) = self.active().recent() {
            return Ok(id);
        }
        let stamp = self.store.stamp().await;
        if let Some(id) = self.active().of_stamp(&stamp) {
            return Ok(id);
        }
        match self.store.read().await {
            Ok(document) => {
                let id = document.active().map(str::to_owned);
                self.active().looked(stamp, id.clone());
                let is_empty = document.ids().next().is_none();
                id.ok_or(if is_empty { AuthError::SignedOut } else { AuthError::NoActiveAccount })
            }
            // Its tokens say that they go on from memory.
            Err(error) => self.active().id.clone().ok_or(error),
        }
    }

    fn tokens(&self) -> MutexGuard<'_, BTreeMap<String, Tokens>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn active(&self) -> MutexGuard<'_, Active> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Active {
    fn recent(&self) -> Option<String> {
        let is_recent = self.looked_at.is_some_and(|at| at.elapsed() < LOOK_INTERVAL);
        self.id.clone().filter(|_| is_recent)
    }

    fn of_stamp(&mut self, stamp: &Stamp) -> Option<String> {
        let id = self.id.clone().filter(|_| self.stamp.as_ref() == Some(stamp))?;
        self.looked_at = Some(Instant::now());
        Some(id)
    }

    fn looked(&mut self, stamp: Stamp, id: Option<String>) {
        *self = Self { id, stamp: Some(stamp), looked_at: Some(Instant::now()) };
    }
}

/// Makes an account of the store the active one.
///
/// # Errors
/// When it is not signed in, or the store can't be read or written.
pub async fn activate(store: &Store, id: &str) -> Result<(), AuthError> {
    let unknown = || AuthError::UnknownAccount { chosen_by: "the command line".to_owned() };
    // A mistyped id must not create a lock file.
    if !store.read().await?.ids().any(|known| known == id) {
        return Err(unknown());
    }
    let held = store.lock().await?;
    let mut document = held.read().await?;
    if !document.ids().any(|known| known == id) {
        return Err(unknown());
    }
    document.set_active(id);
    held.write(&document).await
}
