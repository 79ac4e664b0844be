//! What is counted, and the page that shows it (`/metrics`, Prometheus' text form).
//!
//! The names are a contract with dashboards and with our own proofs. Numbers are added to when a
//! request begins, changes or ends, never for a piece of an answer. Labels are words of this
//! program: nothing that a client or the backend wrote gets in.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};

use super::Services;
use super::places::Places;

/// The counts of the server itself.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    /// Requests that have ended, by dialect and status.
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    errors: Mutex<BTreeMap<&'static str, u64>>,
    /// Requests under way, and those of them whose answer is streaming.
    active: AtomicU64,
    streams: AtomicU64,
}

/// What goes on in the server: who is let in, and what is counted.
#[derive(Debug)]
pub(super) struct Traffic {
    pub(super) places: Places,
    pub(super) metrics: Metrics,
}

/// Whether an answer is streaming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Document,
    Stream,
}

impl Metrics {
    pub(super) fn began(&self) {
        self.active.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn streams(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn ended(&self, dialect: &'static str, status: StatusCode, error: Option<&'static str>, shape: Shape) {
        self.active.fetch_sub(1, Ordering::Relaxed);
        if shape == Shape::Stream {
            self.streams.fetch_sub(1, Ordering::Relaxed);
        }
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((dialect, status.as_u16())).or_default() += 1;
        if let Some(class) = error {
            *self.errors.lock().unwrap_or_else(PoisonError::into_inner).entry(class).or_default() += 1;
        }
    }
}

/// `GET /metrics`.
pub(super) async fn page(services: Arc<Services>, traffic: Arc<Traffic>) -> Response {
    let files = tokio::task::spawn_blocking(open_files).await.ok().flatten();
    let mut response = Response::new(Body::from(text(&services, &traffic, files)));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn text(services: &Services, traffic: &Traffic, files: Option<usize>) -> String {
    let mut page = Page(String::with_capacity(4096));
    traffic.write(&mut page);
    let upstream = services.upstream.tally();
    page.counter("codex_proxy_retries_total", "Attempts after the first one of a request.", upstream.retries);
    let help = "Requests answered here since their quota is known to be spent.";
    page.counter("codex_proxy_quota_answers_total", help, upstream.quota_answers);
    let help = "Calls to the backend under way, each over a connection or HTTP/2 stream of its own.";
    page.gauge("codex_proxy_upstream_connections", help, upstream.open);
    let help = "Connections to the outside that were opened.";
    page.counter("codex_proxy_upstream_connections_opened_total", help, upstream.connections_opened);
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

impl Traffic {
    fn write(&self, page: &mut Page) {
        let Self { metrics, places } = self;
        page.family("codex_proxy_requests_total", "counter", "Requests for an answer that have ended.");
        for (&(dialect, status), &count) in &*metrics.requests.lock().unwrap_or_else(PoisonError::into_inner) {
            let labels = [("dialect", dialect), ("status", &status.to_string())];
            page.sample("codex_proxy_requests_total", &labels, count);
        }
        page.family("codex_proxy_errors_total", "counter", "Requests that ended in an error, by its class.");
        for (&class, &count) in &*metrics.errors.lock().unwrap_or_else(PoisonError::into_inner) {
            page.sample("codex_proxy_errors_total", &[("class", class)], count);
        }
        let active = metrics.active.load(Ordering::Relaxed);
        page.gauge("codex_proxy_requests_active", "Requests for an answer that are under way or queued.", active);
        let streams = metrics.streams.load(Ordering::Relaxed);
        page.gauge("codex_proxy_streams_active", "Answers that are being streamed.", streams);
        let (taken, queued) = (places.taken() as u64, places.queued() as u64);
        page.gauge("codex_proxy_places_taken", "Places out of limits.concurrency that are taken.", taken);
        page.gauge("codex_proxy_queue_length", "Requests that wait for a place.", queued);
    }
}

/// The page as it grows.
struct Page(String);

impl Page {
    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let written = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        written.expect("a text takes whatever is written");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let labels: Vec<String> = labels.iter().map(|(label, word)| format!("{label}=\"{word}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        writeln!(self.0, "{name}{labels} {value}").expect("a text takes whatever is written");
    }
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
