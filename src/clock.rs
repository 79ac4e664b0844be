//! The wall clock, as a value, so that tests can turn it.
//!
//! Expiry of tokens is wall time. Timers of streams are not: they use `tokio::time`, which tests
//! can pause.

use std::fmt;
use std::time::SystemTime;

/// Tells the wall time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The time now.
    fn now(&self) -> SystemTime;
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
