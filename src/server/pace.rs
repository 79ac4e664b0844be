//! Enforces a minimum rate for request bodies and WebSocket messages (`timing.body_read`).
//!
//! Two limits apply: the longest pause between two bytes, and an average rate, so that a client can't stay within the
//! first limit by sending single bytes.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::ProxyError;

/// The lowest average rate over one window.
const MIN_BYTES_PER_SECOND: u128 = 1024;
/// Length of a window, as a multiple of the longest pause.
const WINDOW_PAUSES: u32 = 2;

/// The progress of one body or message.
#[derive(Debug)]
pub(super) struct Pace {
    max_pause: Duration,
    last_byte: Instant,
    /// A window ends as soon as it has enough bytes.
    window_began: Instant,
    window_bytes: usize,
}

impl Pace {
    /// Starts measuring now. `max_pause` is the longest pause between two bytes.
    pub(super) fn new(max_pause: Duration) -> Self {
        let now = Instant::now();
        Self { max_pause, last_byte: now, window_began: now, window_bytes: 0 }
    }

    /// Counts received bytes.
    pub(super) fn received(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.last_byte = Instant::now();
        self.window_bytes = self.window_bytes.saturating_add(bytes);
        if self.window_bytes as u128 * 1000 >= self.window().as_millis() * MIN_BYTES_PER_SECOND {
            (self.window_began, self.window_bytes) = (self.last_byte, 0);
        }
    }

    /// Restarts measuring after a wait that the client didn't cause.
    pub(super) fn restart(&mut self) {
        *self = Self::new(self.max_pause);
    }

    /// When the client counts as too slow, if nothing more arrives.
    pub(super) fn deadline(&self) -> Instant {
        (self.last_byte + self.max_pause).min(self.window_began + self.window())
    }

    /// The error for a client that is too slow.
    pub(super) fn too_slow(&self) -> ProxyError {
        ProxyError::BodyTooSlow { limit: self.max_pause }
    }

    fn window(&self) -> Duration {
        self.max_pause * WINDOW_PAUSES
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, advance};

    use super::Pace;

    const MAX_PAUSE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_limited() {
        let mut pace = Pace::new(MAX_PAUSE);
        advance(MAX_PAUSE / 2).await;
        pace.received(1);
        assert_eq!(pace.deadline(), Instant::now() + MAX_PAUSE);
        advance(MAX_PAUSE / 2).await;
        pace.restart();
        assert_eq!(pace.deadline(), Instant::now() + MAX_PAUSE, "a wait of our own doesn't count");
    }

    #[tokio::test(start_paused = true)]
    async fn single_bytes_are_too_slow() {
        let (mut pace, began) = (Pace::new(MAX_PAUSE), Instant::now());
        pace.received(1 << 20);
        while Instant::now() < pace.deadline() {
            advance(Duration::from_secs(1)).await;
            pace.received(1023);
        }
        assert_eq!(began.elapsed(), 2 * MAX_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_link_is_fast_enough() {
        let mut pace = Pace::new(MAX_PAUSE);
        for _ in 0..1000 {
            advance(Duration::from_secs(20)).await;
            pace.received(20 * 1024);
            assert!(Instant::now() < pace.deadline());
        }
    }
}
