//! Sends requests over WebSockets, which saves handshakes and the repeated part of a conversation.
//!
//! A connection belongs to one conversation of one login and carries one response at a time; a concurrent request gets
//! another connection. Idle connections are pooled. A request that continues the last response of its connection is
//! sent without the input that the backend already has. If the backend rejects it because the connection is too old or
//! the response is no longer stored, or if the connection was stale (see [`STALE_AFTER`]), the whole request is sent
//! again at once on a new connection. With `auto`, a failed handshake, a message that is too large, or a new connection
//! that closes before the commit makes requests use server-sent events for a while. Dropping a response before its end
//! closes its connection.

mod control;
mod early;
mod exchange;
mod handshake;
mod pool;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use tokio::time::{Instant, sleep};

use super::EventStream;
use super::cassette::Recording;
use super::stream::Limits;
use crate::blocking::off_thread;
use crate::endpoint::Endpoint;
use crate::error::ProxyError;
use crate::net::{HttpClient, STALE_AFTER};
use crate::protocol::codex::continuation::OutgoingBody;
use handshake::Handshake;
use pool::ConnectionPool;

pub(super) use control::Expected;
pub(super) use exchange::Exchange;

/// How long `auto` avoids WebSockets after the backend has refused one (HTTP 426).
const AVOID_AFTER_REFUSAL: Duration = Duration::from_secs(60 * 60);
/// How long `auto` avoids WebSockets after a new connection has failed, for example because of a proxy in between.
const AVOID_AFTER_FAILURE: Duration = Duration::from_secs(5 * 60);
/// How often idle connections are checked: a connection that doesn't answer a ping until the next check is closed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(20);

/// Transport of responses (`upstream.transport`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "lower")]
pub enum Transport {
    /// Server-sent events in the response to an HTTP request.
    Sse,
    /// WebSocket only.
    WebSocket,
    /// WebSocket if possible, else server-sent events.
    Auto,
}

/// The WebSocket transport.
#[derive(Debug)]
pub(super) struct WebSockets {
    transport: Transport,
    pool: Arc<ConnectionPool>,
    /// When `auto` uses WebSockets again. `None` if none has failed.
    avoided_until: Mutex<Option<Instant>>,
}

/// A request in the form that it has as an HTTP request.
#[derive(Debug)]
pub(super) struct EncodedRequest<'r> {
    pub(super) endpoint: &'r Endpoint,
    pub(super) headers: &'r HeaderMap,
    pub(super) body: &'r [u8],
    pub(super) recording: Option<&'r Recording>,
}

/// A committed event stream of any transport.
#[derive(Debug)]
pub(super) struct OpenedStream {
    pub(super) events: EventStream,
    /// The response headers; for a WebSocket, those of the handshake and of the events up to the commit point.
    pub(super) headers: HeaderMap,
}

/// Why a request got no response over a WebSocket.
#[derive(Debug)]
pub(super) enum OpenError {
    /// The caller should use server-sent events.
    FallBack,
    /// The attempt has failed.
    Failed(Box<FailedAttempt>),
}

/// A failure over a WebSocket that fails the attempt.
#[derive(Debug)]
pub(super) struct FailedAttempt {
    pub(super) error: ProxyError,
    /// The response headers so far.
    pub(super) headers: HeaderMap,
    /// Whether an event of the response had arrived.
    has_event: bool,
}

impl OpenError {
    fn failed(error: ProxyError, headers: HeaderMap) -> Self {
        Self::Failed(Box::new(FailedAttempt { error, headers, has_event: false }))
    }
}

impl WebSockets {
    pub(super) fn new(transport: Transport) -> Self {
        Self { transport, pool: Arc::default(), avoided_until: Mutex::default() }
    }

    /// Whether requests should be sent over a WebSocket now.
    pub(super) fn is_preferred(&self) -> bool {
        match self.transport {
            Transport::Sse => false,
            Transport::WebSocket => true,
            Transport::Auto => {
                let avoided = *self.avoided_until.lock().unwrap_or_else(PoisonError::into_inner);
                avoided.is_none_or(|until| until <= Instant::now())
            }
        }
    }

    /// Sends a request and reads its response up to the commit point.
    ///
    /// # Errors
    /// [`OpenError::FallBack`], with `auto` only, if the handshake fails for another reason than the account, or the
    /// backend rejects the message as too large. Else [`OpenError::Failed`].
    pub(super) async fn open(
        &self,
        http: &HttpClient,
        request: &EncodedRequest<'_>,
        limits: Limits,
        commit_after: Duration,
    ) -> Result<OpenedStream, OpenError> {
        match self.open_any(http, request, limits, commit_after).await {
            Err(OpenError::Failed(attempt))
                if self.transport == Transport::Auto && matches!(attempt.error, ProxyError::MessageTooLarge { .. }) =>
            {
                tracing::info!(cause = attempt.error.loggable(), "using server-sent events instead of a WebSocket");
                self.avoid(AVOID_AFTER_FAILURE);
                Err(OpenError::FallBack)
            }
            opened => opened,
        }
    }

