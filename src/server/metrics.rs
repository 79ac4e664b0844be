//! What is counted, and the page that shows it (`/metrics`, Prometheus' text form).
//!
//! The names are a contract with dashboards and with our own proofs. Numbers are added to when a
//! request begins, changes or ends, never for a piece of an answer. Labels are words of this program;
//! only the names of models, of quota limits and the ids of accounts come from elsewhere: they are
//! escaped, and the number of models is bounded.

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
use super::active_requests::ActiveRequests;
use super::api_flavor::refuse;
use super::budget::ByteBudget;
use super::concurrency::ConcurrencyLimit;
use super::otlp::Telemetry;
use super::refusals::Refusals;
use crate::error::Refusal;
use crate::history::{Conversations, Tokens, Totals};
use crate::protocol::Mode;
use crate::upstream::{Quota, QuotaWindow};

/// Models that are counted apart; the rest is `other`.
const MAX_MODELS: usize = 64;

/// The counts of the server itself.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    /// Requests that have ended, by dialect and status.
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    errors: Mutex<BTreeMap<&'static str, u64>>,
    /// Requests under way, and those of them whose answer is streaming.
    active: AtomicU64,
    streams: AtomicU64,
    /// Tokens of answers, by model.
    tokens: Mutex<BTreeMap<String, Tokens>>,
    /// From a request to the first content of its answer.
    first_content: Histograms,
    /// From a request to the end of an answer that was streamed.
    streamed: Histograms,
}

/// What goes on in the server: who is let in, and what is counted.
#[derive(Debug)]
pub(super) struct ServerState {
    pub(super) concurrency: ConcurrencyLimit,
    pub(super) memory: Arc<ByteBudget>,
    pub(super) metrics: Metrics,
    pub(super) totals: Arc<Totals>,
    pub(super) conversations: Arc<Conversations>,
    pub(super) active_requests: ActiveRequests,
    pub(super) refusals: Arc<Refusals>,
    pub(super) telemetry: Option<Arc<Telemetry>>,
}

