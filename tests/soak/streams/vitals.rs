//! How the daemon fares: what it counts itself, and what the system says of it.

use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::fake::FakeUpstream;
use crate::proxy::TestProxy;
use crate::wire::Ask;

/// Within this all is as it was before.
const PATIENCE: Duration = Duration::from_secs(30);
/// For so long nothing may change, where it is at rest.
const CALM: Duration = Duration::from_millis(300);

/// What the medians of two quarters may differ by: by chance, in what is kept for later requests and
/// in what the allocator has not given back. In ten minutes some ten thousand answers lie between
/// them: a leak of one KiB for each would be more.
const GROWTH_KIB: u64 = 8 * 1024;

/// What has to be the same before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vitals {
    /// Requests, streams, places, the queue and calls to the backend: whatever is under way.
    pub(crate) under_way: u64,
    pub(crate) tasks: u64,
    /// File descriptors, by the system's word.
    pub(crate) descriptors: u64,
}

/// The memory of the daemon, over time.
#[derive(Default)]
pub(crate) struct Memory {
    kib: Vec<u64>,
    /// How late a look was at most: for so long the machine was busy otherwise.
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

    /// Waits until nothing is under way and nothing changes, with no connection to the backend kept for later.
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

    /// Waits until it is as it was; says what it is in the end.
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
    /// Looks once more.
    pub(crate) fn sample(&mut self, proxy: &TestProxy) {
        self.kib.extend(resident_kib(proxy));
    }

    /// Nothing has grown since the second quarter.
    pub(crate) fn assert_flat(&self) {
        if let Some([_, second, _, last]) = self.quarters() {
            assert!(last <= second + GROWTH_KIB, "memory grows: {self}");
        }
    }

    /// The medians of its quarters; none where the system does not tell.
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
