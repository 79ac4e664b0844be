//! The ports that a login can be answered on.
//!
//! The issuer redirects to two of them only. When the first is held, whoever holds it is asked to
//! let go, since it is most likely an earlier login; then the second is tried.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpListener;

use super::LoginError;
use crate::endpoint::{Endpoint, Trust};
use crate::net::HttpClient;
use crate::socket_owner;

const PAUSE: Duration = Duration::from_millis(200);
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the browser may come back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The port to use; 0: any free one, which only a test's issuer redirects to.
    pub first: u16,
    /// The port to use when the first stays held.
    pub fallback: Option<u16>,
    /// How long to wait for the first.
    pub patience: Duration,
}

/// A port that another program holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The port.
    pub port: u16,
    /// Who holds it, if the system tells.
    pub holder: Option<String>,
}

/// The sockets of a login.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) port: u16,
    pub(super) v4: TcpListener,
    /// Not there on a machine without IPv6.
    pub(super) v6: Option<TcpListener>,
}

impl Ports {
    /// The two ports that the issuer knows.
    #[must_use]
    pub fn registered() -> Self {
        Self { first: 1455, fallback: Some(1457), patience: Duration::from_secs(2) }
    }

    /// One port and no other.
    #[must_use]
    pub fn only(port: u16) -> Self {
        Self { first: port, fallback: None, patience: Duration::from_secs(2) }
    }

    /// Opens the first port, or the fallback; then says what was in the way of the first.
    pub(super) async fn open(self, http: &HttpClient) -> Result<(Listeners, Option<Obstacle>), LoginError> {
        let held = match bind(self.first).await {
            Ok(listeners) => return Ok((listeners, None)),
            Err(error) => error,
        };
        if held.kind() != io::ErrorKind::AddrInUse {
            return Err(LoginError::Port { port: self.first, reason: held.to_string() });
        }
        ask_to_cancel(http, self.first).await;
        let until = tokio::time::Instant::now() + self.patience;
        loop {
            match bind(self.first).await {
                Ok(listeners) => return Ok((listeners, None)),
                Err(_) if tokio::time::Instant::now() < until => tokio::time::sleep(PAUSE).await,
                Err(_) => break,
            }
        }
        let first = Obstacle::on(self.first).await;
        let Some(fallback) = self.fallback else { return Err(LoginError::Held(vec![first])) };
        match bind(fallback).await {
            Ok(listeners) => Ok((listeners, Some(first))),
            Err(_) => Err(LoginError::Held(vec![first, Obstacle::on(fallback).await])),
        }
    }
}

impl Obstacle {
    async fn on(port: u16) -> Self {
        let holder = tokio::task::spawn_blocking(move || socket_owner::listener_on(port)).await.ok().flatten();
        Self { port, holder }
    }

    pub(super) fn list(obstacles: &[Self]) -> String {
        obstacles.iter().map(Self::to_string).collect::<Vec<_>>().join(" and ")
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let holder = self.holder.as_deref().unwrap_or("another program");
        write!(f, "port {} is held by {holder}", self.port)
    }
}

async fn bind(port: u16) -> io::Result<Listeners> {
    let v4 = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    let port = v4.local_addr()?.port();
    let v6 = match TcpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await {
        Ok(listener) => Some(listener),
        // A browser may try this address first, and would find a stranger there.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
        Err(_) => None,
    };
    Ok(Listeners { port, v4, v6 })
}

/// Asks an earlier login on the port to end. Whatever comes of it shows at the next try.
async fn ask_to_cancel(http: &HttpClient, port: u16) {
    let Ok(endpoint) = Endpoint::parse(&format!("http://127.0.0.1:{port}"), Trust::KnownHosts) else { return };
    let Ok(client) = http.client_for(&endpoint).await else { return };
    let request = client.get(endpoint.join("/cancel")).send();
    if tokio::time::timeout(CANCEL_TIMEOUT, request).await.is_err() {
        tracing::debug!(port, "whoever holds the port does not answer");
    }
}
