//! Spans of time, counted by their length.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::exposition::Exposition;

/// Upper ends of the buckets, in seconds; the last one has none.
const ENDS: [f64; 12] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0];

/// One histogram for each dialect.
#[derive(Debug, Default)]
pub(super) struct Histograms(Mutex<BTreeMap<&'static str, Histogram>>);

#[derive(Debug, Default)]
struct Histogram {
    /// How many fell into each bucket, and into none before.
    counts: [u64; ENDS.len()],
    count: u64,
    sum_seconds: f64,
}

impl Histograms {
    pub(super) fn add(&self, dialect: &'static str, span: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let histogram = all.entry(dialect).or_default();
        let seconds = span.as_secs_f64();
        if let Some(count) = ENDS.iter().position(|end| seconds <= *end).and_then(|at| histogram.counts.get_mut(at)) {
            *count += 1;
        }
        histogram.count += 1;
        histogram.sum_seconds += seconds;
    }

    pub(super) fn write(&self, page: &mut Exposition, name: &str, help: &str) {
        page.family(name, "histogram", help);
        for (dialect, histogram) in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            let (bucket, mut so_far) = (format!("{name}_bucket"), 0);
            for (end, count) in ENDS.iter().zip(histogram.counts) {
                so_far += count;
                page.sample(&bucket, &[("dialect", dialect), ("le", &end.to_string())], so_far);
            }
            page.sample(&bucket, &[("dialect", dialect), ("le", "+Inf")], histogram.count);
            page.sample(&format!("{name}_sum"), &[("dialect", dialect)], histogram.sum_seconds);
            page.sample(&format!("{name}_count"), &[("dialect", dialect)], histogram.count);
        }
    }
}
