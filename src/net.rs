//! The one HTTP client, and the addresses a bearer token may be sent to.
//!
//! [`HttpClient`] is built on first use, off the path to the ready line, since loading the
//! system's trust store takes tens of milliseconds. [`Endpoint`] is a base address that passed the
//! rule for tokens: `chatgpt.com` and its subdomains, `auth.openai.com`, loopback, or an https host
//! that the owner trusts by setting. Redirects are never followed.

mod build;
mod error_chain;
pub mod peer;
mod pool;
pub mod port_owner;
pub mod proxy;
mod stale_retry;
#[cfg(target_os = "linux")]
mod tcp_table;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::header::{DATE, HeaderMap};
use url::{Host, Url};

use crate::clock::{Clock, SystemClock};
use build::{Protocol, Route, build};
pub use error_chain::error_chain;
pub(crate) use pool::InUse;
use pool::{Clients, Pool, Routes};
pub(crate) use stale_retry::STALE_AFTER;
pub use stale_retry::SendError;

/// How connections to the outside are made. Debug output shows no password of the proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// Limit for name look-up, TCP and TLS together (`upstream.connect_timeout`).
    pub connect_timeout: Duration,
    /// A PEM bundle to trust beside the system's store (`upstream.ca_file`).
    pub ca_file: Option<PathBuf>,
    /// A proxy for every host but loopback (`upstream.proxy`); `None`: the proxy variables of the environment.
    pub proxy: Option<String>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proxy = self.proxy.as_deref().map(|address| match address.rsplit_once('@') {
            Some((_, place)) => format!("(hidden)@{place}"),
            None => address.to_owned(),
        });
        f.debug_struct("Settings")
            .field("connect_timeout", &self.connect_timeout)
            .field("ca_file", &self.ca_file)
            .field("proxy", &proxy)
            .finish()
    }
}

/// A base address that a bearer token may be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Url);

/// Whether the owner vouches for hosts that are not known (`upstream.trust_host`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Only the known hosts and loopback.
    KnownHosts,
    /// Any https host.
    AnyHttpsHost,
}

/// Why an address was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not an absolute http or https address with a host and without credentials.
    #[error("'{0}' is not an http(s) address")]
    NotAnAddress(String),
    /// A host that tokens don't go to without the owner's word.
    #[error("tokens are not sent to '{0}'; set upstream.trust_host = true if that host is yours")]
    UnknownHost(String),
    /// An origin that the backend named for an account and tokens don't go to.
    #[error("the backend names the origin '{0}', and tokens go to chatgpt.com and its subdomains only")]
    ForeignOrigin(String),
    /// Plain http to another machine.
    #[error("'{0}' must be https")]
    NotEncrypted(String),
}

impl Endpoint {
    /// Checks an address against the rule for tokens; a trailing slash is removed.
    ///
    /// # Errors
    /// When the text is no address, or a token must not go there.
    pub fn parse(text: &str, trust: Trust) -> Result<Self, EndpointError> {
        let url =
            Url::parse(text.trim_end_matches('/')).map_err(|_| EndpointError::NotAnAddress(without_userinfo(text)))?;
        let is_web = matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none();
        if !is_web || !url.username().is_empty() || url.password().is_some() {
            return Err(EndpointError::NotAnAddress(url.host_str().unwrap_or("(hidden)").to_owned()));
        }
        let Some(host) = url.host() else { return Err(EndpointError::NotAnAddress(without_userinfo(text))) };
        if is_loopback(&host) {
            return Ok(Self(url));
        }
        if url.scheme() != "https" {
            return Err(EndpointError::NotEncrypted(host.to_string()));
        }
        if trust == Trust::AnyHttpsHost || is_known(&host) {
            return Ok(Self(url));
        }
        Err(EndpointError::UnknownHost(host.to_string()))
    }

    /// The address of a path below this base, such as `/responses`.
    #[must_use]
    pub fn join(&self, path: &str) -> Url {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        // The base has been parsed; parsing it anew would cost each request a share of its time.
        let mut url = self.0.clone();
        url.set_path(&[self.0.path().trim_end_matches('/'), path].concat());
        url.set_query(query);
        url
    }

    /// The base without a trailing slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }

    /// Host name, for messages.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// Whether the host is one that tokens go to without a setting.
    #[must_use]
    pub fn is_known_host(&self) -> bool {
        self.0.host().is_some_and(|host| is_loopback(&host) || is_known(&host))
    }

