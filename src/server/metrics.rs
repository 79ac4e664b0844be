//! Metrics of the server, and `GET /metrics` in the Prometheus text format.
//!
//! Metric names are a contract with dashboards. Values change when a request starts, changes state or ends, not with
//! each event of a response. Label values are constants of this program, except names from clients and the backend,
//! such as models and accounts, which are escaped; the number of models is bounded.

mod exposition;
mod histogram;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};

pub(super) use self::exposition::Exposition;
use self::histogram::Histograms;
use super::Services;
use super::access::OwnUsage;
use super::api_flavor::refuse;
use super::state::ServerState;
use crate::error::Refusal;
use crate::history::Tokens;
use crate::protocol::Mode;
use crate::upstream::{Quota, QuotaWindow};

/// Maximum number of models with a label of their own; further ones count as `other`.
const MAX_MODELS: usize = 64;

/// Counters of the server itself.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    /// Ended requests, by API and status.
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    /// Requests that ended with an error, by error class.
    errors: Mutex<BTreeMap<&'static str, u64>>,
    /// Requests under way or queued.
    active: AtomicU64,
    /// Those of them whose response is being streamed.
    streams: AtomicU64,
    /// Tokens by model.
    tokens: Mutex<BTreeMap<String, Tokens>>,
    /// Time from arrival to the first content.
    first_content: Histograms,
    /// Time from arrival to the end of a streamed response.
    streamed: Histograms,
}

