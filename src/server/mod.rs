//! The daemon.

use std::net::SocketAddr;
use std::time::Duration;

/// How clients are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Addresses to listen on; with port 0, all of them get the port that the first was given.
    pub listen: Vec<SocketAddr>,
    /// Client keys; none: no key is asked for.
    pub keys: Vec<ClientKey>,
    /// Host names to answer to, beside loopback and the addresses listened on.
    pub allowed_hosts: Vec<String>,
    /// Origins of web pages that may call, beside our own page.
    pub allowed_origins: Vec<String>,
    /// Largest request body after decoding (`limits.body`).
    pub body_limit_bytes: u64,
    /// Silence after which a stream gets a sign of life (`timing.keepalive`); `None`: never.
    pub keepalive: Option<Duration>,
    /// How long open answers may go on after a stop signal (`timing.drain`).
    pub drain: Duration,
}

/// A client's key.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientKey {
    /// Its name, for logs and for keeping conversations apart.
    pub name: String,
    /// SHA-256 of the key.
    pub sha256: [u8; 32],
}

impl std::fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClientKey({})", self.name)
    }
}
