//! Where the daemon listens: `host:port`, a port, a host, or `unix:PATH`.
//!
//! `localhost` means both loopback addresses, since clients try either first. Other names are
//! refused: what they stand for could change under a running daemon.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
#[cfg(unix)]
use std::path::PathBuf;

use toml::de::DeValue;

use super::list::quoted;
use super::value::{Setting, not_expected, wrong_type};
use crate::server;

/// The port when none is named.
const PORT: u16 = 8787;
/// What a Unix socket's path stands behind.
const UNIX: &str = "unix:";

/// A place to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Listen {
    /// A port on one host.
    Tcp { host: ListenHost, port: u16 },
    /// A Unix socket.
    #[cfg(unix)]
    Unix(PathBuf),
}

/// The host part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListenHost {
    /// 127.0.0.1 and `[::1]`.
    Localhost,
    /// One address, or all of a family.
    Address(IpAddr),
}

impl ListenHost {
    /// Reads the value of `--host` or the part before the port.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("localhost") {
            return Ok(Self::Localhost);
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        bare.parse().map(Self::Address).map_err(|_| {
            format!("localhost or an IP address of this machine is expected, not '{}'", text.escape_default())
        })
    }
}

impl Listen {
    /// The sockets to bind.
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

    /// Whether only this machine can reach it.
    pub(super) fn is_local(&self) -> bool {
        match self.sockets() {
            server::Listen::Tcp(addresses) => addresses.iter().all(|address| address.ip().to_canonical().is_loopback()),
            #[cfg(unix)]
            server::Listen::Unix(_) => true,
        }
    }

    /// The same host on another port; instead of a Unix socket, a port of this machine.
    pub(super) fn with_port(&self, port: u16) -> Self {
        match self {
            Self::Tcp { host, .. } => Self::Tcp { host: *host, port },
            #[cfg(unix)]
            Self::Unix(_) => Self::Tcp { host: ListenHost::Localhost, port },
        }
    }

    /// The same port on another host.
    pub(super) fn with_host(&self, host: ListenHost) -> Self {
        match self {
            Self::Tcp { port, .. } => Self::Tcp { host, port: *port },
            #[cfg(unix)]
            Self::Unix(_) => Self::Tcp { host, port: PORT },
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host: ListenHost::Localhost, port } => write!(f, "localhost:{port}"),
            Self::Tcp { host: ListenHost::Address(address), port } => SocketAddr::new(*address, *port).fmt(f),
            #[cfg(unix)]
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

#[cfg(unix)]
fn unix(path: &str) -> Result<Listen, String> {
    match path {
        "" => Err(format!("the path of a socket is expected behind '{UNIX}'")),
        _ if path.starts_with('~') => Err("'~' is not expanded here; write the whole path".to_owned()),
        _ => Ok(Listen::Unix(PathBuf::from(path))),
    }
}

#[cfg(not(unix))]
fn unix(_path: &str) -> Result<Listen, String> {
    Err("there are no Unix sockets on this system; use host:port".to_owned())
}

impl Setting for Listen {
    const EXPECTED: &'static str = "host:port, a port, or unix:PATH";

    fn from_text(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix(UNIX) {
            return unix(path);
        }
        if let Ok(port) = text.parse() {
            return Ok(Self::Tcp { host: ListenHost::Localhost, port });
        }
        if let Ok(host) = ListenHost::parse(text) {
            return Ok(Self::Tcp { host, port: PORT });
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(|| not_expected::<Self>(text))?;
        Ok(Self::Tcp { host: ListenHost::parse(host)?, port: port.parse().map_err(|_| not_expected::<Self>(text))? })
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
    use super::{Listen, Setting};
    use crate::server;

    fn addresses(text: &str) -> Vec<String> {
        let server::Listen::Tcp(addresses) = Listen::from_text(text).unwrap().sockets() else { panic!("{text}") };
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn localhost_means_both_loopback_addresses() {
        for text in ["localhost:9000", "9000", "LOCALHOST:9000"] {
            assert_eq!(addresses(text), ["127.0.0.1:9000", "[::1]:9000"], "{text}");
        }
    }

    #[test]
    fn an_address_is_taken_with_and_without_a_port() {
        assert_eq!(addresses("127.0.0.1"), ["127.0.0.1:8787"]);
        assert_eq!(addresses("0.0.0.0:0"), ["0.0.0.0:0"]);
        assert_eq!(addresses("::1"), ["[::1]:8787"]);
        assert_eq!(addresses("[::]:80"), ["[::]:80"]);
    }

    #[test]
    fn names_and_pieces_are_refused() {
        for text in ["", ":80", "example.com:80", "localhost:x", "localhost:65536", "unix:", "unix:~/x"] {
            assert!(Listen::from_text(text).is_err(), "{text}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_unix_socket_is_a_place_of_this_machine() {
        let socket = Listen::from_text("unix:/run/x").unwrap();
        assert_eq!(socket.sockets(), server::Listen::Unix("/run/x".into()));
        assert!(socket.is_local());
        assert_eq!(socket.show(), "\"unix:/run/x\"");
        assert_eq!(socket.with_port(5), Listen::from_text("localhost:5").unwrap());
    }

    #[cfg(not(unix))]
    #[test]
    fn a_unix_socket_is_refused_where_there_are_none() {
        assert!(Listen::from_text("unix:/run/x").unwrap_err().contains("host:port"));
    }

    #[test]
    fn only_loopback_addresses_are_loopback() {
        let is_loopback = |text: &str| Listen::from_text(text).unwrap().is_local();
        assert!(is_loopback("8787") && is_loopback("127.9.9.9:1") && is_loopback("[::ffff:127.0.0.1]:1"));
        assert!(!is_loopback("0.0.0.0:1") && !is_loopback("[::]:1") && !is_loopback("192.168.1.2:1"));
    }
}
