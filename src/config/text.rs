//! The kinds of settings that are text: with a rule each, so that a value that can't work is
//! refused at start with its source, and not by a header or a socket in the middle of a request.
//!
//! A proxy address may hold a password: it is neither shown nor repeated in a complaint.

use std::fmt;
use std::path::PathBuf;

use url::{Host, Url};

use super::list::quoted;
use super::value::{Setting, not_expected};
use crate::endpoint::{self, Endpoint, Trust};

/// Text that goes into a header: printable ASCII, possibly empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeaderText(pub(super) String);

/// Text with at least one letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text(pub(super) String);

/// Text for a header, or `auto`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Auto(pub(super) Option<String>);

/// Text, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Optional(pub(super) Option<String>);

/// A file, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File(pub(super) Option<PathBuf>);

/// An outgoing proxy's address, which may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Proxy(pub(super) Option<String>);

/// Where traces are sent to, if anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Collector(pub(super) Option<Endpoint>);

/// A host name that means this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LoopbackHost(pub(super) String);

impl Setting for Text {
    const EXPECTED: &'static str = "a text that is not empty";

    fn from_text(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() { Err(not_expected::<Self>(text)) } else { Ok(Self(text.to_owned())) }
    }

    fn show(&self) -> String {
        quoted(&self.0)
    }
}

impl Setting for HeaderText {
    const EXPECTED: &'static str = "a text of printable ASCII characters";

    fn from_text(text: &str) -> Result<Self, String> {
        if is_header_text(text) { Ok(Self(text.to_owned())) } else { Err(not_expected::<Self>(text)) }
    }

    fn show(&self) -> String {
        quoted(&self.0)
    }
}

impl Setting for Auto {
    const EXPECTED: &'static str = "'auto' or a text of printable ASCII characters";

    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self(None)),
            _ if !text.is_empty() && is_header_text(text) => Ok(Self(Some(text.to_owned()))),
            _ => Err(not_expected::<Self>(text)),
        }
    }

    fn show(&self) -> String {
        quoted(self.0.as_deref().unwrap_or("auto"))
    }
}

impl Setting for Optional {
    const EXPECTED: &'static str = "a text";

    fn from_text(text: &str) -> Result<Self, String> {
        Ok(Self((!text.is_empty()).then(|| text.to_owned())))
    }

    fn show(&self) -> String {
        quoted(self.0.as_deref().unwrap_or_default())
    }
}

impl Setting for File {
    const EXPECTED: &'static str = "a path";

    fn from_text(text: &str) -> Result<Self, String> {
        if text.starts_with('~') {
            return Err("'~' is not expanded here; write the whole path".to_owned());
        }
        Ok(Self((!text.is_empty()).then(|| PathBuf::from(text))))
    }

    fn show(&self) -> String {
        quoted(&self.0.as_deref().unwrap_or_else(|| "".as_ref()).to_string_lossy())
    }
}

impl Setting for Collector {
    const EXPECTED: &'static str = "the https address of an OTLP collector, or http on loopback";

    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        // The text may hold a password, so the complaint does not repeat it.
        let endpoint = Endpoint::parse(text, Trust::AnyHttpsHost);
        endpoint.map(|endpoint| Self(Some(endpoint))).map_err(|_| format!("{} is expected", Self::EXPECTED))
    }

    fn show(&self) -> String {
        quoted(self.0.as_ref().map(Endpoint::as_str).unwrap_or_default())
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show())
    }
}

impl Setting for Proxy {
    const EXPECTED: &'static str = "a proxy address such as http://127.0.0.1:3128 or socks5h://127.0.0.1:1080";

    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let url = Url::parse(text).ok().filter(Url::has_host);
        let is_proxy = url
            .is_some_and(|url| matches!(url.scheme(), "http" | "https" | "socks4" | "socks4a" | "socks5" | "socks5h"));
        // The text may hold a password, so the complaint does not repeat it.
        if is_proxy { Ok(Self(Some(text.to_owned()))) } else { Err(format!("{} is expected", Self::EXPECTED)) }
    }

    fn show(&self) -> String {
        let Some(url) = self.0.as_deref().and_then(|text| Url::parse(text).ok()) else { return quoted("") };
        let mask = if url.username().is_empty() && url.password().is_none() { "" } else { "***@" };
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        quoted(&format!("{}://{mask}{}{port}", url.scheme(), url.host_str().unwrap_or_default()))
    }
}

impl Setting for LoopbackHost {
    const EXPECTED: &'static str = "localhost or a loopback address";

    fn from_text(text: &str) -> Result<Self, String> {
        let is_loopback = Host::parse(text).is_ok_and(|host| match &host {
            Host::Domain(name) => endpoint::is_loopback(&Host::Domain(name)),
            Host::Ipv4(address) => endpoint::is_loopback(&Host::Ipv4(*address)),
            Host::Ipv6(address) => endpoint::is_loopback(&Host::Ipv6(*address)),
        });
        if is_loopback { Ok(Self(text.to_owned())) } else { Err(not_expected::<Self>(text)) }
    }

    fn show(&self) -> String {
        quoted(&self.0)
    }
}

fn is_header_text(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && text.trim() == text
}
