//! Builds the HTTP clients: trusted certificates, proxies, timeouts, and HTTP/2 flow control.

use std::time::Duration;

use super::pool::ConnectionCounter;
use super::{ClientError, Settings, error_chain};

/// HTTP/2 flow control: the bytes that the server may send before they are read, per stream and per connection. It
/// takes about a thousand streams that aren't read to block the others.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * 1024;
/// HTTP/2 pings find connections that have broken, even idle ones.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// The HTTP versions that a client may use.
#[derive(Clone, Copy)]
pub(super) enum Protocol {
    /// HTTP/2 if the server offers it, else HTTP/1.1.
    Any,
    /// Only HTTP/1.1, as WebSocket upgrades require.
    Http1,
}

/// Whether a client connects through a proxy.
#[derive(Clone, Copy)]
pub(super) enum Route {
    /// Without a proxy: to loopback.
    Direct,
    /// Through the proxy of the settings or of the environment, if there is one.
    Proxied,
}

/// Builds a client. Blocks for tens of milliseconds, to load certificates.
pub(super) fn build(
    settings: &Settings,
    route: Route,
    protocol: Protocol,
    counter: ConnectionCounter,
) -> Result<reqwest::Client, ClientError> {
    // Fails if another client has installed it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(settings.connect_timeout)
        .connector_layer(counter)
        .tcp_nodelay(true)
        .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
        .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .http2_keep_alive_while_idle(true);
    if matches!(protocol, Protocol::Http1) {
        builder = builder.http1_only();
    }
    if let Some(path) = &settings.ca_file {
        builder = builder.tls_certs_merge(read_bundle(path)?);
    }
    builder = match (route, &settings.proxy) {
        (Route::Direct, _) => builder.no_proxy(),
        (Route::Proxied, None) => builder,
        (Route::Proxied, Some(address)) => {
            let proxy = reqwest::Proxy::all(address).map_err(|_| ClientError::Proxy)?;
            builder.proxy(proxy.no_proxy(reqwest::NoProxy::from_env()))
        }
    };
    builder.build().map_err(|error| ClientError::Tls(error_chain(&error)))
}

fn read_bundle(path: &std::path::Path) -> Result<Vec<reqwest::Certificate>, ClientError> {
    let ca_file_error = |reason: String| ClientError::CaFile { path: path.display().to_string(), reason };
    let pem = std::fs::read(path).map_err(|error| ca_file_error(error.to_string()))?;
    let certificates =
        reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| ca_file_error(error_chain(&error)))?;
    if certificates.is_empty() {
        return Err(ca_file_error("it contains no PEM certificate".to_owned()));
    }
    Ok(certificates)
}
