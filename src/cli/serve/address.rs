//! The address that clients use to reach the daemon.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use crate::server::Listen;

/// The address of the daemon for clients.
pub(super) struct Address {
    pub(super) base_url: String,
    /// If the daemon listens on a Unix socket. The base URL then only has the path and a placeholder for the host.
    pub(super) socket: Option<PathBuf>,
}

impl Address {
    pub(super) fn of(listen: &Listen, bound: &[SocketAddr]) -> Self {
        match listen {
            Listen::Tcp(_) => Self { base_url: base_url(bound), socket: None },
            #[cfg(unix)]
            Listen::Unix(path) => Self { base_url: "http://localhost/v1".to_owned(), socket: Some(path.clone()) },
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base_url)?;
        self.socket.as_ref().map_or(Ok(()), |socket| write!(f, " on the Unix socket {}", socket.display()))
    }
}

/// Returns the base URL for clients. An unspecified address is replaced by loopback.
pub(in crate::cli) fn base_url(addresses: &[SocketAddr]) -> String {
    let reachable = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address.port()),
        _ => address,
    };
    addresses.first().map(|address| format!("http://{}/v1", reachable(*address))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::base_url;

    #[test]
    fn the_base_url_can_be_reached_from_this_machine() {
        assert_eq!(base_url(&["127.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap()]), "http://127.0.0.1:1/v1");
        assert_eq!(base_url(&["0.0.0.0:2".parse().unwrap()]), "http://127.0.0.1:2/v1");
        assert_eq!(base_url(&["[::]:3".parse().unwrap()]), "http://[::1]:3/v1");
    }
}
