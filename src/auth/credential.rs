//! One account's sign-in: its tokens, what they say, and who may renew them.
//!
//! A credential knows its account, tells whether its access token is still good, and how it looks
//! after the issuer has answered. It never asks the time, touches a file or speaks to anyone; its
//! debug output shows neither a token nor an e-mail address. Pure.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::auth::claims::Claims;
use crate::secret::Secret;
use crate::token_source::{Account, AuthError, Bearer, SignIn};

/// An opaque access token, whose end can't be read, is renewed after this long.
const OPAQUE_LIFETIME: Duration = Duration::from_secs(8 * 24 * 60 * 60);

pub(in crate::auth) const NOTHING_RENEWS_AN_EXPIRED_TOKEN: &str =
    "the access token has expired and there is no refresh token";
pub(in crate::auth) const NOTHING_RENEWS_A_REFUSED_TOKEN: &str =
    "ChatGPT refuses the access token and there is no refresh token";

/// The sign-in of one account.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The workspace that pays (`chatgpt_account_id`); the key in the store.
    pub account_id: String,
    /// The user's e-mail address: a label for `status`, never logged.
    pub email: Option<Secret>,
    /// The plan, as the issuer spells it.
    pub plan: Option<String>,
    /// Whether requests must carry the FedRAMP header.
    pub is_fedramp: bool,
    /// The id token, whose own expiry does not matter.
    pub id_token: Option<Secret>,
    /// The token that the backend takes.
    pub access_token: Secret,
    /// The single-use token that renews the others; none in a borrowed login.
    pub refresh_token: Option<Secret>,
    /// When the access token ends, if it says so.
    pub expires_at: Option<SystemTime>,
    /// When the tokens were last granted, if that is known.
    pub last_refresh: Option<SystemTime>,
    /// Who may renew it.
    pub ownership: Ownership,
    /// What the issuer said when it refused for good to renew it.
    pub refusal: Option<Refusal>,
    /// When the backend refused the access token, if nothing could replace it.
    pub refused_at: Option<SystemTime>,
}

/// The issuer's last word on a refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why, without any token.
    pub reason: String,
    /// When it was said.
    pub at: SystemTime,
}

/// Who may renew a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// We do.
    Owned,
    /// Another program does; we read its file and never write it.
    Borrowed {
        /// The other program's file.
        path: PathBuf,
        /// The other program, as its user calls it.
        owner: String,
    },
}

/// What a token endpoint grants. After a refresh each member may be missing.
#[derive(Clone, Debug, Default)]
pub struct Grant {
    /// A new id token.
    pub id_token: Option<Secret>,
    /// A new access token.
    pub access_token: Option<Secret>,
    /// The refresh token that replaces the one that was used.
    pub refresh_token: Option<Secret>,
}

/// Why an access token should be renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// It does not say when it ends, and it is old; it may well be good.
    NoExpiry,
    /// It has ended.
    Expired,
    /// It ends within the margin; until then it is good.
    Expiring,
}

/// What makes a grant unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// A first grant lacks a token.
    #[error("the issuer's answer has no {0}")]
    Missing(&'static str),
    /// No token names the workspace.
    #[error("the tokens name no ChatGPT account; sign in with an account that has a ChatGPT plan")]
    NoAccount,
    /// A renewal speaks for another workspace than the one that was renewed.
    #[error("the issuer answered for another account")]
    AnotherAccount,
}

impl Credential {
    /// The credential that a login's first grant makes.
    ///
    /// # Errors
    /// When a token is missing, or none names the account.
    pub fn granted(grant: Grant, now: SystemTime) -> Result<Self, GrantError> {
        let access_token = grant.access_token.ok_or(GrantError::Missing("access_token"))?;
        let refresh_token = grant.refresh_token.ok_or(GrantError::Missing("refresh_token"))?;
        Self::of_tokens(None, grant.id_token, access_token, Some(refresh_token), Some(now))
    }

