//! Bounds the memory of everything that is buffered for requests (`limits.memory`).
//!
//! Request bodies and WebSocket messages reserve bytes as they grow, after decompression, and keep the reservation
//! until their request ends. Memory for translating and sending them is reserved too, and released earlier. A
//! reservation that can't grow waits for at most [`MAX_WAIT`], or [`MAX_REPLY_WAIT`] for a reply of the backend; then
//! its request is refused and releases what it holds, so requests that wait for each other can't block each other for
//! longer. A waiting reservation collects no partial grants: small requests pass while a large one waits.

mod growing_buffer;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::blocking::off_thread;
use crate::depth_limit;
use crate::error::ProxyError;

pub use growing_buffer::{BufferedBody, GrowingBuffer};

/// How long a reservation waits for other requests to release memory.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// How long the reservation for a reply of the backend waits. Without memory, the reply would be lost, and an image in
/// it was billed.
const MAX_REPLY_WAIT: Duration = Duration::from_secs(30);
/// When a refused client should try again.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Copies of a body that exist while it is translated and sent: decoded strings, the encoded upstream body, and its
/// compressed form or WebSocket frame.
const COPIES: usize = 3;
/// Memory of a parsed JSON value in addition to its text, measured with bodies of the smallest messages.
const VALUE_BYTES: usize = 256;
/// In bodies shorter than this, commas and brackets in strings count as values too, which is faster.
const SHORT_BYTES: usize = 64 * 1024;

/// The memory that all requests share.
#[derive(Debug)]
pub struct ByteBudget {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
    released: Notify,
}

/// The memory of one request; released when dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<ByteBudget>,
    /// Held until the request ends.
    buffered_bytes: usize,
    /// Needed only while the request may still be sent upstream.
    work_bytes: usize,
    /// Taken from the budget: the sum of both, but at most the whole budget, so that a body of the largest size always
    /// fits.
    taken_bytes: usize,
    /// How long to wait for memory.
    max_wait: Duration,
    /// When a client that was refused should try again, if it should.
    retry_after: Option<Duration>,
}

impl ByteBudget {
    /// A budget of this many bytes.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, used_bytes: AtomicUsize::new(0), released: Notify::new() }
    }

    /// A separate budget, of the size of this one divided by `divisor`. Bytes reserved from it don't count against this
    /// one.
    #[must_use]
    pub fn fraction(&self, divisor: usize) -> Self {
        Self::new(self.limit_bytes / divisor)
    }

    /// An empty reservation.
    #[must_use]
    pub fn reserve(self: &Arc<Self>) -> Reservation {
        Reservation {
            budget: Arc::clone(self),
            buffered_bytes: 0,
            work_bytes: 0,
            taken_bytes: 0,
            max_wait: MAX_WAIT,
            retry_after: Some(RETRY_AFTER),
        }
    }

    /// An empty reservation for a reply of the backend. It waits at most for `idle_limit`, since the reply isn't read
    /// meanwhile. The client shouldn't retry if there is no memory: the backend has done the work.
    #[must_use]
    pub fn reserve_for_reply(self: &Arc<Self>, idle_limit: Duration) -> Reservation {
        let mut reservation = self.reserve();
        reservation.max_wait = MAX_REPLY_WAIT.min(idle_limit);
        reservation.retry_after = None;
        reservation
    }

    /// The number of reserved bytes.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// Takes bytes if there are enough. Returns whether there were.
    fn try_take(&self, bytes: usize) -> bool {
        let grow = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.limit_bytes);
        self.used_bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, grow).is_ok()
    }

    /// Takes bytes, waiting until there are enough. Returns whether there were.
    async fn take(&self, bytes: usize, max_wait: Duration) -> bool {
        let deadline = Instant::now() + max_wait;
        loop {
            let mut released = pin!(self.released.notified());
            // Registered before the attempt, so that a release in between isn't missed.
            released.as_mut().enable();
            if self.try_take(bytes) {
                return true;
            }
            if timeout_at(deadline, released).await.is_err() {
                return false;
            }
        }
    }

    fn release(&self, bytes: usize) {
        if bytes > 0 {
            self.used_bytes.fetch_sub(bytes, Ordering::AcqRel);
            self.released.notify_waiters();
        }
    }
}

