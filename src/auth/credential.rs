//! The credential of one account: its tokens, their claims, and who may refresh them.
//!
//! Determines whether the access token is still valid, and applies the issuer's token responses. Callers pass the time.
//! The debug output contains no token or e-mail address. Pure.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::auth::claims::Claims;
use crate::secret::Secret;
use crate::token_source::{Account, AuthError, Bearer, SessionState};

/// An opaque access token, whose expiry can't be read, is refreshed at this age.
const OPAQUE_LIFETIME: Duration = Duration::from_secs(8 * 24 * 60 * 60);

pub(in crate::auth) const EXPIRED_WITHOUT_REFRESH_TOKEN: &str =
    "the access token has expired and there is no refresh token";
pub(in crate::auth) const REFUSED_WITHOUT_REFRESH_TOKEN: &str =
    "ChatGPT refuses the access token and there is no refresh token";

/// The tokens of one account.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The workspace (`chatgpt_account_id`); the key in the store.
    pub account_id: String,
    /// The user's e-mail address; shown by `status`, never logged.
    pub email: Option<Secret>,
    /// The plan, as the issuer spells it.
    pub plan: Option<String>,
    /// Whether requests must carry the FedRAMP header.
    pub is_fedramp: bool,
    /// The id token; its expiry is ignored.
    pub id_token: Option<Secret>,
    /// The token that is sent to the backend.
    pub access_token: Secret,
    /// The single-use token that refreshes the others; `None` in a login that is only read, or if only an access token
    /// was given.
    pub refresh_token: Option<Secret>,
    /// When the access token expires, if known.
    pub expires_at: Option<SystemTime>,
    /// When the tokens were last issued, if known.
    pub last_refresh: Option<SystemTime>,
    /// Who may refresh it.
    pub ownership: Ownership,
    /// Set once the issuer has permanently refused to refresh it.
    pub refusal: Option<RenewalRefusal>,
    /// When the backend refused the access token and no other could be obtained.
    pub refused_at: Option<SystemTime>,
}

/// A permanent refusal of a refresh token by the issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenewalRefusal {
    /// The reason; contains no token.
    pub reason: String,
    /// When the issuer refused.
    pub at: SystemTime,
}

/// Who may refresh a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// This program.
    Owned,
    /// Another program. Its file is read and never written.
    Borrowed {
        /// The other program's file.
        path: PathBuf,
        /// The other program's name.
        owner: String,
    },
}

/// A response of the token endpoint. After a refresh, each token may be missing.
#[derive(Clone, Debug, Default)]
pub struct TokenResponse {
    /// A new id token.
    pub id_token: Option<Secret>,
    /// A new access token.
    pub access_token: Option<Secret>,
    /// The refresh token that replaces the one that was used.
    pub refresh_token: Option<Secret>,
}

/// Why an access token is due for refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Staleness {
    /// Its expiry is unknown, and its age is unknown or more than eight days. It may still be valid.
    NoExpiry,
    /// It has expired.
    Expired,
    /// It expires soon and is still valid.
    Expiring,
}

/// Why a token response can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenResponseError {
    /// A login's response lacks a token.
    #[error("the issuer's response has no {0}")]
    Missing(&'static str),
    /// No token names an account.
    #[error("the tokens name no ChatGPT account; sign in with an account that has a ChatGPT plan")]
    NoAccount,
    /// The response to a refresh names another account.
    #[error("the issuer's response is for another account")]
    AnotherAccount,
}

impl Credential {
    /// Creates a credential from the response to a login.
    ///
    /// # Errors
    /// If a token is missing, or none names the account.
    pub fn from_response(response: TokenResponse, now: SystemTime) -> Result<Self, TokenResponseError> {
        let access_token = response.access_token.ok_or(TokenResponseError::Missing("access_token"))?;
        let refresh_token = response.refresh_token.ok_or(TokenResponseError::Missing("refresh_token"))?;
        Self::from_tokens(None, response.id_token, access_token, Some(refresh_token), Some(now))
    }

    /// Creates an owned credential from tokens. Everything else is read from their claims.
    ///
    /// # Errors
    /// If no token names the account, and `account_id` is `None`.
    pub fn from_tokens(
        account_id: Option<String>,
        id_token: Option<Secret>,
        access_token: Secret,
        refresh_token: Option<Secret>,
        last_refresh: Option<SystemTime>,
    ) -> Result<Self, TokenResponseError> {
        let access = Claims::of(&access_token);
        let expires_at = access.expires_at;
        let claims = id_token.as_ref().map(Claims::of).unwrap_or_default().or(access);
        Ok(Self {
            account_id: account_id.or(claims.account_id).ok_or(TokenResponseError::NoAccount)?,
            email: claims.email,
            plan: claims.plan,
            is_fedramp: claims.is_fedramp.unwrap_or_default(),
            id_token,
            access_token,
            refresh_token,
            expires_at,
            last_refresh,
            ownership: Ownership::Owned,
            refusal: None,
            refused_at: None,
        })
    }

