//! Limits open client connections, and makes room for new ones.
//!
//! A connection *waits* while no request is under way on it: it is idle between two requests, or the
//! head of its first request is not complete. When the limit is reached, each new connection closes
//! the one that has waited longest, so that idle or half-open connections can't keep a client out. A
//! connection with a request under way, or a WebSocket, is never closed here; if there are no others,
//! the new connection waits for one of them to end.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

/// How long a connection has to close before the next one is closed as well. Some still have the end
/// of a response to write.
const CLOSE_PAUSE: Duration = Duration::from_millis(100);

/// The open connections.
#[derive(Debug)]
pub(super) struct Connections {
    free: Arc<Semaphore>,
    /// Those that wait for a request, by the order in which they began to.
    waiting: Mutex<BTreeMap<u64, Arc<Notify>>>,
    next: AtomicU64,
}

/// An open connection; it counts until it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    connections: Arc<Connections>,
    _permit: OwnedSemaphorePermit,
    /// Asks the connection's task to close it.
    close: Arc<Notify>,
    /// Its key in `waiting`, if it waits.
    waits_as: Mutex<Option<u64>>,
    has_served: AtomicBool,
}

/// A request under way. The connection waits again when the last clone is dropped: the response body
/// has one, and a WebSocket keeps the one of the request that opened it.
#[derive(Clone, Debug)]
pub(super) struct RequestGuard(#[expect(dead_code, reason = "it acts when it is dropped")] Arc<BusyGuard>);

#[derive(Debug)]
struct BusyGuard(Arc<ConnectionSlot>);

/// A response body during which its request is under way.
#[derive(Debug)]
pub(super) struct TrackedBody<B> {
    body: B,
    _request: RequestGuard,
}

impl Connections {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(limit));
        Arc::new(Self { free, waiting: Mutex::default(), next: AtomicU64::new(0) })
    }

    /// Admits a new connection, closing waiting ones while the limit is reached.
    pub(super) async fn admit(self: &Arc<Self>) -> Arc<ConnectionSlot> {
        let mut permit = std::pin::pin!(Arc::clone(&self.free).acquire_owned());
        let permit = loop {
            tokio::select! {
                biased;
                permit = permit.as_mut() => break permit.expect("the semaphore is never closed"),
                () = self.make_room() => {}
            }
        };
        let slot = Arc::new(ConnectionSlot {
            connections: Arc::clone(self),
            _permit: permit,
            close: Arc::default(),
            waits_as: Mutex::default(),
            has_served: AtomicBool::new(false),
        });
        slot.wait();
        slot
    }

    /// Asks the connection that has waited longest to close, and gives it time to.
    async fn make_room(&self) {
        let longest = lock(&self.waiting).pop_first();
        if let Some((_, close)) = longest {
            close.notify_one();
        }
        sleep(CLOSE_PAUSE).await;
    }
}

impl ConnectionSlot {
    /// Waits until the connection is to be closed for another.
    pub(super) async fn asked_to_close(&self) {
        self.close.notified().await;
    }

    /// Whether a request has been received on the connection.
    pub(super) fn has_served(&self) -> bool {
        self.has_served.load(Ordering::Relaxed)
    }

    /// A request has been received.
    pub(super) fn request(self: &Arc<Self>) -> RequestGuard {
        self.has_served.store(true, Ordering::Relaxed);
        self.stop_waiting();
        RequestGuard(Arc::new(BusyGuard(Arc::clone(self))))
    }

    fn wait(&self) {
        let order = self.connections.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.connections.waiting).insert(order, Arc::clone(&self.close));
        *lock(&self.waits_as) = Some(order);
    }

    fn stop_waiting(&self) {
        if let Some(order) = lock(&self.waits_as).take() {
            lock(&self.connections.waiting).remove(&order);
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.stop_waiting();
    }
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.0.wait();
    }
}

impl<B> TrackedBody<B> {
    pub(super) fn new(body: B, request: RequestGuard) -> Self {
        Self { body, _request: request }
    }
}

impl<B: Body + Unpin> Body for TrackedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::time::timeout;

    use super::{ConnectionSlot, Connections};

    fn is_asked_to_close(slot: &ConnectionSlot) -> bool {
        slot.asked_to_close().now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_waiting_connection_closes_first() {
        let connections = Connections::new(3);
        let [first, second, third] = [connections.admit().await, connections.admit().await, connections.admit().await];
        drop(first.request());
        let mut next = std::pin::pin!(connections.admit());
        assert!(next.as_mut().now_or_never().is_none());
        assert!(is_asked_to_close(&second) && !is_asked_to_close(&third) && !is_asked_to_close(&first));
        drop(second);
        let fourth = next.await;
        assert!(!is_asked_to_close(&fourth));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_slow_to_close_is_followed_by_the_next() {
        let connections = Connections::new(2);
        let (first, second) = (connections.admit().await, connections.admit().await);
        let waits = timeout(Duration::from_secs(1), connections.admit()).await;
        assert!(waits.is_err() && is_asked_to_close(&first) && is_asked_to_close(&second));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_under_way_keeps_its_connection_open() {
        let connections = Connections::new(1);
        let busy = connections.admit().await;
        let (request, upgraded) = {
            let request = busy.request();
            (request.clone(), request)
        };
        drop(request);
        let waits = timeout(Duration::from_secs(1), connections.admit()).await;
        assert!(waits.is_err() && !is_asked_to_close(&busy), "a clone is left");
        drop(upgraded);
        let mut next = std::pin::pin!(connections.admit());
        assert!(next.as_mut().now_or_never().is_none() && is_asked_to_close(&busy));
        drop(busy);
        assert_eq!(Arc::strong_count(&next.await), 1);
    }
}
