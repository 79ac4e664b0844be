//! Signing in.

use std::path::PathBuf;

use crate::net::Endpoint;

/// How to sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The issuer (`auth.url`).
    pub authority: Endpoint,
    /// The OAuth client (`auth.client_id`).
    pub client_id: String,
    /// Host of the redirect address (`auth.redirect_host`).
    pub redirect_host: String,
    /// Scopes to ask for (`auth.scopes`).
    pub scopes: Vec<String>,
    /// The store (`auth.credentials`).
    pub credentials: PathBuf,
    /// Header `originator`.
    pub originator: String,
    /// Header `user-agent`.
    pub user_agent: String,
}