impl Metrics {
    pub(super) fn request_started(&self) {
        self.active.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn stream_started(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn request_ended(
        &self,
        dialect: &'static str,
        status: StatusCode,
        error: Option<&'static str>,
        mode: Mode,
    ) {
        self.active.fetch_sub(1, Ordering::Relaxed);
        if mode == Mode::Stream {
            self.streams.fetch_sub(1, Ordering::Relaxed);
        }
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((dialect, status.as_u16())).or_default() += 1;
        if let Some(class) = error {
            *self.errors.lock().unwrap_or_else(PoisonError::into_inner).entry(class).or_default() += 1;
        }
    }
}

impl Metrics {
    /// Adds the durations of a request that has ended: to its first content, and to its end.
    pub(super) fn add_durations(
        &self,
        dialect: &'static str,
        mode: Mode,
        first_content: Option<Duration>,
        duration: Duration,
    ) {
        if let Some(span) = first_content {
            self.first_content.add(dialect, span);
        }
        if mode == Mode::Stream {
            self.streamed.add(dialect, duration);
        }
    }

    /// Adds the tokens of a request.
    pub(super) fn add_tokens(&self, model: &str, used: Tokens) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = tokens.len() < MAX_MODELS || tokens.contains_key(model);
        tokens.entry(if has_room { model } else { "other" }.to_owned()).or_default().add(used);
    }
}

/// `GET /metrics`, for all client keys together. Refuses a key that may see only its own usage.
pub(super) async fn show(services: Arc<Services>, state: Arc<ServerState>, request: Request) -> Response {
    if request.extensions().get::<OwnUsage>().is_some() {
        let message = "the metrics cover all client keys; use a key with admin = true (setting keys.admin)";
        return refuse(&Refusal::forbidden("admin_key_required", None, message), &request);
    }
    let files = tokio::task::spawn_blocking(open_files).await.ok().flatten();
    let mut response = Response::new(Body::from(text(&services, &state, files)));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn text(services: &Services, state: &ServerState, files: Option<usize>) -> String {
    let mut out = Exposition(String::with_capacity(8192));
    state.write(&mut out);
    write_quotas(&mut out, &services.upstream.quotas());
    let upstream = services.upstream.counters();
    out.counter("codex_proxy_retries_total", "Retries of requests to the backend.", upstream.retries);
    let help = "Requests refused without a call because their quota is used up.";
    out.counter("codex_proxy_quota_answers_total", help, upstream.quota_refusals);
    let help = "Calls to the backend under way, each on its own connection or HTTP/2 stream.";
    out.gauge("codex_proxy_upstream_connections", help, upstream.open);
    let help = "Outgoing connections opened.";
    out.counter("codex_proxy_upstream_connections_opened_total", help, upstream.connections_opened);
    let name = "codex_proxy_drift_total";
    out.family(name, "counter", "Events, event members and items from the backend that this release doesn't know.");
    for unknown in services.upstream.unknown_names() {
        out.sample(name, &[("what", &unknown.what), ("name", &unknown.name)], unknown.count);
    }
    let refreshes = services.tokens.refreshes();
    out.family("codex_proxy_refreshes_total", "counter", "Refreshes of access tokens, by outcome.");
    for (outcome, count) in
        [("granted", refreshes.granted), ("refused", refreshes.refused), ("failed", refreshes.failed)]
    {
        out.sample("codex_proxy_refreshes_total", &[("outcome", outcome)], count);
    }
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    out.gauge("codex_proxy_tasks", "Live tasks of the async runtime.", tasks as u64);
    if let Some(files) = files {
        out.gauge("process_open_fds", "Open file descriptors.", files as u64);
    }
    out.0
}

impl ServerState {
    fn write(&self, out: &mut Exposition) {
        let Self { metrics, concurrency, memory, refusals, .. } = self;
        out.family("codex_proxy_requests_total", "counter", "Requests that have ended.");
        for (&(dialect, status), &count) in &*metrics.requests.lock().unwrap_or_else(PoisonError::into_inner) {
            let labels = [("dialect", dialect), ("status", &status.to_string())];
            out.sample("codex_proxy_requests_total", &labels, count);
        }
        out.family("codex_proxy_errors_total", "counter", "Requests that ended with an error, by class.");
        for (&class, &count) in &*metrics.errors.lock().unwrap_or_else(PoisonError::into_inner) {
            out.sample("codex_proxy_errors_total", &[("class", class)], count);
        }
        metrics.write(out);
        refusals.write(out);
        let active = metrics.active.load(Ordering::Relaxed);
        out.gauge("codex_proxy_requests_active", "Requests under way or queued.", active);
        let streams = metrics.streams.load(Ordering::Relaxed);
        out.gauge("codex_proxy_streams_active", "Responses that are being streamed.", streams);
        let (taken, queued) = (concurrency.in_use() as u64, concurrency.queued() as u64);
        out.gauge("codex_proxy_places_taken", "Requests being handled, of limits.concurrency.", taken);
        out.gauge("codex_proxy_queue_length", "Requests waiting in the queue.", queued);
        let help = "Bytes reserved, of limits.memory.";
        out.gauge("codex_proxy_memory_reserved_bytes", help, memory.used_bytes() as u64);
    }
}

impl Metrics {
    fn write(&self, out: &mut Exposition) {
        let help =
            "Tokens as reported by the backend. Cached tokens are part of the input, reasoning tokens of the output.";
        out.family("codex_proxy_tokens_total", "counter", help);
        for (model, tokens) in &*self.tokens.lock().unwrap_or_else(PoisonError::into_inner) {
            let Tokens { input, cached, output, reasoning } = *tokens;
            for (kind, count) in [("input", input), ("cached", cached), ("output", output), ("reasoning", reasoning)] {
                out.sample("codex_proxy_tokens_total", &[("model", model), ("kind", kind)], count);
            }
        }
        let help = "Time from a request to the first content of its response.";
        self.first_content.write(out, "codex_proxy_time_to_first_content_seconds", help);
        let help = "Time from a request to the end of its streamed response.";
        self.streamed.write(out, "codex_proxy_stream_duration_seconds", help);
    }
}

/// Writes the quota as last reported; doesn't request it.
fn write_quotas(out: &mut Exposition, quotas: &[Quota]) {
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let windows = || quotas.iter().flat_map(|quota| quota.windows.iter().map(|window| (&*quota.account_id, window)));
    let name = "codex_proxy_quota_used_ratio";
    out.family(name, "gauge", "Used fraction of a quota window.");
    for (account, window) in windows() {
        out.sample(name, &labels(account, window), window.used_percent / 100.0);
    }
    let name = "codex_proxy_quota_reset_timestamp_seconds";
    out.family(name, "gauge", "When a quota window resets.");
    for (account, window) in windows() {
        if let Some(reset) = window.resets_at {
            out.sample(name, &labels(account, window), seconds(reset));
        }
    }
    let name = "codex_proxy_quota_observed_timestamp_seconds";
    out.family(name, "gauge", "When the backend last reported the quota.");
    for quota in quotas {
        out.sample(name, &[("account", &quota.account_id)], seconds(quota.observed_at));
    }
}

fn labels<'q>(account: &'q str, window: &'q QuotaWindow) -> [(&'static str, &'q str); 3] {
    let limit = window.limit.as_deref().unwrap_or("plan");
    [("account", account), ("limit", limit), ("window", &window.window)]
}

#[cfg(unix)]
fn open_files() -> Option<usize> {
    // Reading the directory opens one more.
    Some(std::fs::read_dir("/dev/fd").ok()?.count().saturating_sub(1))
}

#[cfg(not(unix))]
fn open_files() -> Option<usize> {
    None
}
