//! Looks up the account of a workspace access token.

use serde_json::Value;

use super::{Call, CallBody, ClientHeaders, Issuer, IssuerError};
use crate::secret::Secret;

/// The account and user of a workspace access token.
#[derive(Debug)]
pub(in crate::auth) struct TokenOwner {
    pub(in crate::auth) account_id: String,
    pub(in crate::auth) email: Option<Secret>,
    pub(in crate::auth) plan: Option<String>,
    pub(in crate::auth) is_fedramp: bool,
}

impl Issuer {
    /// Looks up the owner of a token.
    pub(in crate::auth) async fn whoami(&self, token: &Secret) -> Result<TokenOwner, IssuerError> {
        let path = "/api/accounts/v1/user-auth-credential/whoami";
        let body = CallBody::Bearer(token.clone());
        let response = self.call(Call { path, body, client_headers: ClientHeaders::Send }, self.timeout).await?;
        match response.status {
            200 => owner(&response.body).ok_or_else(IssuerError::unreadable),
            401 | 403 => {
                let suffix = response.code().map(|code| format!(": {code}")).unwrap_or_default();
                Err(IssuerError::Refused { reason: format!("the issuer doesn't know this token{suffix}") })
            }
            _ => Err(response.failure()),
        }
    }
}

fn owner(body: &[u8]) -> Option<TokenOwner> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let text = |name: &str| body[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    Some(TokenOwner {
        account_id: text("chatgpt_account_id")?,
        email: text("email").map(Secret::new),
        plan: text("chatgpt_plan_type"),
        is_fedramp: body["chatgpt_account_is_fedramp"].as_bool().unwrap_or_default(),
    })
}
