//! `GET /v1/responses` as a WebSocket: the Responses API with many requests on one connection.
//!
//! `handshake` upgrades the request. `reader` receives frames and `writer` responds to one request after the other,
//! through the same handler as HTTP (`request`); if either ends, so do the other and the upstream call.
//! `control` passes frames for the running response to the backend.
//! `connection_cache` holds responses that the client may continue on the same connection although they aren't stored.
//! `intake` limits the memory and rate of incoming messages, and `frame_header` parses their frames for it.

mod connection_cache;
mod control;
mod frame_header;
mod handshake;
mod intake;
mod reader;
mod request;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::account;
use super::handler::{Handler, refuse};
use super::listen::Shutdown;
use super::request_log::RequestId;
use crate::protocol::responses::{Options, Purpose, Responses};
pub(super) use connection_cache::ConnectionCache;
use connection_cache::ConnectionCaches;
use handshake::UpgradeRequest;
use intake::{FRAGMENT_BYTES, MessageReservations, MeteredStream};
use reader::Reader;
use writer::Writer;

/// A WebSocket connection.
type Socket = WebSocketStream<MeteredStream<TokioIo<Upgraded>>>;

/// The text of a frame, in UTF-8.
type Text = Bytes;

/// Maximum number of events that the reader queues for the writer.
const READER_QUEUE: usize = 1;
/// The memory for the cached responses of all connections is `limits.memory` divided by this, in addition to it.
const CACHE_DIVISOR: usize = 4;
/// Size of the read buffer of each connection.
const READ_BYTES: usize = 32 * 1024;
/// A client that sends nothing for this many ping intervals, not even pongs, is disconnected.
const MAX_UNANSWERED_PINGS: u32 = 20;

/// Upgrades requests to WebSockets and serves them.
#[derive(Clone, Debug)]
pub(super) struct WebSocketHandler {
    /// Handles requests for a response.
    pub(super) handler: Handler<Responses>,
    /// Handles warm-up requests.
    pub(super) warmup_handler: Handler<Responses>,
    /// How long a connection may start further requests (`timing.socket_lifetime`).
    pub(super) lifetime: Duration,
    pub(super) shutdown: Shutdown,
    /// The caches of all connections.
    caches: Arc<ConnectionCaches>,
}

impl WebSocketHandler {
    pub(super) fn new(handler: &Handler<Responses>, lifetime: Duration, shutdown: Shutdown) -> Self {
        let of = |purpose| {
            let options = Options { purpose, ..Options::clone(&handler.options) };
            Handler { options: Arc::new(options), ..handler.clone() }
        };
        let caches = Arc::new(ConnectionCaches::new(handler.state.memory.fraction(CACHE_DIVISOR)));
        Self { handler: of(Purpose::WebSocket), warmup_handler: of(Purpose::Warmup), lifetime, shutdown, caches }
    }

    /// Upgrades a request and serves the connection in its own task, or responds with an error.
    pub(super) async fn open(self, mut request: Request) -> Response {
        let Some(upgrade) = UpgradeRequest::parse(&mut request) else { return handshake::upgrade_required(&request) };
        let (parts, _) = request.into_parts();
        if let Err(error) = account::tokens(&parts, &self.handler.services).await {
            let id = RequestId::of(&parts);
            return refuse::<Responses>(&error, &id, None);
        }
        let (upgrade, response) = upgrade.accept();
        let open = self.shutdown.open.clone();
        // The connection outlives the request that opened it. Its requests end with it.
        open.spawn(async move {
            match upgrade.await {
                Ok(connection) => self.serve(parts, connection).await,
                Err(error) => tracing::debug!(error = %error, "a WebSocket upgrade failed"),
            }
        });
        response
    }

    /// Serves a connection that was opened by the request with these parts.
    async fn serve(self, parts: Parts, connection: Upgraded) {
        let limit = usize::try_from(self.handler.limits.body_bytes).unwrap_or(usize::MAX);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .max_message_size(Some(limit))
            .max_frame_size(Some(limit.min(FRAGMENT_BYTES)));
        let idle = self.handler.limits.keepalive.map(|every| every * MAX_UNANSWERED_PINGS);
        let connection = MeteredStream::new(TokioIo::new(connection), self.handler.body_limits(), idle);
        let reservations = connection.reservations();
        let socket = WebSocketStream::from_raw_socket(connection, Role::Server, Some(config)).await;
        let opened = Instant::now();
        tracing::debug!("a WebSocket was opened");
        self.run(parts, socket, reservations).await;
        tracing::debug!(duration_ms = u64::try_from(opened.elapsed().as_millis()).ok(), "a WebSocket was closed");
    }

    async fn run(self, parts: Parts, socket: Socket, reservations: MessageReservations) {
        let (out, incoming) = futures_util::StreamExt::split(socket);
        let (events, received) = mpsc::channel(READER_QUEUE);
        let mut reader = Reader::new(incoming, reservations, self.handler.limits.body_bytes);
        let writer = Writer::new(out, received, Arc::new(self), parts);
        let out = tokio::select! {
            () = reader.run(&events) => None,
            out = writer.run() => out,
        };
        reader.drain(out).await;
    }
}
