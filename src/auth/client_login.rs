//! The access tokens that clients send themselves (`upstream.credentials = "client"`).
//!
//! A [`ClientLogin`] lives as long as its request. Its token is neither stored nor refreshed: if the backend refuses
//! it, the client gets the refusal, and refreshes its token itself. [`ClientLogins`] replaces the credential store.

use crate::auth::access_token::{AccessToken, UnusableToken};
use crate::token_source::{Account, AuthError, Bearer, BoxFuture, CredentialSource, SessionState, TokenSource};

/// An account id is a UUID today.
const MAX_ACCOUNT_ID_BYTES: usize = 128;

/// The access token in the headers of one request.
#[derive(Clone, Debug)]
pub struct ClientLogin {
    bearer: Bearer,
}

/// The token source of the daemon while clients sign in themselves: it has no token outside of a request.
#[derive(Clone, Copy, Debug)]
pub struct ClientLogins;

impl ClientLogin {
    /// Reads the values of the headers `authorization` and `chatgpt-account-id`. Without the latter, the account is the
    /// one that the token names. The token's signature isn't checked: the backend does that.
    ///
    /// # Errors
    /// [`AuthError::ClientTokenUnusable`] if the first isn't an access token of ChatGPT.
    pub fn of_headers(authorization: Option<&str>, account_id: Option<&str>) -> Result<Self, AuthError> {
        let unusable = |what: &str| AuthError::ClientTokenUnusable { what: what.to_owned() };
        let authorization = authorization.ok_or_else(|| unusable("it is missing"))?;
        let token = bearer_token(authorization).ok_or_else(|| unusable("it is not of the form 'Bearer TOKEN'"))?;
        let token = AccessToken::parse(token).map_err(|why| unusable(what_it_is(why)))?;
        let credential =
            token.own_credential().ok_or_else(|| unusable("it is the access token of a workspace (at-…)"))?;
        let own = credential.bearer();
        let account_id = account_id.map(str::trim).filter(|id| !id.is_empty());
        // The backend decides which accounts a token may be used for.
        let id = account_id.map_or(own.account.id, str::to_owned);
        if id.len() > MAX_ACCOUNT_ID_BYTES || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(unusable("its account id (header chatgpt-account-id) is not valid"));
        }
        Ok(Self { bearer: Bearer { account: Account { id, ..own.account }, token: own.token } })
    }

    /// The token and its account.
    #[must_use]
    pub fn bearer(&self) -> &Bearer {
        &self.bearer
    }
}

/// Says what a text is instead of an access token. Unlike the reasons for a stored login, names no command: the client
/// has to send another token.
fn what_it_is(why: UnusableToken) -> &'static str {
    match why {
        UnusableToken::Empty => "it is empty",
        UnusableToken::ApiKey => "it is an API key",
        UnusableToken::RefreshToken => "it is a refresh token",
        UnusableToken::AgentIdentity => "it is an agent identity",
        UnusableToken::IdToken => "it is an id token",
        UnusableToken::NoAccount => "it names no ChatGPT account",
        UnusableToken::Unknown => "it is not a token of a known kind",
    }
}

/// The token of an `authorization` header with the scheme Bearer.
fn bearer_token(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

impl TokenSource for ClientLogin {
    fn bearer(&self) -> BoxFuture<'_, Result<Bearer, AuthError>> {
        Box::pin(async { Ok(self.bearer.clone()) })
    }

    fn recover<'a>(&'a self, _rejected: &'a Bearer) -> BoxFuture<'a, Result<Bearer, AuthError>> {
        Box::pin(async { Err(AuthError::ByClient) })
    }

    fn check(&self) -> BoxFuture<'_, Result<SessionState, AuthError>> {
        Box::pin(async { Ok(SessionState::ByClient) })
    }

    fn credentials(&self) -> CredentialSource {
        CredentialSource::Client
    }
}

impl TokenSource for ClientLogins {
    fn bearer(&self) -> BoxFuture<'_, Result<Bearer, AuthError>> {
        Box::pin(async { Err(AuthError::ByClient) })
    }

    fn recover<'a>(&'a self, _rejected: &'a Bearer) -> BoxFuture<'a, Result<Bearer, AuthError>> {
        self.bearer()
    }

    fn check(&self) -> BoxFuture<'_, Result<SessionState, AuthError>> {
        Box::pin(async { Ok(SessionState::ByClient) })
    }

    fn credentials(&self) -> CredentialSource {
        CredentialSource::Client
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::ClientLogin;
    use crate::token_source::{AuthError, Bearer};

    fn token() -> String {
        let auth = json!({"chatgpt_account_id": "acct-1", "chatgpt_account_is_fedramp": true});
        let payload = json!({"aud": ["https://api.openai.com/v1"], "https://api.openai.com/auth": auth});
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload.to_string()))
    }

    fn read(authorization: Option<&str>, account_id: Option<&str>) -> Result<Bearer, AuthError> {
        ClientLogin::of_headers(authorization, account_id).map(|login| login.bearer)
    }

    #[test]
    fn the_account_is_that_of_the_header_or_else_of_the_token() {
        for (header, account) in [(None, "acct-1"), (Some(" "), "acct-1"), (Some("acct-2"), "acct-2")] {
            let bearer = read(Some(&format!("bearer {}", token())), header).unwrap();
            assert_eq!((bearer.account.id.as_str(), bearer.account.is_fedramp), (account, true));
            assert_eq!(bearer.token.expose(), token());
        }
    }

    #[test]
    fn anything_but_a_chatgpt_access_token_is_refused_without_quoting_it() {
        let basic = format!("Basic {}", token());
        for authorization in
            [None, Some("Bearer"), Some(&*basic), Some("Bearer sk-1"), Some("Bearer at-1"), Some("Bearer x.y.z")]
        {
            let error = read(authorization, Some("acct-1")).unwrap_err().to_string();
            assert!(error.contains("Authorization") && error.contains("upstream.credentials"), "{error}");
            assert!(!error.contains("sk-1") && !error.contains("x.y.z"), "{error}");
        }
    }

    #[test]
    fn an_account_id_is_short_and_visible() {
        for id in ["a b", "ä", &"a".repeat(129)] {
            let error = read(Some(&format!("Bearer {}", token())), Some(id)).unwrap_err().to_string();
            assert!(error.contains("chatgpt-account-id"), "{error}");
        }
    }
}