    /// Applies the response to a refresh. Members that the response leaves out stay unchanged.
    ///
    /// # Errors
    /// If the response is for another account.
    pub fn renewed(&self, response: TokenResponse, now: SystemTime) -> Result<Self, TokenResponseError> {
        let id_claims = response.id_token.as_ref().map(Claims::of).unwrap_or_default();
        let access_claims = response.access_token.as_ref().map(Claims::of);
        let expires_at = access_claims.as_ref().map_or(self.expires_at, |claims| claims.expires_at);
        let claims = id_claims.or(access_claims.unwrap_or_default());
        if claims.account_id.is_some_and(|id| id != self.account_id) {
            return Err(TokenResponseError::AnotherAccount);
        }
        Ok(Self {
            account_id: self.account_id.clone(),
            email: claims.email.or_else(|| self.email.clone()),
            plan: claims.plan.or_else(|| self.plan.clone()),
            is_fedramp: claims.is_fedramp.unwrap_or(self.is_fedramp),
            id_token: response.id_token.or_else(|| self.id_token.clone()),
            access_token: response.access_token.unwrap_or_else(|| self.access_token.clone()),
            refresh_token: response.refresh_token.or_else(|| self.refresh_token.clone()),
            expires_at,
            last_refresh: Some(now),
            ownership: self.ownership.clone(),
            refusal: None,
            refused_at: None,
        })
    }

    /// Checks that the access token is valid for at least `margin` from now.
    ///
    /// # Errors
    /// Why the token is due for refresh.
    pub fn check(&self, now: SystemTime, margin: Duration) -> Result<(), Staleness> {
        match self.expires_at {
            Some(end) if end <= now => Err(Staleness::Expired),
            Some(end) if end <= now + margin => Err(Staleness::Expiring),
            Some(_) => Ok(()),
            None if self.last_refresh.is_some_and(|granted| granted + OPAQUE_LIFETIME > now) => Ok(()),
            None => Err(Staleness::NoExpiry),
        }
    }

    /// Returns the state of the session.
    ///
    /// # Errors
    /// If the session has ended: the access token has expired or the backend refuses it, and the issuer has permanently
    /// refused to refresh it, or there is no refresh token.
    pub fn state(&self, now: SystemTime) -> Result<SessionState, AuthError> {
        let is_expired = self.check(now, Duration::ZERO) == Err(Staleness::Expired);
        let ended = |reason: &str| Err(AuthError::Ended { reason: reason.to_owned() });
        match (&self.refusal, &self.ownership) {
            (None, Ownership::Borrowed { owner, .. }) if is_expired || self.refused_at.is_some() => {
                Err(AuthError::BorrowedEnded { owner: owner.clone() })
            }
            (Some(refusal), _) if is_expired || self.refused_at.is_some() => ended(&refusal.reason),
            (Some(refusal), _) => {
                Ok(SessionState::Ending { reason: refusal.reason.clone(), expires_at: self.expires_at })
            }
            (None, _) if self.refused_at.is_some() => ended(REFUSED_WITHOUT_REFRESH_TOKEN),
            (None, Ownership::Owned) if is_expired && self.refresh_token.is_none() => {
                ended(EXPIRED_WITHOUT_REFRESH_TOKEN)
            }
            (None, _) => Ok(SessionState::Working),
        }
    }

    /// Returns the access token and the account, as sent to the backend.
    #[must_use]
    pub fn bearer(&self) -> Bearer {
        let account = Account { id: self.account_id.clone(), is_fedramp: self.is_fedramp };
        Bearer { token: self.access_token.clone(), account }
    }

    /// Whether it can be refreshed, by this program or by the one that owns it.
    #[must_use]
    pub fn is_renewable(&self) -> bool {
        self.refusal.is_none() && (self.refresh_token.is_some() || self.ownership != Ownership::Owned)
    }

    /// Whether another credential has the same access and refresh tokens.
    #[must_use]
    pub fn has_same_tokens(&self, other: &Self) -> bool {
        let refresh = |credential: &Self| credential.refresh_token.as_ref().map(|token| token.expose().to_owned());
        self.access_token.expose() == other.access_token.expose() && refresh(self) == refresh(other)
    }

    /// Whether the credential has this refresh token.
    #[must_use]
    pub fn has_refresh_token(&self, refresh_token: &Secret) -> bool {
        self.refresh_token.as_ref().is_some_and(|own| own.expose() == refresh_token.expose())
    }
}

