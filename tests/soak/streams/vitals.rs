//! Measurements of the daemon: its own metrics and the system's statistics.

use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::fake::FakeUpstream;
use crate::proxy::TestProxy;
use crate::wire::Ask;

/// Time limit for all values to return to the baseline.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long no value may change before the daemon counts as idle.
const CALM: Duration = Duration::from_millis(300);

/// Maximum difference between the medians of two quarters: noise, stored responses, and memory that the
/// allocator hasn't returned. In ten minutes about ten thousand responses lie between them: a leak of 1 KiB
/// each would exceed it.
const GROWTH_KIB: u64 = 8 * 1024;

/// Values that must be the same before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vitals {
    /// Active requests, streams, slots, the queue and upstream calls.
    pub(crate) under_way: u64,
    pub(crate) tasks: u64,
    /// File descriptors, from the system.
    pub(crate) descriptors: u64,
}

/// The memory of the daemon over time.
#[derive(Default)]
pub(crate) struct Memory {
    kib: Vec<u64>,
    /// Maximum delay of a measurement: how long the machine was busy with other work.
    pub(crate) latest: Duration,
}

impl Vitals {
    pub(crate) async fn of(proxy: &TestProxy) -> Self {
        let page = Ask::get("/metrics").send(proxy).await;
        let number = |name: &str| -> u64 {
            let line = page.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
        };
        let under_way = ["requests_active", "streams_active", "places_taken", "queue_length", "upstream_connections"];
        Self {
            under_way: under_way.iter().map(|name| number(&format!("codex_proxy_{name}"))).sum(),
            tasks: number("codex_proxy_tasks"),
            descriptors: descriptors(proxy),
        }
    }

    /// Waits until nothing is active and no value changes, with no upstream connection kept open.
    pub(crate) async fn at_rest(proxy: &TestProxy, upstream: &FakeUpstream) -> Self {
        let until = Instant::now() + PATIENCE;
        loop {
            upstream.step_out(Duration::from_millis(20)).await;
            let before = Self::of(proxy).await;
            sleep(CALM).await;
            let after = Self::of(proxy).await;
            if (before == after && after.under_way == 0) || Instant::now() > until {
                return after;
            }
        }
    }

    /// Waits for the baseline; returns the final values.
    pub(crate) async fn back_to(self, proxy: &TestProxy, upstream: &FakeUpstream) -> Self {
        let until = Instant::now() + PATIENCE;
        loop {
            let found = Self::at_rest(proxy, upstream).await;
            if found == self || Instant::now() > until {
                return found;
            }
        }
    }
}

impl Memory {
    /// Measures again.
    pub(crate) fn sample(&mut self, proxy: &TestProxy) {
        self.kib.extend(resident_kib(proxy));
    }

    /// Checks that memory hasn't grown since the second quarter.
    pub(crate) fn assert_flat(&self) {
        if let Some([_, second, _, last]) = self.quarters() {
            assert!(last <= second + GROWTH_KIB, "memory grows: {self}");
        }
    }

    /// The medians of its quarters; none if the system doesn't report memory.
    pub(crate) fn quarters(&self) -> Option<[u64; 4]> {
        let length = self.kib.len() / 4;
        let median = |quarter: usize| {
            let mut samples = self.kib[quarter * length..(quarter + 1) * length].to_vec();
            samples.sort_unstable();
            samples[length / 2]
        };
        (length > 0).then(|| [0, 1, 2, 3].map(median))
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.quarters(), self.kib.iter().max()) {
            (Some(quarters), Some(most)) => {
                let (count, latest) = (self.kib.len(), self.latest);
                write!(
                    f,
                    "medians of the quarters {quarters:?} KiB, most {most} KiB, {count} looks, late by up to {latest:?}"
                )
            }
            _ => write!(f, "too few samples"),
        }
    }
}

#[cfg(target_os = "linux")]
fn descriptors(proxy: &TestProxy) -> u64 {
    // The daemon isn't dumpable, so only root can read this.
    std::fs::read_dir(format!("/proc/{}/fd", proxy.process_id())).map_or(0, |entries| entries.count() as u64)
}

#[cfg(not(target_os = "linux"))]
fn descriptors(_: &TestProxy) -> u64 {
    0
}

fn resident_kib(proxy: &TestProxy) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.process_id())).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    resident.trim().trim_end_matches(" kB").parse().ok()
}
