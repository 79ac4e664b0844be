//! Access tokens that come alone, without anything to renew them with.
//!
//! Two kinds can be used: the tokens that a workspace hands out (`at-…`), whose owner the issuer
//! tells, and ChatGPT's own, which name their account. What else may be found in such a place is
//! refused by name. Texts never quote a token.

use std::time::SystemTime;

use serde_json::Value;

use crate::auth::claims;
use crate::auth::credential::{Credential, Ownership};
use crate::auth::import;
use crate::auth::issuer::{Authority, AuthorityError};
use crate::auth::store::Store;
use crate::clock::Clock;
use crate::command_hint::command;
use crate::secret::Secret;
use crate::token_source::AuthError;

/// An access token of a kind that can be used.
#[derive(Clone, Debug)]
pub struct AccessToken {
    token: Secret,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Handed out by a workspace; the issuer knows whose it is.
    Workspace,
    /// ChatGPT's own; it says whose it is.
    ChatGpt,
}

/// Why a text is no access token that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Nothing is there.
    #[error("there is no token in it")]
    Empty,
    /// A key of the platform.
    #[error("it is an API key, which spends no ChatGPT subscription")]
    ApiKey,
    /// A token that gets others.
    #[error("it is a refresh token; an access token is needed, or run `{}`", command("login"))]
    RefreshToken,
    /// The identity of an agent.
    #[error(
        "it is an agent identity: its owner signs every request with a key that goes with it, which is not supported; \
         use a workspace access token (at-…) or run `{}`",
        command("login")
    )]
    AgentIdentity,
    /// A token about a person, for a program.
    #[error("it is an id token; the access token is the other one")]
    IdToken,
    /// A token that speaks for no account.
    #[error("it names no ChatGPT account")]
    NoAccount,
    /// Something else.
    #[error("it is not an access token: a workspace's begins with at-, and ChatGPT's own has three parts")]
    Unknown,
}

/// Why an access token could not be signed in with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessTokenError {
    /// Its time is over.
    #[error("this access token has ended")]
    Ended,
    /// The issuer does not say whose it is.
    #[error("it can't be found out whose token this is: {0}")]
    Issuer(AuthorityError),
    /// The store can't be used.
    #[error(transparent)]
    Store(AuthError),
}

impl AccessToken {
    /// Recognises a token.
    ///
    /// # Errors
    /// When it is none, or of a kind that can't be used.
    pub fn parse(text: &str) -> Result<Self, Unusable> {
        // PowerShell puts a byte order mark before what it pipes.
        let text = text.trim_start_matches('\u{feff}').trim();
        let kind = kind(text)?;
        Ok(Self { token: Secret::new(text), kind })
    }

    /// The credential that the token itself tells of; `None`: the issuer has to be asked.
    #[must_use]
    pub fn told(&self) -> Option<Credential> {
        match self.kind {
            Kind::Workspace => None,
            Kind::ChatGpt => Credential::of_tokens(None, None, self.token.clone(), None, None).ok(),
        }
    }

    /// The credential that it makes.
    pub(in crate::auth) async fn credential(
        &self,
        authority: &Authority,
        now: SystemTime,
    ) -> Result<Credential, AuthorityError> {
        if let Some(credential) = self.told() {
            return Ok(credential);
        }
        let owner = authority.whoami(&self.token).await?;
        Ok(Credential {
            account_id: owner.account_id,
            email: owner.email,
            plan: owner.plan,
            is_fedramp: owner.is_fedramp,
            id_token: None,
            access_token: self.token.clone(),
            refresh_token: None,
            expires_at: None,
            last_refresh: Some(now),
            ownership: Ownership::Owned,
            refusal: None,
            refused_at: None,
        })
    }
}

/// Signs in with an access token alone, and makes its account the active one.
///
/// # Errors
/// When it has ended, the issuer does not know it, or the store can't be written.
pub async fn adopt(
    store: &Store,
    authority: &Authority,
    clock: &dyn Clock,
    token: &AccessToken,
) -> Result<Credential, AccessTokenError> {
    let credential = token.credential(authority, clock.now()).await.map_err(AccessTokenError::Issuer)?;
    if credential.expires_at.is_some_and(|end| end <= clock.now()) {
        return Err(AccessTokenError::Ended);
    }
    import::add(store, &credential).await.map_err(AccessTokenError::Store)?;
    Ok(credential)
}

fn kind(text: &str) -> Result<Kind, Unusable> {
    let is_header_text = text.bytes().all(|byte| byte.is_ascii_graphic());
    match text {
        "" => Err(Unusable::Empty),
        _ if !is_header_text => Err(Unusable::Unknown),
        _ if text.starts_with("at-") => Ok(Kind::Workspace),
        _ if text.starts_with("sk-") => Err(Unusable::ApiKey),
        _ if text.starts_with("rt_") || text.starts_with("rt-") || text.starts_with("rt.") => {
            Err(Unusable::RefreshToken)
        }
        _ => kind_of_payload(&claims::payload(text).ok_or(Unusable::Unknown)?),
    }
}

fn kind_of_payload(payload: &Value) -> Result<Kind, Unusable> {
    let is_for_agent = |name: &String| name.starts_with("agent_");
    if payload.as_object().is_some_and(|members| members.keys().any(is_for_agent)) {
        return Err(Unusable::AgentIdentity);
    }
    let audience = match &payload["aud"] {
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        Value::String(one) => vec![one.as_str()],
        _ => Vec::new(),
    };
    if audience.iter().any(|client| client.starts_with("app_")) {
        return Err(Unusable::IdToken);
    }
    let account = payload["https://api.openai.com/auth"]["chatgpt_account_id"].as_str();
    if account.is_some_and(|id| !id.is_empty()) { Ok(Kind::ChatGpt) } else { Err(Unusable::NoAccount) }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::{AccessToken, Kind, Unusable};

    fn jwt(payload: &Value) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload.to_string()))
    }

    fn kind(text: &str) -> Result<Kind, Unusable> {
        AccessToken::parse(text).map(|token| token.kind)
    }

    #[test]
    fn the_two_kinds_that_can_be_used_are_told_apart() {
        for text in [" at-1\n", "\u{feff}at-1\r\n"] {
            assert_eq!(kind(text), Ok(Kind::Workspace), "{text:?}");
        }
        let auth = json!({"chatgpt_account_id": "acct-1"});
        let own = jwt(&json!({"aud": ["https://api.openai.com/v1"], "https://api.openai.com/auth": auth}));
        assert_eq!(kind(&own), Ok(Kind::ChatGpt));
    }

    #[test]
    fn what_can_not_be_used_is_refused_by_name() {
        let auth = json!({"chatgpt_account_id": "acct-1"});
        for (text, why) in [
            (String::new(), Unusable::Empty),
            ("sk-proj-1".to_owned(), Unusable::ApiKey),
            ("rt_1".to_owned(), Unusable::RefreshToken),
            ("opaque".to_owned(), Unusable::Unknown),
            ("at-1 at-2".to_owned(), Unusable::Unknown),
            (jwt(&json!({"agent_runtime_id": "a", "https://api.openai.com/auth": auth})), Unusable::AgentIdentity),
            (jwt(&json!({"aud": ["app_1"], "https://api.openai.com/auth": auth})), Unusable::IdToken),
            (jwt(&json!({"sub": "x"})), Unusable::NoAccount),
        ] {
            assert_eq!(kind(&text), Err(why), "{text}");
        }
    }
}
