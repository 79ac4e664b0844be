//! `GET /v1/responses` as a WebSocket: the Responses API without a request for each turn.
//!
//! The door is HTTP's (`handshake`), the requests and events are HTTP's (`turn`), and both go through
//! the one exchange. A socket has an ear, which hears what the client says (`ear`), and a voice, which
//! answers one request after the other (`voice`); when either ends, so does the other, and with it the
//! call upstream. What a client may go on from without having it stored is remembered with the
//! socket (`cache`).

mod connection_cache;
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

/// A WebSocket of ours.
type Socket = WebSocketStream<MeteredStream<TokioIo<Upgraded>>>;

/// The text of a frame.
type Text = Bytes;

/// Requests that may be heard before the voice has taken note of them.
const HEARD: usize = 1;
/// WebSocketHandler may take so much less than requests (`limits.memory`) for the answers that they remember.
const REMEMBERED_SHARE: usize = 4;
/// What is read at once. Each socket keeps a buffer of this size.
const READ_BYTES: usize = 32 * 1024;
/// A client that has left so many of our pings unanswered is gone, or will never read on.
const UNANSWERED: u32 = 20;

/// What sockets are opened with.
#[derive(Clone, Debug)]
pub(super) struct WebSocketHandler {
    /// Answers turns.
    pub(super) turns: Handler<Responses>,
    /// Reads what only prepares a turn.
    pub(super) warmups: Handler<Responses>,
    /// How long a socket may live (`timing.socket_lifetime`).
    pub(super) lifetime: Duration,
    pub(super) shutdown: Shutdown,
    /// The answers that the sockets remember.
    remembered: Arc<ConnectionCaches>,
}

impl WebSocketHandler {
    pub(super) fn new(exchange: &Handler<Responses>, lifetime: Duration, shutdown: Shutdown) -> Self {
        let of = |purpose| {
            let options = Options { purpose, ..Options::clone(&exchange.options) };
            Handler { options: Arc::new(options), ..exchange.clone() }
        };
        let remembered = Arc::new(ConnectionCaches::new(exchange.state.memory.share(REMEMBERED_SHARE)));
        Self { turns: of(Purpose::WebSocket), warmups: of(Purpose::Warmup), lifetime, shutdown, remembered }
    }

    /// Opens a socket where one is asked for.
    pub(super) async fn open(self, mut request: Request) -> Response {
        let Some(wish) = UpgradeRequest::of(&mut request) else { return handshake::upgrade_required(&request) };
        let (parts, _) = request.into_parts();
        if let Err(error) = account::tokens(&parts, self.turns.services.tokens.as_ref()).await {
            let id = parts.extensions.get::<RequestId>().cloned().unwrap_or_else(RequestId::fresh);
            return refuse::<Responses>(&error, &id, None);
        }
        let (upgrade, response) = wish.granted();
        let open = self.shutdown.open.clone();
        // A socket outlives the request that opened it; its turns live and die with it.
        open.spawn(async move {
            match upgrade.await {
                Ok(connection) => self.serve(parts, connection).await,
                Err(error) => tracing::debug!(error = %error, "a socket was not opened"),
            }
        });
        response
    }

    async fn serve(self, parts: Parts, connection: Upgraded) {
        let limit = usize::try_from(self.turns.limits.body_bytes).unwrap_or(usize::MAX);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .max_message_size(Some(limit))
            .max_frame_size(Some(limit.min(FRAGMENT_BYTES)));
        let idle = self.turns.limits.keepalive.map(|every| every * UNANSWERED);
        let connection = MeteredStream::new(TokioIo::new(connection), self.turns.intake(), idle);
        let arrived = connection.arrived();
        let socket = WebSocketStream::from_raw_socket(connection, Role::Server, Some(config)).await;
        let opened = Instant::now();
        tracing::debug!("a socket was opened");
        self.converse(parts, socket, arrived).await;
        tracing::debug!(duration_ms = u64::try_from(opened.elapsed().as_millis()).ok(), "a socket was closed");
    }

    async fn converse(self, parts: Parts, socket: Socket, arrived: MessageReservations) {
        let (out, incoming) = futures_util::StreamExt::split(socket);
        let (say, heard) = mpsc::channel(HEARD);
        let mut ear = Reader::new(incoming, arrived, self.turns.limits.body_bytes);
        let voice = Writer::new(out, heard, Arc::new(self), parts);
        let out = tokio::select! {
            () = ear.listen(&say) => None,
            out = voice.speak() => out,
        };
        ear.part(out).await;
    }
}
