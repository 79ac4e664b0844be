//! The bearer tokens of all accounts.
//!
//! A request that names no account uses the configured one, or else the account that is active at that time. A process
//! has one [`Tokens`] for each account, because only that one knows tokens that couldn't be stored yet. A refused token
//! is only replaced by one of the same account: accounts are never rotated. A token from the environment takes
//! precedence over all accounts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::auth::env_token::{EnvToken, EnvTokenSource};
use crate::auth::issuer::Issuer;
use crate::auth::store::{Stamp, Store};
use crate::auth::tokens::Tokens;
use crate::clock::Clock;
use crate::clock::sleep_detector::SleepDetector;
use crate::token_source::{AccountChoice, AuthError, Bearer, BoxFuture, RefreshCounts, SessionState, TokenSource};

/// How long the active account is cached before the store is checked again.
const CACHE_LIFETIME: Duration = Duration::from_secs(1);

/// How many times [`Accounts::renew_after_sleep`] checks the tokens after the machine has slept.
const CHECKS_AFTER_SLEEP: u32 = 8;

/// The bearer tokens of all accounts. Clones share everything.
#[derive(Clone, Debug)]
pub struct Accounts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    issuer: Issuer,
    clock: Arc<dyn Clock>,
    /// The configured account; `None`: the active one is used.
    chosen: Option<AccountChoice>,
    env_token: Option<EnvTokenSource>,
    /// By account id.
    tokens: Mutex<BTreeMap<String, Tokens>>,
    active: Mutex<ActiveAccount>,
}

/// The active account, as last read from the store.
#[derive(Debug, Default)]
struct ActiveAccount {
    id: Option<String>,
    stamp: Option<Stamp>,
    checked_at: Option<Instant>,
}

