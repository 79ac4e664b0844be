//! One request and its response on a WebSocket connection.
//!
//! Yields the same event data as the HTTP transport. Dropping an [`Exchange`] closes the connection;
//! [`Exchange::release`] returns it to the pool after the response has ended. If the backend closes the connection with
//! a reason, the error contains it. While the response arrives, control frames of the client can be sent.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use http::HeaderMap;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::control::{ControlState, Expected};
use super::early::{EarlyMessages, is_control};
use super::pool::{Connection, ConnectionPool};
use crate::blocking::off_thread;
use crate::error::{Phase, ProxyError};
use crate::net::error_chain;
use crate::protocol::codex::continuation::{OutgoingBody, ResponseTracker};
use crate::protocol::codex::control::ControlKind;
use crate::protocol::codex::event;
use crate::protocol::codex::failure::{has_markup, headers_of_event};
use crate::protocol::codex::rate_limits::{self, RateLimits};

/// Headers of the handshake that apply to every response of the connection. The others apply to the first response
/// only.
const CONNECTION_HEADERS: [&str; 2] = ["x-models-etag", "x-reasoning-included"];

/// One request and its response. Ends in [`Exchange::release`], or closes the connection.
#[derive(Debug)]
pub(in super::super) struct Exchange {
    connection: Connection,
    pool: Arc<ConnectionPool>,
    /// Collects what the backend stores for the next request. Set when the request is sent.
    tracker: Option<ResponseTracker>,
    event_limit_bytes: usize,
    /// Size of the request's frame.
    sent_bytes: usize,
    /// Messages received before the whole request was sent.
    early: EarlyMessages,
    control: ControlState,
}

impl Exchange {
    pub(super) fn new(connection: Connection, pool: &Arc<ConnectionPool>) -> Self {
        let event_limit_bytes = connection.stream.get_config().max_message_size.unwrap_or(usize::MAX);
        Self {
            connection,
            pool: Arc::clone(pool),
            tracker: None,
            event_limit_bytes,
            sent_bytes: 0,
            early: EarlyMessages::default(),
            control: ControlState::default(),
        }
    }

    /// Returns the headers of the handshake that apply to this response. Those that don't apply to later responses are
    /// removed from the connection.
    pub(super) fn take_handshake_headers(&mut self) -> HeaderMap {
        let headers = std::mem::take(&mut self.connection.headers);
        let lasting = headers.iter().filter(|(name, _)| CONNECTION_HEADERS.contains(&name.as_str()));
        self.connection.headers = lasting.map(|(name, value)| (name.clone(), value.clone())).collect();
        headers
    }

