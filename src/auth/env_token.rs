//! An access token from an environment variable, which takes precedence over the store.
//!
//! It is never refreshed, stored or revoked. For a workspace token, the account is requested from the issuer once, at
//! the first use, so that the daemon starts without a network. A failure is cached for a few seconds, so that not every
//! request calls the issuer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::auth::access_token::{AccessToken, UnusableToken};
use crate::auth::credential::Credential;
use crate::auth::issuer::{Issuer, IssuerError};
use crate::clock::Clock;
use crate::token_source::{AuthError, Bearer, BoxFuture, SessionState, TokenSource};

/// How long a failed lookup is cached.
const FAILURE_LIFETIME: Duration = Duration::from_secs(5);
const REFUSED: &str = "is refused by the backend";

/// An access token from an environment variable.
#[derive(Clone, Debug)]
pub struct EnvToken {
    /// Name of the variable, for messages.
    pub variable: &'static str,
    /// Its value, parsed.
    pub token: Result<AccessToken, UnusableToken>,
}

/// A source of this token. Clones share the lookup.
#[derive(Clone, Debug)]
pub(in crate::auth) struct EnvTokenSource {
    env_token: EnvToken,
    issuer: Issuer,
    clock: Arc<dyn Clock>,
    lookup: Arc<Mutex<IssuerLookup>>,
    /// Whether the backend refused the token and hasn't accepted it since.
    is_refused: Arc<AtomicBool>,
}

/// The account of a workspace token, as the issuer reported it.
#[derive(Debug, Default)]
struct IssuerLookup {
    credential: Option<Credential>,
    failure: Option<(Instant, AuthError)>,
}

impl EnvToken {
    /// Returns why the value can't be used, if it can't.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let why = self.token.as_ref().err()?;
        Some(format!("the access token in {} can't be used: {why}", self.variable))
    }

    fn unusable(&self, what: &str) -> AuthError {
        AuthError::EnvTokenUnusable { variable: self.variable, what: what.to_owned() }
    }
}

impl EnvTokenSource {
    pub(in crate::auth) fn new(env_token: EnvToken, issuer: Issuer, clock: Arc<dyn Clock>) -> Self {
        Self { env_token, issuer, clock, lookup: Arc::default(), is_refused: Arc::default() }
    }

    /// Returns the credential of the token, if it hasn't expired.
    pub(in crate::auth) async fn credential(&self) -> Result<Credential, AuthError> {
        let credential = self.identified().await?;
        self.check_expiry(&credential, self.clock.now())?;
        Ok(credential)
    }

    /// Returns the credential with the account that the token belongs to.
    async fn identified(&self) -> Result<Credential, AuthError> {
        let token =
            self.env_token.token.as_ref().map_err(|why| self.env_token.unusable(&format!("can't be used ({why})")))?;
        // Concurrent callers wait for one lookup.
        let mut lookup = self.lookup.lock().await;
        if let Some(credential) = &lookup.credential {
            return Ok(credential.clone());
        }
        if let Some((at, error)) = &lookup.failure
            && let Some(delay) = FAILURE_LIFETIME.checked_sub(at.elapsed()).filter(|delay| !delay.is_zero())
        {
            return Err(error.clone().with_retry_after(delay));
        }
        match token.credential(&self.issuer, self.clock.now()).await {
            Ok(credential) => Ok(lookup.credential.insert(credential).clone()),
            Err(error) => {
                let error = match error {
                    IssuerError::Refused { .. } => self.env_token.unusable("is unknown to the issuer"),
                    IssuerError::Unavailable { message, retry_after } => {
                        AuthError::Unavailable { message, retry_after }
                    }
                };
                lookup.failure = Some((Instant::now(), error.clone()));
                Err(error.with_retry_after(FAILURE_LIFETIME))
            }
        }
    }

    fn check_expiry(&self, credential: &Credential, now: SystemTime) -> Result<(), AuthError> {
        match credential.expires_at {
            Some(end) if end <= now => Err(self.env_token.unusable("has expired")),
            _ => Ok(()),
        }
    }
}

impl TokenSource for EnvTokenSource {
    fn bearer(&self) -> BoxFuture<'_, Result<Bearer, AuthError>> {
        Box::pin(async { Ok(self.credential().await?.bearer()) })
    }

    fn recover<'a>(&'a self, _rejected: &'a Bearer) -> BoxFuture<'a, Result<Bearer, AuthError>> {
        self.is_refused.store(true, Ordering::Relaxed);
        Box::pin(async { Err(self.env_token.unusable(REFUSED)) })
    }

    fn check(&self) -> BoxFuture<'_, Result<SessionState, AuthError>> {
        Box::pin(async {
            let token = self.env_token.token.as_ref();
            let token = token.map_err(|why| self.env_token.unusable(&format!("can't be used ({why})")))?;
            if self.is_refused.load(Ordering::Relaxed) {
                return Err(self.env_token.unusable(REFUSED));
            }
            token.own_credential().map_or(Ok(()), |credential| self.check_expiry(&credential, self.clock.now()))?;
            Ok(SessionState::Working)
        })
    }

    fn accepted(&self, _bearer: &Bearer) {
        self.is_refused.store(false, Ordering::Relaxed);
    }
}
