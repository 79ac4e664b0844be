//! Answers over a WebSocket: less to send when a conversation goes on, and no handshake for it.
//!
//! A connection belongs to one conversation of one login, and carries one response at a time; a
//! second request at the same time gets a second connection. Between two requests it waits in a
//! pool. A request that goes on from the last response of its connection is sent without what the
//! backend has already. If the backend refuses it because the connection has reached its age limit or
//! the response is forgotten, or if the connection was stale (see [`STALE_AFTER`]), the whole request
//! is sent again at once on a new one. A response that is not read to its end takes its connection
//! along.

mod early;
mod event_headers;
mod exchange;
mod handshake;
mod pool;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use tokio::time::{Instant, sleep};

use super::EventStream;
use super::cassette::Tape;
use super::stream::Limits;
use crate::blocking::off_thread;
use crate::endpoint::Endpoint;
use crate::error::ProxyError;
use crate::net::{HttpClient, STALE_AFTER};
use crate::protocol::codex::continuation::OutgoingBody;
use handshake::Greeting;
use pool::Pool;

pub(super) use exchange::Exchange;

/// How long a backend that says that it takes no WebSocket is believed.
const REFUSED_HOLDS: Duration = Duration::from_secs(60 * 60);
/// How long a way on which a WebSocket does not come through is avoided.
const FAILED_HOLDS: Duration = Duration::from_secs(5 * 60);
/// How often waiting connections are looked after.
const SWEEP_INTERVAL: Duration = Duration::from_secs(20);

/// How answers come (`upstream.transport`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "lower")]
pub enum Transport {
    /// As server-sent events, one call for each request.
    Sse,
    /// Over a WebSocket, or not at all.
    WebSocket,
    /// Over a WebSocket where there is one, else as server-sent events.
    Auto,
}

/// The connections, and whether any can be had.
#[derive(Debug)]
pub(super) struct Sockets {
    transport: Transport,
    pool: Arc<Pool>,
    /// Set while server-sent events stand in.
    avoided_until: Mutex<Option<Instant>>,
}

/// A request as it would be posted.
#[derive(Debug)]
pub(super) struct Posting<'p> {
    pub(super) endpoint: &'p Endpoint,
    pub(super) headers: &'p HeaderMap,
    pub(super) body: &'p [u8],
    pub(super) tape: Option<&'p Tape>,
}

/// What an answer over a WebSocket began with.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) events: EventStream,
    /// What the head of a response would have said, up to the commit point.
    pub(super) headers: HeaderMap,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The request can go another way.
    Avoided,
    /// The attempt has failed, with what a response's head would have said.
    Failed(Box<Failure>),
}

/// An attempt that came to nothing.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: ProxyError,
    pub(super) headers: HeaderMap,
    /// Whether an event had come.
    has_event: bool,
}

impl Trouble {
    fn failed(error: ProxyError, headers: HeaderMap) -> Self {
        Self::Failed(Box::new(Failure { error, headers, has_event: false }))
    }
}

impl Sockets {
    pub(super) fn new(transport: Transport) -> Self {
        Self { transport, pool: Arc::default(), avoided_until: Mutex::default() }
    }

    /// Whether requests should be sent this way now.
    pub(super) fn are_wanted(&self) -> bool {
        match self.transport {
            Transport::Sse => false,
            Transport::WebSocket => true,
            Transport::Auto => {
                let avoided = *self.avoided_until.lock().unwrap_or_else(PoisonError::into_inner);
                avoided.is_none_or(|until| until <= Instant::now())
            }
        }
    }

    /// Sends a request and reads its answer up to the commit point. A message that the backend finds too large
    /// is not sent again: the request goes the other way, where it may.
    pub(super) async fn open(
        &self,
        http: &HttpClient,
        posting: &Posting<'_>,
        limits: Limits,
        commit_after: Duration,
    ) -> Result<Opened, Trouble> {
        match self.open_any(http, posting, limits, commit_after).await {
            Err(Trouble::Failed(failure))
                if self.transport == Transport::Auto && matches!(failure.error, ProxyError::MessageTooLarge { .. }) =>
            {
                tracing::info!(cause = failure.error.loggable(), "server-sent events stand in");
                self.avoid(FAILED_HOLDS);
                Err(Trouble::Avoided)
            }
            opened => opened,
        }
    }

