//! The address to listen on: `host:port`, a port, a host, or `unix:PATH`.
//!
//! `localhost` means both loopback addresses, IPv4 and IPv6, because clients differ in which one they try first. Other
//! host names are rejected: the address they resolve to could change while the daemon runs.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
#[cfg(unix)]
use std::path::PathBuf;

use toml::de::DeValue;

use super::list::quoted;
use super::value::{Setting, invalid_value, wrong_type};
use crate::server;

/// The port if an address has none.
const PORT: u16 = 8787;
/// The prefix of a Unix socket's path.
const UNIX_PREFIX: &str = "unix:";

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ListenAddress {
    /// A TCP port on one host.
    Tcp { host: ListenHost, port: u16 },
    /// A Unix socket.
    #[cfg(unix)]
    Unix(PathBuf),
}

/// The host part of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListenHost {
    /// Both 127.0.0.1 and `[::1]`.
    Localhost,
    /// An IP address; the unspecified address means all interfaces.
    Address(IpAddr),
}

impl ListenHost {
    /// Parses the value of `--host`, or the part of an address before the port.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("localhost") {
            return Ok(Self::Localhost);
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        bare.parse().map(Self::Address).map_err(|_| {
            format!("the host must be localhost or an IP address of this machine, not '{}'", text.escape_default())
        })
    }
}

impl ListenAddress {
    /// Returns the addresses or the path to bind.
    pub(super) fn sockets(&self) -> server::Listen {
        let (host, port) = match self {
            Self::Tcp { host, port } => (*host, *port),
            #[cfg(unix)]
            Self::Unix(path) => return server::Listen::Unix(path.clone()),
        };
        server::Listen::Tcp(match host {
            ListenHost::Localhost => vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()],
            ListenHost::Address(address) => vec![(address, port).into()],
        })
    }

    /// Returns whether only this machine can connect.
    pub(super) fn is_local(&self) -> bool {
        match self.sockets() {
            server::Listen::Tcp(addresses) => addresses.iter().all(|address| address.ip().to_canonical().is_loopback()),
            #[cfg(unix)]
            server::Listen::Unix(_) => true,
        }
    }

    /// Replaces the port. A Unix socket becomes a port on localhost.
    pub(super) fn with_port(&self, port: u16) -> Self {
        match self {
            Self::Tcp { host, .. } => Self::Tcp { host: *host, port },
            #[cfg(unix)]
            Self::Unix(_) => Self::Tcp { host: ListenHost::Localhost, port },
        }
    }

    /// Replaces the host. A Unix socket becomes the default port on that host.
    pub(super) fn with_host(&self, host: ListenHost) -> Self {
        match self {
            Self::Tcp { port, .. } => Self::Tcp { host, port: *port },
            #[cfg(unix)]
            Self::Unix(_) => Self::Tcp { host, port: PORT },
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host: ListenHost::Localhost, port } => write!(f, "localhost:{port}"),
            Self::Tcp { host: ListenHost::Address(address), port } => SocketAddr::new(*address, *port).fmt(f),
            #[cfg(unix)]
            Self::Unix(path) => write!(f, "{UNIX_PREFIX}{}", path.display()),
        }
    }
}

#[cfg(unix)]
fn unix(path: &str) -> Result<ListenAddress, String> {
    match path {
        "" => Err(format!("'{UNIX_PREFIX}' must be followed by the path of a socket")),
        _ if path.starts_with('~') => Err("'~' isn't expanded; write the full path".to_owned()),
        _ => Ok(ListenAddress::Unix(PathBuf::from(path))),
    }
}

#[cfg(not(unix))]
fn unix(_path: &str) -> Result<ListenAddress, String> {
    Err("this system has no Unix sockets; use host:port".to_owned())
}

impl Setting for ListenAddress {
    fn expected() -> Cow<'static, str> {
        "host:port, a port, or unix:PATH".into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix(UNIX_PREFIX) {
            return unix(path);
        }
        if let Ok(port) = text.parse() {
            return Ok(Self::Tcp { host: ListenHost::Localhost, port });
        }
        if let Ok(host) = ListenHost::parse(text) {
            return Ok(Self::Tcp { host, port: PORT });
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(|| invalid_value::<Self>(text))?;
        Ok(Self::Tcp { host: ListenHost::parse(host)?, port: port.parse().map_err(|_| invalid_value::<Self>(text))? })
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value {
            DeValue::String(text) => Self::from_text(text),
            DeValue::Integer(port) => Self::from_text(port.as_str()),
            _ => Err(wrong_type::<Self>(value)),
        }
    }

    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::{ListenAddress, Setting};
    use crate::server;

    fn addresses(text: &str) -> Vec<String> {
        let server::Listen::Tcp(addresses) = ListenAddress::from_text(text).unwrap().sockets() else {
            panic!("{text}")
        };
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn localhost_means_both_loopback_addresses() {
        for text in ["localhost:9000", "9000", "LOCALHOST:9000"] {
            assert_eq!(addresses(text), ["127.0.0.1:9000", "[::1]:9000"], "{text}");
        }
    }

    #[test]
    fn an_address_may_have_a_port_or_none() {
        assert_eq!(addresses("127.0.0.1"), ["127.0.0.1:8787"]);
        assert_eq!(addresses("0.0.0.0:0"), ["0.0.0.0:0"]);
        assert_eq!(addresses("::1"), ["[::1]:8787"]);
        assert_eq!(addresses("[::]:80"), ["[::]:80"]);
    }

    #[test]
    fn host_names_and_incomplete_addresses_are_rejected() {
        for text in ["", ":80", "example.com:80", "localhost:x", "localhost:65536", "unix:", "unix:~/x"] {
            assert!(ListenAddress::from_text(text).is_err(), "{text}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_unix_socket_is_local() {
        let socket = ListenAddress::from_text("unix:/run/x").unwrap();
        assert_eq!(socket.sockets(), server::Listen::Unix("/run/x".into()));
        assert!(socket.is_local());
        assert_eq!(socket.show(), "\"unix:/run/x\"");
        assert_eq!(socket.with_port(5), ListenAddress::from_text("localhost:5").unwrap());
    }

    #[cfg(not(unix))]
    #[test]
    fn a_unix_socket_is_rejected_on_systems_without_them() {
        assert!(ListenAddress::from_text("unix:/run/x").unwrap_err().contains("host:port"));
    }

    #[test]
    fn only_loopback_addresses_are_local() {
        let is_local = |text: &str| ListenAddress::from_text(text).unwrap().is_local();
        assert!(is_local("8787") && is_local("127.9.9.9:1") && is_local("[::ffff:127.0.0.1]:1"));
        assert!(!is_local("0.0.0.0:1") && !is_local("[::]:1") && !is_local("192.168.1.2:1"));
    }
}
