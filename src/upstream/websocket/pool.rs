//! Open connections that wait for the next request of their conversation.
//!
//! A bounded number, each for a bounded time: one that waits too long, nears the backend's limit
//! for its age, or gives no sign of life is closed. Nothing here waits for the network; pings are
//! answered when a sweep comes by.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use http::HeaderMap;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::super::event_class;
use crate::protocol::codex::continuation::{KnownConversation, OutgoingBody};

const MOST_IDLE: usize = 32;
const LONGEST_IDLE: Duration = Duration::from_secs(5 * 60);
/// The backend ends a connection after an hour.
const LONGEST_LIFE: Duration = Duration::from_secs(55 * 60);

/// An open connection, and what the backend remembers on it.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) stream: WebSocketStream<reqwest::Upgraded>,
    pub(super) conversation: Option<KnownConversation>,
    /// Headers of the handshake that still hold.
    pub(super) head: HeaderMap,
    key: String,
    opened: Instant,
    ping: Ping,
}

/// Whether a sign of life has been asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ping {
    Answered,
    Open,
}

#[derive(Debug, Default)]
pub(super) struct Pool {
    /// The one that has waited longest comes first.
    idle: Mutex<VecDeque<Idle>>,
}

#[derive(Debug)]
struct Idle {
    socket: Socket,
    since: Instant,
}

impl Socket {
    pub(super) fn new(stream: WebSocketStream<reqwest::Upgraded>, key: String, head: HeaderMap) -> Self {
        Self { stream, conversation: None, head, key, opened: Instant::now(), ping: Ping::Answered }
    }

    /// Whether the other side is still there and has said nothing that this side has missed.
    fn is_quiet(&mut self) -> bool {
        loop {
            match self.stream.next().now_or_never() {
                None => return true,
                Some(Some(Ok(Message::Pong(_)))) => self.ping = Ping::Answered,
                Some(Some(Ok(Message::Ping(_)))) => {}
                Some(Some(Ok(Message::Text(text)))) if is_aside(text.as_bytes()) => {}
                Some(_) => return false,
            }
        }
    }

    /// Answers pings and asks for a sign of life; gives up when the last one did not come.
    fn tend(&mut self) -> bool {
        if !self.is_quiet() || self.ping == Ping::Open {
            return false;
        }
        self.ping = Ping::Open;
        let sent = self.stream.send(Message::Ping(Bytes::new())).now_or_never();
        sent.is_none_or(|sent| sent.is_ok())
    }
}

/// Quota and the like, which may come when an answer is over.
fn is_aside(data: &[u8]) -> bool {
    event_class::kind(data).is_some_and(|kind| kind != "error" && !kind.starts_with("response."))
}

impl Pool {
    /// A connection for a request, and how long it has been idle: the one whose conversation it goes on
    /// with, if there is one.
    pub(super) fn take(&self, key: &str, request: &OutgoingBody<'_>) -> Option<(Socket, Duration)> {
        let now = Instant::now();
        let mut idle = self.lock();
        idle.retain(|idle| is_usable(idle.socket.opened, idle.since, now));
        loop {
            let is_continued = |socket: &Socket| {
                socket.conversation.as_ref().is_some_and(|conversation| conversation.continuation(request).is_some())
            };
            let mut own = idle.iter().enumerate().filter(|(_, idle)| idle.socket.key == key);
            let best = own.clone().find(|(_, idle)| is_continued(&idle.socket)).or_else(|| own.next_back());
            let place = best.map(|(place, _)| place)?;
            let Idle { mut socket, since } = idle.remove(place)?;
            if socket.is_quiet() {
                return Some((socket, now - since));
            }
        }
    }

    /// Takes a connection back whose answer was read to its end.
    pub(super) fn put(&self, socket: Socket) {
        let mut idle = self.lock();
        if idle.len() >= MOST_IDLE {
            idle.pop_front();
        }
        idle.push_back(Idle { socket, since: Instant::now() });
    }

    /// Closes what has waited too long or is gone.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        self.lock().retain_mut(|idle| is_usable(idle.socket.opened, idle.since, now) && idle.socket.tend());
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_usable(opened: Instant, waits_since: Instant, now: Instant) -> bool {
    now - opened < LONGEST_LIFE && now - waits_since < LONGEST_IDLE
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{is_aside, is_usable};

    #[test]
    fn a_connection_is_used_neither_after_a_long_wait_nor_near_its_age_limit() {
        const MINUTE: Duration = Duration::from_secs(60);
        let opened = Instant::now();
        let at = |minutes| opened + minutes * MINUTE;
        assert!(is_usable(opened, at(50), at(54)));
        assert!(!is_usable(opened, at(50), at(55)), "too old");
        assert!(!is_usable(opened, at(10), at(15)), "too long idle");
    }

    #[test]
    fn what_is_no_part_of_an_answer_may_come_late() {
        assert!(is_aside(br#"{"type":"codex.rate_limits"}"#));
        for event in [r#"{"type":"response.failed"}"#, r#"{"type":"error","status":400}"#, "junk"] {
            assert!(!is_aside(event.as_bytes()), "{event}");
        }
    }
}