    /// The same over a connection that waits, else over a new one.
    async fn open_any(
        &self,
        http: &HttpClient,
        posting: &Posting<'_>,
        limits: Limits,
        commit_after: Duration,
    ) -> Result<Opened, Trouble> {
        let outgoing = off_thread(posting.body.len(), || OutgoingBody::read(posting.body));
        let outgoing = outgoing.ok_or_else(|| Trouble::failed(ProxyError::Internal, HeaderMap::new()))?;
        let greeting = Greeting::of(posting.endpoint, posting.headers);
        if let Some((socket, idle)) = self.pool.take(greeting.key(), &outgoing) {
            let exchange = Exchange::new(socket, &self.pool);
            match self.ask(exchange, posting, &outgoing, &greeting, limits, commit_after).await {
                Err(Trouble::Failed(failure)) if is_stale(&failure, idle) => {
                    tracing::debug!(
                        cause = failure.error.loggable(),
                        "a waiting connection was of no use; another is made"
                    );
                }
                done => return done,
            }
        }
        let socket = match handshake::connect(http, posting.endpoint, &greeting, limits.event_bytes, posting.tape).await
        {
            Ok(socket) => socket,
            Err(error) => return Err(self.unopened(error)),
        };
        let exchange = Exchange::new(socket, &self.pool);
        let asked = self.ask(exchange, posting, &outgoing, &greeting, limits, commit_after).await;
        if let Err(Trouble::Failed(failure)) = &asked
            && matches!(failure.error, ProxyError::Truncated { .. })
        {
            // What lies between lets a WebSocket begin and then cuts it; the next attempt goes around.
            self.avoid(FAILED_HOLDS);
        }
        asked
    }

    async fn ask(
        &self,
        mut exchange: Exchange,
        posting: &Posting<'_>,
        outgoing: &OutgoingBody<'_>,
        greeting: &Greeting,
        limits: Limits,
        commit_after: Duration,
    ) -> Result<Opened, Trouble> {
        let sent = Instant::now();
        let head = exchange.take_head();
        if let Err(error) = exchange.send(outgoing, greeting.metadata(), limits.first_event).await {
            return Err(Trouble::failed(error, head));
        }
        let mut events = EventStream::over_socket(exchange, limits, sent);
        if let Some(tape) = posting.tape {
            // A waiting connection that was of no use may have said something.
            tape.rewind();
            events.record(Some(tape.clone()));
        }
        let committed = events.commit(commit_after).await;
        let mut headers = head;
        headers.extend(events.told().clone());
        if let Some(tape) = posting.tape {
            tape.answer(200, &headers, None);
        }
        match committed {
            Ok(()) => Ok(Opened { events, headers }),
            Err(error) => {
                let has_event = events.has_event();
                Err(Trouble::Failed(Box::new(Failure { error, headers, has_event })))
            }
        }
    }

    /// What a handshake that failed comes to.
    fn unopened(&self, error: ProxyError) -> Trouble {
        let status = match &error {
            ProxyError::Upstream(failure) => failure.status,
            _ => None,
        };
        match status {
            _ if self.transport != Transport::Auto => {}
            // These are about the account: the other way they would be the same.
            Some(401 | 402 | 429) => {}
            Some(426) => {
                self.avoid(REFUSED_HOLDS);
                return Trouble::Avoided;
            }
            _ => {
                tracing::info!(cause = error.loggable(), "no WebSocket to the backend; server-sent events stand in");
                self.avoid(FAILED_HOLDS);
                return Trouble::Avoided;
            }
        }
        Trouble::failed(error, HeaderMap::new())
    }

    fn avoid(&self, holds: Duration) {
        if self.transport == Transport::Auto {
            let until = Instant::now() + holds;
            *self.avoided_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        }
    }

    /// Looks after the waiting connections; runs until dropped.
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

/// Whether a failure is that of an old connection, and the request was certainly not processed or the
/// connection was stale.
fn is_stale(failure: &Failure, idle: Duration) -> bool {
    const CODES: [&str; 2] = ["previous_response_not_found", "websocket_connection_limit_reached"];
    match &failure.error {
        ProxyError::Truncated { .. } => idle > STALE_AFTER && !failure.has_event,
        ProxyError::Upstream(refusal) => refusal.code.as_deref().is_some_and(|code| CODES.contains(&code)),
        _ => false,
    }
}
