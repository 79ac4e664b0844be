//! The local ports that a browser can be redirected to.
//!
//! Two ports are registered with the issuer. If the first is in use, most likely by an earlier login, that login gets
//! a request to end. If the port stays in use, the second is tried.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpListener;

use super::LoginError;
use crate::endpoint::{Endpoint, Trust};
use crate::net::HttpClient;
use crate::socket_owner;

const RETRY_INTERVAL: Duration = Duration::from_millis(200);
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

/// The ports that a login may listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The preferred port; 0: any free one (only the issuers of tests redirect to it).
    pub first: u16,
    /// The port to use if the first stays in use.
    pub fallback: Option<u16>,
    /// How long to wait until the first is free.
    pub timeout: Duration,
}

/// A port that another program uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConflict {
    /// The port.
    pub port: u16,
    /// The program that uses it, if known.
    pub owner: Option<String>,
}

/// The sockets that a login listens on.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) port: u16,
    pub(super) v4: TcpListener,
    /// `None` on a machine without IPv6.
    pub(super) v6: Option<TcpListener>,
}

impl Ports {
    /// The two ports that are registered with the issuer.
    #[must_use]
    pub fn registered() -> Self {
        Self { first: 1455, fallback: Some(1457), timeout: Duration::from_secs(2) }
    }

    /// Only this port.
    #[must_use]
    pub fn only(port: u16) -> Self {
        Self { first: port, fallback: None, timeout: Duration::from_secs(2) }
    }

    /// Opens the first port, or else the fallback. In that case, also returns which program uses the first.
    pub(super) async fn open(self, http: &HttpClient) -> Result<(Listeners, Option<PortConflict>), LoginError> {
        let error = match bind(self.first).await {
            Ok(listeners) => return Ok((listeners, None)),
            Err(error) => error,
        };
        if error.kind() != io::ErrorKind::AddrInUse {
            return Err(LoginError::Port { port: self.first, reason: error.to_string() });
        }
        request_cancel(http, self.first).await;
        let until = tokio::time::Instant::now() + self.timeout;
        loop {
            match bind(self.first).await {
                Ok(listeners) => return Ok((listeners, None)),
                Err(_) if tokio::time::Instant::now() < until => tokio::time::sleep(RETRY_INTERVAL).await,
                Err(_) => break,
            }
        }
        let first = PortConflict::find(self.first).await;
        let Some(fallback) = self.fallback else { return Err(LoginError::PortsInUse(vec![first])) };
        match bind(fallback).await {
            Ok(listeners) => Ok((listeners, Some(first))),
            Err(_) => Err(LoginError::PortsInUse(vec![first, PortConflict::find(fallback).await])),
        }
    }
}

impl PortConflict {
    async fn find(port: u16) -> Self {
        let owner = tokio::task::spawn_blocking(move || socket_owner::listener_on(port)).await.ok().flatten();
        Self { port, owner }
    }

    pub(super) fn list(conflicts: &[Self]) -> String {
        conflicts.iter().map(Self::to_string).collect::<Vec<_>>().join(" and ")
    }
}

impl fmt::Display for PortConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = self.owner.as_deref().unwrap_or("another program");
        write!(f, "port {} is in use by {owner}", self.port)
    }
}

async fn bind(port: u16) -> io::Result<Listeners> {
    let v4 = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    let port = v4.local_addr()?.port();
    let v6 = match TcpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await {
        Ok(listener) => Some(listener),
        // A browser may try this address first, and would reach another program.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
        Err(_) => None,
    };
    Ok(Listeners { port, v4, v6 })
}

/// Requests that an earlier login on the port ends. The result is only visible in the next attempt to bind.
async fn request_cancel(http: &HttpClient, port: u16) {
    let Ok(endpoint) = Endpoint::parse(&format!("http://127.0.0.1:{port}"), Trust::KnownHosts) else { return };
    let Ok(client) = http.client_for(&endpoint).await else { return };
    let request = client.get(endpoint.join("/cancel")).send();
    if tokio::time::timeout(CANCEL_TIMEOUT, request).await.is_err() {
        tracing::debug!(port, "the program that uses the port doesn't respond");
    }
}
