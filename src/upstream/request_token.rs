//! The one access token of a client request.
//!
//! A request gets its token once, and everything about the request uses it: the quota check, the
//! reasoning that is sent back, the stored response, the usage record and the call to the backend. Only
//! a token of the same account replaces it, after the backend has refused it.

use std::sync::Arc;


use super::Upstream;
use super::attempts::Attempts;
use crate::bearer::{AuthError, Bearer, RECOVERY_REST, TokenSource};
use crate::error::ProxyError;

/// How often a refused token is replaced: by one that another process has stored, then by a renewed one.
const MAX_RECOVERIES: u32 = 2;

/// The token that a request is sent with, and the source of its replacement.
#[derive(Debug)]
pub struct RequestToken {
    bearer: Bearer,
    source: Arc<dyn TokenSource>,
    recoveries: u32,
    /// What is left of the request's retries.
    pub(super) attempts: Attempts,
}

impl Upstream {
    /// Gets the token for a request: from `source`, which the client has chosen, else of the account in use.
    ///
    /// # Errors
    /// [`ProxyError::Auth`] if the source has no token.
    pub async fn token(&self, source: Option<Arc<dyn TokenSource>>) -> Result<RequestToken, ProxyError> {
        let source = source.unwrap_or_else(|| Arc::clone(&self.tokens));
        let bearer = source.bearer().await.map_err(ProxyError::Auth)?;
        let attempts = Attempts::new(self.settings.max_retries, self.settings.retry_budget);
        Ok(RequestToken { bearer, source, recoveries: 0, attempts })
    }

    /// Replaces a token that the backend has refused.
    pub(super) async fn recover(&self, token: &mut RequestToken) -> Result<(), ProxyError> {
        if token.recoveries == MAX_RECOVERIES {
            return Err(ProxyError::Auth(AuthError::TokenRefused { retry_after: RECOVERY_REST }));
        }
        token.recoveries += 1;
        let fresh = token.source.recover(&token.bearer).await.map_err(ProxyError::Auth)?;
        if fresh.account.id != token.bearer.account.id {
            return Err(ProxyError::Auth(AuthError::AccountChanged));
        }
        token.bearer = fresh;
        Ok(())
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
