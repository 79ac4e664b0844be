//! Sockets: binding, accepting, and stopping without cutting anybody off too early.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::gate::Gate;
use super::{Services, Settings, routes};

/// A client has this long to send its request headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// After open answers were cut, their last bytes have this long to leave.
const FLUSH: Duration = Duration::from_secs(1);
/// How often a free port is looked for, until there is one that is free on every address.
const FREE_PORT_TRIES: u32 = 10;
/// After a failed accept (out of file descriptors) the next try waits.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound server, not yet serving.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    settings: Settings,
}

/// How connections are told to end, and known to have ended. A WebSocket counts as one of its own.
#[derive(Clone, Debug, Default)]
pub(super) struct Closing {
    /// No new request is taken.
    pub(super) stop: CancellationToken,
    /// What is open.
    pub(super) open: TaskTracker,
}

/// An address that could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another program listens there.
    #[error("port {} on {} is in use by another program; stop it, or choose a port with --port N (0 picks a free one)", .0.port(), .0.ip())]
    InUse(SocketAddr),
    /// Anything else.
    #[error("can't listen on {address}: {source}")]
    Other {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
}

impl Server {
    /// Binds every address. Where both loopback addresses are asked for, a machine without IPv6
    /// gets the IPv4 one alone.
    ///
    /// # Errors
    /// When an address is in use or can't be bound.
    pub async fn bind(settings: Settings) -> Result<Self, BindError> {
        let mut tries_left = FREE_PORT_TRIES;
        let listeners = loop {
            tries_left -= 1;
            match bind_all(&settings.listen).await {
                // A port that was free on one address need not be free on the next.
                Err(BindError::InUse(_))
                    if tries_left > 0 && settings.listen.iter().any(|wanted| wanted.port() == 0) => {}
                bound => break bound?,
            }
        };
        let addresses = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        Ok(Self { listeners, addresses, settings })
    }

    /// The addresses that were bound.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Serves until `stop` is cancelled, then lets open answers finish for `timing.drain`, cuts
    /// what is left with an error, and returns.
    pub async fn run(self, services: Services, stop: CancellationToken) {
        let cut = CancellationToken::new();
        let gate = Gate::new(&self.settings, &self.addresses);
        let closing = Closing { stop, ..Closing::default() };
        let router = routes::service(&self.settings, &Arc::new(services), gate, &cut, closing.clone());
        let accepting = self.listeners.iter().map(|listener| accept(listener, &router, &closing));
        tokio::select! {
            _ = futures_util::future::join_all(accepting) => {}
            () = closing.stop.cancelled() => {}
        }
        drop(self.listeners);
        closing.open.close();
        if timeout(self.settings.drain, closing.open.wait()).await.is_err() {
            tracing::warn!("answers are cut: they were still open when the time to drain had passed");
            cut.cancel();
            let _ = timeout(FLUSH, closing.open.wait()).await;
        }
    }
}

async fn bind_all(wanted: &[SocketAddr]) -> Result<Vec<TcpListener>, BindError> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    for wanted in wanted {
        let mut address = *wanted;
        let first = listeners.first().and_then(|first| first.local_addr().ok());
        if let (0, Some(first)) = (address.port(), first) {
            address.set_port(first.port());
        }
        match TcpListener::bind(address).await {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_missing_family(&error, address.ip()) && !listeners.is_empty() => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(BindError::InUse(address)),
            Err(source) => return Err(BindError::Other { address, source }),
        }
    }
    Ok(listeners)
}

async fn accept(listener: &TcpListener, router: &Router, closing: &Closing) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => serve(stream, router.clone(), closing),
            Err(error) => {
                tracing::warn!(error = %error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves a connection, which lives by itself; its requests live and die with it.
fn serve(stream: TcpStream, router: Router, closing: &Closing) {
    // Small chunks have to leave at once; a socket that refuses the option only makes them later.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades();
    let stop = closing.stop.clone();
    closing.open.spawn(async move {
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error = %error, "a connection ended early");
        }
    });
}

fn is_missing_family(error: &io::Error, address: IpAddr) -> bool {
    let is_absent = matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported);
    // The code for "address family not supported" has no kind of its own.
    address.is_ipv6() && (is_absent || matches!(error.raw_os_error(), Some(47 | 97 | 10047)))
}
