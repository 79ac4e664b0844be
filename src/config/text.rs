//! Settings that are text. Each type validates its value when the settings are loaded, so that an invalid value is
//! reported with its source instead of failing in the middle of a request.
//!
//! A proxy address may contain a password, which is never printed.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use url::{Host, Url};

use super::list::quoted;
use super::value::{Setting, invalid_value};
use crate::endpoint::{self, Endpoint, Trust};

/// A header value: printable ASCII without spaces at the ends, possibly empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeaderText(pub(super) String);

/// Text that isn't blank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NonEmptyText(pub(super) String);

/// A header value that isn't empty, or `None` for `auto`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeaderTextOrAuto(pub(super) Option<String>);

/// Text, or `None` if empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OptionalText(pub(super) Option<String>);

/// A path, or `None` if empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OptionalPath(pub(super) Option<PathBuf>);

/// The address of a proxy for outgoing connections, which may contain a password; `None` if empty.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct ProxyAddress(pub(super) Option<String>);

/// The base address of an OpenTelemetry collector, or `None` if empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OtlpEndpoint(pub(super) Option<Endpoint>);

/// `localhost` or a loopback address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LoopbackHost(pub(super) String);

impl Setting for NonEmptyText {
    fn expected() -> Cow<'static, str> {
        "text that isn't empty".into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() { Err(invalid_value::<Self>(text)) } else { Ok(Self(text.to_owned())) }
    }

    fn show(&self) -> String {
        quoted(&self.0)
    }
}

impl Setting for HeaderText {
    fn expected() -> Cow<'static, str> {
        "printable ASCII text".into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        if is_header_text(text) { Ok(Self(text.to_owned())) } else { Err(invalid_value::<Self>(text)) }
    }

    fn show(&self) -> String {
        quoted(&self.0)
    }
}

impl Setting for HeaderTextOrAuto {
    fn expected() -> Cow<'static, str> {
        "'auto' or printable ASCII text".into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self(None)),
            _ if !text.is_empty() && is_header_text(text) => Ok(Self(Some(text.to_owned()))),
            _ => Err(invalid_value::<Self>(text)),
        }
    }

    fn show(&self) -> String {
        quoted(self.0.as_deref().unwrap_or("auto"))
    }
}

impl Setting for OptionalText {
    fn expected() -> Cow<'static, str> {
        "text".into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        Ok(Self((!text.is_empty()).then(|| text.to_owned())))
    }

    fn show(&self) -> String {
        quoted(self.0.as_deref().unwrap_or_default())
    }
}

impl Setting for OptionalPath {
    fn expected() -> Cow<'static, str> {
        "a path".into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        if text.starts_with('~') {
            return Err("'~' isn't expanded; write the full path".to_owned());
        }
        Ok(Self((!text.is_empty()).then(|| PathBuf::from(text))))
    }

    fn show(&self) -> String {
        quoted(&self.0.as_deref().unwrap_or_else(|| "".as_ref()).to_string_lossy())
    }
}

impl Setting for OtlpEndpoint {
    fn expected() -> Cow<'static, str> {
        "the https address of an OTLP collector, or an http address on loopback".into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        // The message must not repeat the text, which may contain a password.
        let endpoint = Endpoint::parse(text, Trust::AnyHttpsHost);
        endpoint.map(|endpoint| Self(Some(endpoint))).map_err(|_| format!("must be {}", Self::expected()))
    }

    fn show(&self) -> String {
        quoted(self.0.as_ref().map(Endpoint::as_str).unwrap_or_default())
    }
}

impl fmt::Debug for ProxyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show())
    }
}

impl Setting for ProxyAddress {
    fn expected() -> Cow<'static, str> {
        "a proxy address such as http://127.0.0.1:3128 or socks5h://127.0.0.1:1080".into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let url = Url::parse(text).ok().filter(Url::has_host);
        let is_proxy = url
            .is_some_and(|url| matches!(url.scheme(), "http" | "https" | "socks4" | "socks4a" | "socks5" | "socks5h"));
        // The message must not repeat the text, which may contain a password.
        if is_proxy { Ok(Self(Some(text.to_owned()))) } else { Err(format!("must be {}", Self::expected())) }
    }

    fn show(&self) -> String {
        let Some(url) = self.0.as_deref().and_then(|text| Url::parse(text).ok()) else { return quoted("") };
        let mask = if url.username().is_empty() && url.password().is_none() { "" } else { "***@" };
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        quoted(&format!("{}://{mask}{}{port}", url.scheme(), url.host_str().unwrap_or_default()))
    }
}

impl Setting for LoopbackHost {
    fn expected() -> Cow<'static, str> {
        "localhost or a loopback address".into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let is_loopback = Host::parse(text).is_ok_and(|host| match &host {
            Host::Domain(name) => endpoint::is_loopback(&Host::Domain(name)),
            Host::Ipv4(address) => endpoint::is_loopback(&Host::Ipv4(*address)),
            Host::Ipv6(address) => endpoint::is_loopback(&Host::Ipv6(*address)),
        });
        if is_loopback { Ok(Self(text.to_owned())) } else { Err(invalid_value::<Self>(text)) }
    }

    fn show(&self) -> String {
        quoted(&self.0)
    }
}

fn is_header_text(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && text.trim() == text
}
