//! Noticing that the machine has slept.
//!
//! While a machine sleeps its wall clock goes on and its timers don't: a gap between the two tells
//! of a sleep, or of a clock that was put forward, which comes to the same. Pure.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// How far the wall clock has to be ahead.
const GAP: Duration = Duration::from_secs(30);

/// The two clocks, as they were last seen.
#[derive(Debug)]
pub struct Watch {
    wall: SystemTime,
    steady: Instant,
}

impl Watch {
    /// As of now.
    #[must_use]
    pub fn new(wall: SystemTime, steady: Instant) -> Self {
        Self { wall, steady }
    }

    /// Whether the machine has slept since the last look.
    pub fn has_slept(&mut self, wall: SystemTime, steady: Instant) -> bool {
        let before = std::mem::replace(self, Self { wall, steady });
        let passed = wall.duration_since(before.wall).unwrap_or_default();
        passed > steady.duration_since(before.steady) + GAP
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use tokio::time::Instant;

    use super::Watch;

    #[tokio::test(start_paused = true)]
    async fn a_sleep_is_noticed_once_and_a_busy_machine_has_not_slept() {
        let (mut wall, mut steady) = (UNIX_EPOCH + Duration::from_secs(1_000_000), Instant::now());
        let mut watch = Watch::new(wall, steady);
        let mut after = |wall_seconds: i64, steady_seconds: u64| {
            wall = if wall_seconds < 0 {
                wall - Duration::from_secs(wall_seconds.unsigned_abs())
            } else {
                wall + Duration::from_secs(wall_seconds.unsigned_abs())
            };
            steady += Duration::from_secs(steady_seconds);
            watch.has_slept(wall, steady)
        };
        assert!(!after(15, 15));
        assert!(after(3600, 15));
        assert!(!after(15, 15));
        assert!(!after(100, 90));
        assert!(!after(-600, 15));
    }
}
