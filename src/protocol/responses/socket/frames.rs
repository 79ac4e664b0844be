//! The sink of a WebSocket response: each event becomes a text frame.
//!
//! Frames are slices of one growing buffer, so a text delta needs no allocation of its own.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::protocol::Sink;
use crate::protocol::responses::reply::{Event, EventEncoder};

/// A queue of frames to send.
#[derive(Debug, Default)]
pub struct FrameQueue {
    /// The frame that is being written.
    buffer: BytesMut,
    ready: VecDeque<Bytes>,
    /// Total length of `ready`.
    ready_bytes: usize,
    stream_id: Option<String>,
    /// Sent before the response starts, unless the backend sends events of the same types.
    header_events: Vec<HeaderEvent>,
}

/// An event with the content of response headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderEvent {
    /// The `type`.
    pub kind: &'static str,
    /// The JSON.
    pub json: String,
}

impl FrameQueue {
    /// Creates a queue that adds `stream_id` to every event.
    #[must_use]
    pub fn new(stream_id: Option<String>) -> Self {
        Self { stream_id, ..Self::default() }
    }

    /// Total length of the queued frames.
    #[must_use]
    pub fn ready_bytes(&self) -> usize {
        self.ready_bytes
    }

    /// Discards an incomplete frame, after a panic while it was written.
    pub fn discard_partial(&mut self) {
        self.buffer.clear();
    }

    /// Removes the next frame.
    pub fn pop(&mut self) -> Option<Bytes> {
        let frame = self.ready.pop_front()?;
        self.ready_bytes -= frame.len();
        Some(frame)
    }

    /// Adds a frame with a JSON object.
    pub fn push(&mut self, object: &str) {
        self.buffer.extend_from_slice(object.as_bytes());
        self.end();
    }

    /// Sets events to send before the response starts, unless the backend sends events of the same types.
    #[must_use]
    pub fn with_header_events(self, header_events: Vec<HeaderEvent>) -> Self {
        Self { header_events, ..self }
    }

    /// Sends the remaining header events as soon as `next` starts the response.
    fn push_header_events(&mut self, next: &str) {
        if self.header_events.iter().any(|event| event.kind == next) {
            self.header_events.retain(|event| event.kind != next);
        } else if next.starts_with("response.") || next == "error" {
            for event in std::mem::take(&mut self.header_events) {
                self.push(&event.json);
            }
        }
    }

    /// Ends the current frame.
    fn end(&mut self) {
        if let (Some(stream_id), Some(end)) = (&self.stream_id, memchr::memrchr(b'}', &self.buffer)) {
            // The comma is valid, because an event always has a type.
            self.buffer.truncate(end);
            self.buffer.extend_from_slice(br#","stream_id":""#);
            self.buffer.extend_from_slice(stream_id.as_bytes());
            self.buffer.extend_from_slice(b"\"}");
        }
        let frame = self.buffer.split().freeze();
        self.ready_bytes += frame.len();
        self.ready.push_back(frame);
    }
}

impl Sink<EventEncoder> for FrameQueue {
    fn put(&mut self, _encoder: &mut EventEncoder, event: &Event<'_>) {
        self.push_header_events(event.kind);
        event.write(&mut self.buffer);
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::{FrameQueue, HeaderEvent};

    #[test]
    fn frames_keep_their_order() {
        let mut frames = FrameQueue::default();
        frames.push(r#"{"type":"a"}"#);
        frames.push(r#"{"type":"b"}"#);
        assert_eq!(frames.ready_bytes(), 24);
        assert_eq!(frames.pop().unwrap(), r#"{"type":"a"}"#);
        assert_eq!(frames.pop().unwrap(), r#"{"type":"b"}"#);
        assert_eq!((frames.pop(), frames.ready_bytes()), (None, 0));
    }

    #[test]
    fn header_events_precede_the_response_unless_the_backend_sends_them() {
        let event = |kind| HeaderEvent { kind, json: format!(r#"{{"type":"{kind}","own":true}}"#) };
        let mut frames =
            FrameQueue::default().with_header_events(vec![event("codex.rate_limits"), event("response.metadata")]);
        for kind in ["response.metadata", "keepalive", "response.created", "response.completed"] {
            frames.push_header_events(kind);
            frames.push(kind);
        }
        let sent: Vec<_> = std::iter::from_fn(|| frames.pop()).collect();
        let own = r#"{"type":"codex.rate_limits","own":true}"#;
        assert_eq!(sent, ["response.metadata", "keepalive", own, "response.created", "response.completed"]);
    }

    #[test]
    fn frames_contain_the_stream_id() {
        let mut frames = FrameQueue::new(Some("main".to_owned()));
        frames.push("{\"type\":\"a\",\"x\":{}}\n");
        assert_eq!(frames.pop().unwrap(), r#"{"type":"a","x":{},"stream_id":"main"}"#);
    }
}
