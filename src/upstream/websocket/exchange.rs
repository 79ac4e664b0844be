//! One request and its answer on a connection.
//!
//! Hands on the same event data that the other transport hands on. Dropped before the answer's end,
//! it closes the connection; released after it, it puts the connection back. Where the backend closes
//! the connection, the error has the close code and reason.

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
use tokio_tungstenite::tungstenite::{Error, Message};

use super::super::event_class;
use super::early::{Early, is_aside};
use super::event_headers::told;
use super::pool::{Pool, Socket};
use crate::blocking::off_thread;
use crate::error::{Phase, ProxyError};
use crate::net::error_chain;
use crate::protocol::codex::continuation::{OutgoingBody, ResponseTracker};
use crate::protocol::codex::failure::has_markup;

/// Headers of the handshake that hold for as long as the connection does.
const LASTING: [&str; 2] = ["x-models-etag", "x-reasoning-included"];

/// One request and its answer.
#[derive(Debug)]
pub(in super::super) struct Exchange {
    socket: Socket,
    pool: Arc<Pool>,
    tracker: Option<ResponseTracker>,
    event_limit_bytes: usize,
    /// Size of the request.
    sent_bytes: usize,
    /// Messages received before the whole request was sent.
    early: Early,
}

impl Exchange {
    pub(super) fn new(socket: Socket, pool: &Arc<Pool>) -> Self {
        let event_limit_bytes = socket.stream.get_config().max_message_size.unwrap_or(usize::MAX);
        Self {
            socket,
            pool: Arc::clone(pool),
            tracker: None,
            event_limit_bytes,
            sent_bytes: 0,
            early: Early::default(),
        }
    }

    /// What the handshake says about this answer. What is true for its time only is told once.
    pub(super) fn take_head(&mut self) -> HeaderMap {
        let head = std::mem::take(&mut self.socket.head);
        let lasting = head.iter().filter(|(name, _)| LASTING.contains(&name.as_str()));
        self.socket.head = lasting.map(|(name, value)| (name.clone(), value.clone())).collect();
        head
    }

    /// Sends the request, without what the backend has.
    pub(super) async fn send(
        &mut self,
        request: &OutgoingBody<'_>,
        metadata: Vec<(&str, &str)>,
        limit: Duration,
    ) -> Result<(), ProxyError> {
        let continuation = self.socket.conversation.take().and_then(|conversation| conversation.continuation(request));
        let frame = off_thread(request.body_bytes(), || request.frame(&metadata, continuation.as_ref()));
        self.tracker = Some(ResponseTracker::new(request, continuation));
        let bytes = frame.len();
        self.sent_bytes = bytes;
        let stream = &mut self.socket.stream;
        let early = &mut self.early;
        let sending = async {
            let fed = {
                // The frame is copied and masked when it is first polled.
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

    /// The data of the next event.
    pub(in super::super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, ProxyError>> {
        loop {
            let received = match self.early.pop() {
                Some(early) => early,
                None => ready!(self.socket.stream.poll_next_unpin(cx)),
            };
            if is_aside(&received) {
                continue;
            }
            return Poll::Ready(match received {
                Some(Ok(Message::Text(text))) => Ok(text.into()),
                Some(Ok(Message::Close(frame))) => Err(self.closed(frame)),
                Some(Ok(_)) => Err(ProxyError::Damaged { reason: "a WebSocket frame that is no text".to_owned() }),
                Some(Err(error)) => Err(self.failure(&error)),
                None => Err(ProxyError::Truncated { cause: None }),
            });
        }
    }

    /// Remembers what an event says about the conversation, and tells what it has for headers.
    pub(in super::super) fn note(&mut self, data: &[u8], headers: &mut HeaderMap) {
        let Some(kind) = event_class::kind(data) else { return };
        let Ok(text) = std::str::from_utf8(data) else { return };
        headers.extend(told(&kind, text));
        if let Some(tracker) = &mut self.tracker {
            tracker.observe(&kind, text);
        }
    }

    /// Lets the next request have the connection.
    pub(in super::super) fn release(mut self) {
        self.socket.conversation = self.tracker.take().and_then(ResponseTracker::finish);
        self.pool.put(self.socket);
    }

    /// Why the backend closed the connection.
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
