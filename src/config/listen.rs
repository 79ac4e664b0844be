//! Where the daemon listens: `host:port`, a port, or a host.
//!
//! `localhost` means both loopback addresses, since clients try either first. Other names are
//! refused: what they stand for could change under a running daemon.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use toml::de::DeValue;

use super::list::quoted;
use super::value::{Setting, not_expected, wrong_type};

/// The port when none is named.
const PORT: u16 = 8787;

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listen {
    pub(super) host: ListenHost,
    pub(super) port: u16,
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
    pub(super) fn addresses(self) -> Vec<SocketAddr> {
        match self.host {
            ListenHost::Localhost => {
                vec![(Ipv4Addr::LOCALHOST, self.port).into(), (Ipv6Addr::LOCALHOST, self.port).into()]
            }
            ListenHost::Address(address) => vec![(address, self.port).into()],
        }
    }

    /// Whether only this machine can reach it.
    pub(super) fn is_loopback(self) -> bool {
        self.addresses().iter().all(|address| address.ip().to_canonical().is_loopback())
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host {
            ListenHost::Localhost => write!(f, "localhost:{}", self.port),
            ListenHost::Address(address) => SocketAddr::new(address, self.port).fmt(f),
        }
    }
}

impl Setting for Listen {
    const EXPECTED: &'static str = "host:port or a port";

    fn from_text(text: &str) -> Result<Self, String> {
        if text.starts_with("unix:") {
            return Err("unix sockets can't be listened on yet; use host:port".to_owned());
        }
        if let Ok(port) = text.parse() {
            return Ok(Self { host: ListenHost::Localhost, port });
        }
        if let Ok(host) = ListenHost::parse(text) {
            return Ok(Self { host, port: PORT });
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(|| not_expected::<Self>(text))?;
        Ok(Self { host: ListenHost::parse(host)?, port: port.parse().map_err(|_| not_expected::<Self>(text))? })
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

    fn addresses(text: &str) -> Vec<String> {
        Listen::from_text(text).unwrap().addresses().iter().map(ToString::to_string).collect()
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
    fn names_and_sockets_are_refused() {
        for text in ["", ":80", "example.com:80", "localhost:x", "localhost:65536", "unix:/run/x"] {
            assert!(Listen::from_text(text).is_err(), "{text}");
        }
        assert!(Listen::from_text("unix:/run/x").unwrap_err().contains("unix"));
    }

    #[test]
    fn only_loopback_addresses_are_loopback() {
        let is_loopback = |text: &str| Listen::from_text(text).unwrap().is_loopback();
        assert!(is_loopback("8787") && is_loopback("127.9.9.9:1") && is_loopback("[::ffff:127.0.0.1]:1"));
        assert!(!is_loopback("0.0.0.0:1") && !is_loopback("[::]:1") && !is_loopback("192.168.1.2:1"));
    }
}
