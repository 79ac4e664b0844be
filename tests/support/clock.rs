//! A wall clock that advances only when set.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use codex_proxy::clock::Clock;

/// A clock for tests, which starts in the year 2030.
#[derive(Debug)]
pub(crate) struct ManualClock(Mutex<SystemTime>);

impl ManualClock {
    pub(crate) fn new() -> Self {
        Self::at(UNIX_EPOCH + Duration::from_secs(1_893_456_000))
    }

    /// Starts at another time.
    pub(crate) fn at(time: SystemTime) -> Self {
        Self(Mutex::new(time))
    }

    pub(crate) fn advance(&self, by: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
