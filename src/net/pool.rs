//! Holds the HTTP clients, and replaces them, and with them all pooled connections, when those may be dead.
//!
//! Pooled connections break unnoticed if the other side closes them, the network changes or the machine sleeps.
//! If one is stale, the others probably are, so the whole pool is dropped; responses in progress keep their
//! connections. This module reports how long the connections have been idle; whether a request is sent again is decided
//! in `stale_retry`.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;
use tower::{Layer, Service};

use super::stale_retry;
use crate::clock::Clock;
use crate::clock::sleep_detector::SleepDetector;

/// The current clients. They are replaced together.
#[derive(Debug, Default)]
pub(super) struct Pool {
    clients: Mutex<Arc<Clients>>,
    sleep_detector: Mutex<Option<SleepDetector>>,
    opened: Arc<AtomicU64>,
}

/// The clients for ordinary requests and for WebSocket upgrades, each with its own connections.
#[derive(Debug, Default)]
pub(super) struct Clients {
    /// For requests whose response is streamed or read.
    pub(super) streaming: Routes,
    /// For connections that upgrade to WebSocket; HTTP/1.1 only.
    pub(super) upgrading: Routes,
    /// Requests on the streaming clients.
    activity: Arc<Mutex<Activity>>,
}

/// The number of requests in progress, and when the last one ended.
#[derive(Debug, Default)]
struct Activity {
    in_progress: usize,
    /// `None` before the first end.
    ended: Option<Instant>,
}

/// Guard that counts a request as in progress until its last clone is dropped: normally at the end of the response
/// body.
#[derive(Clone, Debug)]
pub(crate) struct InUse(#[expect(dead_code, reason = "acts on drop")] Arc<RequestGuard>);

#[derive(Debug)]
struct RequestGuard(Arc<Mutex<Activity>>);

/// One client for direct connections and one for those through a proxy, each built on first use.
#[derive(Debug, Default)]
pub(super) struct Routes {
    pub(super) direct: OnceCell<reqwest::Client>,
    pub(super) proxied: OnceCell<reqwest::Client>,
}

/// A connector layer that counts the connections opened.
#[derive(Clone, Debug)]
pub(super) struct ConnectionCounter(Arc<AtomicU64>);

/// A connector whose connections are counted.
#[derive(Clone, Debug)]
pub(super) struct CountedConnector<S> {
    connector: S,
    opened: Arc<AtomicU64>,
}

impl Clients {
    /// Counts a request that is about to be sent on a streaming client. Also returns how long no request had been in
    /// progress, or `None` if there was no earlier one or one still is.
    pub(super) fn start_request(&self) -> (InUse, Option<Duration>) {
        let mut activity = self.activity.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = activity.ended.filter(|_| activity.in_progress == 0).map(|ended| ended.elapsed());
        activity.in_progress += 1;
        (InUse(Arc::new(RequestGuard(Arc::clone(&self.activity)))), idle)
    }
}

impl InUse {
    /// Puts the guard into the response, so that the request counts as in progress while the response exists. A caller
    /// that reads the body as a stream has to [`Self::take`] it out first, and keep it.
    pub(super) fn attach(self, response: &mut reqwest::Response) {
        response.extensions_mut().insert(self);
    }

    /// Takes the guard out of a response, to be kept while its body is read.
    pub(crate) fn take(response: &mut reqwest::Response) -> Option<Self> {
        response.extensions_mut().remove()
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let mut activity = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        activity.in_progress -= 1;
        activity.ended = Some(Instant::now());
    }
}

impl Pool {
    /// Returns the current clients. Replaces them first if the machine has slept since the last call; without a clock,
    /// that isn't detected.
    pub(super) fn clients(&self, clock: Option<&dyn Clock>) -> Arc<Clients> {
        if clock.is_some_and(|clock| self.has_slept(clock)) {
            tracing::debug!("the machine has slept: opening new connections");
            *self.lock() = Arc::default();
        }
        Arc::clone(&self.lock())
    }

    /// Replaces these clients, unless they have been replaced already.
    pub(super) fn abandon(&self, stale: &Arc<Clients>) {
        let mut clients = self.lock();
        if Arc::ptr_eq(&clients, stale) {
            *clients = Arc::default();
        }
    }

    /// Number of connections opened since the process started.
    pub(super) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// The layer that counts a client's connections.
    pub(super) fn counter(&self) -> ConnectionCounter {
        ConnectionCounter(Arc::clone(&self.opened))
    }

    fn has_slept(&self, clock: &dyn Clock) -> bool {
        let (wall, monotonic) = (clock.now(), Instant::now());
        let mut detector = self.sleep_detector.lock().unwrap_or_else(PoisonError::into_inner);
        detector.get_or_insert_with(|| SleepDetector::new(wall, monotonic)).has_slept(wall, monotonic)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<Clients>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Layer<S> for ConnectionCounter {
    type Service = CountedConnector<S>;

    fn layer(&self, connector: S) -> CountedConnector<S> {
        CountedConnector { connector, opened: Arc::clone(&self.0) }
    }
}

impl<S, T> Service<T> for CountedConnector<S>
where
    S: Service<T>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.connector.poll_ready(cx)
    }

    fn call(&mut self, target: T) -> Self::Future {
        let (connecting, opened) = (self.connector.call(target), Arc::clone(&self.opened));
        Box::pin(async move {
            let connection = connecting.await?;
            opened.fetch_add(1, Ordering::Relaxed);
            stale_retry::note_opened();
            Ok(connection)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::Pool;
    use crate::clock::Clock;

    #[derive(Debug)]
    struct TestClock(AtomicU64);

    impl Clock for TestClock {
        fn now(&self) -> SystemTime {
            UNIX_EPOCH + Duration::from_secs(self.0.load(Ordering::Relaxed))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connections_are_dropped_after_a_sleep_only() {
        let (pool, clock) = (Pool::default(), TestClock(AtomicU64::new(1_000_000)));
        let first = pool.clients(Some(&clock));
        clock.0.fetch_add(600, Ordering::Relaxed);
        tokio::time::advance(Duration::from_secs(600)).await;
        assert!(Arc::ptr_eq(&first, &pool.clients(Some(&clock))));
        clock.0.fetch_add(600, Ordering::Relaxed);
        let second = pool.clients(Some(&clock));
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&second, &pool.clients(Some(&clock))));
    }

    #[tokio::test(start_paused = true)]
    async fn connections_are_idle_since_the_last_request_ended() {
        let pool = Pool::default();
        let (clients, second) = (pool.clients(None), Duration::from_secs(1));
        let (first, idle) = clients.start_request();
        assert_eq!(idle, None, "nothing is open");
        tokio::time::advance(second).await;
        let (other, idle) = clients.start_request();
        assert_eq!(idle, None, "one is in use");
        drop(other);
        tokio::time::advance(second).await;
        assert_eq!(clients.start_request().1, None, "one is still in use");
        drop(first);
        tokio::time::advance(second).await;
        assert_eq!(clients.start_request().1, Some(second));
    }

    #[test]
    fn clients_are_abandoned_once() {
        let pool = Pool::default();
        let first = pool.clients(None);
        pool.abandon(&first);
        let second = pool.clients(None);
        assert!(!Arc::ptr_eq(&first, &second));
        pool.abandon(&first);
        assert!(Arc::ptr_eq(&second, &pool.clients(None)), "already replaced");
    }
}
