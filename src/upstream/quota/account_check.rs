//! Checks whether the backend accepts an account, with a request that doesn't count against the quota.

use crate::error::ProxyError;
use crate::token_source::Bearer;
use crate::upstream::{Upstream, region};

/// Whether the backend accepts an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountStatus {
    /// The account can be used.
    Active,
    /// Its workspace is deactivated.
    Disabled,
}

impl Upstream {
    /// Requests the status of the active account; its token is replaced once if the backend refuses it.
    ///
    /// # Errors
    /// If no token is available, or the backend doesn't report the status.
    pub async fn account_status(&self) -> Result<AccountStatus, ProxyError> {
        self.with_active_token(async |bearer| self.fetch_status(bearer).await).await
    }

    async fn fetch_status(&self, bearer: &Bearer) -> Result<AccountStatus, ProxyError> {
        let fetched =
            region::fetch_account(&self.http, &self.request_headers(bearer), "accounts/check", region::TIMEOUT).await;
        let body = match fetched {
            Err(ProxyError::Upstream(failure)) if failure.code.as_deref() == Some("deactivated_workspace") => {
                return Ok(AccountStatus::Disabled);
            }
            fetched => fetched?,
        };
        let account =
            region::find_account(&bearer.account.id, &body).map_err(|reason| ProxyError::Damaged { reason })?;
        let is_disabled = account["is_deactivated"].as_bool().unwrap_or_default();
        Ok(if is_disabled { AccountStatus::Disabled } else { AccountStatus::Active })
    }
}
