//! The wall clock as a trait, so that tests can set it.
//!
//! Used for token expiry and timestamps. Timeouts use `tokio::time`, which tests can pause.

pub mod sleep_detector;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

/// Smaller differences between the system's clock and a server's are ignored: requests take time, and `Date` headers
/// have whole seconds.
const TOLERANCE_SECONDS: i64 = 60;

/// The last second of the year 9999, in Unix time.
const LAST_SECOND: u64 = 253_402_300_799;

/// Returns a time in whole seconds since 1970; 0 if it is earlier.
#[must_use]
pub fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A wall clock.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Returns the current time.
    fn now(&self) -> SystemTime;

    /// Reports the time in the `Date` header of a response that has just arrived. The default implementation does
    /// nothing.
    fn learn(&self, _server_time: SystemTime) {}
}

/// A clock that corrects a wrong system clock with the `Date` headers of servers, because servers
/// judge token expiry by their own clock.
#[derive(Debug)]
pub struct CorrectedClock {
    inner: Arc<dyn Clock>,
    /// How far the servers' clocks are ahead of `inner`, in seconds; negative if they are behind.
    ahead: AtomicI64,
}

impl CorrectedClock {
    /// Creates a clock that equals another one until [`Clock::learn`] is called.
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

    fn learn(&self, server_time: SystemTime) {
        let now = self.inner.now();
        let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        let ahead = server_time.duration_since(now).map_or_else(|behind| -seconds(behind.duration()), seconds);
        let ahead = if ahead.abs() < TOLERANCE_SECONDS { 0 } else { ahead };
        let before = self.ahead.swap(ahead, Ordering::Relaxed);
        if ahead.abs_diff(before) >= TOLERANCE_SECONDS.unsigned_abs() {
            tracing::warn!(
                seconds = -ahead,
                "this machine's clock is wrong; token expiry is judged by the servers' clock"
            );
        }
    }
}

/// Formats a time as RFC 3339 in UTC, in whole seconds. A time before 1970 or after 9999 is replaced by the nearest
/// one in between.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    let last = UNIX_EPOCH + Duration::from_secs(LAST_SECOND);
    humantime::format_rfc3339_seconds(time.clamp(UNIX_EPOCH, last)).to_string()
}

/// Serializes a time, or an optional one, with [`rfc3339`].
///
/// # Errors
/// If the serializer fails.
pub fn serialize_rfc3339<T, S>(time: &T, serializer: S) -> Result<S::Ok, S::Error>
where
    T: Copy + Into<Option<SystemTime>>,
    S: Serializer,
{
    (*time).into().map(rfc3339).serialize(serializer)
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the only place that reads the wall clock")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::{Clock, CorrectedClock, LAST_SECOND, rfc3339};

    #[derive(Debug)]
    struct FixedClock;

    impl Clock for FixedClock {
        fn now(&self) -> SystemTime {
            UNIX_EPOCH + Duration::from_secs(100_000)
        }
    }

    #[test]
    fn times_are_formatted_in_whole_seconds_from_1970_to_9999() {
        assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_millis(1_790_000_000_999)), "2026-09-21T14:13:20Z");
        assert_eq!(rfc3339(UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(LAST_SECOND + 1)), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn only_differences_of_a_minute_or_more_are_corrected() {
        let clock = CorrectedClock::new(Arc::new(FixedClock));
        let after = |server_time: u64| {
            clock.learn(UNIX_EPOCH + Duration::from_secs(server_time));
            clock.now().duration_since(UNIX_EPOCH).unwrap().as_secs()
        };
        assert_eq!((after(100_059), after(99_941)), (100_000, 100_000));
        assert_eq!((after(100_300), after(90_000)), (100_300, 90_000));
        assert_eq!(after(100_001), 100_000);
    }
}
