//! Pools idle connections for the next request of their conversation.
//!
//! The number of connections is bounded. Those that are idle too long, close to the backend's age limit, or don't
//! answer a ping are closed. Nothing waits for the network: a connection is only read when it is taken or during a
//! [`ConnectionPool::sweep`], which is also when pings from the backend are answered.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use http::HeaderMap;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::protocol::codex::continuation::{KnownConversation, OutgoingBody};
use crate::protocol::codex::event;

/// Maximum number of idle connections. Beyond it, the one that is idle for longest is closed.
const MAX_IDLE: usize = 32;
const MAX_IDLE_TIME: Duration = Duration::from_secs(5 * 60);
/// Age at which a connection is not reused any more. The backend closes connections after an hour.
const MAX_AGE: Duration = Duration::from_secs(55 * 60);

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: WebSocketStream<reqwest::Upgraded>,
    /// The conversation that the backend has stored for the connection.
    pub(super) conversation: Option<KnownConversation>,
    /// Headers of the handshake that apply to the next response.
    pub(super) headers: HeaderMap,
    /// Which requests can use it, see [`super::handshake::Handshake::key`].
    key: String,
    opened: Instant,
    ping: PingState,
}

/// Whether the last ping was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PingState {
    Answered,
    Outstanding,
}

/// The idle connections.
#[derive(Debug, Default)]
pub(super) struct ConnectionPool {
    /// Longest idle first.
    idle: Mutex<VecDeque<IdleConnection>>,
}

#[derive(Debug)]
struct IdleConnection {
    connection: Connection,
    since: Instant,
}

impl Connection {
    pub(super) fn new(stream: WebSocketStream<reqwest::Upgraded>, key: String, headers: HeaderMap) -> Self {
        Self { stream, conversation: None, headers, key, opened: Instant::now(), ping: PingState::Answered }
    }

    /// Reads what has arrived. Returns whether the connection is open and none of it belongs to a response.
    fn is_quiet(&mut self) -> bool {
        loop {
            match self.stream.next().now_or_never() {
                None => return true,
                Some(Some(Ok(Message::Pong(_)))) => self.ping = PingState::Answered,
                Some(Some(Ok(Message::Ping(_)))) => {}
                Some(Some(Ok(Message::Text(text)))) if is_unrelated(text.as_bytes()) => {}
                Some(_) => return false,
            }
        }
    }

    /// Reads what has arrived, and sends a ping. Returns whether the connection is alive: the previous ping was
    /// answered.
    fn check(&mut self) -> bool {
        if !self.is_quiet() || self.ping == PingState::Outstanding {
            return false;
        }
        self.ping = PingState::Outstanding;
        let sent = self.stream.send(Message::Ping(Bytes::new())).now_or_never();
        sent.is_none_or(|sent| sent.is_ok())
    }
}

/// Whether an event, such as rate limits, belongs to no response and may therefore arrive between two.
fn is_unrelated(data: &[u8]) -> bool {
    event::kind(data).is_some_and(|kind| kind != "error" && !kind.starts_with("response."))
}

impl ConnectionPool {
    /// Removes a connection with this key, preferably the one whose conversation the request continues, else the one
    /// that has been idle for the shortest time. Also returns how long it was idle.
    pub(super) fn take(&self, key: &str, request: &OutgoingBody<'_>) -> Option<(Connection, Duration)> {
        let now = Instant::now();
        let mut idle = self.lock();
        idle.retain(|idle| is_usable(idle.connection.opened, idle.since, now));
        loop {
            let is_continued = |connection: &Connection| {
                connection.conversation.as_ref().is_some_and(|known| known.continuation(request).is_some())
            };
            let mut matching = idle.iter().enumerate().filter(|(_, idle)| idle.connection.key == key);
            let best = matching.clone().find(|(_, idle)| is_continued(&idle.connection));
            let (index, _) = best.or_else(|| matching.next_back())?;
            let IdleConnection { mut connection, since } = idle.remove(index)?;
            if connection.is_quiet() {
                return Some((connection, now - since));
            }
        }
    }

    /// Returns a connection to the pool. Its response must have been read to the end.
    pub(super) fn put(&self, connection: Connection) {
        let mut idle = self.lock();
        if idle.len() >= MAX_IDLE {
            idle.pop_front();
        }
        idle.push_back(IdleConnection { connection, since: Instant::now() });
    }

    /// Closes connections that are dead or have been idle too long, and pings the others.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        self.lock().retain_mut(|idle| is_usable(idle.connection.opened, idle.since, now) && idle.connection.check());
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<IdleConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_usable(opened: Instant, idle_since: Instant, now: Instant) -> bool {
    now - opened < MAX_AGE && now - idle_since < MAX_IDLE_TIME
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{is_unrelated, is_usable};

    #[test]
    fn old_and_long_idle_connections_are_not_used() {
        const MINUTE: Duration = Duration::from_secs(60);
        let opened = Instant::now();
        let at = |minutes| opened + minutes * MINUTE;
        assert!(is_usable(opened, at(50), at(54)));
        assert!(!is_usable(opened, at(50), at(55)), "too old");
        assert!(!is_usable(opened, at(10), at(15)), "too long idle");
    }

    #[test]
    fn only_unrelated_events_may_arrive_late() {
        assert!(is_unrelated(br#"{"type":"codex.rate_limits"}"#));
        for event in [r#"{"type":"response.failed"}"#, r#"{"type":"error","status":400}"#, "junk"] {
            assert!(!is_unrelated(event.as_bytes()), "{event}");
        }
    }
}
