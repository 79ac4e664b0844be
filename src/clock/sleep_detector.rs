//! Detects that the machine has slept, for more than half a minute.
//!
//! While a machine sleeps, its wall clock advances and its monotonic clock doesn't. A clock that was set forward looks
//! the same and is treated as a sleep. Pure.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// How much more the wall clock than the monotonic clock must have advanced.
const MIN_SLEEP: Duration = Duration::from_secs(30);

/// The last observed times of both clocks.
#[derive(Debug)]
pub struct SleepDetector {
    wall: SystemTime,
    monotonic: Instant,
}

impl SleepDetector {
    /// Starts at these times.
    #[must_use]
    pub fn new(wall: SystemTime, monotonic: Instant) -> Self {
        Self { wall, monotonic }
    }

    /// Whether the machine has slept since the last call. Pass the current times.
    pub fn has_slept(&mut self, wall: SystemTime, monotonic: Instant) -> bool {
        let before = std::mem::replace(self, Self { wall, monotonic });
        let passed = wall.duration_since(before.wall).unwrap_or_default();
        passed > monotonic.duration_since(before.monotonic) + MIN_SLEEP
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use tokio::time::Instant;

    use super::SleepDetector;

    #[tokio::test(start_paused = true)]
    async fn a_sleep_is_detected_once_and_delayed_timers_are_not_one() {
        let (mut wall, mut monotonic) = (UNIX_EPOCH + Duration::from_secs(1_000_000), Instant::now());
        let mut detector = SleepDetector::new(wall, monotonic);
        let mut after = |wall_seconds: i64, monotonic_seconds: u64| {
            wall = if wall_seconds < 0 {
                wall - Duration::from_secs(wall_seconds.unsigned_abs())
            } else {
                wall + Duration::from_secs(wall_seconds.unsigned_abs())
            };
            monotonic += Duration::from_secs(monotonic_seconds);
            detector.has_slept(wall, monotonic)
        };
        assert!(!after(15, 15));
        assert!(after(3600, 15));
        assert!(!after(15, 15));
        assert!(!after(100, 90));
        assert!(!after(-600, 15));
    }
}
