//! Binds sockets, accepts connections, serves them with hyper, and stops gracefully.
//!
//! Responses on persistent connections carry `keep-alive: timeout=`, so that clients don't reuse a connection that is
//! about to be closed. hyper itself responds to invalid request heads (400, 431). A client that closes its sending side
//! counts as disconnected, so that its upstream call is dropped immediately: half-closed connections aren't supported.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::header::CONNECTION;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::access::ConnectionSource;
use super::connections::{ConnectionSlot, Connections, RequestGuard};
use super::descriptors;
use super::guarded_body::GuardedBody;
use super::routes::{self, Routes};
#[cfg(unix)]
use super::unix_socket::{self, Socket};
use super::write_timeout::WriteTimeout;
use super::{Services, Settings};
use crate::socket_owner::Peers;

/// Approximate maximum size of a request head: hyper compares it after each read, so a head may exceed it by one read.
const HEAD_LIMIT_BYTES: usize = 64 * 1024;
/// How long aborted responses have for their last bytes.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// How many ports to try until one is free on every address.
const MAX_PORT_TRIES: u32 = 10;
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// Pause after an accept that failed, for example because too many files are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// TCP addresses: one, or both loopback addresses. With port 0, all get the port that the first was assigned.
    Tcp(Vec<SocketAddr>),
    /// A Unix socket.
    #[cfg(unix)]
    Unix(PathBuf),
}

/// A server whose sockets are bound. [`Server::run`] serves.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<Listener>,
    addresses: Vec<SocketAddr>,
    settings: Settings,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(Socket),
}

/// Accepts and serves connections of all listeners.
struct Acceptor {
    router: Router,
    shutdown: Shutdown,
    connections: Arc<Connections>,
    peers: Peers,
    header_timeout: Duration,
    /// Value of the `keep-alive` header of responses.
    keep_alive: Option<HeaderValue>,
    reader_stall: Duration,
}

/// Stops the server, and waits for open connections. A WebSocket has a task of its own in `open`, since hyper's task
/// ends at the upgrade.
#[derive(Clone, Debug, Default)]
pub(super) struct Shutdown {
    /// Cancelling it stops accepting connections and requests.
    pub(super) stop: CancellationToken,
    /// The tasks of open connections.
    pub(super) open: TaskTracker,
}

/// An address that could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another program listens there.
    #[error(
        "port {} on {} is in use by another program; stop it, or choose a port with --port N (0 picks a free one)",
        .0.port(), .0.ip()
    )]
    InUse(SocketAddr),
    /// Another program listens on that Unix socket.
    #[error(
        "another program{} listens on {}; stop it, or choose another path",
        .process.map(|id| format!(" (process {id})")).unwrap_or_default(), .path.display()
    )]
    SocketInUse {
        /// The socket.
        path: PathBuf,
        /// The process id of that program, if known.
        process: Option<i32>,
    },
    /// The path exists and isn't a socket.
    #[error("{} exists and is not a socket; choose another path", .path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// Any other failure with a Unix socket.
    #[error("can't listen on {}: {source}", .path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Any other failure with a TCP address.
    #[error("can't listen on {address}: {source}")]
    Other {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
}

impl Server {
    /// Binds all addresses. If both loopback addresses are requested on a machine without IPv6, only the IPv4 one is
    /// bound.
    ///
    /// # Errors
    /// If an address is in use or can't be bound.
    pub async fn bind(settings: Settings) -> Result<Self, BindError> {
        let listeners = match &settings.listen {
            Listen::Tcp(wanted) => bind_ports(wanted).await?.into_iter().map(Listener::Tcp).collect(),
            #[cfg(unix)]
            Listen::Unix(path) => vec![Listener::Unix(unix_socket::bind(path).await?)],
        };
        let addresses = listeners.iter().filter_map(Listener::address).collect();
        let connections = descriptors::max_connections(settings.connections, settings.concurrency);
        Ok(Self { listeners, addresses, settings: Settings { connections, ..settings } })
    }

    /// The bound addresses; empty for a Unix socket.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Serves until `stop` is cancelled. Then open responses have `timing.drain` to finish; those that don't end with
    /// an error.
    pub async fn run(self, services: Services, stop: CancellationToken) {
        let abort = CancellationToken::new();
        let own_addresses = self.addresses.iter().map(SocketAddr::ip).collect();
        let shutdown = Shutdown { stop, ..Shutdown::default() };
        let Routes { router, background, batches } =
            routes::service(&self.settings, &Arc::new(services), own_addresses, &abort, shutdown.clone());
        background.recover().await;
        let acceptor = Acceptor {
            router,
            shutdown: shutdown.clone(),
            connections: Connections::new(self.settings.connections),
            peers: Peers::default(),
            header_timeout: self.settings.header_timeout,
            keep_alive: keep_alive(self.settings.header_timeout),
            reader_stall: self.settings.reader_stall,
        };
        let stop = shutdown.stop.clone();
        // A task of its own, so that long work on a line moves the accept loops to another thread.
        shutdown.open.spawn(async move {
            tokio::select! {
                () = batches.run() => {}
                () = stop.cancelled() => {}
            }
        });
        tokio::select! {
            _ = futures_util::future::join_all(self.listeners.iter().map(|listener| acceptor.accept_from(listener))) => {}
            () = shutdown.stop.cancelled() => {}
        }
        drop(self.listeners);
        shutdown.open.close();
        if timeout(self.settings.drain, shutdown.open.wait()).await.is_err() {
            tracing::warn!("aborting open responses: the drain time (timing.drain) has passed");
            abort.cancel();
            let _ = timeout(FLUSH_TIMEOUT, shutdown.open.wait()).await;
        }
    }
}

