//! The sink of a socket: each event a frame of its own.
//!
//! Frames are slices of one growing buffer, so that a piece of text costs no allocation of its own.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::protocol::Sink;
use crate::protocol::responses::reply::{Event, ResponsesReply};

/// Frames that are ready to be sent.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: BytesMut,
    ready: VecDeque<Bytes>,
    ready_bytes: usize,
    lane: Option<String>,
}

impl Frames {
    /// Frames whose events name this lane.
    #[must_use]
    pub fn new(lane: Option<String>) -> Self {
        Self { lane, ..Self::default() }
    }

    /// How much is ready.
    #[must_use]
    pub fn ready_bytes(&self) -> usize {
        self.ready_bytes
    }

    /// The next frame.
    pub fn take(&mut self) -> Option<Bytes> {
        let frame = self.ready.pop_front()?;
        self.ready_bytes -= frame.len();
        Some(frame)
    }

    /// Adds a frame of our own, a JSON object.
    pub fn push(&mut self, object: &str) {
        self.buffer.extend_from_slice(object.as_bytes());
        self.end();
    }

    /// Ends the frame that is being written.
    fn end(&mut self) {
        if let (Some(lane), Some(end)) = (&self.lane, memchr::memrchr(b'}', &self.buffer)) {
            // An event always has a type, and so a member that stands before.
            self.buffer.truncate(end);
            self.buffer.extend_from_slice(br#","stream_id":""#);
            self.buffer.extend_from_slice(lane.as_bytes());
            self.buffer.extend_from_slice(b"\"}");
        }
        let frame = self.buffer.split().freeze();
        self.ready_bytes += frame.len();
        self.ready.push_back(frame);
    }
}

impl Sink<ResponsesReply> for Frames {
    fn put(&mut self, _reply: &mut ResponsesReply, event: &Event<'_>) {
        event.write(&mut self.buffer);
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::Frames;

    #[test]
    fn frames_come_out_as_they_went_in() {
        let mut frames = Frames::default();
        frames.push(r#"{"type":"a"}"#);
        frames.push(r#"{"type":"b"}"#);
        assert_eq!(frames.ready_bytes(), 24);
        assert_eq!(frames.take().unwrap(), r#"{"type":"a"}"#);
        assert_eq!(frames.take().unwrap(), r#"{"type":"b"}"#);
        assert_eq!((frames.take(), frames.ready_bytes()), (None, 0));
    }

    #[test]
    fn a_frame_names_its_lane() {
        let mut frames = Frames::new(Some("main".to_owned()));
        frames.push("{\"type\":\"a\",\"x\":{}}\n");
        assert_eq!(frames.take().unwrap(), r#"{"type":"a","x":{},"stream_id":"main"}"#);
    }
}
