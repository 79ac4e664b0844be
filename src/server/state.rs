//! The state that all requests share.

use std::sync::Arc;

use super::active_requests::ActiveRequests;
use super::batches::BatchActivity;
use super::concurrency::ConcurrencyLimit;
use super::metrics::Metrics;
use super::otlp::Telemetry;
use super::refusals::Refusals;
use super::{Services, Settings};
use crate::budget::ByteBudget;
use crate::history::{CacheStats, UsageTotals};

/// Limits, counters and the list of active requests.
#[derive(Debug)]
pub(super) struct ServerState {
    pub(super) concurrency: ConcurrencyLimit,
    pub(super) memory: Arc<ByteBudget>,
    pub(super) metrics: Metrics,
    pub(super) totals: Arc<UsageTotals>,
    pub(super) conversations: Arc<CacheStats>,
    pub(super) active_requests: ActiveRequests,
    pub(super) batches: BatchActivity,
    pub(super) refusals: Arc<Refusals>,
    pub(super) telemetry: Option<Arc<Telemetry>>,
}

impl ServerState {
    pub(super) fn new(settings: &Settings, services: &Services) -> Self {
        Self {
            concurrency: ConcurrencyLimit::new(settings.concurrency, settings.queue, settings.queue_wait),
            memory: Arc::clone(services.upstream.memory()),
            metrics: Metrics::default(),
            totals: Arc::clone(&services.totals),
            conversations: Arc::clone(&services.conversations),
            active_requests: ActiveRequests::default(),
            batches: BatchActivity::default(),
            refusals: Arc::default(),
            telemetry: services.telemetry.clone(),
        }
    }
}
