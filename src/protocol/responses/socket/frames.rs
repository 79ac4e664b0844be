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
    /// What is told before the answer begins, unless the backend tells it: type and event.
    notices: Vec<Notice>,
}

/// An event of our own that stands for headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Its type.
    pub kind: &'static str,
    /// The whole event.
    pub event: String,
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

    /// Forgets a frame that has no end.
    pub fn drop_partial(&mut self) {
        self.buffer.clear();
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

    /// Tells what the headers of the answer said, where its events don't.
    #[must_use]
    pub fn with_notices(self, notices: Vec<Notice>) -> Self {
        Self { notices, ..self }
    }

    /// Tells what is left to tell, as soon as the answer itself begins.
    fn tell(&mut self, next: &str) {
        if self.notices.iter().any(|notice| notice.kind == next) {
            self.notices.retain(|notice| notice.kind != next);
        } else if next.starts_with("response.") || next == "error" {
            for notice in std::mem::take(&mut self.notices) {
                self.push(&notice.event);
            }
        }
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
        self.tell(event.kind);
        event.write(&mut self.buffer);
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::{Frames, Notice};

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
    fn a_notice_comes_before_the_answer_unless_the_backend_brings_it() {
        let notice = |kind| Notice { kind, event: format!(r#"{{"type":"{kind}","own":true}}"#) };
        let mut frames = Frames::default().with_notices(vec![notice("codex.rate_limits"), notice("response.metadata")]);
        for kind in ["response.metadata", "keepalive", "response.created", "response.completed"] {
            frames.tell(kind);
            frames.push(kind);
        }
        let told: Vec<_> = std::iter::from_fn(|| frames.take()).collect();
        let own = r#"{"type":"codex.rate_limits","own":true}"#;
        assert_eq!(told, ["response.metadata", "keepalive", own, "response.created", "response.completed"]);
    }

    #[test]
    fn a_frame_names_its_lane() {
        let mut frames = Frames::new(Some("main".to_owned()));
        frames.push("{\"type\":\"a\",\"x\":{}}\n");
        assert_eq!(frames.take().unwrap(), r#"{"type":"a","x":{},"stream_id":"main"}"#);
    }
}