impl Reservation {
    /// The buffered size: the body, and what was loaded for it.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }

    /// The size of the budget. A reservation of more takes all of it.
    #[must_use]
    pub fn limit_bytes(&self) -> usize {
        self.budget.limit_bytes
    }

    /// Sets the buffered size. Waits for memory if it grows.
    ///
    /// # Errors
    /// [`ProxyError::MemoryFull`] if other requests don't release enough in time; the reservation keeps its size.
    pub async fn set_buffered(&mut self, bytes: usize) -> Result<(), ProxyError> {
        self.resize(bytes, self.work_bytes).await
    }

    /// Like [`Self::set_buffered`], without waiting. Returns whether there was enough memory.
    pub fn try_set_buffered(&mut self, bytes: usize) -> bool {
        self.try_resize(bytes, self.work_bytes)
    }

    /// Reduces the buffered size to this, if it is larger.
    pub fn shrink(&mut self, bytes: usize) {
        self.try_resize(self.buffered_bytes.min(bytes), self.work_bytes);
    }

    /// Reserves the memory for parsing, translating and sending this body.
    ///
    /// # Errors
    /// As [`Self::set_buffered`]; [`ProxyError::TooManyValues`] if it could never fit.
    pub async fn begin_work(&mut self, body: &[u8]) -> Result<(), ProxyError> {
        let values = VALUE_BYTES.saturating_mul(off_thread(body.len(), || values(body)));
        if values > self.budget.limit_bytes {
            return Err(ProxyError::TooManyValues { limit_bytes: self.budget.limit_bytes });
        }
        let work = values.saturating_add(COPIES.saturating_mul(body.len()));
        self.resize(self.buffered_bytes, self.work_bytes.saturating_add(work)).await
    }

    /// Reserves the memory for buffering, translating and sending a part of the request that isn't in its body.
    ///
    /// # Errors
    /// As [`Self::set_buffered`].
    pub async fn add(&mut self, bytes: usize) -> Result<(), ProxyError> {
        self.resize(self.buffered_bytes + bytes, self.work_bytes + COPIES * bytes).await
    }

    /// Releases what [`Self::begin_work`] and [`Self::add`] reserved for translating and sending. Call it when the
    /// request won't be sent again.
    pub fn end_work(&mut self) {
        self.try_resize(self.buffered_bytes, 0);
    }

    async fn resize(&mut self, buffered_bytes: usize, work_bytes: usize) -> Result<(), ProxyError> {
        if !self.try_resize(buffered_bytes, work_bytes) {
            let wanted = self.total(buffered_bytes, work_bytes);
            if !self.budget.take(wanted - self.taken_bytes, self.max_wait).await {
                let (limit_bytes, retry_after) = (self.budget.limit_bytes, self.retry_after);
                return Err(ProxyError::MemoryFull { limit_bytes, retry_after });
            }
            self.taken_bytes = wanted;
            (self.buffered_bytes, self.work_bytes) = (buffered_bytes, work_bytes);
        }
        Ok(())
    }

    fn try_resize(&mut self, buffered_bytes: usize, work_bytes: usize) -> bool {
        let wanted = self.total(buffered_bytes, work_bytes);
        match wanted.checked_sub(self.taken_bytes) {
            Some(more) if more > 0 && !self.budget.try_take(more) => return false,
            Some(_) => {}
            None => self.budget.release(self.taken_bytes - wanted),
        }
        self.taken_bytes = wanted;
        (self.buffered_bytes, self.work_bytes) = (buffered_bytes, work_bytes);
        true
    }

    fn total(&self, buffered_bytes: usize, work_bytes: usize) -> usize {
        buffered_bytes.saturating_add(work_bytes).min(self.budget.limit_bytes)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.release(self.taken_bytes);
    }
}