impl Accounts {
    /// The accounts of a store. `chosen` is the configured account.
    #[must_use]
    pub fn new(store: Store, issuer: Issuer, clock: Arc<dyn Clock>, chosen: Option<AccountChoice>) -> Self {
        let (tokens, active) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { store, issuer, clock, chosen, env_token: None, tokens, active }))
    }

    /// A token from the environment only. The store isn't read or written.
    #[must_use]
    pub fn from_env(env_token: EnvToken, store: Store, issuer: Issuer, clock: Arc<dyn Clock>) -> Self {
        let env_token = Some(EnvTokenSource::new(env_token, issuer.clone(), Arc::clone(&clock)));
        let (tokens, active) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { store, issuer, clock, chosen: None, env_token, tokens, active }))
    }

    /// Returns a token of the account in use. Waits for its refresh if it expires soon.
    ///
    /// # Errors
    /// If there is no valid token and none can be obtained.
    pub async fn fresh(&self) -> Result<Bearer, AuthError> {
        match &self.0.env_token {
            Some(env_token) => env_token.bearer().await,
            None => self.0.current().await?.fresh().await,
        }
    }

    /// Refreshes tokens soon after the machine has slept, so that the first request doesn't have to wait. Runs until
    /// dropped, and checks once per `interval`.
    pub async fn renew_after_sleep(&self, interval: Duration) {
        let mut detector = SleepDetector::new(self.0.clock.now(), Instant::now());
        let mut checks_left = 0;
        loop {
            tokio::time::sleep(interval).await;
            if detector.has_slept(self.0.clock.now(), Instant::now()) {
                tracing::debug!("the machine has slept");
                checks_left = CHECKS_AFTER_SLEEP;
            }
            if checks_left > 0 {
                // The network may not be up yet. A failed refresh logs its error.
                checks_left -= 1;
                let _ = self.bearer().await;
            }
        }
    }

    /// Waits until running refreshes are complete and stored. Call it before the process ends.
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
            match &self.0.env_token {
                Some(env_token) => env_token.bearer().await,
                None => self.0.current().await?.bearer().await,
            }
        })
    }

    fn recover<'a>(&'a self, rejected: &'a Bearer) -> BoxFuture<'a, Result<Bearer, AuthError>> {
        Box::pin(async {
            match &self.0.env_token {
                Some(env_token) => env_token.recover(rejected).await,
                None => self.0.of(&rejected.account.id).recover(rejected).await,
            }
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<SessionState, AuthError>> {
        Box::pin(async {
            match &self.0.env_token {
                Some(env_token) => env_token.check().await,
                None => self.0.current().await?.check().await,
            }
        })
    }

    fn accepted(&self, bearer: &Bearer) {
        match &self.0.env_token {
            Some(env_token) => env_token.accepted(bearer),
            None => self.0.of(&bearer.account.id).accepted(bearer),
        }
    }

    fn refused(&self, bearer: &Bearer) -> Option<Duration> {
        match &self.0.env_token {
            Some(env_token) => env_token.refused(bearer),
            None => self.0.of(&bearer.account.id).refused(bearer),
        }
    }

    fn refreshes(&self) -> RefreshCounts {
        self.0.issuer.refreshes()
    }

    fn choose<'a>(&'a self, choice: &'a AccountChoice) -> BoxFuture<'a, Result<Arc<dyn TokenSource>, AuthError>> {
        Box::pin(async {
            let Some(env_token) = &self.0.env_token else {
                return Ok(Arc::new(self.0.choose(choice).await?) as Arc<dyn TokenSource>);
            };
            if env_token.credential().await?.account_id == choice.account_id {
                return Ok(Arc::new(env_token.clone()) as Arc<dyn TokenSource>);
            }
            Err(AuthError::UnknownAccount { chosen_by: choice.by.clone() })
        })
    }

    fn prefer<'a>(&'a self, account_id: &'a str) -> BoxFuture<'a, Option<Arc<dyn TokenSource>>> {
        Box::pin(async move {
            if self.0.env_token.is_some() || self.0.chosen.is_some() {
                return None;
            }
            let choice = AccountChoice { account_id: account_id.to_owned(), by: "an earlier response".to_owned() };
            let tokens = self.0.choose(&choice).await.ok()?;
            match tokens.check().await {
                // A temporary failure doesn't move a conversation to another account.
                Ok(_) | Err(AuthError::Unavailable { .. } | AuthError::TokenRefused { .. }) => {
                    Some(Arc::new(tokens) as Arc<dyn TokenSource>)
                }
                Err(_) => None,
            }
        })
    }
}

impl Inner {
    /// Returns the tokens of the account in use.
    async fn current(&self) -> Result<Tokens, AuthError> {
        match &self.chosen {
            Some(choice) => self.choose(choice).await,
            None => Ok(self.of(&self.active_id().await?)),
        }
    }

    /// Returns the tokens of a named account, if it is signed in.
    async fn choose(&self, choice: &AccountChoice) -> Result<Tokens, AuthError> {
        let cached = self.tokens().get(&choice.account_id).cloned();
        let tokens = cached.unwrap_or_else(|| self.create(&choice.account_id));
        match tokens.is_signed_in().await {
            Ok(true) => Ok(self.tokens().entry(choice.account_id.clone()).or_insert(tokens).clone()),
            Ok(false) => Err(AuthError::UnknownAccount { chosen_by: choice.by.clone() }),
            Err(error) => Err(error),
        }
    }

    /// Returns the tokens of an account, which need not be in the store anymore.
    fn of(&self, id: &str) -> Tokens {
        self.tokens().entry(id.to_owned()).or_insert_with(|| self.create(id)).clone()
    }

    fn create(&self, id: &str) -> Tokens {
        Tokens::new(self.store.clone(), self.issuer.clone(), Arc::clone(&self.clock), id.to_owned())
    }

    /// Returns the id of the active account, from the cache or, if that is too old, from the store.
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
                self.active().update(stamp, id.clone());
                let is_empty = document.ids().next().is_none();
                id.ok_or(if is_empty { AuthError::SignedOut } else { AuthError::NoActiveAccount })
            }
            // The tokens in memory are used until the store can be read again, and log this.
            Err(error) => self.active().id.clone().ok_or(error),
        }
    }

    fn tokens(&self) -> MutexGuard<'_, BTreeMap<String, Tokens>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn active(&self) -> MutexGuard<'_, ActiveAccount> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ActiveAccount {
    /// Returns the id if the store was checked within [`CACHE_LIFETIME`].
    fn recent(&self) -> Option<String> {
        let is_recent = self.checked_at.is_some_and(|at| at.elapsed() < CACHE_LIFETIME);
        self.id.clone().filter(|_| is_recent)
    }

    /// Returns the id if it was read from the store in this state.
    fn of_stamp(&mut self, stamp: &Stamp) -> Option<String> {
        let id = self.id.clone().filter(|_| self.stamp.as_ref() == Some(stamp))?;
        self.checked_at = Some(Instant::now());
        Some(id)
    }

    fn update(&mut self, stamp: Stamp, id: Option<String>) {
        *self = Self { id, stamp: Some(stamp), checked_at: Some(Instant::now()) };
    }
}

/// Makes an account the active one.
///
/// # Errors
/// If it isn't signed in, or the store can't be read or written.
pub async fn activate(store: &Store, id: &str) -> Result<(), AuthError> {
    let unknown = || AuthError::UnknownAccount { chosen_by: "the command line".to_owned() };
    // Don't create a lock file for a mistyped id.
    if !store.read().await?.ids().any(|other| other == id) {
        return Err(unknown());
    }
    let locked = store.lock().await?;
    let mut document = locked.read().await?;
    if !document.ids().any(|other| other == id) {
        return Err(unknown());
    }
    document.set_active(id);
    locked.write(&document).await
}
