//! The interface between the credential store and the upstream client.
//!
//! `auth` implements [`TokenSource`], which returns a [`Bearer`] and replaces one that the backend has refused.
//! `upstream` uses it. Neither imports the other.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::clock::rfc3339;
use crate::command_hint::{command, unset};
use crate::secret::Secret;

/// If the backend refuses a refreshed token too, the next refresh waits until this time has passed since the last one.
pub const RECOVERY_DELAY: Duration = Duration::from_secs(10);

/// A boxed future, for object-safe traits.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An access token and its account.
#[derive(Clone, Debug)]
pub struct Bearer {
    /// The access token, sent as `authorization: Bearer …`.
    pub token: Secret,
    /// The account that the token belongs to.
    pub account: Account,
}

/// The part of an account that is sent in request headers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Account {
    /// Workspace id: header `chatgpt-account-id`.
    pub id: String,
    /// A FedRAMP workspace: header `x-openai-fedramp: true` on every backend call.
    pub is_fedramp: bool,
}

/// A source of bearer tokens, shared by all requests.
pub trait TokenSource: Send + Sync + fmt::Debug {
    /// Returns a valid token. Refreshes it first if it has expired.
    fn bearer(&self) -> BoxFuture<'_, Result<Bearer, AuthError>>;

    /// Returns a token to use after the backend responded with 401 to `rejected`: one that another process has stored
    /// meanwhile, or else a refreshed one.
    fn recover<'a>(&'a self, rejected: &'a Bearer) -> BoxFuture<'a, Result<Bearer, AuthError>>;

    /// Returns the state of the session without calling the issuer, or the error that requests fail with.
    fn check(&self) -> BoxFuture<'_, Result<SessionState, AuthError>>;

    /// Records that the backend has accepted a token. Clears the marks of an earlier 401.
    fn accepted(&self, _bearer: &Bearer) {}

    /// Records that the backend has refused a token after the request's only recovery. If the token itself replaced a
    /// refused one moments ago, returns how long the next recovery has to wait.
    fn refused(&self, _bearer: &Bearer) -> Option<Duration> {
        None
    }

    /// Returns whose login the tokens are.
    fn credentials(&self) -> CredentialSource {
        CredentialSource::Store
    }

    /// Returns how many refreshes there were, by outcome.
    fn refreshes(&self) -> RefreshCounts {
        RefreshCounts::default()
    }

    /// Returns a source of tokens of this account only.
    ///
    /// # Errors
    /// If the account isn't signed in. The default implementation always fails.
    fn choose<'a>(&'a self, choice: &'a AccountChoice) -> BoxFuture<'a, Result<Arc<dyn TokenSource>, AuthError>> {
        Box::pin(async { Err(AuthError::UnknownAccount { chosen_by: choice.by.clone() }) })
    }

    /// Returns a source of tokens of an account that the caller prefers to the active one. Returns `None` if its
    /// session has ended, or if the user has configured which account to use.
    fn prefer<'a>(&'a self, _account_id: &'a str) -> BoxFuture<'a, Option<Arc<dyn TokenSource>>> {
        Box::pin(async { None })
    }
}

/// Whose login requests are sent with (`upstream.credentials`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "lower")]
pub enum CredentialSource {
    /// One of the credential store.
    #[default]
    Store,
    /// That of each client, which sends its own access token.
    Client,
}

/// The state of a session whose access token can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// There is no session here: each client sends its own access token.
    ByClient,
    /// The access token is refreshed as needed.
    Working,
    /// The access token works until it expires; the issuer has permanently refused to refresh it.
    Ending {
        /// The reason; contains no token.
        reason: String,
        /// When the access token expires, if it says so.
        expires_at: Option<SystemTime>,
    },
}

impl SessionState {
    /// Returns a warning for the user, with the command that fixes it.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let Self::Ending { reason, expires_at } = self else { return None };
        let end = match expires_at {
            Some(end) => format!("at {}", rfc3339(*end)),
            None => "when its access token expires".to_owned(),
        };
        Some(format!("your ChatGPT session ends {end} and can't be refreshed ({reason}): run `{}`", command("login")))
    }
}