/// An upper bound for the number of JSON values inside the outermost one of a body.
fn values(body: &[u8]) -> usize {
    if body.len() < SHORT_BYTES {
        memchr::memchr3_iter(b',', b'[', b'{', body).count()
    } else {
        depth_limit::values(body)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;
    use tokio::time::Instant;

    use super::{ByteBudget, COPIES, MAX_REPLY_WAIT, MAX_WAIT, VALUE_BYTES};
    use crate::error::ProxyError;

    #[tokio::test(start_paused = true)]
    async fn a_reservation_waits_for_memory_and_no_longer_than_the_limit() {
        let budget = Arc::new(ByteBudget::new(100));
        let (mut first, mut second) = (budget.reserve(), budget.reserve());
        first.set_buffered(70).await.unwrap();
        second.set_buffered(30).await.unwrap();
        let began = Instant::now();
        let refused = second.set_buffered(31).await;
        assert!(matches!(refused, Err(ProxyError::MemoryFull { limit_bytes: 100, .. })), "{refused:?}");
        assert_eq!((began.elapsed(), budget.used_bytes()), (MAX_WAIT, 100));
        let mut waiting = Box::pin(second.set_buffered(60));
        assert!(waiting.as_mut().now_or_never().is_none());
        first.set_buffered(40).await.unwrap();
        waiting.await.unwrap();
        assert_eq!(budget.used_bytes(), 100);
        drop((first, second));
        assert_eq!(budget.used_bytes(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_waits_longer_but_not_longer_than_the_backend_may_pause() {
        let budget = Arc::new(ByteBudget::new(100));
        let mut held = budget.reserve();
        held.set_buffered(100).await.unwrap();
        for (idle_limit, expected) in [(MAX_REPLY_WAIT * 2, MAX_REPLY_WAIT), (MAX_WAIT * 2, MAX_WAIT * 2)] {
            let began = Instant::now();
            let refused = budget.reserve_for_reply(idle_limit).set_buffered(1).await;
            assert!(matches!(refused, Err(ProxyError::MemoryFull { retry_after: None, .. })), "{refused:?}");
            assert_eq!(began.elapsed(), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_request_passes_while_a_large_one_waits() {
        let budget = Arc::new(ByteBudget::new(100));
        let (mut held, mut large, mut small) = (budget.reserve(), budget.reserve(), budget.reserve());
        held.set_buffered(60).await.unwrap();
        let mut waiting = Box::pin(large.set_buffered(90));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(small.try_set_buffered(40) && !small.try_set_buffered(41));
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_wait_for_each_other_are_refused_and_release_what_they_hold() {
        let budget = Arc::new(ByteBudget::new(100));
        let (mut first, mut second) = (budget.reserve(), budget.reserve());
        first.set_buffered(50).await.unwrap();
        second.set_buffered(50).await.unwrap();
        let (one, other) = tokio::join!(
            async {
                let grown = first.set_buffered(80).await;
                drop(first);
                grown
            },
            second.set_buffered(80)
        );
        assert!(one.is_err(), "the first one gives up");
        assert!(other.is_ok() || budget.used_bytes() == 50, "and leaves its bytes to the other");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_of_the_largest_size_fits_and_its_work_is_released_early() {
        let budget = Arc::new(ByteBudget::new(1000));
        let mut whole = budget.reserve();
        whole.set_buffered(900).await.unwrap();
        whole.begin_work(&[b'x'; 900]).await.unwrap();
        assert_eq!(budget.used_bytes(), 1000);
        whole.end_work();
        assert_eq!(budget.used_bytes(), 900);
    }

    #[tokio::test(start_paused = true)]
    async fn small_values_count_for_more_than_their_text() {
        let budget = Arc::new(ByteBudget::new(10 * VALUE_BYTES));
        let mut reservation = budget.reserve();
        reservation.begin_work(b"[{},{}]").await.unwrap();
        assert_eq!(budget.used_bytes(), COPIES * 7 + 4 * VALUE_BYTES);
        let refused = reservation.begin_work(b"[0,0,0,0,0,0,0,0,0,0,0]").await;
        assert!(matches!(refused, Err(ProxyError::TooManyValues { .. })), "{refused:?}");
    }
}
