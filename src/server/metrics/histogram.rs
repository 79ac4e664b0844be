//! Histograms of durations.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::exposition::Exposition;

/// Upper bounds of the buckets, in seconds.
const BUCKET_BOUNDS: [f64; 12] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0];

/// One histogram for each API.
#[derive(Debug, Default)]
pub(super) struct Histograms(Mutex<BTreeMap<&'static str, Histogram>>);

#[derive(Debug, Default)]
struct Histogram {
    /// The number of durations in each bucket, not cumulated. Those above the last bound are only in `count`.
    counts: [u64; BUCKET_BOUNDS.len()],
    count: u64,
    sum_seconds: f64,
}

impl Histograms {
    pub(super) fn add(&self, dialect: &'static str, span: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let histogram = all.entry(dialect).or_default();
        let seconds = span.as_secs_f64();
        if let Some(count) =
            BUCKET_BOUNDS.iter().position(|bound| seconds <= *bound).and_then(|at| histogram.counts.get_mut(at))
        {
            *count += 1;
        }
        histogram.count += 1;
        histogram.sum_seconds += seconds;
    }

    pub(super) fn write(&self, out: &mut Exposition, name: &str, help: &str) {
        out.family(name, "histogram", help);
        for (dialect, histogram) in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            let (bucket, mut cumulated) = (format!("{name}_bucket"), 0);
            for (bound, count) in BUCKET_BOUNDS.iter().zip(histogram.counts) {
                cumulated += count;
                out.sample(&bucket, &[("dialect", dialect), ("le", &bound.to_string())], cumulated);
            }
            out.sample(&bucket, &[("dialect", dialect), ("le", "+Inf")], histogram.count);
            out.sample(&format!("{name}_sum"), &[("dialect", dialect)], histogram.sum_seconds);
            out.sample(&format!("{name}_count"), &[("dialect", dialect)], histogram.count);
        }
    }
}
