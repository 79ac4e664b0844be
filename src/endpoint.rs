//! Base URLs that may receive bearer tokens.
//!
//! An [`Endpoint`] is an https URL on `chatgpt.com`, one of its subdomains, `auth.openai.com` or a host that the user
//! trusts with a setting, or an http or https URL on loopback. No I/O.

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

/// A base URL that may receive bearer tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Url);

/// Which hosts may receive tokens (`upstream.trust_host`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// `chatgpt.com` and its subdomains, `auth.openai.com`, and loopback.
    KnownHosts,
    /// Any https host.
    AnyHttpsHost,
}

/// Why a URL is not an [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not an absolute http or https URL, or it has credentials, a query or a fragment.
    #[error("'{0}' is not an http(s) URL")]
    NotAUrl(String),
    /// The host may receive tokens only if `upstream.trust_host` is set.
    #[error("tokens are not sent to '{0}'; set upstream.trust_host = true if you trust this host")]
    UntrustedHost(String),
    /// The backend assigned the account an origin outside `chatgpt.com`.
    #[error("the backend assigned the origin '{0}', but tokens are sent to chatgpt.com and its subdomains only")]
    ForeignOrigin(String),
    /// Plain http to another machine.
    #[error("'{0}' must use https")]
    NotEncrypted(String),
}

impl Endpoint {
    /// Parses a base URL and checks that it may receive tokens. Trailing slashes are removed.
    ///
    /// # Errors
    /// If the text is not an http(s) URL, or its host may not receive tokens.
    pub fn parse(text: &str, trust: Trust) -> Result<Self, EndpointError> {
        let url = Url::parse(text.trim_end_matches('/')).map_err(|_| EndpointError::NotAUrl(without_userinfo(text)))?;
        let is_web = matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none();
        if !is_web || !url.username().is_empty() || url.password().is_some() {
            return Err(EndpointError::NotAUrl(url.host_str().unwrap_or("(hidden)").to_owned()));
        }
        let Some(host) = url.host() else { return Err(EndpointError::NotAUrl(without_userinfo(text))) };
        if is_loopback(&host) {
            return Ok(Self(url));
        }
        if url.scheme() != "https" {
            return Err(EndpointError::NotEncrypted(host.to_string()));
        }
        if trust == Trust::AnyHttpsHost || is_known(&host) {
            return Ok(Self(url));
        }
        Err(EndpointError::UntrustedHost(host.to_string()))
    }

    /// Returns the URL of a path below this base, such as `/responses`. The path may have a query.
    #[must_use]
    pub fn join(&self, path: &str) -> Url {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        // Cloning is cheaper than parsing again for each request.
        let mut url = self.0.clone();
        url.set_path(&[self.0.path().trim_end_matches('/'), path].concat());
        url.set_query(query);
        url
    }

    /// The base URL without a trailing slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }

    /// The host, for messages.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// Whether the host may receive tokens without `upstream.trust_host`.
    #[must_use]
    pub fn is_known_host(&self) -> bool {
        self.0.host().is_some_and(|host| is_loopback(&host) || is_known(&host))
    }

    /// Whether the host is this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.0.host().is_some_and(|host| is_loopback(&host))
    }

    /// Replaces the origin with one that the backend assigned, for workspaces that are bound to a region.
    ///
    /// The origin has to be `chatgpt.com`, one of its subdomains, or this base's own. Loopback origins are accepted
    /// only if this base is on loopback, so that the backend can't direct tokens to a local port.
    ///
    /// # Errors
    /// If the origin may not receive tokens.
    pub fn with_origin(&self, origin: &str) -> Result<Self, EndpointError> {
        let origin = Self::parse(origin, Trust::AnyHttpsHost)?;
        if origin.0.path() != "/" {
            return Err(EndpointError::NotAUrl(origin.as_str().to_owned()));
        }
        let is_allowed = origin.0.host().is_some_and(|host| is_chatgpt(&host))
            || (origin.is_loopback() && self.is_loopback())
            || origin.0.origin() == self.0.origin();
        if !is_allowed {
            return Err(EndpointError::ForeignOrigin(origin.host().to_owned()));
        }
        Self::parse(&format!("{}{}", origin.as_str(), self.0.path()), Trust::AnyHttpsHost)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Replaces everything before the last `@`, which may be a user name and a password, with `(hidden)`.
#[must_use]
pub fn without_userinfo(text: &str) -> String {
    text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, rest)| format!("(hidden)@{rest}"))
}

/// Whether a host is `localhost` or a loopback address, whatever resolver looks it up.
#[must_use]
pub fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => name.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => IpAddr::V6(*address).to_canonical().is_loopback(),
    }
}

/// Whether browsers treat a host as this machine: loopback, or a subdomain of `localhost`. Some resolvers look up
/// the latter elsewhere, so an [`Endpoint`] may not use it.
#[must_use]
pub fn is_local(host: &Host<&str>) -> bool {
    let is_below = |name: &str| name.trim_end_matches('.').to_ascii_lowercase().ends_with(".localhost");
    is_loopback(host) || matches!(host, Host::Domain(name) if is_below(name))
}

fn is_known(host: &Host<&str>) -> bool {
    is_chatgpt(host) || matches!(host, Host::Domain("auth.openai.com"))
}

fn is_chatgpt(host: &Host<&str>) -> bool {
    matches!(host, Host::Domain(name) if *name == "chatgpt.com" || name.ends_with(".chatgpt.com"))
}

#[cfg(test)]
mod tests;
