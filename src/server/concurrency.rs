//! Limits how many requests are handled at the same time (`limits.concurrency`).
//!
//! Requests over the limit wait in a FIFO queue; if it is full, or the wait takes too long, they are refused. A permit
//! is held until the response has been sent. It is acquired after the request body has arrived, so slow senders don't
//! occupy permits. Memory has its own limit ([`super::budget`]).

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::ProxyError;

/// When a refused client should try again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The permits, and the queue for them.
#[derive(Debug)]
pub(super) struct ConcurrencyLimit {
    /// Has a permit for each further request that may be handled.
    free: Arc<Semaphore>,
    limit: usize,
    /// Has a permit for each further request that may wait.
    queue: Semaphore,
    queue_limit: usize,
    /// Longest wait in the queue.
    wait: Duration,
    /// Notified when a request leaves the queue.
    left: Notify,
}

/// Notifies of the end of a wait in the queue, when dropped.
struct QueuePlace<'q>(&'q Notify);

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        self.0.notify_waiters();
    }
}

/// A permit to handle a request; released when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    _permit: OwnedSemaphorePermit,
}

impl ConcurrencyLimit {
    pub(super) fn new(limit: usize, queue_limit: usize, wait: Duration) -> Self {
        let (limit, queue_limit) = (limit.min(Semaphore::MAX_PERMITS), queue_limit.min(Semaphore::MAX_PERMITS));
        let (free, queue) = (Arc::new(Semaphore::new(limit)), Semaphore::new(queue_limit));
        Self { free, limit, queue, queue_limit, wait, left: Notify::new() }
    }

    /// Acquires a permit, in arrival order.
    ///
    /// Cancel safe: dropping the future gives up the place in the queue.
    ///
    /// # Errors
    /// [`ProxyError::Busy`] if the queue is full, or no permit becomes free in time.
    pub(super) async fn acquire(&self) -> Result<Permit, ProxyError> {
        // The semaphore is fair: this fails while others wait.
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            return Ok(Permit { _permit: permit });
        }
        // Dropped after the permit of the queue.
        let _place = QueuePlace(&self.left);
        let Ok(_queued) = self.queue.try_acquire() else { return Err(self.busy()) };
        match timeout(self.wait, Arc::clone(&self.free).acquire_owned()).await {
            Ok(permit) => Ok(Permit { _permit: permit.expect("the semaphore is never closed") }),
            Err(_) => Err(self.busy()),
        }
    }

    /// Waits until no request waits.
    pub(super) async fn until_unqueued(&self) {
        loop {
            let mut left = pin!(self.left.notified());
            // Registered before the check, so that an end of a wait in between isn't missed.
            left.as_mut().enable();
            if self.queued() == 0 {
                return;
            }
            left.await;
        }
    }

    /// The number of waiting requests.
    pub(super) fn queued(&self) -> usize {
        self.queue_limit - self.queue.available_permits()
    }

    /// The number of permits in use.
    pub(super) fn in_use(&self) -> usize {
        self.limit - self.free.available_permits()
    }

    fn busy(&self) -> ProxyError {
        ProxyError::Busy {
            running: self.limit,
            what: "requests are running, which is the maximum (setting limits.concurrency)",
            retry_after: RETRY_AFTER,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;
    use tokio::time::Instant;

    use super::ConcurrencyLimit;
    use crate::error::ProxyError;

    const WAIT: Duration = Duration::from_secs(20);

    #[tokio::test(start_paused = true)]
    async fn permits_are_granted_in_arrival_order() {
        let concurrency = ConcurrencyLimit::new(1, 2, WAIT);
        let permit = concurrency.acquire().await.unwrap();
        let (mut first, mut second) = (Box::pin(concurrency.acquire()), Box::pin(concurrency.acquire()));
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        assert_eq!((concurrency.in_use(), concurrency.queued()), (1, 2));
        assert!(matches!(concurrency.acquire().await, Err(ProxyError::Busy { running: 1, .. })), "the queue is full");
        drop(permit);
        assert!(second.as_mut().now_or_never().is_none());
        let permit = first.await.unwrap();
        assert_eq!(concurrency.queued(), 1);
        drop(permit);
        drop(second.await.unwrap());
        assert_eq!((concurrency.in_use(), concurrency.queued()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_at_the_limit_and_a_cancelled_one_leaves_the_queue() {
        let concurrency = ConcurrencyLimit::new(1, 1, WAIT);
        let permit = concurrency.acquire().await.unwrap();
        let mut left = Box::pin(concurrency.acquire());
        assert!(left.as_mut().now_or_never().is_none());
        drop(left);
        let began = Instant::now();
        assert!(concurrency.acquire().await.is_err());
        assert_eq!(began.elapsed(), WAIT);
        drop(permit);
        assert!(concurrency.acquire().now_or_never().is_some_and(|entered| entered.is_ok()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_queue_is_awaited() {
        let concurrency = ConcurrencyLimit::new(1, 2, WAIT);
        let permit = concurrency.acquire().await.unwrap();
        assert!(concurrency.until_unqueued().now_or_never().is_some());
        let (mut first, mut second) = (Box::pin(concurrency.acquire()), Box::pin(concurrency.acquire()));
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        let mut waiting = Box::pin(concurrency.until_unqueued());
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(first);
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(permit);
        drop(second.await.unwrap());
        waiting.await;
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_queue_a_request_is_refused_immediately() {
        let concurrency = ConcurrencyLimit::new(1, 0, WAIT);
        let _permit = concurrency.acquire().await.unwrap();
        assert!(concurrency.acquire().now_or_never().is_some_and(|entered| entered.is_err()));
    }
}
