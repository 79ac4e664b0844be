//! Signs in, and keeps access tokens fresh.
//!
//! The [`Store`] holds the credentials of all accounts. [`Accounts`] returns bearer tokens and refreshes them before
//! they expire. [`Login`], [`DeviceLogin`], [`import`] and [`logout`] change which accounts are signed in, and
//! [`status`] reports them. A [`ClientLogin`] is the token that a client sends itself. Only [`Issuer`] calls the
//! issuer. A refresh token is single-use: code that sends one holds the store's lock, reads the store first, and stores
//! the new tokens before it does anything else. No token, e-mail address or account id gets into the log or an error.

mod access_token;
mod accounts;
mod claims;
mod client_login;
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

pub use self::access_token::{AccessToken, AccessTokenError, UnusableToken, adopt};
pub use self::accounts::{Accounts, activate};
pub use self::client_login::{ClientLogin, ClientLogins};
pub use self::credential::{Credential, Ownership, RenewalRefusal, Staleness, TokenResponse, TokenResponseError};
pub use self::env_token::EnvToken;
pub use self::import::{ImportError, ImportMode, import};
pub use self::issuer::{Issuer, IssuerError, RefreshReason};
pub use self::login::{DeviceLogin, Login, LoginError, PasteError, PasteParser, PastedReply, PortConflict, Ports};
pub use self::logout::{AccountSelection, RemovedAccount, Revocation, logout};
pub use self::status::{AccountStatus, RefusalStatus, Status, TokenState, status};
pub use self::store::{
    BackendKind, Document, DocumentError, Keyring, Location, LockedStore, MoveOutcome, RestoreOutcome, Stamp, Store,
};
use crate::endpoint::Endpoint;
use crate::token_source::AccountChoice;

/// Settings of the sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The issuer (`auth.url`).
    pub issuer: Endpoint,
    /// The id of the public OAuth client (`auth.client_id`).
    pub client_id: String,
    /// Host of the redirect URI that is registered with the issuer (`auth.redirect_host`).
    pub redirect_host: String,
    /// The scopes that a login requests (`auth.scopes`).
    pub scopes: Vec<String>,
    /// The account to use instead of the active one (`account`).
    pub account: Option<AccountChoice>,
    /// Where a login stores credentials (`auth.store`).
    pub store: BackendKind,
    /// The credential file (`auth.credentials`).
    pub credentials: PathBuf,
    /// Value of the header `originator`; empty: not sent (`upstream.originator`).
    pub originator: String,
    /// Value of the header `user-agent`, including the suffix.
    pub user_agent: String,
}
