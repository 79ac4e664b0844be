//! The one access token of a client request.
//!
//! A request gets its token once, and everything about the request uses it: the quota check, the
//! reasoning that is sent back, the stored response, the usage record and the call to the backend. Only
//! a token of the same account replaces it, after the backend has refused it.

use std::sync::Arc;

use super::Upstream;
use crate::bearer::{AuthError, Bearer, TokenSource};
use crate::error::ProxyError;

/// The token that a request is sent with, and the source of its replacement.
#[derive(Clone, Debug)]
pub struct RequestToken {
    bearer: Bearer,
    source: Arc<dyn TokenSource>,
}

impl Upstream {
    /// Gets the token for a request: from `source`, which the client has chosen, else of the account in use.
    ///
    /// # Errors
    /// [`ProxyError::Auth`] if the source has no token.
    pub async fn token(&self, source: Option<Arc<dyn TokenSource>>) -> Result<RequestToken, ProxyError> {
        let source = source.unwrap_or_else(|| Arc::clone(&self.tokens));
        let bearer = source.bearer().await.map_err(ProxyError::Auth)?;
        Ok(RequestToken { bearer, source })
    }

    /// Replaces a token that the backend has refused.
    pub(super) async fn recover(&self, token: &mut RequestToken) -> Result<(), ProxyError> {
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
}
