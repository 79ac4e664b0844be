//! Limits open client connections, and closes idle ones for new ones.
//!
//! A connection is *idle* while no request is under way on it: between two requests, or before the head of its first
//! request is complete. At the limit, each new connection closes the one that has been idle longest, so that idle or
//! half-open connections can't keep clients out. A busy connection, or one with a WebSocket, is never closed here: if
//! there are no others, the new connection waits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

/// How long a connection has to close before another one is closed too. Some still have to write the end of a response.
const CLOSE_PAUSE: Duration = Duration::from_millis(100);

/// The open connections.
#[derive(Debug)]
pub(super) struct Connections {
    /// Has a permit for each further connection.
    free: Arc<Semaphore>,
    /// Idle connections, longest idle first.
    idle: Mutex<BTreeMap<u64, Arc<Notify>>>,
    /// The next key in `idle`.
    next: AtomicU64,
}

/// An open connection. Dropping it frees its slot.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    connections: Arc<Connections>,
    _permit: OwnedSemaphorePermit,
    /// Notified when the task of the connection has to close it.
    close: Arc<Notify>,
    /// Its key in [`Connections::idle`], while idle.
    idle_key: Mutex<Option<u64>>,
    has_received_request: AtomicBool,
}

/// Keeps a connection busy. It is idle again when the last clone is dropped: the response body has one, and a WebSocket
/// keeps that of its opening request.
#[derive(Clone, Debug)]
pub(super) struct RequestGuard(#[expect(dead_code, reason = "acts when dropped")] Arc<BusyGuard>);

#[derive(Debug)]
struct BusyGuard(Arc<ConnectionSlot>);

impl Connections {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(limit));
        Arc::new(Self { free, idle: Mutex::default(), next: AtomicU64::new(0) })
    }

    /// Waits for a slot, closing idle connections while there is none.
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
            idle_key: Mutex::default(),
            has_received_request: AtomicBool::new(false),
        });
        slot.set_idle();
        slot
    }

    /// Requests that the connection that has been idle longest closes, and gives it some time.
    async fn make_room(&self) {
        let longest = lock(&self.idle).pop_first();
        if let Some((_, close)) = longest {
            close.notify_one();
        }
        sleep(CLOSE_PAUSE).await;
    }
}

impl ConnectionSlot {
    /// Waits until the connection has to close for another one.
    pub(super) async fn close_requested(&self) {
        self.close.notified().await;
    }

    /// Whether a request has been received on the connection.
    pub(super) fn has_received_request(&self) -> bool {
        self.has_received_request.load(Ordering::Relaxed)
    }

    /// Marks the connection as busy.
    pub(super) fn start_request(self: &Arc<Self>) -> RequestGuard {
        self.has_received_request.store(true, Ordering::Relaxed);
        self.set_busy();
        RequestGuard(Arc::new(BusyGuard(Arc::clone(self))))
    }

    fn set_idle(&self) {
        let order = self.connections.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.connections.idle).insert(order, Arc::clone(&self.close));
        *lock(&self.idle_key) = Some(order);
    }

    fn set_busy(&self) {
        if let Some(order) = lock(&self.idle_key).take() {
            lock(&self.connections.idle).remove(&order);
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        // Removes it from the idle ones.
        self.set_busy();
    }
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.0.set_idle();
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

    fn must_close(slot: &ConnectionSlot) -> bool {
        slot.close_requested().now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_connection_closes_first() {
        let connections = Connections::new(3);
        let [first, second, third] = [connections.admit().await, connections.admit().await, connections.admit().await];
        drop(first.start_request());
        let mut next = std::pin::pin!(connections.admit());
        assert!(next.as_mut().now_or_never().is_none());
        assert!(must_close(&second) && !must_close(&third) && !must_close(&first));
        drop(second);
        let fourth = next.await;
        assert!(!must_close(&fourth));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_closes_slowly_is_followed_by_another() {
        let connections = Connections::new(2);
        let (first, second) = (connections.admit().await, connections.admit().await);
        let waits = timeout(Duration::from_secs(1), connections.admit()).await;
        assert!(waits.is_err() && must_close(&first) && must_close(&second));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_under_way_keeps_its_connection_open() {
        let connections = Connections::new(1);
        let busy = connections.admit().await;
        let (request, upgraded) = {
            let request = busy.start_request();
            (request.clone(), request)
        };
        drop(request);
        let waits = timeout(Duration::from_secs(1), connections.admit()).await;
        assert!(waits.is_err() && !must_close(&busy), "a clone is left");
        drop(upgraded);
        let mut next = std::pin::pin!(connections.admit());
        assert!(next.as_mut().now_or_never().is_none() && must_close(&busy));
        drop(busy);
        assert_eq!(Arc::strong_count(&next.await), 1);
    }
}
