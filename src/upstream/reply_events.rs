//! The events of a response as the client gets them, from one request or several rounds.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use tokio::time::Instant;

use super::EventStream;
use super::stream::ControlError;
use super::tool_rounds::ToolRounds;
use crate::error::ProxyError;
use crate::protocol::codex::Usage;
use crate::protocol::codex::control::ControlKind;
use crate::protocol::codex::proxy_tools::HiddenItems;

/// The `data` of each event of a response, up to the terminal event or a transport error.
pub struct ReplyEvents(Source);

#[expect(clippy::large_enum_variant, reason = "the large variant is the usual one")]
enum Source {
    Single(EventStream),
    Rounds(Box<ToolRounds>),
}

impl ReplyEvents {
    /// A response with several rounds if the model calls tools of the proxy.
    pub(super) fn of_rounds(rounds: ToolRounds) -> Self {
        Self(Source::Rounds(Box::new(rounds)))
    }

    /// A stream of events that have already arrived.
    #[cfg(test)]
    pub(crate) fn of(events: &[&'static str]) -> Self {
        EventStream::of(events).into()
    }

    /// When the first content delta arrived from the backend.
    #[must_use]
    pub fn first_content(&self) -> Option<Instant> {
        match &self.0 {
            Source::Single(events) => events.first_content(),
            Source::Rounds(rounds) => rounds.first_content(),
        }
    }

    /// Whether the response has ended and more events may follow: the backend's response to control frames.
    #[must_use]
    pub fn has_follow_up(&self) -> bool {
        matches!(&self.0, Source::Single(events) if events.has_follow_up())
    }

    /// Sends a control frame to the backend. Takes it out of `frame` once it is buffered; call this again, with the
    /// empty `frame`, until the result is ready. Events can be polled in between, and don't wait for the frame.
    ///
    /// # Errors
    /// If the response has no connection on which the frame can be sent.
    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        kind: ControlKind,
        frame: &mut Option<Bytes>,
    ) -> Poll<Result<(), ControlError>> {
        match &mut self.0 {
            Source::Single(events) => events.poll_send(cx, kind, frame),
            Source::Rounds(_) => Poll::Ready(Err(ControlError::ProxyTools)),
        }
    }

    /// Whether the model may call tools that the proxy runs.
    #[must_use]
    pub fn has_proxy_tools(&self) -> bool {
        matches!(self.0, Source::Rounds(_))
    }

    /// Whether the proxy has run calls of the model. Another attempt at the request would run them again.
    #[must_use]
    pub fn has_run_calls(&self) -> bool {
        matches!(&self.0, Source::Rounds(rounds) if rounds.has_run_calls())
    }

    /// The usage of the rounds that have ended, which is billed even if a later round fails. `None` if the request
    /// has no tools of the proxy.
    #[must_use]
    pub fn finished_usage(&self) -> Option<Usage> {
        match &self.0 {
            Source::Single(_) => None,
            Source::Rounds(rounds) => rounds.finished_usage(),
        }
    }

    /// Returns the calls that the proxy has run since the last time, with their outputs. The client gets neither.
    pub fn take_hidden(&mut self) -> Vec<HiddenItems> {
        match &mut self.0 {
            Source::Single(_) => Vec::new(),
            Source::Rounds(rounds) => rounds.take_hidden(),
        }
    }
}

impl From<EventStream> for ReplyEvents {
    fn from(events: EventStream) -> Self {
        Self(Source::Single(events))
    }
}

impl Stream for ReplyEvents {
    type Item = Result<Bytes, ProxyError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.get_mut().0 {
            Source::Single(events) => Pin::new(events).poll_next(cx),
            Source::Rounds(rounds) => rounds.poll_event(cx),
        }
    }
}

impl fmt::Debug for ReplyEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("ReplyEvents");
        match &self.0 {
            Source::Single(events) => debug.field("events", events).finish(),
            Source::Rounds(_) => debug.finish_non_exhaustive(),
        }
    }
}
