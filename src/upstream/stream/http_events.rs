//! The events in the body of an HTTP response.

use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::super::response_body::ResponseBody;
use crate::error::ProxyError;
use crate::protocol::sse::Splitter;

/// The server-sent events in the body of an HTTP response.
pub(super) struct HttpEvents {
    body: ResponseBody,
    splitter: Splitter,
    event_limit_bytes: usize,
    /// The terminal event, while the rest of the body is read.
    terminal: Option<Bytes>,
}

impl HttpEvents {
    pub(super) fn new(body: ResponseBody, event_limit_bytes: usize) -> Self {
        Self { body, splitter: Splitter::new(event_limit_bytes), event_limit_bytes, terminal: None }
    }

    /// Returns the data of the next event. The end of the body is an error.
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, ProxyError>> {
        if let Some(data) = self.terminal.take() {
            return Poll::Ready(Ok(data));
        }
        loop {
            match self.splitter.next_event() {
                Ok(Some(data)) => return Poll::Ready(Ok(data)),
                Ok(None) => {}
                Err(_) => return Poll::Ready(Err(ProxyError::EventTooLarge { limit_bytes: self.event_limit_bytes })),
            }
            match ready!(self.body.poll_chunk(cx)) {
                Some(Ok(bytes)) => self.splitter.push(&bytes),
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Err(ProxyError::Truncated { cause: None })),
            }
        }
    }

    /// Reads the rest of the body after the terminal event, see [`ResponseBody::poll_tail`]. Until that is done, the
    /// event is the next one that [`Self::poll_event`] returns.
    pub(super) fn poll_tail(&mut self, terminal: &Bytes, cx: &mut Context<'_>) -> Poll<()> {
        let polled = self.body.poll_tail(cx);
        if polled.is_pending() {
            self.terminal = Some(terminal.clone());
        }
        polled
    }
}