    /// Sends a request over an idle connection. Uses a new one if there is none, if it was stale, or if the backend
    /// rejected the request for a reason that a new connection avoids.
    async fn open_any(
        &self,
        http: &HttpClient,
        request: &EncodedRequest<'_>,
        limits: Limits,
        commit_after: Duration,
    ) -> Result<OpenedStream, OpenError> {
        let outgoing = off_thread(request.body.len(), || OutgoingBody::read(request.body));
        let outgoing = outgoing.ok_or_else(|| OpenError::failed(ProxyError::Internal, HeaderMap::new()))?;
        let handshake = Handshake::new(request.endpoint, request.headers);
        if let Some((connection, idle)) = self.pool.take(handshake.key(), &outgoing) {
            let exchange = Exchange::new(connection, &self.pool);
            match self.send(exchange, request, &outgoing, &handshake, limits, commit_after).await {
                Err(OpenError::Failed(attempt)) if is_stale(&attempt, idle) => {
                    tracing::debug!(
                        cause = attempt.error.loggable(),
                        "an idle connection was stale: opening another one"
                    );
                }
                sent => return sent,
            }
        }
        let connection =
            match handshake::connect(http, request.endpoint, &handshake, limits.event_bytes, request.recording).await {
                Ok(connection) => connection,
                Err(error) => return Err(self.handshake_failed(error)),
            };
        let exchange = Exchange::new(connection, &self.pool);
        let sent = self.send(exchange, request, &outgoing, &handshake, limits, commit_after).await;
        if let Err(OpenError::Failed(attempt)) = &sent
            && matches!(attempt.error, ProxyError::Truncated { .. })
        {
            // A proxy in between may allow the handshake and then cut the connection.
            self.avoid(AVOID_AFTER_FAILURE);
        }
        sent
    }

    /// Sends a request over this connection, and reads its response up to the commit point.
    async fn send(
        &self,
        mut exchange: Exchange,
        request: &EncodedRequest<'_>,
        outgoing: &OutgoingBody<'_>,
        handshake: &Handshake,
        limits: Limits,
        commit_after: Duration,
    ) -> Result<OpenedStream, OpenError> {
        let started = Instant::now();
        let handshake_headers = exchange.take_handshake_headers();
        if let Err(error) = exchange.send(outgoing, handshake.metadata(), limits.first_event).await {
            return Err(OpenError::failed(error, handshake_headers));
        }
        let mut events = EventStream::over_websocket(exchange, limits, started);
        if let Some(recording) = request.recording {
            // Discards what was recorded on a stale connection.
            recording.restart();
            events.record(Some(recording.clone()));
        }
        let committed = events.commit(commit_after).await;
        let mut headers = handshake_headers;
        headers.extend(events.event_headers().clone());
        if let Some(recording) = request.recording {
            recording.response(200, &headers, None);
        }
        match committed {
            Ok(()) => Ok(OpenedStream { events, headers }),
            Err(error) => {
                let has_event = events.has_event();
                Err(OpenError::Failed(Box::new(FailedAttempt { error, headers, has_event })))
            }
        }
    }

    /// Decides whether a failed handshake fails the attempt, or server-sent events are used instead.
    fn handshake_failed(&self, error: ProxyError) -> OpenError {
        let status = match &error {
            ProxyError::Upstream(failure) => failure.status,
            _ => None,
        };
        match status {
            _ if self.transport != Transport::Auto => {}
            // Refused token, payment required, rate limited: the same over HTTP.
            Some(401 | 402 | 429) => {}
            Some(426) => {
                self.avoid(AVOID_AFTER_REFUSAL);
                return OpenError::FallBack;
            }
            _ => {
                tracing::info!(cause = error.loggable(), "the WebSocket handshake failed: using server-sent events");
                self.avoid(AVOID_AFTER_FAILURE);
                return OpenError::FallBack;
            }
        }
        OpenError::failed(error, HeaderMap::new())
    }

    fn avoid(&self, duration: Duration) {
        if self.transport == Transport::Auto {
            let until = Instant::now() + duration;
            *self.avoided_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        }
    }

    /// Pings idle connections, and closes those that are dead, too old, or idle for too long. Runs until dropped.
    pub(super) async fn keep(&self) {
        if self.transport == Transport::Sse {
            return std::future::pending().await;
        }
        loop {
            sleep(SWEEP_INTERVAL).await;
            self.pool.sweep();
        }
    }
}

/// Whether a failure on a reused connection allows sending the request again: the backend has rejected it because of
/// the connection, or the connection was closed while idle (see [`STALE_AFTER`]).
fn is_stale(attempt: &FailedAttempt, idle: Duration) -> bool {
    const CODES: [&str; 2] = ["previous_response_not_found", "websocket_connection_limit_reached"];
    match &attempt.error {
        ProxyError::Truncated { .. } => idle > STALE_AFTER && !attempt.has_event,
        ProxyError::Upstream(refusal) => refusal.code.as_deref().is_some_and(|code| CODES.contains(&code)),
        _ => false,
    }
}
