//! The wall clock, as a value, so that tests can turn it.
//!
//! Expiry of tokens is wall time. Timers of streams are not: they use `tokio::time`, which tests
//! can pause.

pub mod sleep_detector;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

/// A difference that is smaller is none: requests take time, and services tell whole seconds.
const TOLERANCE_SECONDS: i64 = 60;

/// Tells the wall time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The time now.
    fn now(&self) -> SystemTime;

    /// Hears what time it is elsewhere, as of now. Most clocks don't care.
    fn learn(&self, _told: SystemTime) {}
}

/// A clock that is set right by what the services say, where it is off by minutes: tokens end by
/// their clock, and not by this machine's.
#[derive(Debug)]
pub struct CorrectedClock {
    inner: Arc<dyn Clock>,
    /// How far the services are ahead, in seconds.
    ahead: AtomicI64,
}

impl CorrectedClock {
    /// A clock that believes another one until it hears better.
    #[must_use]
    pub fn new(inner: Arc<dyn Clock>) -> Self {
        Self { inner, ahead: AtomicI64::new(0) }
    }
}

impl Clock for CorrectedClock {
    fn now(&self) -> SystemTime {
        let ahead = self.ahead.load(Ordering::Relaxed);
        let (now, distance) = (self.inner.now(), Duration::from_secs(ahead.unsigned_abs()));
        let moved = if ahead < 0 { now.checked_sub(distance) } else { now.checked_add(distance) };
        moved.unwrap_or(now)
    }

    fn learn(&self, told: SystemTime) {
        let now = self.inner.now();
        let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        let ahead = told.duration_since(now).map_or_else(|behind| -seconds(behind.duration()), seconds);
        let ahead = if ahead.abs() < TOLERANCE_SECONDS { 0 } else { ahead };
        let before = self.ahead.swap(ahead, Ordering::Relaxed);
        if ahead.abs_diff(before) >= TOLERANCE_SECONDS.unsigned_abs() {
            tracing::warn!(
                seconds = -ahead,
                "this machine's clock is off; the end of tokens is judged by the services'"
            );
        }
    }
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the wall clock is read")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::{Clock, CorrectedClock};

    #[derive(Debug)]
    struct Still;

    impl Clock for Still {
        fn now(&self) -> SystemTime {
            UNIX_EPOCH + Duration::from_secs(100_000)
        }
    }

    #[test]
    fn minutes_are_corrected_both_ways_and_seconds_are_left() {
        let clock = CorrectedClock::new(Arc::new(Still));
        let after = |told: u64| {
            clock.learn(UNIX_EPOCH + Duration::from_secs(told));
            clock.now().duration_since(UNIX_EPOCH).unwrap().as_secs()
        };
        assert_eq!((after(100_059), after(99_941)), (100_000, 100_000));
        assert_eq!((after(100_300), after(90_000)), (100_300, 90_000));
        assert_eq!(after(100_001), 100_000);
    }
}