    /// Whether the host is this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.0.host().is_some_and(|host| is_loopback(&host))
    }

    /// The same base with an origin that the backend names, for workspaces that are bound to a region.
    ///
    /// Tokens follow the backend's word to `chatgpt.com` and its subdomains, and to no port of this machine
    /// unless this base is on it already.
    ///
    /// # Errors
    /// When a token must not go to the origin.
    pub fn with_origin(&self, origin: &str) -> Result<Self, EndpointError> {
        let origin = Self::parse(origin, Trust::AnyHttpsHost)?;
        if origin.0.path() != "/" {
            return Err(EndpointError::NotAnAddress(origin.as_str().to_owned()));
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

/// The text with everything before its last `@` hidden, which may be a user name and a password.
#[must_use]
pub fn without_userinfo(text: &str) -> String {
    text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, rest)| format!("(hidden)@{rest}"))
}

/// Whether a host is this machine wherever its name is looked up: `localhost`, 127.0.0.0/8 or `::1`.
#[must_use]
pub fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => name.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => IpAddr::V6(*address).to_canonical().is_loopback(),
    }
}

/// Whether a host is this machine to a browser: loopback, or a subdomain of `localhost`. Resolvers may
/// answer otherwise for the latter, so no token goes there.
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

/// A pooled HTTP client that comes into being when it is first asked for. Clones share it.
#[derive(Clone, Debug)]
pub struct HttpClient {
    settings: Arc<Settings>,
    pool: Arc<Pool>,
    /// Hears the time that answers tell.
    clock: Option<Arc<dyn Clock>>,
}

/// Why no client could be made: the CA file or the proxy setting.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The CA bundle can't be read or holds no certificate.
    #[error("ca_file {path}: {reason}")]
    CaFile {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The proxy address is none.
    #[error("upstream.proxy is not a proxy address")]
    Proxy,
    /// TLS could not be set up.
    #[error("TLS can't be set up: {0}")]
    Tls(String),
}

impl HttpClient {
    /// A client that will be built with these settings.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings: Arc::new(settings), pool: Arc::default(), clock: None }
    }

    /// The clock that it tells; else the system's.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone().unwrap_or_else(|| Arc::new(SystemClock))
    }

    /// The same client, which tells a clock what time it is elsewhere.
    #[must_use]
    pub fn telling(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// To be called with the headers of an answer as soon as they are there.
    pub fn heard(&self, headers: &HeaderMap) {
        let date = headers.get(DATE).and_then(|date| date.to_str().ok());
        let told = date.and_then(|date| httpdate::parse_http_date(date).ok());
        if let (Some(clock), Some(told)) = (&self.clock, told) {
            clock.learn(told);
        }
    }

    /// Limit for name look-up, TCP and TLS together.
    #[must_use]
    pub fn connect_timeout(&self) -> Duration {
        self.settings.connect_timeout
    }

    /// How many connections have been opened since the process began.
    #[must_use]
    pub fn connections_opened(&self) -> u64 {
        self.pool.opened()
    }

    /// The client for an address. Loopback is always reached directly, whatever the proxy settings.
    ///
    /// # Errors
    /// When the CA file or the proxy setting is unusable.
    pub async fn to(&self, endpoint: &Endpoint) -> Result<reqwest::Client, ClientError> {
        self.client(&self.clients().streaming, Protocol::Any, endpoint).await
    }

    /// The same for a connection that is to become another protocol's, which only HTTP/1.1 can.
    ///
    /// # Errors
    /// When the CA file or the proxy setting is unusable.
    pub async fn upgrading_to(&self, endpoint: &Endpoint) -> Result<reqwest::Client, ClientError> {
        self.client(&self.clients().upgrading, Protocol::Http1, endpoint).await
    }

    fn clients(&self) -> Arc<Clients> {
        self.pool.clients(self.clock.as_deref())
    }

    async fn client(
        &self,
        routes: &Routes,
        protocol: Protocol,
        endpoint: &Endpoint,
    ) -> Result<reqwest::Client, ClientError> {
        let (cell, route) =
            if endpoint.is_loopback() { (&routes.direct, Route::Direct) } else { (&routes.proxied, Route::Proxied) };
        let (settings, count) = (Arc::clone(&self.settings), self.pool.count());
        let client = cell.get_or_try_init(|| async move {
            let built = tokio::task::spawn_blocking(move || build(&settings, route, protocol, count)).await;
            built.unwrap_or_else(|_| Err(ClientError::Tls("the set-up was interrupted".to_owned())))
        });
        client.await.cloned()
    }
}

#[cfg(test)]
mod tests;
