//! Access tokens without a refresh token.
//!
//! Two kinds can be used: tokens issued by a workspace (`at-…`), whose account the issuer reports, and ChatGPT's own
//! tokens, which contain their account. Other kinds of tokens and keys are recognized and refused. Errors never quote a
//! token.

use std::time::SystemTime;

use serde_json::Value;

use crate::auth::claims;
use crate::auth::credential::{Credential, Ownership};
use crate::auth::import;
use crate::auth::issuer::{Issuer, IssuerError};
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
    /// Issued by a workspace; the issuer reports its account.
    Workspace,
    /// ChatGPT's own; its payload names the account.
    ChatGpt,
}

/// Why a text is not a usable access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableToken {
    /// Empty text.
    #[error("there is no token in it")]
    Empty,
    /// A key of the OpenAI platform.
    #[error("it is an API key, which doesn't use a ChatGPT subscription")]
    ApiKey,
    /// A refresh token.
    #[error("it is a refresh token; use an access token, or run `{}`", command("login"))]
    RefreshToken,
    /// A token of an agent identity.
    #[error(
        "it is an agent identity, whose requests must be signed with a separate key, which is not supported; use a \
         workspace access token (at-…) or run `{}`",
        command("login")
    )]
    AgentIdentity,
    /// An OpenID Connect ID token.
    #[error("it is an id token; use the access token")]
    IdToken,
    /// A token without an account.
    #[error("it names no ChatGPT account")]
    NoAccount,
    /// Anything else.
    #[error("it is not an access token: a workspace's starts with at-, and ChatGPT's own has three parts")]
    Unknown,
}

/// Why signing in with an access token failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessTokenError {
    /// The token is past its expiry.
    #[error("this access token has expired")]
    Expired,
    /// The issuer didn't report the token's account.
    #[error("the account of this token can't be looked up: {0}")]
    Issuer(IssuerError),
    /// The store can't be used.
    #[error(transparent)]
    Store(AuthError),
}

impl AccessToken {
    /// Parses a token.
    ///
    /// # Errors
    /// If the text is not a usable access token.
    pub fn parse(text: &str) -> Result<Self, UnusableToken> {
        // PowerShell starts piped text with a byte order mark.
        let text = text.trim_start_matches('\u{feff}').trim();
        let kind = kind(text)?;
        Ok(Self { token: Secret::new(text), kind })
    }

    /// Returns the credential that the token itself contains, or `None` if only the issuer knows its account.
    #[must_use]
    pub fn own_credential(&self) -> Option<Credential> {
        match self.kind {
            Kind::Workspace => None,
            Kind::ChatGpt => Credential::from_tokens(None, None, self.token.clone(), None, None).ok(),
        }
    }

    /// Returns the credential, with the account that the token or the issuer names.
    pub(in crate::auth) async fn credential(
        &self,
        issuer: &Issuer,
        now: SystemTime,
    ) -> Result<Credential, IssuerError> {
        if let Some(credential) = self.own_credential() {
            return Ok(credential);
        }
        let owner = issuer.whoami(&self.token).await?;
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

/// Stores an access token and makes its account the active one.
///
/// # Errors
/// If the token has expired, the issuer doesn't know it, or the store can't be written.
pub async fn adopt(
    store: &Store,
    issuer: &Issuer,
    clock: &dyn Clock,
    token: &AccessToken,
) -> Result<Credential, AccessTokenError> {
    let credential = token.credential(issuer, clock.now()).await.map_err(AccessTokenError::Issuer)?;
    if credential.expires_at.is_some_and(|end| end <= clock.now()) {
        return Err(AccessTokenError::Expired);
    }
    import::add(store, &credential).await.map_err(AccessTokenError::Store)?;
    Ok(credential)
}

fn kind(text: &str) -> Result<Kind, UnusableToken> {
    let is_header_text = text.bytes().all(|byte| byte.is_ascii_graphic());
    match text {
        "" => Err(UnusableToken::Empty),
        _ if !is_header_text => Err(UnusableToken::Unknown),
        _ if text.starts_with("at-") => Ok(Kind::Workspace),
        _ if text.starts_with("sk-") => Err(UnusableToken::ApiKey),
        _ if text.starts_with("rt_") || text.starts_with("rt-") || text.starts_with("rt.") => {
            Err(UnusableToken::RefreshToken)
        }
        _ => kind_of_payload(&claims::payload(text).ok_or(UnusableToken::Unknown)?),
    }
}

fn kind_of_payload(payload: &Value) -> Result<Kind, UnusableToken> {
    let is_for_agent = |name: &String| name.starts_with("agent_");
    if payload.as_object().is_some_and(|members| members.keys().any(is_for_agent)) {
        return Err(UnusableToken::AgentIdentity);
    }
    let audience = match &payload["aud"] {
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        Value::String(one) => vec![one.as_str()],
        _ => Vec::new(),
    };
    if audience.iter().any(|client| client.starts_with("app_")) {
        return Err(UnusableToken::IdToken);
    }
    let account = payload["https://api.openai.com/auth"]["chatgpt_account_id"].as_str();
    if account.is_some_and(|id| !id.is_empty()) { Ok(Kind::ChatGpt) } else { Err(UnusableToken::NoAccount) }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::{AccessToken, Kind, UnusableToken};

    fn jwt(payload: &Value) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload.to_string()))
    }

    fn kind(text: &str) -> Result<Kind, UnusableToken> {
        AccessToken::parse(text).map(|token| token.kind)
    }

    #[test]
    fn the_two_usable_kinds_are_distinguished() {
        for text in [" at-1\n", "\u{feff}at-1\r\n"] {
            assert_eq!(kind(text), Ok(Kind::Workspace), "{text:?}");
        }
        let auth = json!({"chatgpt_account_id": "acct-1"});
        let own = jwt(&json!({"aud": ["https://api.openai.com/v1"], "https://api.openai.com/auth": auth}));
        assert_eq!(kind(&own), Ok(Kind::ChatGpt));
    }

    #[test]
    fn unusable_kinds_are_refused_by_name() {
        let auth = json!({"chatgpt_account_id": "acct-1"});
        for (text, why) in [
            (String::new(), UnusableToken::Empty),
            ("sk-proj-1".to_owned(), UnusableToken::ApiKey),
            ("rt_1".to_owned(), UnusableToken::RefreshToken),
            ("opaque".to_owned(), UnusableToken::Unknown),
            ("at-1 at-2".to_owned(), UnusableToken::Unknown),
            (jwt(&json!({"agent_runtime_id": "a", "https://api.openai.com/auth": auth})), UnusableToken::AgentIdentity),
            (jwt(&json!({"aud": ["app_1"], "https://api.openai.com/auth": auth})), UnusableToken::IdToken),
            (jwt(&json!({"sub": "x"})), UnusableToken::NoAccount),
        ] {
            assert_eq!(kind(&text), Err(why), "{text}");
        }
    }
}
