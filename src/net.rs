//! The HTTP client for all outgoing requests.
//!
//! [`HttpClient`] is built on first use, because loading the system's trust store takes tens of milliseconds
//! and would delay the start. It sends to [`Endpoint`]s only, and follows no redirects. [`HttpClient::send`] repeats
//! a request whose pooled connection was stale; callers of [`HttpClient::client_for`] send by themselves.

mod build;
mod error_chain;
mod pool;
mod stale_retry;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::header::{DATE, HeaderMap};

use crate::clock::{Clock, SystemClock};
use crate::endpoint::Endpoint;
use build::{Protocol, Route, build};
pub use error_chain::error_chain;
pub(crate) use pool::InUse;
use pool::{Clients, Pool, Routes};
pub(crate) use stale_retry::STALE_AFTER;
pub use stale_retry::SendError;

/// How to open outgoing connections. `Debug` hides the credentials in the proxy address.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// Time limit for DNS, TCP and TLS together (`upstream.connect_timeout`).
    pub connect_timeout: Duration,
    /// PEM bundle to trust in addition to the system's store (`upstream.ca_file`).
    pub ca_file: Option<PathBuf>,
    /// Address of the proxy for every host except loopback and those in `NO_PROXY` (`upstream.proxy`). If `None`, the
    /// proxy environment variables apply.
    pub proxy: Option<String>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proxy = self.proxy.as_deref().map(|address| match address.rsplit_once('@') {
            Some((_, host)) => format!("(hidden)@{host}"),
            None => address.to_owned(),
        });
        f.debug_struct("Settings")
            .field("connect_timeout", &self.connect_timeout)
            .field("ca_file", &self.ca_file)
            .field("proxy", &proxy)
            .finish()
    }
}

/// A pooled HTTP client, built on first use. Clones share the pool.
#[derive(Clone, Debug)]
pub struct HttpClient {
    settings: Arc<Settings>,
    pool: Arc<Pool>,
    /// Learns the `Date` of responses, and is used to detect that the machine has slept. `None`: neither is done.
    clock: Option<Arc<dyn Clock>>,
}

/// Why an HTTP client could not be built.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The CA bundle can't be read or holds no certificate.
    #[error("can't use upstream.ca_file {path}: {reason}")]
    CaFile {
        /// Path of the bundle.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// `upstream.proxy` can't be parsed.
    #[error("upstream.proxy is not a proxy address")]
    Proxy,
    /// TLS could not be set up.
    #[error("can't set up TLS: {0}")]
    Tls(String),
}

impl HttpClient {
    /// Returns a client without building it yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings: Arc::new(settings), pool: Arc::default(), clock: None }
    }

    /// The clock set by [`Self::with_clock`], or the system's clock.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone().unwrap_or_else(|| Arc::new(SystemClock))
    }

    /// Returns the same client with a clock, which learns the `Date` of responses.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// Reports a response's `Date` to the clock. Call it as soon as the headers have arrived.
    pub fn observe_date(&self, headers: &HeaderMap) {
        let date = headers.get(DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
        if let (Some(clock), Some(date)) = (&self.clock, date) {
            clock.learn(date);
        }
    }

    /// Time limit for DNS, TCP and TLS together.
    #[must_use]
    pub fn connect_timeout(&self) -> Duration {
        self.settings.connect_timeout
    }

    /// Number of connections opened since the process started.
    #[must_use]
    pub fn connections_opened(&self) -> u64 {
        self.pool.opened()
    }

    /// Returns the client for an endpoint, which is built first if necessary. Connections to loopback bypass any proxy.
    ///
    /// # Errors
    /// If the client can't be built: CA file, proxy setting or TLS setup.
    pub async fn client_for(&self, endpoint: &Endpoint) -> Result<reqwest::Client, ClientError> {
        self.client(&self.clients().streaming, Protocol::Any, endpoint).await
    }

    /// The same with HTTP/1.1 only, for connections that upgrade to WebSocket.
    ///
    /// # Errors
    /// As for [`Self::client_for`].
    pub async fn upgrading_client_for(&self, endpoint: &Endpoint) -> Result<reqwest::Client, ClientError> {
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
        let (settings, counter) = (Arc::clone(&self.settings), self.pool.counter());
        let client = cell.get_or_try_init(|| async move {
            let built = tokio::task::spawn_blocking(move || build(&settings, route, protocol, counter)).await;
            built.unwrap_or_else(|_| Err(ClientError::Tls("the setup was interrupted".to_owned())))
        });
        client.await.cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{HttpClient, Settings};

    #[test]
    fn debug_output_hides_the_proxy_credentials() {
        for address in ["http://me:pri@vate@127.0.0.1:1", "me:private@127.0.0.1:1", "socks5://private@127.0.0.1:1"] {
            let proxy = Some(address.to_owned());
            let settings = Settings { connect_timeout: Duration::ZERO, ca_file: None, proxy };
            let text = format!("{settings:?} {:?}", HttpClient::new(settings.clone()));
            assert!(text.contains("127.0.0.1:1") && !text.contains("me:") && !text.contains("vate"), "{text}");
        }
    }
}
