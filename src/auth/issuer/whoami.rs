//! Whose a workspace access token is.

use serde_json::Value;

use super::{Authority, AuthorityError, Call, Content, Introduction};
use crate::secret::Secret;

/// The owner of a workspace access token.
#[derive(Debug)]
pub(in crate::auth) struct Owner {
    pub(in crate::auth) account_id: String,
    pub(in crate::auth) email: Option<Secret>,
    pub(in crate::auth) plan: Option<String>,
    pub(in crate::auth) is_fedramp: bool,
}

impl Authority {
    /// Asks whose a token is.
    pub(in crate::auth) async fn whoami(&self, token: &Secret) -> Result<Owner, AuthorityError> {
        let path = "/api/accounts/v1/user-auth-credential/whoami";
        let content = Content::Bearer(token.clone());
        let answer = self.call(Call { path, content, introduction: Introduction::Named }, self.timeout).await?;
        match answer.status {
            200 => owner(&answer.body).ok_or_else(AuthorityError::unreadable),
            401 | 403 => {
                let told = answer.code().map(|code| format!(": {code}")).unwrap_or_default();
                Err(AuthorityError::Refused { reason: format!("the issuer does not know this token{told}") })
            }
            _ => Err(answer.failure()),
        }
    }
}

fn owner(body: &[u8]) -> Option<Owner> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let text = |name: &str| body[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    Some(Owner {
        account_id: text("chatgpt_account_id")?,
        email: text("email").map(Secret::new),
        plan: text("chatgpt_plan_type"),
        is_fedramp: body["chatgpt_account_is_fedramp"].as_bool().unwrap_or_default(),
    })
}
