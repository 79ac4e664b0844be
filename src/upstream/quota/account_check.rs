//! Whether the backend takes an account, asked without spending anything.
//!
//! For `status` and its like: one question, with a token that is renewed once where it is refused.
//! It remembers nothing, and waits no longer than its caller does.

use crate::error::{Fault, ProxyError};
use crate::token_source::Bearer;
use crate::upstream::{Upstream, region};

/// How an account stands with the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It can be used.
    Active,
    /// Its workspace was switched off.
    Disabled,
}

impl Upstream {
    /// Asks how the account in use stands.
    ///
    /// # Errors
    /// When no token can be had, or the backend did not say.
    pub async fn standing(&self) -> Result<Standing, ProxyError> {
        let bearer = self.tokens.bearer().await.map_err(ProxyError::Auth)?;
        match self.ask_standing(&bearer).await {
            Err(ProxyError::Upstream(failure)) if failure.fault == Fault::Unauthorized => {
                let bearer = self.tokens.recover(&bearer).await.map_err(ProxyError::Auth)?;
                self.ask_standing(&bearer).await
            }
            answered => answered,
        }
    }

    async fn ask_standing(&self, bearer: &Bearer) -> Result<Standing, ProxyError> {
        let body = match region::ask(&self.http, &self.caller(bearer), "accounts/check", region::LIMIT).await {
            Err(ProxyError::Upstream(failure)) if failure.code.as_deref() == Some("deactivated_workspace") => {
                return Ok(Standing::Disabled);
            }
            answered => answered?,
        };
        let account = region::find(&bearer.account.id, &body).map_err(|reason| ProxyError::Damaged { reason })?;
        let is_disabled = account["is_deactivated"].as_bool().unwrap_or_default();
        Ok(if is_disabled { Standing::Disabled } else { Standing::Active })
    }
}
