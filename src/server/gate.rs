//! The doors that every request passes before anything else looks at it.
//!
//! A web page must not be able to spend the subscription: a foreign `Host` (a rebinding name), a
//! foreign `Origin` and a POST that a page could send without asking (any content type but JSON)
//! are refused here, whether keys are set or not. Where keys are set, one is required for every
//! path but the probes. Keys are compared as hashes, in constant time.

use std::net::{IpAddr, SocketAddr};

use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, Method};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use url::{Host, Url};

use super::Settings;
use crate::error::ProxyError;
use crate::net::is_loopback;

/// A key that clients may use.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientKey {
    /// Its name, for logs and for keeping conversations apart.
    pub name: String,
    /// SHA-256 of the key.
    pub sha256: [u8; 32],
    /// The account that its requests use, unless they name another; `None`: the one in use.
    pub account: Option<String>,
}

impl std::fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientKey").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ClientKey {
    /// A key given as text.
    #[must_use]
    pub fn from_text(name: impl Into<String>, key: &str) -> Self {
        Self { name: name.into(), sha256: Sha256::digest(key.as_bytes()).into(), account: None }
    }
}

/// Name of the key that a request came with, where keys are set.
#[derive(Clone, Debug)]
pub(super) struct KeyName(pub(super) String);

/// The rules in force.
#[derive(Debug)]
pub(super) struct Gate {
    keys: Vec<ClientKey>,
    hosts: Vec<String>,
    origins: Vec<String>,
    own_addresses: Vec<IpAddr>,
}

impl Gate {
    pub(super) fn new(settings: &Settings, bound: &[SocketAddr]) -> Self {
        Self {
            keys: settings.keys.clone(),
            hosts: settings.allowed_hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            origins: settings
                .allowed_origins
                .iter()
                .map(|origin| origin.trim_end_matches('/').to_ascii_lowercase())
                .collect(),
            own_addresses: bound.iter().map(SocketAddr::ip).collect(),
        }
    }

    /// Lets a request in, or says why not. Its key is what comes back.
    pub(super) fn admit(&self, request: &Parts) -> Result<Option<&ClientKey>, ProxyError> {
        let key = self.key(&request.headers);
        let authority = authority(request);
        if key.is_none() && !self.is_ours(authority) {
            return Err(ProxyError::ForeignHost { host: authority.to_owned() });
        }
        self.check_origin(&request.headers, authority)?;
        if !self.keys.is_empty() && key.is_none() && !is_probe(request.uri.path()) {
            return Err(ProxyError::KeyRequired);
        }
        if request.method == Method::POST && !has_json_body(&request.headers) {
            return Err(ProxyError::UnsupportedMediaType);
        }
        Ok(key)
    }

    fn key(&self, headers: &HeaderMap) -> Option<&ClientKey> {
        let sent: [u8; 32] = Sha256::digest(presented_key(headers)?.as_bytes()).into();
        // Every key is looked at, so that the time tells nothing about which one matched.
        let mut found = None;
        for key in &self.keys {
            let is_equal: Choice = key.sha256.ct_eq(&sent);
            if bool::from(is_equal) {
                found = Some(key);
            }
        }
        found
    }

    fn is_ours(&self, authority: &str) -> bool {
        let Ok(url) = Url::parse(&format!("http://{authority}/")) else { return false };
        let has_only_host = url.username().is_empty() && url.password().is_none() && url.path() == "/";
        let Some(host) = url.host().filter(|_| has_only_host) else { return false };
        let is_own_address = match host {
            Host::Ipv4(address) => self.own_addresses.contains(&IpAddr::V4(address)),
            Host::Ipv6(address) => self.own_addresses.contains(&IpAddr::V6(address)),
            Host::Domain(_) => false,
        };
        is_own_address
            || is_loopback(&host)
            || self
                .hosts
                .iter()
                .any(|allowed| *allowed == host.to_string() || *allowed == authority.to_ascii_lowercase())
    }

    /// Our own page names the host that it was loaded from; any other page has to be allowed.
    fn check_origin(&self, headers: &HeaderMap, authority: &str) -> Result<(), ProxyError> {
        let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
        let origin = String::from_utf8_lossy(origin.as_bytes()).to_ascii_lowercase();
        let is_own = origin.strip_prefix("http://").is_some_and(|host| host == authority.to_ascii_lowercase())
            && self.is_ours(authority);
        if is_own || self.origins.contains(&origin) {
            return Ok(());
        }
        Err(ProxyError::ForeignOrigin { origin })
    }
}

