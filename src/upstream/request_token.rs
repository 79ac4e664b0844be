//! The one access token of a client request.
//!
//! A request gets its token once, and everything about the request uses it: the quota check, the
//! reasoning that is sent back, the stored response, the usage record and the call to the backend. Only
//! a token of the same account replaces it, after the backend has refused it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::{Instant, sleep};

use super::Upstream;
use super::retry_policy::{Attempts, chance};
use crate::error::ProxyError;
use crate::token_source::{AuthError, Bearer, BoxFuture, RECOVERY_REST, TokenSource};

/// How often a refused token is replaced: by one that another process has stored, then by a renewed one.
const MAX_RECOVERIES: u32 = 2;

/// The token that a request is sent with, and the source of its replacement.
#[derive(Debug)]
pub struct RequestToken {
    bearer: Bearer,
    source: Arc<dyn TokenSource>,
    recoveries: u32,
    /// What is left of the request's retries; those that the issuer needs count, too.
    pub(super) attempts: Attempts,
}

impl Upstream {
    /// Gets the token for a request: from `source`, which the client has chosen, else of the account in use.
    /// A transient failure of the issuer is waited for and retried within the request's retry budget.
    ///
    /// # Errors
    /// [`ProxyError::Auth`] if the source has no token.
    pub async fn token(&self, source: Option<Arc<dyn TokenSource>>) -> Result<RequestToken, ProxyError> {
        let source = source.unwrap_or_else(|| Arc::clone(&self.tokens));
        let mut attempts = Attempts::new(self.settings.max_retries, self.settings.retry_budget);
        let bearer = self.retried(&mut attempts, || source.bearer()).await?;
        Ok(RequestToken { bearer, source, recoveries: 0, attempts })
    }

    /// Replaces a token that the backend has refused.
    pub(super) async fn recover(&self, token: &mut RequestToken) -> Result<(), ProxyError> {
        if token.recoveries == MAX_RECOVERIES {
            let retry_after = token.source.refused(&token.bearer).unwrap_or(RECOVERY_REST);
            return Err(ProxyError::Auth(AuthError::TokenRefused { retry_after }));
        }
        token.recoveries += 1;
        let fresh = self.retried(&mut token.attempts, || token.source.recover(&token.bearer)).await?;
        if fresh.account.id != token.bearer.account.id {
            return Err(ProxyError::Auth(AuthError::AccountChanged));
        }
        token.bearer = fresh;
        Ok(())
    }

    /// Asks for a token, again after each transient failure that the attempts allow for. The time that a
    /// failed call takes is part of the budget.
    async fn retried<'s>(
        &self,
        attempts: &mut Attempts,
        ask: impl Fn() -> BoxFuture<'s, Result<Bearer, AuthError>>,
    ) -> Result<Bearer, ProxyError> {
        loop {
            let asked = Instant::now();
            let error = match ask().await {
                Ok(bearer) => return Ok(bearer),
                Err(error) => ProxyError::Auth(error),
            };
            attempts.spend(asked.elapsed());
            let Some(retry) = attempts.judge(&error, chance()) else { return Err(error) };
            tracing::info!(cause = error.loggable(), wait = ?retry.after, "waiting for the issuer");
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

    /// Whether no refused token has been replaced yet.
    pub(super) fn is_first(&self) -> bool {
        self.recoveries == 0
    }

    /// Notes that the backend has accepted the token.
    pub(super) fn accepted(&self) {
        self.source.accepted(&self.bearer);
    }
}
