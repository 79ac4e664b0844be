//! Signing in, and staying signed in.
//!
//! The [`Store`] keeps the credentials of all accounts, [`Accounts`] hands out bearer tokens from it
//! and renews them in good time, [`Login`], [`DeviceLogin`], [`import`] and [`logout`] change who is
//! signed in, and [`status`] tells. The issuer is spoken to by [`Authority`] alone. A refresh token is single-use:
//! whoever spends one holds the store's lock, reads the store again first, and stores what comes
//! back before anything else. Nothing here writes a token, an e-mail address or an account id to
//! the log, or into an error.

mod access_token;
mod accounts;
mod claims;
mod credential;
mod env_token;
mod import;
mod issuer;
mod login;
mod logout;
mod status;
mod store;
mod tokens;

use std::path::PathBuf;

pub use self::access_token::{AccessToken, AccessTokenError, Unusable, adopt};
pub use self::accounts::{Accounts, activate};
pub use self::credential::{Credential, Grant, GrantError, Ownership, Refusal, Stale};
pub use self::env_token::Given;
pub use self::import::{ImportError, Rights, import};
pub use self::issuer::{Authority, AuthorityError, RefreshReason};
pub use self::login::{DeviceLogin, Login, LoginError, Obstacle, PasteError, Pasted, Ports, Reader};
pub use self::logout::{Departure, Revocation, Which, logout};
pub use self::status::{Profile, Refused, State, Status, status};
pub use self::store::{Document, Held, Location, Moved, Place, Restored, Stamp, Store, Unreadable, Vault};
use crate::endpoint::Endpoint;
use crate::token_source::Choice;

/// How signing in works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The issuer (`auth.url`).
    pub authority: Endpoint,
    /// The public OAuth client (`auth.client_id`).
    pub client_id: String,
    /// Host of the redirect address that the issuer knows (`auth.redirect_host`).
    pub redirect_host: String,
    /// What is asked for at login (`auth.scopes`).
    pub scopes: Vec<String>,
    /// The account to use instead of the active one (`account`).
    pub account: Option<Choice>,
    /// Where a sign-in goes (`auth.store`).
    pub store: Place,
    /// The store's file (`auth.credentials`).
    pub credentials: PathBuf,
    /// Who we say we are; empty: not said (`upstream.originator`).
    pub originator: String,
    /// Header `user-agent`, suffix included.
    pub user_agent: String,
}
