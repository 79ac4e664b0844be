//! The connections of the moment, and when to let go of them.
//!
//! A pool holds on to connections that may have died unseen: the other side closed them, the network
//! changed, the machine slept. What one stale connection says goes for its neighbours, so that the
//! whole pool is dropped; answers that are still being read keep their own connection to their end.
//! Nothing is sent twice here: that is for the caller, who knows what may be.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::OnceCell;
use tokio::time::Instant;
use tower::{Layer, Service};

use super::sending;
use crate::clock::Clock;
use crate::clock::wake::Watch;

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
}

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
            sending::note_opened();
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