    /// Sends the request, without the input that the backend has stored for the connection. `limit` is the time limit
    /// for writing it.
    pub(super) async fn send(
        &mut self,
        request: &OutgoingBody<'_>,
        metadata: Vec<(&str, &str)>,
        limit: Duration,
    ) -> Result<(), ProxyError> {
        let known = self.connection.conversation.take();
        let continuation = known.and_then(|conversation| conversation.continuation(request));
        let frame = off_thread(request.body_bytes(), || request.frame(&metadata, continuation.as_ref()));
        self.tracker = Some(ResponseTracker::new(request, continuation));
        let bytes = frame.len();
        self.sent_bytes = bytes;
        let stream = &mut self.connection.stream;
        let early = &mut self.early;
        let sending = async {
            let fed = {
                // The first poll copies and masks the frame.
                let mut feeding = stream.feed(Message::text(frame));
                poll_fn(|cx| off_thread(bytes, || feeding.poll_unpin(cx))).await
            };
            early.flush(stream, fed).await
        };
        match timeout(limit, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.failure(&error)),
            Err(_) => Err(ProxyError::Silent { phase: Phase::FirstEvent, limit }),
        }
    }

    /// Returns the data of the next event. The end of the connection is an error: the caller stops at the terminal
    /// event.
    pub(in super::super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, ProxyError>> {
        loop {
            let received = match self.early.pop() {
                Some(early) => early,
                None => ready!(self.connection.stream.poll_next_unpin(cx)),
            };
            if is_control(&received) {
                continue;
            }
            return Poll::Ready(match received {
                Some(Ok(Message::Text(text))) => Ok(text.into()),
                Some(Ok(Message::Close(frame))) => Err(self.closed(frame)),
                Some(Ok(_)) => Err(ProxyError::Damaged { reason: "a WebSocket message is not text".to_owned() }),
                Some(Err(error)) => Err(self.failure(&error)),
                None => Err(ProxyError::Truncated { cause: None }),
            });
        }
    }

    /// Updates the known conversation from an event, and adds the headers that the event carries to `headers`.
    pub(in super::super) fn observe(&mut self, data: &[u8], headers: &mut HeaderMap) {
        let Some(kind) = event::kind(data) else { return };
        let Ok(text) = std::str::from_utf8(data) else { return };
        headers.extend(event_headers(&kind, text));
        if let Some(tracker) = &mut self.tracker {
            tracker.observe(&kind, text);
        }
        self.control.observe(&kind, data);
    }

    /// Sends a control frame. Takes it out of `frame` once it is buffered. Ready when it is sent completely, or can't
    /// be sent. Doesn't delay events.
    pub(in super::super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        kind: ControlKind,
        frame: &mut Option<Bytes>,
    ) -> Poll<Result<(), Error>> {
        let stream = &mut self.connection.stream;
        if frame.is_some() {
            ready!(stream.poll_ready_unpin(cx))?;
            let text = frame.take().and_then(|frame| Utf8Bytes::try_from(frame).ok()).unwrap_or_default();
            self.sent_bytes = text.len();
            off_thread(text.len(), || stream.start_send_unpin(Message::Text(text)))?;
            self.control.sent(kind);
        }
        stream.poll_flush_unpin(cx)
    }

    /// Returns which events may follow the terminal event of the response.
    pub(in super::super) fn expects(&self) -> Expected {
        self.control.expects()
    }

    /// Returns the connection to the pool, with the conversation that the backend now has stored for it. Closes it if
    /// the backend may still send something about a control frame.
    pub(in super::super) fn release(mut self) {
        if self.control.is_settled() {
            let tracker = self.tracker.take().filter(|_| !self.control.has_successor);
            self.connection.conversation = tracker.and_then(ResponseTracker::finish);
            self.pool.put(self.connection);
        }
    }

    /// The error for a close frame.
    fn closed(&self, frame: Option<CloseFrame>) -> ProxyError {
        let Some(CloseFrame { code, reason }) = frame else { return ProxyError::Truncated { cause: None } };
        let mut cause = format!("close code {}", u16::from(code));
        let reason: String = reason.chars().filter(|c| !c.is_control()).collect();
        if !reason.is_empty() && !has_markup(&reason) {
            cause = format!("{cause}: {reason}");
        }
        match code {
            CloseCode::Size => ProxyError::MessageTooLarge { size_bytes: self.sent_bytes, reason: cause },
            _ => ProxyError::Truncated { cause: Some(cause) },
        }
    }

    fn failure(&self, error: &Error) -> ProxyError {
        match error {
            Error::Capacity(_) => ProxyError::EventTooLarge { limit_bytes: self.event_limit_bytes },
            error => ProxyError::Truncated { cause: Some(error_chain(error)) },
        }
    }
}

/// The headers that an HTTP response would have instead of this event.
fn event_headers(kind: &str, data: &str) -> HeaderMap {
    match kind {
        rate_limits::EVENT => {
            RateLimits::from_event(data.as_bytes()).map(|limits| limits.to_headers()).unwrap_or_default()
        }
        "error" | "response.metadata" | "codex.response.metadata" => headers_of_event(data),
        _ => HeaderMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::event_headers;

    fn lines(kind: &str, data: &str) -> Vec<String> {
        let headers = event_headers(kind, data);
        let mut lines: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn metadata_and_error_events_carry_headers() {
        let event = r#"{"headers":{"X-Codex-Turn-State":"t","openai-model":["gpt-5.5"],"x-codex-n":3}}"#;
        for kind in ["response.metadata", "codex.response.metadata", "error"] {
            assert_eq!(lines(kind, event), ["openai-model: gpt-5.5", "x-codex-n: 3", "x-codex-turn-state: t"]);
        }
        assert!(lines("response.created", event).is_empty());
        assert!(lines("codex.rate_limits", "junk").is_empty());
    }
}
