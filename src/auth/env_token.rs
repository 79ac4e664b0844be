//! The access token that the environment gives, which outranks the store.
//!
//! It is never renewed, written or revoked. Whose a workspace's token is, the issuer is asked once,
//! at its first use: a daemon has to start without a network. A failure is remembered for a moment,
//! so that a stream of requests does not become one of questions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::auth::access_token::{AccessToken, Unusable};
use crate::auth::credential::Credential;
use crate::auth::issuer::{Authority, AuthorityError};
use crate::clock::Clock;
use crate::token_source::{AuthError, Bearer, BoxFuture, SignIn, TokenSource};

/// How long a failure to ask is remembered.
const REST: Duration = Duration::from_secs(5);
const REFUSED: &str = "is refused by the backend";

/// A token from a variable.
#[derive(Clone, Debug)]
pub struct Given {
    /// The variable, for messages.
    pub variable: &'static str,
    /// What was in it.
    pub token: Result<AccessToken, Unusable>,
}

/// Hands the token out. Clones share what the issuer said.
#[derive(Clone, Debug)]
pub(in crate::auth) struct GivenTokens {
    given: Given,
    authority: Authority,
    clock: Arc<dyn Clock>,
    known: Arc<Mutex<Known>>,
    /// Whether the backend has refused the token and not accepted it since.
    is_refused: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Known {
    credential: Option<Credential>,
    failure: Option<(Instant, AuthError)>,
}

impl Given {
    /// Why the token can't be used at all, if so.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let why = self.token.as_ref().err()?;
        Some(format!("the access token in {} can't be used: {why}", self.variable))
    }

    fn ended(&self, what: &str) -> AuthError {
        AuthError::GivenEnded { variable: self.variable, what: what.to_owned() }
    }
}

impl GivenTokens {
    pub(in crate::auth) fn new(given: Given, authority: Authority, clock: Arc<dyn Clock>) -> Self {
        Self { given, authority, clock, known: Arc::default(), is_refused: Arc::default() }
    }

    /// The credential of the token, while it is good.
    pub(in crate::auth) async fn credential(&self) -> Result<Credential, AuthError> {
        let credential = self.owned().await?;
        self.good(&credential, self.clock.now())?;
        Ok(credential)
    }

    async fn owned(&self) -> Result<Credential, AuthError> {
        let token = self.given.token.as_ref().map_err(|why| self.given.ended(&format!("can't be used ({why})")))?;
        // Whoever comes meanwhile waits for the same question.
        let mut known = self.known.lock().await;
        if let Some(credential) = &known.credential {
            return Ok(credential.clone());
        }
        if let Some((at, error)) = &known.failure
            && let Some(rest) = REST.checked_sub(at.elapsed()).filter(|rest| !rest.is_zero())
        {
            return Err(error.clone().resting(rest));
        }
        match token.credential(&self.authority, self.clock.now()).await {
            Ok(credential) => Ok(known.credential.insert(credential).clone()),
            Err(error) => {
                let error = match error {
                    AuthorityError::Refused { .. } => self.given.ended("is not known to the issuer"),
                    AuthorityError::Unavailable { message, retry_after } => {
                        AuthError::Unavailable { message, retry_after }
                    }
                };
                known.failure = Some((Instant::now(), error.clone()));
                Err(error.resting(REST))
            }
        }
    }

    fn good(&self, credential: &Credential, now: SystemTime) -> Result<(), AuthError> {
        match credential.expires_at {
            Some(end) if end <= now => Err(self.given.ended("has ended")),
            _ => Ok(()),
        }
    }
}

impl TokenSource for GivenTokens {
    fn bearer(&self) -> BoxFuture<'_, Result<Bearer, AuthError>> {
        Box::pin(async { Ok(self.credential().await?.bearer()) })
    }

    fn recover<'a>(&'a self, _rejected: &'a Bearer) -> BoxFuture<'a, Result<Bearer, AuthError>> {
        self.is_refused.store(true, Ordering::Relaxed);
        Box::pin(async { Err(self.given.ended(REFUSED)) })
    }

    fn check(&self) -> BoxFuture<'_, Result<SignIn, AuthError>> {
        Box::pin(async {
            let token = self.given.token.as_ref();
            let token = token.map_err(|why| self.given.ended(&format!("can't be used ({why})")))?;
            if self.is_refused.load(Ordering::Relaxed) {
                return Err(self.given.ended(REFUSED));
            }
            token.told().map_or(Ok(()), |credential| self.good(&credential, self.clock.now()))?;
            Ok(SignIn::Working)
        })
    }

    fn accepted(&self, _bearer: &Bearer) {
        self.is_refused.store(false, Ordering::Relaxed);
    }
}
