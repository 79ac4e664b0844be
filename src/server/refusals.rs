//! Counts requests that are refused before any handler reads them, and logs them at a bounded rate.
//!
//! Any program or web page that reaches the port can cause such refusals in large numbers. One line is logged per error
//! class and interval; the next one has the number of refusals that weren't logged.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::metrics::Exposition;
use crate::error::ProxyError;

/// At most one line per error class is logged in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Refusals by error class. The number of classes is fixed.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<BTreeMap<&'static str, Count>>);

#[derive(Debug, Default)]
struct Count {
    all: u64,
    /// Since the last logged one.
    unlogged: u64,
    logged_at: Option<Instant>,
}

impl Refusals {
    /// Counts a refusal, and logs it unless one of the same class was logged recently.
    pub(super) fn note(&self, error: &ProxyError) {
        if let Some(unlogged) = self.count(error.class()) {
            tracing::info!(error = error.loggable(), unlogged, "request refused before it was read");
        }
    }

    /// Counts a refusal. If it is to be logged, returns the number of unlogged ones before it.
    fn count(&self, class: &'static str) -> Option<u64> {
        let mut counts = self.counts();
        let count = counts.entry(class).or_default();
        count.all += 1;
        if count.logged_at.is_some_and(|logged_at| logged_at.elapsed() < LOG_INTERVAL) {
            count.unlogged += 1;
            return None;
        }
        count.logged_at = Some(Instant::now());
        Some(std::mem::take(&mut count.unlogged))
    }

    pub(super) fn write(&self, out: &mut Exposition) {
        let name = "codex_proxy_refusals_total";
        out.family(name, "counter", "Requests refused before they were read, by class.");
        for (class, count) in &*self.counts() {
            out.sample(name, &[("class", class)], count.all);
        }
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<&'static str, Count>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::{LOG_INTERVAL, Refusals};

    #[tokio::test(start_paused = true)]
    async fn a_reason_is_logged_once_in_an_interval_and_the_rest_is_counted() {
        let refusals = Refusals::default();
        assert_eq!(refusals.count("a"), Some(0));
        for _ in 0..1000 {
            assert_eq!(refusals.count("a"), None);
        }
        assert_eq!(refusals.count("b"), Some(0), "another reason has a line of its own");
        advance(LOG_INTERVAL).await;
        assert_eq!(refusals.count("a"), Some(1000));
        advance(LOG_INTERVAL).await;
        assert_eq!(refusals.count("a"), Some(0));
        assert_eq!(refusals.counts()["a"].all, 1003);
    }
}