impl Staleness {
    /// Whether the access token can still be sent.
    #[must_use]
    pub fn is_usable(self) -> bool {
        match self {
            Self::NoExpiry | Self::Expiring => true,
            Self::Expired => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::{Credential, RenewalRefusal, Staleness, TokenResponse, TokenResponseError};
    use crate::secret::Secret;
    use crate::token_source::{AuthError, SessionState};

    const MARGIN: Duration = Duration::from_secs(5 * 60);

    fn token(account: &str, end: u64) -> Secret {
        let payload = json!({"exp": end, "email": "ann@example.com",
            "https://api.openai.com/auth": {"chatgpt_account_id": account, "chatgpt_plan_type": "plus"}});
        Secret::new(format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload.to_string())))
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn credential(end: u64) -> Credential {
        let grant = TokenResponse {
            id_token: Some(token("acct-1", 1)),
            access_token: Some(token("acct-1", end)),
            refresh_token: Some(Secret::new("rt_1")),
        };
        Credential::from_response(grant, at(0)).unwrap()
    }

    #[test]
    fn a_token_is_due_five_minutes_before_it_expires() {
        let credential = credential(10_000);
        assert_eq!(credential.check(at(9_699), MARGIN), Ok(()));
        assert_eq!(credential.check(at(9_700), MARGIN), Err(Staleness::Expiring));
        assert_eq!(credential.check(at(9_999), MARGIN), Err(Staleness::Expiring));
        assert_eq!(credential.check(at(10_000), MARGIN), Err(Staleness::Expired));
    }

    #[test]
    fn an_opaque_token_is_due_after_eight_days() {
        let mut credential = credential(10_000);
        credential.expires_at = None;
        let days = |days: u64| at(days * 86_400);
        assert_eq!(credential.check(days(7), MARGIN), Ok(()));
        assert_eq!(credential.check(days(8), MARGIN), Err(Staleness::NoExpiry));
        credential.last_refresh = None;
        assert_eq!(credential.check(days(0), MARGIN), Err(Staleness::NoExpiry));
    }

    #[test]
    fn a_known_expiry_takes_precedence_over_the_age() {
        assert_eq!(credential(90 * 86_400).check(at(9 * 86_400), MARGIN), Ok(()));
    }

    #[test]
    fn tokens_missing_from_a_response_are_kept() {
        let grant = TokenResponse { access_token: Some(token("acct-1", 20_000)), ..TokenResponse::default() };
        let renewed = credential(10_000).renewed(grant, at(9_000)).unwrap();
        assert_eq!(renewed.expires_at, Some(at(20_000)));
        assert_eq!(renewed.last_refresh, Some(at(9_000)));
        assert_eq!(renewed.refresh_token.unwrap().expose(), "rt_1");
        assert!(renewed.id_token.is_some());
        assert_eq!(renewed.plan.as_deref(), Some("plus"));
    }

    #[test]
    fn a_response_for_another_account_is_refused() {
        let grant = TokenResponse { id_token: Some(token("acct-2", 1)), ..TokenResponse::default() };
        assert_eq!(credential(1).renewed(grant, at(0)).unwrap_err(), TokenResponseError::AnotherAccount);
    }

    #[test]
    fn a_login_needs_tokens_and_an_account() {
        let missing = TokenResponse { access_token: Some(token("a", 1)), ..TokenResponse::default() };
        assert_eq!(
            Credential::from_response(missing, at(0)).unwrap_err(),
            TokenResponseError::Missing("refresh_token")
        );
        let without_account = Credential::from_tokens(None, None, Secret::new("opaque"), None, None);
        assert_eq!(without_account.unwrap_err(), TokenResponseError::NoAccount);
    }

    #[test]
    fn a_session_has_ended_once_its_token_is_unusable_and_can_not_be_renewed() {
        let good = credential(10_000);
        let refusal = Some(RenewalRefusal { reason: "used".to_owned(), at: at(5) });
        let (refused, no_refresh_token) = (Some(at(6)), None);
        let ending = SessionState::Ending { reason: "used".to_owned(), expires_at: Some(at(10_000)) };
        assert_eq!(good.state(at(9_999)), Ok(SessionState::Working));
        assert_eq!(good.state(at(10_000)), Ok(SessionState::Working), "the next use renews it");
        let unrenewable = Credential { refusal, ..good.clone() };
        assert_eq!(unrenewable.state(at(9_999)), Ok(ending));
        let ended = AuthError::Ended { reason: "used".to_owned() };
        assert_eq!(unrenewable.state(at(10_000)), Err(ended.clone()));
        assert_eq!(Credential { refused_at: refused, ..unrenewable }.state(at(7)), Err(ended));
        let bare = Credential { refresh_token: no_refresh_token, ..good };
        assert_eq!(bare.state(at(9_999)), Ok(SessionState::Working));
        assert!(matches!(bare.state(at(10_000)), Err(AuthError::Ended { .. })));
        assert!(matches!(Credential { refused_at: refused, ..bare }.state(at(7)), Err(AuthError::Ended { .. })));
    }

    #[test]
    fn debug_output_shows_no_token_and_no_address() {
        let text = format!("{:?}", credential(10_000));
        assert!(!text.contains("rt_1") && !text.contains("ann@") && !text.contains("e30."), "{text}");
    }
}
