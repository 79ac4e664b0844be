//! The connections of the moment, and when to let go of them.
//!
//! A pool holds on to connections that may have died unseen: the other side closed them, the network
//! changed, the machine slept. What one stale connection says goes for its neighbours, so that the
//! whole pool is dropped; answers that are still being read keep their own connection to their end.
//! Nothing is sent twice here: that is for the caller, who knows what may be. It learns here how long
//! the connections have been idle.

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
use crate::clock::sleep_detector::Watch;

/// The clients in use; a whole set is replaced at a time.
#[derive(Debug, Default)]
pub(super) struct Pool {
    clients: Mutex<Arc<Clients>>,
    watch: Mutex<Option<Watch>>,
    opened: Arc<AtomicU64>,
}

/// The clients for each use, each with connections of its own.
#[derive(Debug, Default)]
pub(super) struct Clients {
    pub(super) streaming: Routes,
    pub(super) upgrading: Routes,
    /// How the streaming clients are used.
    activity: Arc<Mutex<Activity>>,
}

/// How many requests are under way, and when the last one ended.
#[derive(Debug, Default)]
struct Activity {
    under_way: usize,
    ended: Option<Instant>,
}

/// A request under way, to the end of its response's body.
#[derive(Clone, Debug)]
pub(crate) struct InUse(#[expect(dead_code, reason = "it acts when it is dropped")] Arc<Share>);

#[derive(Debug)]
struct Share(Arc<Mutex<Activity>>);

/// A client for each way out.
#[derive(Debug, Default)]
pub(super) struct Routes {
    pub(super) direct: OnceCell<reqwest::Client>,
    pub(super) proxied: OnceCell<reqwest::Client>,
}

/// Counts the connections that a client opens.
#[derive(Clone, Debug)]
pub(super) struct Count(Arc<AtomicU64>);

/// A connector that is counted.
#[derive(Clone, Debug)]
pub(super) struct Counted<S> {
    connector: S,
    opened: Arc<AtomicU64>,
}

impl Clients {
    /// Begins a request on a streaming client. Also gives how long every open connection has been idle;
    /// `None` if one of them may have been in use until now.
    pub(super) fn use_now(&self) -> (InUse, Option<Duration>) {
        let mut activity = self.activity.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = activity.ended.filter(|_| activity.under_way == 0).map(|ended| ended.elapsed());
        activity.under_way += 1;
        (InUse(Arc::new(Share(Arc::clone(&self.activity)))), idle)
    }
}

impl InUse {
    /// Counts the request as under way while its response exists. Reading the body as a stream discards the
    /// guard, unless it was taken out with [`Self::of`].
    pub(super) fn attach(self, response: &mut reqwest::Response) {
        response.extensions_mut().insert(self);
    }

    /// The guard of a response, to be kept as long as its body is read.
    pub(crate) fn of(response: &mut reqwest::Response) -> Option<Self> {
        response.extensions_mut().remove()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut activity = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        activity.under_way -= 1;
        activity.ended = Some(Instant::now());
    }
}

impl Pool {
    /// The clients of now: new ones after a sleep, whose connections are as good as gone.
    pub(super) fn clients(&self, clock: Option<&dyn Clock>) -> Arc<Clients> {
        if clock.is_some_and(|clock| self.has_slept(clock)) {
            tracing::debug!("connections are made anew: the machine has slept");
            *self.lock() = Arc::default();
        }
        Arc::clone(&self.lock())
    }

    /// Lets go of these connections, unless that has happened already.
    pub(super) fn abandon(&self, stale: &Arc<Clients>) {
        let mut clients = self.lock();
        if Arc::ptr_eq(&clients, stale) {
            *clients = Arc::default();
        }
    }

    /// How many connections have been opened since the process began.
    pub(super) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// What a client has to be built with to be counted.
    pub(super) fn count(&self) -> Count {
        Count(Arc::clone(&self.opened))
    }

    fn has_slept(&self, clock: &dyn Clock) -> bool {
        let (wall, steady) = (clock.now(), Instant::now());
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        watch.get_or_insert_with(|| Watch::new(wall, steady)).has_slept(wall, steady)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<Clients>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Layer<S> for Count {
    type Service = Counted<S>;

    fn layer(&self, connector: S) -> Counted<S> {
        Counted { connector, opened: Arc::clone(&self.0) }
    }
}

impl<S, T> Service<T> for Counted<S>
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
    struct Hands(AtomicU64);

    impl Clock for Hands {
        fn now(&self) -> SystemTime {
            UNIX_EPOCH + Duration::from_secs(self.0.load(Ordering::Relaxed))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connections_are_given_up_after_a_sleep_and_kept_otherwise() {
        let (pool, clock) = (Pool::default(), Hands(AtomicU64::new(1_000_000)));
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
        let (first, idle) = clients.use_now();
        assert_eq!(idle, None, "nothing is open");
        tokio::time::advance(second).await;
        let (other, idle) = clients.use_now();
        assert_eq!(idle, None, "one is in use");
        drop(other);
        tokio::time::advance(second).await;
        assert_eq!(clients.use_now().1, None, "one is still in use");
        drop(first);
        tokio::time::advance(second).await;
        assert_eq!(clients.use_now().1, Some(second));
    }

    #[test]
    fn only_the_connections_of_now_are_abandoned() {
        let pool = Pool::default();
        let first = pool.clients(None);
        pool.abandon(&first);
        let second = pool.clients(None);
        assert!(!Arc::ptr_eq(&first, &second));
        pool.abandon(&first);
        assert!(Arc::ptr_eq(&second, &pool.clients(None)), "another request has seen to it");
    }
}
