//! What the upstream needs from whoever keeps the credentials, and nothing more.
//!
//! The credential store (`auth`) and the upstream client do not know each other: they meet in
//! [`TokenSource`]. It hands out a [`Bearer`] and, when the backend has refused one, tries once to
//! come by a better one.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::command_hint::{command, unset};
use crate::secret::Secret;

/// A backend that refuses a renewed token too gets no second one within this time.
pub const RECOVERY_REST: Duration = Duration::from_secs(10);

/// A future on the heap, as an object-safe trait needs it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An access token together with the account that it speaks for.
#[derive(Clone, Debug)]
pub struct Bearer {
    /// The access token, sent as `authorization: Bearer …`.
    pub token: Secret,
    /// The account that pays for what the token is used for.
    pub account: Account,
}

/// The part of an account that goes into request headers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Account {
    /// Workspace id: header `chatgpt-account-id`.
    pub id: String,
    /// A FedRAMP workspace: header `x-openai-fedramp: true` on every backend call.
    pub is_fedramp: bool,
}

/// Where bearer tokens come from. Shared by all requests; both methods may be called at any time.
pub trait TokenSource: Send + Sync + fmt::Debug {
    /// A token that is good now, refreshed before it is handed out if it had expired.
    fn bearer(&self) -> BoxFuture<'_, Result<Bearer, AuthError>>;

    /// A token to try after the backend answered 401 to `rejected`: one that another process has
    /// stored meanwhile, else a refreshed one.
    fn recover<'a>(&'a self, rejected: &'a Bearer) -> BoxFuture<'a, Result<Bearer, AuthError>>;

    /// The state of the sign-in as far as it is known here, without asking the issuer. An error: requests
    /// fail with it.
    fn check(&self) -> BoxFuture<'_, Result<SignIn, AuthError>>;

    /// Notes that the backend has accepted a token, which clears what an earlier 401 has left behind.
    fn accepted(&self, _bearer: &Bearer) {}

    /// Notes that the backend has refused a token that a request can't replace again. Returns how long the next
    /// recovery rests, if the token itself replaced a refused one moments ago.
    fn refused(&self, _bearer: &Bearer) -> Option<Duration> {
        None
    }

    /// How often tokens have been renewed so far.
    fn refreshes(&self) -> Refreshes {
        Refreshes::default()
    }

    /// The tokens of one account, where there is a choice; here there is none.
    fn choose<'a>(&'a self, choice: &'a Choice) -> BoxFuture<'a, Result<Arc<dyn TokenSource>, AuthError>> {
        Box::pin(async { Err(AuthError::UnknownAccount { chosen_by: choice.by.clone() }) })
    }

    /// The tokens of an account that would suit better than the one in use. `None`: it has none that
    /// are good, or the owner of all has settled on an account.
    fn prefer<'a>(&'a self, _account_id: &'a str) -> BoxFuture<'a, Option<Arc<dyn TokenSource>>> {
        Box::pin(async { None })
    }
}

/// A sign-in that works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignIn {
    /// Its access token is renewed as needed.
    Working,
    /// Its access token works, and the issuer has refused for good to renew it.
    Ending {
        /// Why, without any token.
        reason: String,
        /// When the access token expires, if it says so.
        expires_at: Option<SystemTime>,
    },
}

impl SignIn {
    /// What the user should know about it, and the command that fixes it.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let Self::Ending { reason, expires_at } = self else { return None };
        let end = match expires_at {
            Some(end) => format!("at {}", humantime::format_rfc3339_seconds(*end)),
            None => "when its access token expires".to_owned(),
        };
        Some(format!("your ChatGPT session ends {end} and can't be renewed ({reason}): run `{}`", command("login")))
    }
}

/// Renewals of tokens, by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refreshes {
    /// The issuer gave new tokens.
    pub granted: u64,
    /// The issuer refused for good.
    pub refused: u64,
    /// The issuer could not be asked, or had trouble.
    pub failed: u64,
}

impl AuthError {
    /// The error while the next try has to wait.
    #[must_use]
    pub fn resting(self, rest: Duration) -> Self {
        match self {
            Self::Unavailable { message, .. } => Self::Unavailable { message, retry_after: Some(rest) },
            other => other,
        }
    }
}

/// An account that somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its id.
    pub account_id: String,
    /// Where the choice was made, for messages: a header, a key, a setting.
    pub by: String,
}

/// Why there is no token. The texts name the command that helps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Nobody has signed in yet.
    #[error("not signed in: run `{}`", command("login"))]
    SignedOut,
    /// The issuer refused the refresh token for good (spent, revoked, expired), or the login ended.
    #[error("your ChatGPT session has expired ({reason}): run `{}`", command("login"))]
    Ended {
        /// What the issuer or the store said, without any token.
        reason: String,
    },
    /// Accounts are signed in, and none of them is the active one.
    #[error(
        "no account is active: `{}` shows them, `{}` chooses one",
        command("accounts list"),
        command("accounts use ID")
    )]
    NoActiveAccount,
    /// A refused token was replaced by one of another account.
    #[error("the account in use has changed while the request was running: send the request again")]
    AccountChanged,
    /// The account that was asked for is not signed in.
    #[error("{chosen_by} names an account that is not signed in: `{}` shows those that are", command("accounts list"))]
    UnknownAccount {
        /// Where the choice was made.
        chosen_by: String,
    },
    /// A login that is borrowed from another program has run out, and only its owner can renew it.
    #[error("the borrowed login has ended: use {owner} once so that it renews it, or run `{}`", command("login"))]
    BorrowedEnded {
        /// The program that owns the login, as its user calls it.
        owner: String,
    },
    /// The access token of the environment is of no use, and outranks whoever is signed in.
    #[error(
        "the access token in {variable} {what}: put another there, or do without it, and start the daemon anew: `{}`",
        unset(variable)
    )]
    GivenEnded {
        /// The variable.
        variable: &'static str,
        /// What became of it.
        what: String,
    },
    /// The store can't be read or written; nothing was overwritten.
    #[error("{message}")]
    Store {
        /// The path, what is wrong with it, and what to do.
        message: String,
    },
    /// The backend refuses an access token that was renewed moments ago. The session has not ended: the
    /// token is renewed again after a rest.
    #[error(
        "ChatGPT refuses an access token that was just renewed. You don't need to sign in again: it is renewed again \
         in {} s",
        .retry_after.as_secs_f32().ceil()
    )]
    TokenRefused {
        /// When the next renewal is made.
        retry_after: Duration,
    },
    /// The issuer can't be reached or has trouble; the login itself may be fine.
    #[error("the sign-in service can't be used right now: {message}")]
    Unavailable {
        /// The cause: DNS, TLS, proxy, refused, a status.
        message: String,
        /// When it makes sense to ask again.
        retry_after: Option<Duration>,
    },
}
