//! The access token of a client request.
//!
//! A request gets its token once, and everything about the request uses its account: the quota check, the replayed
//! reasoning, the stored response, the usage record and the backend request. A token that the backend refuses is
//! replaced only by another one of the same account.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::{Instant, sleep};

use super::Upstream;
use super::retry_policy::{RetryBudget, random_jitter};
use crate::error::{Fault, ProxyError};
use crate::token_source::{AuthError, Bearer, BoxFuture, CredentialSource, RECOVERY_DELAY, TokenSource};

/// How often a request's refused token is replaced: by one that another process has stored, then by a refreshed one.
const MAX_RECOVERIES: u32 = 2;

/// The token that a request is sent with, and the source of its replacement. A clone is for a further call of the same
/// request: it has the same account, and its retries are counted separately.
#[derive(Clone, Debug)]
pub struct RequestToken {
    bearer: Bearer,
    source: Arc<dyn TokenSource>,
    /// How often the token was replaced.
    recoveries: u32,
    /// The request's remaining retries. Repeated requests to the issuer count too.
    pub(super) retries: RetryBudget,
}

impl Upstream {
    /// Gets the token for a request, from `source` if the client has chosen an account, else from the active account.
    /// Retries transient failures of the issuer within the request's retry budget.
    ///
    /// # Errors
    /// [`ProxyError::Auth`] if there is no token.
    pub async fn token(&self, source: Option<Arc<dyn TokenSource>>) -> Result<RequestToken, ProxyError> {
        let source = source.unwrap_or_else(|| Arc::clone(&self.tokens));
        let mut retries = RetryBudget::new(self.settings.max_retries, self.settings.retry_budget);
        let bearer = self.retried(&mut retries, || source.bearer()).await?;
        Ok(RequestToken { bearer, source, recoveries: 0, retries })
    }

    /// Replaces a token that the backend has refused. Fails if the only other token belongs to another account, or if
    /// the token was replaced [`MAX_RECOVERIES`] times already.
    pub(super) async fn recover(&self, token: &mut RequestToken) -> Result<(), ProxyError> {
        if token.recoveries == MAX_RECOVERIES {
            let retry_after = token.source.refused(&token.bearer).unwrap_or(RECOVERY_DELAY);
            return Err(ProxyError::Auth(AuthError::TokenRefused { retry_after }));
        }
        token.recoveries += 1;
        let fresh = self.retried(&mut token.retries, || token.source.recover(&token.bearer)).await?;
        if fresh.account.id != token.bearer.account.id {
            return Err(ProxyError::Auth(AuthError::AccountChanged));
        }
        token.bearer = fresh;
        Ok(())
    }

    /// Returns the error of an attempt as the request's own. If the backend has refused a token that the client sent
    /// itself, only the client can replace it.
    pub(super) fn attributed(&self, mut error: ProxyError, token: &RequestToken) -> ProxyError {
        if token.credentials() == CredentialSource::Client
            && let ProxyError::Upstream(failure) = &mut error
            && failure.fault == Fault::Unauthorized
        {
            failure.fault = Fault::ClientUnauthorized;
            self.check_next_token_of(&token.bearer.account.id);
        }
        error
    }

    /// Requests a token, and retries transient failures. The time that failed requests take counts against the waiting
    /// budget, as the delays do.
    async fn retried<'s>(
        &self,
        retries: &mut RetryBudget,
        request: impl Fn() -> BoxFuture<'s, Result<Bearer, AuthError>>,
    ) -> Result<Bearer, ProxyError> {
        loop {
            let started = Instant::now();
            let error = match request().await {
                Ok(bearer) => return Ok(bearer),
                Err(error) => ProxyError::Auth(error),
            };
            retries.spend(started.elapsed());
            let Some(retry) = retries.next_attempt(&error, random_jitter()) else { return Err(error) };
            tracing::info!(cause = error.loggable(), wait = ?retry.after, "retrying the token request");
            sleep(retry.after).await;
            self.counters.retries.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl RequestToken {
    /// The token and its account.
    #[must_use]
    pub fn bearer(&self) -> &Bearer {
        &self.bearer
    }

    /// Whose login it is.
    #[must_use]
    pub fn credentials(&self) -> CredentialSource {
        self.source.credentials()
    }

    /// Limits the retries to failures from before the backend has accepted a request, for requests that may be billed
    /// even if they fail.
    pub fn retry_only_unaccepted(&mut self) {
        self.retries.retry_only_unaccepted();
    }

    /// Adopts the bearer token of a clone that has replaced it more often. The retries left don't change.
    pub(super) fn adopt(&mut self, clone: Self) {
        if clone.recoveries > self.recoveries {
            self.bearer = clone.bearer;
            self.recoveries = clone.recoveries;
        }
    }

    /// Whether the token was never replaced.
    pub(super) fn is_first(&self) -> bool {
        self.recoveries == 0
    }

    /// Reports to the source that the backend has accepted the token.
    pub(super) fn accepted(&self) {
        self.source.accepted(&self.bearer);
    }
}