impl Listener {
    fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            #[cfg(unix)]
            Self::Unix(_) => None,
        }
    }
}

impl Acceptor {
    /// Accepts connections until the future is dropped.
    async fn accept_from(&self, listener: &Listener) {
        match listener {
            Listener::Tcp(listener) => {
                let next = async || {
                    let (stream, remote) = listener.accept().await?;
                    // Sends small writes at once. A failure only delays them, so it is ignored.
                    let _ = stream.set_nodelay(true);
                    let peer = self.peers.peer(remote, stream.local_addr().ok());
                    Ok((stream, ConnectionSource::Tcp(peer)))
                };
                self.accept(next).await;
            }
            #[cfg(unix)]
            Listener::Unix(socket) => self.accept(async || Ok((socket.accept().await?, ConnectionSource::Unix))).await,
        }
    }

    async fn accept<S>(&self, next: impl AsyncFn() -> io::Result<(S, ConnectionSource)>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut is_failing = false;
        loop {
            match next().await {
                Ok((stream, source)) => {
                    is_failing = false;
                    let slot = self.connections.admit().await;
                    self.serve(stream, source, slot);
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::warn!(%error, "can't accept connections; retrying");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Serves a connection in its own task. If the connection ends, its requests are dropped.
    fn serve<S>(&self, stream: S, source: ConnectionSource, slot: Arc<ConnectionSlot>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (router, keep_alive, requests) = (self.router.clone(), self.keep_alive.clone(), Arc::clone(&slot));
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(source.clone());
            respond(router.clone(), request, &requests, keep_alive.clone())
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // Also limits the idle time between two requests.
            .header_read_timeout(self.header_timeout)
            .max_buf_size(HEAD_LIMIT_BYTES)
            .serve_connection(TokioIo::new(WriteTimeout::new(stream, self.reader_stall)), service)
            .with_upgrades();
        let stop = self.shutdown.stop.clone();
        self.shutdown.open.spawn(async move {
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
                () = slot.close_requested() => {
                    tracing::debug!("closing an idle connection to accept a new one");
                    // A graceful shutdown would wait for the rest of the first request head.
                    if !slot.has_received_request() {
                        return;
                    }
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended with an error");
            }
        });
    }
}

/// Handles a request. A guard keeps the connection busy until the response is written or its WebSocket has ended.
fn respond(
    router: Router,
    mut request: Request<Incoming>,
    slot: &Arc<ConnectionSlot>,
    keep_alive: Option<HeaderValue>,
) -> impl Future<Output = Result<Response<GuardedBody<Body, RequestGuard>>, Infallible>> + use<> {
    let guard = slot.start_request();
    request.extensions_mut().insert(guard.clone());
    let keep_alive = keep_alive.filter(|_| keeps_open(&request));
    async move {
        let mut response = router.oneshot(request).await?;
        if let Some(value) = keep_alive.filter(|_| response.status() != StatusCode::SWITCHING_PROTOCOLS) {
            response.headers_mut().insert(KEEP_ALIVE, value);
        }
        Ok(response.map(|body| GuardedBody::new(body, guard)))
    }
}

/// Whether the client keeps the connection open after the response.
fn keeps_open(request: &Request<Incoming>) -> bool {
    let mut options =
        request.headers().get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|&b| b == b','));
    request.version() == Version::HTTP_11 && !options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

/// Value of the `keep-alive` header: a tenth less than the idle limit, so that the client closes first; `None` below
/// two seconds.
fn keep_alive(idle: Duration) -> Option<HeaderValue> {
    let seconds = idle.as_secs().saturating_sub((idle.as_secs() / 10).max(1));
    let value = || HeaderValue::try_from(format!("timeout={seconds}")).ok();
    if seconds == 0 { None } else { value() }
}

/// Binds all addresses. If the system chooses the port, tries others until one is free on every address.
async fn bind_ports(wanted: &[SocketAddr]) -> Result<Vec<TcpListener>, BindError> {
    let mut tries_left = MAX_PORT_TRIES;
    loop {
        tries_left -= 1;
        match bind_all(wanted).await {
            // A port that is free on one address may be in use on the next.
            Err(BindError::InUse(_)) if tries_left > 0 && wanted.iter().any(|wanted| wanted.port() == 0) => {}
            bound => return bound,
        }
    }
}

/// Binds all addresses. Skips an IPv6 address after the first one if the machine has no IPv6.
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

/// Whether the address is IPv6 and the machine has none.
fn is_missing_family(error: &io::Error, address: IpAddr) -> bool {
    let is_absent = matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported);
    // EAFNOSUPPORT of macOS, Linux and Windows, which has no `ErrorKind`.
    address.is_ipv6() && (is_absent || matches!(error.raw_os_error(), Some(47 | 97 | 10047)))
}