/// The host the request is for: of an absolute request line, else of the header.
fn authority(request: &Parts) -> &str {
    let header = || request.headers.get(HOST).and_then(|host| host.to_str().ok());
    request.uri.authority().map(http::uri::Authority::as_str).or_else(header).unwrap_or_default()
}

fn presented_key(headers: &HeaderMap) -> Option<&str> {
    let bearer = |text: &'_ str| text.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer "));
    let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let from_authorization = authorization.filter(|text| bearer(text)).and_then(|text| text.get(7..)).map(str::trim);
    let other = || ["x-api-key", "api-key"].iter().find_map(|name| headers.get(*name)?.to_str().ok());
    from_authorization.or_else(other)
}

fn is_probe(path: &str) -> bool {
    matches!(path, "/health" | "/ready")
}

fn has_json_body(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    fn gate(keys: &[&str], hosts: &[&str], origins: &[&str]) -> Gate {
        Gate {
            keys: keys.iter().map(|key| ClientKey::from_text("k", key)).collect(),
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            origins: origins.iter().map(|origin| (*origin).to_owned()).collect(),
            own_addresses: vec!["192.168.7.7".parse().unwrap()],
        }
    }

    fn request(headers: &[(&str, &str)]) -> Parts {
        let mut builder = Request::post("/v1/chat/completions").header("content-type", "application/json");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    #[test]
    fn loopback_and_own_names_are_served() {
        let gate = gate(&[], &["proxy.home.arpa"], &[]);
        for host in [
            "localhost",
            "127.0.0.1:8787",
            "[::1]:9",
            "LOCALHOST:1",
            "192.168.7.7:8787",
            "proxy.home.arpa:80",
            "127.9.9.9",
        ] {
            assert!(gate.admit(&request(&[("host", host)])).is_ok(), "{host}");
        }
    }

    #[test]
    fn foreign_and_rebinding_names_are_refused() {
        let gate = gate(&[], &[], &[]);
        for host in [
            "evil.invalid",
            "localhost.evil.invalid",
            "127.0.0.1.evil.invalid",
            "",
            "a@localhost",
            "localhost/x",
            "10.0.0.1",
            "0.0.0.0",
        ] {
            let refused = gate.admit(&request(&[("host", host)]));
            assert!(matches!(refused, Err(ProxyError::ForeignHost { .. })), "{host}");
        }
    }

    #[test]
    fn a_valid_key_opens_any_host_name() {
        let gate = gate(&["sk-1"], &[], &[]);
        assert!(gate.admit(&request(&[("host", "host.docker.internal"), ("x-api-key", "sk-1")])).is_ok());
        assert!(gate.admit(&request(&[("host", "localhost"), ("authorization", "bearer sk-1")])).is_ok());
        let wrong = gate.admit(&request(&[("host", "localhost"), ("api-key", "sk-2")]));
        assert!(matches!(wrong, Err(ProxyError::KeyRequired)));
    }

    #[test]
    fn only_our_own_page_and_allowed_origins_may_call() {
        let gate = gate(&[], &[], &["app://obsidian.md"]);
        let from = |origin| gate.admit(&request(&[("host", "localhost:8787"), ("origin", origin)]));
        assert!(from("http://localhost:8787").is_ok());
        assert!(from("app://obsidian.md").is_ok());
        for origin in
            ["http://localhost:3000", "null", "https://evil.invalid", "http://localhost:8787.evil.invalid", ""]
        {
            assert!(matches!(from(origin), Err(ProxyError::ForeignOrigin { .. })), "{origin}");
        }
    }

    #[test]
    fn a_post_that_a_page_could_send_unasked_is_refused() {
        let gate = gate(&[], &[], &[]);
        for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/json", ""] {
            let parts = Request::post("/v1/x")
                .header("host", "localhost")
                .header("content-type", kind)
                .body(())
                .unwrap()
                .into_parts()
                .0;
            assert!(matches!(gate.admit(&parts), Err(ProxyError::UnsupportedMediaType)), "{kind}");
        }
    }

    proptest! {
        #[test]
        fn no_header_text_makes_the_gate_panic(host in "\\PC{0,40}", origin in "\\PC{0,40}") {
            let gate = gate(&[], &["x"], &["y"]);
            let builder = Request::get("/").header("host", host).header("origin", origin);
            if let Ok(request) = builder.body(()) {
                let _ = gate.admit(&request.into_parts().0);
            }
        }
    }
}
