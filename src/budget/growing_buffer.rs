//! A buffer for a body whose size isn't known in advance.

use bytes::Bytes;

use super::Reservation;
use crate::error::ProxyError;

/// Initial size of a buffer, unless [`GrowingBuffer::expect_whole`] was called or the limit is smaller. It doubles as
/// the body arrives.
const INITIAL_BYTES: usize = 64 * 1024;

/// A decoded body, and its memory reservation.
#[derive(Debug)]
pub struct BufferedBody {
    /// The body.
    pub bytes: Bytes,
    /// The memory of the body.
    pub memory: Reservation,
}

/// A buffer that reserves memory before it grows.
#[derive(Debug)]
pub struct GrowingBuffer {
    /// What has arrived.
    pub bytes: Vec<u8>,
    /// The memory of the buffer and of the decoder's window.
    pub memory: Reservation,
    /// Maximum size of the decoder's window, which uses no more than has been decoded; zero without a decoder.
    pub window_bytes: usize,
    initial_bytes: usize,
    /// The largest size that the buffer may need.
    limit_bytes: usize,
}

impl GrowingBuffer {
    /// An empty buffer that needs at most this many bytes.
    #[must_use]
    pub fn new(memory: Reservation, limit_bytes: u64) -> Self {
        let limit_bytes = usize::try_from(limit_bytes).unwrap_or(usize::MAX);
        Self { bytes: Vec::new(), memory, initial_bytes: INITIAL_BYTES, limit_bytes, window_bytes: 0 }
    }

    /// Makes the buffer reserve all memory at once when it first grows, because the size of the body is known.
    pub fn expect_whole(&mut self) {
        self.initial_bytes = self.limit_bytes;
    }

    /// Makes room for more bytes, waiting for memory if needed. Returns whether it had to reserve some.
    ///
    /// # Errors
    /// As [`Reservation::set_buffered`].
    pub async fn grow(&mut self, more_bytes: usize) -> Result<bool, ProxyError> {
        let wanted = self.bytes.len() + more_bytes;
        if wanted <= self.bytes.capacity() {
            return Ok(false);
        }
        let doubled = (self.bytes.capacity() * 2).max(self.initial_bytes).min(self.limit_bytes).max(wanted);
        self.memory.set_buffered(doubled + doubled.min(self.window_bytes)).await?;
        self.bytes.reserve_exact(doubled - self.bytes.len());
        Ok(true)
    }

    /// Ends the buffer. Spare capacity was never touched, so it takes no memory.
    #[must_use]
    pub fn finish(mut self) -> BufferedBody {
        self.memory.shrink(self.bytes.len());
        BufferedBody { bytes: Bytes::from(self.bytes), memory: self.memory }
    }
}