/// Numbers of refreshes, by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefreshCounts {
    /// The issuer returned new tokens.
    pub granted: u64,
    /// The issuer refused permanently.
    pub refused: u64,
    /// The issuer couldn't be reached or failed.
    pub failed: u64,
}

impl AuthError {
    /// Sets when an unavailable issuer is called again.
    #[must_use]
    pub fn with_retry_after(self, retry_after: Duration) -> Self {
        match self {
            Self::Unavailable { message, .. } => Self::Unavailable { message, retry_after: Some(retry_after) },
            other => other,
        }
    }
}

/// A requested account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountChoice {
    /// Its id.
    pub account_id: String,
    /// What requested it, for messages: a header, a key or a setting.
    pub by: String,
}

/// Why there is no token. Messages end with the command that fixes it, if there is one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Clients send their own access tokens, so there is no other one.
    #[error(
        "clients sign in themselves (upstream.credentials = \"client\"), so there is no login here: to use one, remove \
         the setting"
    )]
    ByClient,
    /// The access token that a client has to send is missing or can't be used.
    #[error(
        "the header Authorization must hold your ChatGPT access token (setting upstream.credentials = \"client\"), and \
         {what}; a key of this proxy belongs in x-api-key"
    )]
    ClientTokenUnusable {
        /// What is wrong with it, as the rest of a sentence.
        what: String,
    },
    /// No account is signed in.
    #[error("not signed in: run `{}`", command("login"))]
    SignedOut,
    /// The issuer permanently refused the refresh token (used, revoked, expired), or there is none.
    #[error("your ChatGPT session has expired ({reason}): run `{}`", command("login"))]
    Ended {
        /// The reason; contains no token.
        reason: String,
    },
    /// Accounts are signed in, and none of them is active.
    #[error(
        "no account is active: `{}` shows them, `{}` chooses one",
        command("accounts list"),
        command("accounts use ID")
    )]
    NoActiveAccount,
    /// A refused token was replaced by one of another account.
    #[error("the account in use has changed while the request was running: send the request again")]
    AccountChanged,
    /// The requested account isn't signed in.
    #[error("{chosen_by} names an account that is not signed in: `{}` shows those that are", command("accounts list"))]
    UnknownAccount {
        /// What requested it.
        chosen_by: String,
    },
    /// A login that was imported from another program has expired, and only that program can refresh it.
    #[error("the imported login has expired: use {owner} once to refresh it, or run `{}`", command("login"))]
    BorrowedEnded {
        /// The name of the program that owns the login.
        owner: String,
    },
    /// The access token in the environment can't be used. It takes precedence over the store.
    #[error(
        "the access token in {variable} {what}: replace it or unset the variable, and restart the daemon: `{}`",
        unset(variable)
    )]
    EnvTokenUnusable {
        /// The variable.
        variable: &'static str,
        /// What is wrong with it, as the rest of a sentence.
        what: String,
    },
    /// The store can't be read or written; nothing was overwritten.
    #[error("{message}")]
    Store {
        /// The path, the problem, and the command that fixes it.
        message: String,
    },
    /// The backend refuses an access token that was refreshed moments ago. The session hasn't ended: the token is
    /// refreshed again after a delay.
    #[error(
        "ChatGPT refuses an access token that was just refreshed. You don't need to sign in again: it is refreshed \
         again in {} s",
        .retry_after.as_secs_f32().ceil()
    )]
    TokenRefused {
        /// Time until the next refresh.
        retry_after: Duration,
    },
    /// The issuer can't be reached or had a temporary failure.
    #[error("the sign-in service is unavailable: {message}")]
    Unavailable {
        /// The cause: DNS, TLS, proxy, refused, a status.
        message: String,
        /// How long to wait before the next attempt.
        retry_after: Option<Duration>,
    },
}
