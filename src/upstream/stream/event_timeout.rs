//! The time limit for the next event of a stream.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::super::event_class::EventClass;
use super::Limits;
use crate::error::{Phase, ProxyError};

/// A timeout that each event restarts. Cheap per event: only the time is recorded, and the timer is reset when it
/// fires.
pub(super) struct EventTimeout {
    phase: Phase,
    limit: Duration,
    idle_limit: Duration,
    since: Instant,
    timer: Pin<Box<Sleep>>,
}

impl EventTimeout {
    /// The timeout of a response to a request sent at `sent`.
    pub(super) fn new(limits: Limits, sent: Instant) -> Self {
        Self {
            phase: Phase::FirstEvent,
            limit: limits.first_event,
            idle_limit: limits.idle,
            since: sent,
            timer: Box::pin(sleep_until(sent + limits.first_event)),
        }
    }

    /// Reduces the limit for the next event to `limit`, if that is shorter.
    pub(super) fn shorten(&mut self, limit: Duration) {
        self.limit = self.limit.min(limit);
    }

    /// Restarts the timeout after an event. Until the first event of the response, others (such as rate limits) don't
    /// restart it.
    pub(super) fn restart(&mut self, class: EventClass) {
        if self.phase == Phase::FirstEvent && class == EventClass::Other {
            return;
        }
        self.since = Instant::now();
        self.phase = Phase::Streaming;
        self.limit = self.idle_limit;
    }

    /// Returns the error when the timeout has expired.
    pub(super) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<ProxyError> {
        let end = self.since + self.limit;
        loop {
            // The limit may have become shorter since the timer was set.
            if self.timer.deadline() > end {
                self.timer.as_mut().reset(end);
            }
            ready!(self.timer.as_mut().poll(cx));
            if Instant::now() >= end {
                return Poll::Ready(ProxyError::Silent { phase: self.phase, limit: self.limit });
            }
            self.timer.as_mut().reset(end);
        }
    }
}