    /// A credential of ours from bare tokens, with everything that is not said read from their claims.
    ///
    /// # Errors
    /// When no token names the account.
    pub fn of_tokens(
        account_id: Option<String>,
        id_token: Option<Secret>,
        access_token: Secret,
        refresh_token: Option<Secret>,
        last_refresh: Option<SystemTime>,
    ) -> Result<Self, GrantError> {
        let access = Claims::of(&access_token);
        let expires_at = access.expires_at;
        let claims = id_token.as_ref().map(Claims::of).unwrap_or_default().or(access);
        Ok(Self {
            account_id: account_id.or(claims.account_id).ok_or(GrantError::NoAccount)?,
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

    /// This credential after a refresh; what the grant leaves out stays as it was.
    ///
    /// # Errors
    /// When the grant speaks for another account.
    pub fn renewed(&self, grant: Grant, now: SystemTime) -> Result<Self, GrantError> {
        let id_claims = grant.id_token.as_ref().map(Claims::of).unwrap_or_default();
        let access_claims = grant.access_token.as_ref().map(Claims::of);
        let expires_at = access_claims.as_ref().map_or(self.expires_at, |claims| claims.expires_at);
        let claims = id_claims.or(access_claims.unwrap_or_default());
        if claims.account_id.is_some_and(|id| id != self.account_id) {
            return Err(GrantError::AnotherAccount);
        }
        Ok(Self {
            account_id: self.account_id.clone(),
            email: claims.email.or_else(|| self.email.clone()),
            plan: claims.plan.or_else(|| self.plan.clone()),
            is_fedramp: claims.is_fedramp.unwrap_or(self.is_fedramp),
            id_token: grant.id_token.or_else(|| self.id_token.clone()),
            access_token: grant.access_token.unwrap_or_else(|| self.access_token.clone()),
            refresh_token: grant.refresh_token.or_else(|| self.refresh_token.clone()),
            expires_at,
            last_refresh: Some(now),
            ownership: self.ownership.clone(),
            refusal: None,
            refused_at: None,
        })
    }

    /// Whether the access token is good for at least `margin` from now, and if not, why.
    ///
    /// # Errors
    /// The reason for a renewal.
    pub fn check(&self, now: SystemTime, margin: Duration) -> Result<(), Stale> {
        match self.expires_at {
            Some(end) if end <= now => Err(Stale::Expired),
            Some(end) if end <= now + margin => Err(Stale::Expiring),
            Some(_) => Ok(()),
            None if self.last_refresh.is_some_and(|granted| granted + OPAQUE_LIFETIME > now) => Ok(()),
            None => Err(Stale::NoExpiry),
        }
    }

    /// The state of the sign-in, for everything that reports it. It is dead once the issuer has refused
    /// for good to renew it, or there is nothing to renew it with, and its access token has expired or is
    /// refused by the backend.
    ///
    /// # Errors
    /// The reason if it is dead.
    pub fn state(&self, now: SystemTime) -> Result<SignIn, AuthError> {
        let is_expired = self.check(now, Duration::ZERO) == Err(Stale::Expired);
        let ended = |reason: &str| Err(AuthError::Ended { reason: reason.to_owned() });
        match (&self.refusal, &self.ownership) {
            (None, Ownership::Borrowed { owner, .. }) if is_expired || self.refused_at.is_some() => {
                Err(AuthError::BorrowedEnded { owner: owner.clone() })
            }
            (Some(refusal), _) if is_expired || self.refused_at.is_some() => ended(&refusal.reason),
            (Some(refusal), _) => Ok(SignIn::Ending { reason: refusal.reason.clone(), expires_at: self.expires_at }),
            (None, _) if self.refused_at.is_some() => ended(NOTHING_RENEWS_A_REFUSED_TOKEN),
            (None, Ownership::Owned) if is_expired && self.refresh_token.is_none() => {
                ended(NOTHING_RENEWS_AN_EXPIRED_TOKEN)
            }
            (None, _) => Ok(SignIn::Working),
        }
    }

    /// What the backend is shown.
    #[must_use]
    pub fn bearer(&self) -> Bearer {
        let account = Account { id: self.account_id.clone(), is_fedramp: self.is_fedramp };
        Bearer { token: self.access_token.clone(), account }
    }

    /// Whether anybody can renew it: we, or the program that lends it.
    #[must_use]
    pub fn is_renewable(&self) -> bool {
        self.refusal.is_none() && (self.refresh_token.is_some() || self.ownership != Ownership::Owned)
    }

    /// Whether another credential holds the same tokens, so that a failure of one is a failure of the other.
    #[must_use]
    pub fn has_same_tokens(&self, other: &Self) -> bool {
        let refresh = |credential: &Self| credential.refresh_token.as_ref().map(|token| token.expose().to_owned());
        self.access_token.expose() == other.access_token.expose() && refresh(self) == refresh(other)
    }

    /// Whether a refresh token is the one held here.
    #[must_use]
    pub fn is_renewed_by(&self, refresh_token: &Secret) -> bool {
        self.refresh_token.as_ref().is_some_and(|own| own.expose() == refresh_token.expose())
    }
}

impl Stale {
    /// Whether the access token may still be sent.
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

    use super::{Credential, Grant, GrantError, Refusal, Stale};
    use crate::secret::Secret;
    use crate::token_source::{AuthError, SignIn};

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
        let grant = Grant {
            id_token: Some(token("acct-1", 1)),
            access_token: Some(token("acct-1", end)),
            refresh_token: Some(Secret::new("rt_1")),
        };
        Credential::granted(grant, at(0)).unwrap()
    }

    #[test]
    fn a_token_is_due_five_minutes_before_its_end() {
        let credential = credential(10_000);
        assert_eq!(credential.check(at(9_699), MARGIN), Ok(()));
        assert_eq!(credential.check(at(9_700), MARGIN), Err(Stale::Expiring));
        assert_eq!(credential.check(at(9_999), MARGIN), Err(Stale::Expiring));
        assert_eq!(credential.check(at(10_000), MARGIN), Err(Stale::Expired));
    }

    #[test]
    fn an_opaque_token_is_due_after_eight_days() {
        let mut credential = credential(10_000);
        credential.expires_at = None;
        let days = |days: u64| at(days * 86_400);
        assert_eq!(credential.check(days(7), MARGIN), Ok(()));
        assert_eq!(credential.check(days(8), MARGIN), Err(Stale::NoExpiry));
        credential.last_refresh = None;
        assert_eq!(credential.check(days(0), MARGIN), Err(Stale::NoExpiry));
    }

    #[test]
    fn a_readable_end_outweighs_an_old_refresh() {
        assert_eq!(credential(90 * 86_400).check(at(9 * 86_400), MARGIN), Ok(()));
    }

    #[test]
    fn what_a_refresh_leaves_out_stays() {
        let grant = Grant { access_token: Some(token("acct-1", 20_000)), ..Grant::default() };
        let renewed = credential(10_000).renewed(grant, at(9_000)).unwrap();
        assert_eq!(renewed.expires_at, Some(at(20_000)));
        assert_eq!(renewed.last_refresh, Some(at(9_000)));
        assert_eq!(renewed.refresh_token.unwrap().expose(), "rt_1");
        assert!(renewed.id_token.is_some());
        assert_eq!(renewed.plan.as_deref(), Some("plus"));
    }

    #[test]
    fn a_refresh_that_speaks_for_another_account_is_refused() {
        let grant = Grant { id_token: Some(token("acct-2", 1)), ..Grant::default() };
        assert_eq!(credential(1).renewed(grant, at(0)).unwrap_err(), GrantError::AnotherAccount);
    }

    #[test]
    fn a_first_grant_needs_its_tokens_and_an_account() {
        let missing = Grant { access_token: Some(token("a", 1)), ..Grant::default() };
        assert_eq!(Credential::granted(missing, at(0)).unwrap_err(), GrantError::Missing("refresh_token"));
        let nobody = Credential::of_tokens(None, None, Secret::new("opaque"), None, None);
        assert_eq!(nobody.unwrap_err(), GrantError::NoAccount);
    }

    #[test]
    fn a_sign_in_is_dead_once_nothing_renews_a_token_that_is_expired_or_refused() {
        let good = credential(10_000);
        let refusal = Some(Refusal { reason: "used".to_owned(), at: at(5) });
        let (refused, no_refresh_token) = (Some(at(6)), None);
        let ending = SignIn::Ending { reason: "used".to_owned(), expires_at: Some(at(10_000)) };
        assert_eq!(good.state(at(9_999)), Ok(SignIn::Working));
        assert_eq!(good.state(at(10_000)), Ok(SignIn::Working), "the next use renews it");
        let unrenewable = Credential { refusal, ..good.clone() };
        assert_eq!(unrenewable.state(at(9_999)), Ok(ending));
        let ended = AuthError::Ended { reason: "used".to_owned() };
        assert_eq!(unrenewable.state(at(10_000)), Err(ended.clone()));
        assert_eq!(Credential { refused_at: refused, ..unrenewable }.state(at(7)), Err(ended));
        let bare = Credential { refresh_token: no_refresh_token, ..good };
        assert_eq!(bare.state(at(9_999)), Ok(SignIn::Working));
        assert!(matches!(bare.state(at(10_000)), Err(AuthError::Ended { .. })));
        assert!(matches!(Credential { refused_at: refused, ..bare }.state(at(7)), Err(AuthError::Ended { .. })));
    }

    #[test]
    fn debug_output_shows_no_token_and_no_address() {
        let text = format!("{:?}", credential(10_000));
        assert!(!text.contains("rt_1") && !text.contains("ann@") && !text.contains("e30."), "{text}");
    }
}