impl Metrics {
    pub(super) fn began(&self) {
        self.active.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn streams(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn ended(&self, dialect: &'static str, status: StatusCode, error: Option<&'static str>, mode: Mode) {
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
    /// Takes note of how long an answer took.
    pub(super) fn took(&self, dialect: &'static str, mode: Mode, first_content: Option<Duration>, whole: Duration) {
        if let Some(span) = first_content {
            self.first_content.add(dialect, span);
        }
        if mode == Mode::Stream {
            self.streamed.add(dialect, whole);
        }
    }

    /// Takes note of the tokens of an answer.
    pub(super) fn spent(&self, model: &str, spent: Tokens) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = tokens.len() < MAX_MODELS || tokens.contains_key(model);
        tokens.entry(if has_room { model } else { "other" }.to_owned()).or_default().add(spent);
    }
}

/// `GET /metrics`. Its numbers are those of all keys together.
pub(super) async fn page(services: Arc<Services>, state: Arc<ServerState>, request: Request) -> Response {
    if request.extensions().get::<OwnUsage>().is_some() {
        let message = "the metrics are those of all keys, which a key with admin = true may see (setting keys.admin)";
        return refuse(&Refusal::forbidden("admin_key_required", None, message), &request);
    }
    let files = tokio::task::spawn_blocking(open_files).await.ok().flatten();
    let mut response = Response::new(Body::from(text(&services, &state, files)));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn text(services: &Services, state: &ServerState, files: Option<usize>) -> String {
    let mut page = Exposition(String::with_capacity(8192));
    state.write(&mut page);
    write_quotas(&mut page, &services.upstream.quotas());
    let upstream = services.upstream.tally();
    page.counter("codex_proxy_retries_total", "Attempts after the first one of a request.", upstream.retries);
    let help = "Requests answered here since their quota is known to be spent.";
    page.counter("codex_proxy_quota_answers_total", help, upstream.quota_answers);
    let help = "Calls to the backend under way, each over a connection or HTTP/2 stream of its own.";
    page.gauge("codex_proxy_upstream_connections", help, upstream.open);
    let help = "Connections to the outside that were opened.";
    page.counter("codex_proxy_upstream_connections_opened_total", help, upstream.connections_opened);
    let name = "codex_proxy_drift_total";
    page.family(
        name,
        "counter",
        "Events, members of events and items from the backend that this release does not know.",
    );
    for strange in services.upstream.drift() {
        page.sample(name, &[("what", &strange.what), ("name", &strange.name)], strange.count);
    }
    let refreshes = services.tokens.refreshes();
    page.family("codex_proxy_refreshes_total", "counter", "Renewals of access tokens, by outcome.");
    for (outcome, count) in
        [("granted", refreshes.granted), ("refused", refreshes.refused), ("failed", refreshes.failed)]
    {
        page.sample("codex_proxy_refreshes_total", &[("outcome", outcome)], count);
    }
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    page.gauge("codex_proxy_tasks", "Tasks of the runtime that are alive.", tasks as u64);
    if let Some(files) = files {
        page.gauge("process_open_fds", "File descriptors that are open.", files as u64);
    }
    page.0
}

impl ServerState {
    fn write(&self, page: &mut Exposition) {
        let Self { metrics, concurrency, memory, refusals, .. } = self;
        page.family("codex_proxy_requests_total", "counter", "Requests for an answer that have ended.");
        for (&(dialect, status), &count) in &*metrics.requests.lock().unwrap_or_else(PoisonError::into_inner) {
            let labels = [("dialect", dialect), ("status", &status.to_string())];
            page.sample("codex_proxy_requests_total", &labels, count);
        }
        page.family("codex_proxy_errors_total", "counter", "Requests that ended in an error, by its class.");
        for (&class, &count) in &*metrics.errors.lock().unwrap_or_else(PoisonError::into_inner) {
            page.sample("codex_proxy_errors_total", &[("class", class)], count);
        }
        metrics.write(page);
        refusals.write(page);
        let active = metrics.active.load(Ordering::Relaxed);
        page.gauge("codex_proxy_requests_active", "Requests for an answer that are under way or queued.", active);
        let streams = metrics.streams.load(Ordering::Relaxed);
        page.gauge("codex_proxy_streams_active", "Answers that are being streamed.", streams);
        let (taken, queued) = (concurrency.taken() as u64, concurrency.queued() as u64);
        page.gauge("codex_proxy_places_taken", "Places out of limits.concurrency that are taken.", taken);
        page.gauge("codex_proxy_queue_length", "Requests that wait for a place.", queued);
        let help = "Bytes out of limits.memory that are reserved.";
        page.gauge("codex_proxy_memory_reserved_bytes", help, memory.used_bytes() as u64);
    }
}

impl Metrics {
    fn write(&self, page: &mut Exposition) {
        let help = "Tokens of answers, as the backend told them; cached ones are part of the input, reasoning of the \
                    output.";
        page.family("codex_proxy_tokens_total", "counter", help);
        for (model, tokens) in &*self.tokens.lock().unwrap_or_else(PoisonError::into_inner) {
            let Tokens { input, cached, output, reasoning } = *tokens;
            for (kind, count) in [("input", input), ("cached", cached), ("output", output), ("reasoning", reasoning)] {
                page.sample("codex_proxy_tokens_total", &[("model", model), ("kind", kind)], count);
            }
        }
        let help = "From a request to the first content of its answer.";
        self.first_content.write(page, "codex_proxy_time_to_first_content_seconds", help);
        let help = "From a request to the end of an answer that was streamed.";
        self.streamed.write(page, "codex_proxy_stream_duration_seconds", help);
    }
}

/// The windows as they were told last; nobody is asked for this page.
fn write_quotas(page: &mut Exposition, quotas: &[Quota]) {
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let windows = || quotas.iter().flat_map(|quota| quota.windows.iter().map(|window| (&*quota.account_id, window)));
    let name = "codex_proxy_quota_used_ratio";
    page.family(name, "gauge", "How much of a quota window is used, of 1.");
    for (account, window) in windows() {
        page.sample(name, &labels(account, window), window.used_percent / 100.0);
    }
    let name = "codex_proxy_quota_reset_timestamp_seconds";
    page.family(name, "gauge", "When a quota window begins anew.");
    for (account, window) in windows() {
        if let Some(reset) = window.resets_at {
            page.sample(name, &labels(account, window), seconds(reset));
        }
    }
    let name = "codex_proxy_quota_observed_timestamp_seconds";
    page.family(name, "gauge", "When the backend told something of the quota last.");
    for quota in quotas {
        page.sample(name, &[("account", &quota.account_id)], seconds(quota.observed_at));
    }
}

fn labels<'q>(account: &'q str, window: &'q QuotaWindow) -> [(&'static str, &'q str); 3] {
    let limit = window.limit.as_deref().unwrap_or("plan");
    [("account", account), ("limit", limit), ("window", &window.window)]
}

#[cfg(unix)]
fn open_files() -> Option<usize> {
    // The look itself opens one.
    Some(std::fs::read_dir("/dev/fd").ok()?.count().saturating_sub(1))
}

#[cfg(not(unix))]
fn open_files() -> Option<usize> {
    None
}
