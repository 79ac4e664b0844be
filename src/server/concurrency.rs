//! How many requests are answered at a time.
//!
//! Whoever comes when all places are taken waits in a short queue, first come first served, for a
//! while; whoever finds the queue full, or has waited long enough, is told to come back. A place is
//! held until the answer has ended or was dropped. A request enters when its body has arrived: a client
//! that sends slowly occupies no place. Memory has its own bound ([`super::budget`]).

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::ProxyError;

/// When somebody who was turned away may come back.
const COME_BACK: Duration = Duration::from_secs(5);

/// The concurrency, and the queue for them.
#[derive(Debug)]
pub(super) struct ConcurrencyLimit {
    free: Arc<Semaphore>,
    limit: usize,
    queue: Semaphore,
    queue_limit: usize,
    wait: Duration,
}

/// A place; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    _permit: OwnedSemaphorePermit,
}

/// A whole answer that keeps its place until it has been sent.
#[derive(Debug)]
pub(super) struct PermitBody {
    answer: Full<Bytes>,
    _place: Option<Permit>,
}

impl PermitBody {
    pub(super) fn new(answer: Bytes, place: Option<Permit>) -> Self {
        Self { answer: Full::new(answer), _place: place }
    }
}

impl Body for PermitBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.answer).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.answer.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.answer.size_hint()
    }
}

impl ConcurrencyLimit {
    pub(super) fn new(limit: usize, queue_limit: usize, wait: Duration) -> Self {
        let (limit, queue_limit) = (limit.min(Semaphore::MAX_PERMITS), queue_limit.min(Semaphore::MAX_PERMITS));
        let (free, queue) = (Arc::new(Semaphore::new(limit)), Semaphore::new(queue_limit));
        Self { free, limit, queue, queue_limit, wait }
    }

    /// A place, as soon as it is this caller's turn.
    pub(super) async fn enter(&self) -> Result<Permit, ProxyError> {
        // A place that becomes free goes to who waits for it: none is free while anybody does.
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            return Ok(Permit { _permit: permit });
        }
        let Ok(_queued) = self.queue.try_acquire() else { return Err(self.busy()) };
        match timeout(self.wait, Arc::clone(&self.free).acquire_owned()).await {
            Ok(permit) => Ok(Permit { _permit: permit.expect("the semaphore is never closed") }),
            Err(_) => Err(self.busy()),
        }
    }

    /// How many are waiting.
    pub(super) fn queued(&self) -> usize {
        self.queue_limit - self.queue.available_permits()
    }

    /// How many places are taken.
    pub(super) fn taken(&self) -> usize {
        self.limit - self.free.available_permits()
    }

    fn busy(&self) -> ProxyError {
        ProxyError::Busy { running: self.limit, retry_after: COME_BACK }
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
    async fn places_go_to_who_came_first() {
        let concurrency = ConcurrencyLimit::new(1, 2, WAIT);
        let place = concurrency.enter().await.unwrap();
        let (mut first, mut second) = (Box::pin(concurrency.enter()), Box::pin(concurrency.enter()));
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        assert_eq!((concurrency.taken(), concurrency.queued()), (1, 2));
        assert!(matches!(concurrency.enter().await, Err(ProxyError::Busy { running: 1, .. })), "the queue is full");
        drop(place);
        assert!(second.as_mut().now_or_never().is_none());
        let place = first.await.unwrap();
        assert_eq!(concurrency.queued(), 1);
        drop(place);
        drop(second.await.unwrap());
        assert_eq!((concurrency.taken(), concurrency.queued()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_the_limit_and_who_leaves_is_not_waited_for() {
        let concurrency = ConcurrencyLimit::new(1, 1, WAIT);
        let place = concurrency.enter().await.unwrap();
        let mut left = Box::pin(concurrency.enter());
        assert!(left.as_mut().now_or_never().is_none());
        drop(left);
        let began = Instant::now();
        assert!(concurrency.enter().await.is_err());
        assert_eq!(began.elapsed(), WAIT);
        drop(place);
        assert!(concurrency.enter().now_or_never().is_some_and(|entered| entered.is_ok()));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_queue_the_answer_comes_at_once() {
        let concurrency = ConcurrencyLimit::new(1, 0, WAIT);
        let _place = concurrency.enter().await.unwrap();
        assert!(concurrency.enter().now_or_never().is_some_and(|entered| entered.is_err()));
    }
}
