//! Exports traces over OTLP to a collector, if one is configured.
//!
//! One span per request: API, model, status, tokens, times, outcome and error class. Never content, keys, tokens,
//! accounts or addresses. Spans wait in a bounded list and are sent as JSON over HTTP in batches. If the list is full
//! or the collector unreachable, spans are dropped.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::endpoint::Endpoint;
use crate::net::{HttpClient, error_chain};
use crate::protocol::codex::Usage;

/// Maximum number of spans that wait to be sent.
const MAX_WAITING: usize = 2048;
/// How long spans are collected into a batch.
const BATCH_DELAY: Duration = Duration::from_millis(500);
/// Time limit for sending a batch.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for the last batch at shutdown.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
const PATH: &str = "/v1/traces";
/// OTLP values: span kind SERVER, status codes OK and ERROR.
const SERVER: u8 = 2;
const OK: u8 = 1;
const ERROR: u8 = 2;

/// Sends spans to a collector.
#[derive(Debug)]
pub struct Telemetry {
    endpoint: Endpoint,
    http: HttpClient,
    waiting: Mutex<Vec<Value>>,
    has_spans: Notify,
}

/// A request that has ended.
#[derive(Debug)]
pub(super) struct RequestSpan<'t> {
    /// `req_` and 32 hexadecimal digits, as in the log.
    pub(super) request_id: &'t str,
    pub(super) dialect: &'static str,
    pub(super) model: Option<&'t str>,
    pub(super) is_stream: bool,
    pub(super) status: u16,
    pub(super) outcome: &'t str,
    /// The class of the error, if there was one.
    pub(super) error: Option<&'static str>,
    pub(super) usage: Usage,
    /// Time from arrival to the first content.
    pub(super) first_content: Option<Duration>,
    /// Time from arrival to the end.
    pub(super) duration: Duration,
    pub(super) ended_at: SystemTime,
}

impl Telemetry {
    /// Creates an exporter for the collector at this base URL.
    #[must_use]
    pub fn new(endpoint: Endpoint, http: HttpClient) -> Self {
        Self { endpoint, http, waiting: Mutex::default(), has_spans: Notify::new() }
    }

    /// Queues a span, or drops it if too many wait.
    pub(super) fn record(&self, span: &RequestSpan<'_>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MAX_WAITING {
            waiting.push(span.span());
            self.has_spans.notify_one();
        }
    }

    /// Sends spans as they are recorded; runs until dropped.
    pub async fn run(&self) {
        let mut has_failed = false;
        loop {
            self.has_spans.notified().await;
            sleep(BATCH_DELAY).await;
            match self.send(SEND_TIMEOUT).await {
                Ok(()) => has_failed = false,
                Err(cause) if !has_failed => {
                    tracing::warn!(cause, "can't send traces to telemetry.otlp_endpoint; dropping them");
                    has_failed = true;
                }
                Err(cause) => tracing::debug!(cause, "still can't send traces"),
            }
        }
    }

    /// Sends the remaining spans, before the process ends.
    pub async fn flush(&self) {
        if let Err(cause) = self.send(FLUSH_TIMEOUT).await {
            tracing::debug!(cause, "can't send the last traces");
        }
    }

    async fn send(&self, time_limit: Duration) -> Result<(), String> {
        let spans = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        if spans.is_empty() {
            return Ok(());
        }
        let path = if self.endpoint.as_str().ends_with(PATH) { "" } else { PATH };
        let sending = async {
            let client = self.http.client_for(&self.endpoint).await.map_err(|error| error.to_string())?;
            let request = client.post(self.endpoint.join(path)).header(CONTENT_TYPE, "application/json");
            let response = request.body(batch(&spans)).send().await.map_err(|error| error_chain(&error))?;
            response.error_for_status().map(drop).map_err(|error| error_chain(&error.without_url()))
        };
        timeout(time_limit, sending).await.unwrap_or_else(|_| Err("the collector doesn't respond in time".to_owned()))
    }
}

fn batch(spans: &[Value]) -> String {
    let scope = json!({"name": "codex-proxy", "version": env!("CARGO_PKG_VERSION")});
    let service = [text("service.name", "codex-proxy"), text("service.version", env!("CARGO_PKG_VERSION"))];
    let spans = json!([{"scope": scope, "spans": spans}]);
    json!({"resourceSpans": [{"resource": {"attributes": service}, "scopeSpans": spans}]}).to_string()
}

impl RequestSpan<'_> {
    fn span(&self) -> Value {
        let trace_id = self.request_id.trim_start_matches("req_");
        let started_at = self.ended_at.checked_sub(self.duration).unwrap_or(self.ended_at);
        let failed = self.error.is_some();
        json!({
            "traceId": trace_id,
            "spanId": trace_id.get(16..).unwrap_or_default(),
            "name": format!("request {}", self.dialect),
            "kind": SERVER,
            "startTimeUnixNano": nanoseconds(started_at),
            "endTimeUnixNano": nanoseconds(self.ended_at),
            "attributes": self.attributes(),
            "status": {"code": if failed { ERROR } else { OK }},
        })
    }

    fn attributes(&self) -> Vec<Value> {
        let mut attributes = vec![
            text("codex_proxy.dialect", self.dialect),
            text("codex_proxy.outcome", self.outcome),
            json!({"key": "codex_proxy.stream", "value": {"boolValue": self.is_stream}}),
            number("http.response.status_code", u64::from(self.status)),
            number("gen_ai.usage.input_tokens", self.usage.input_tokens),
            number("gen_ai.usage.output_tokens", self.usage.output_tokens),
            number("codex_proxy.cached_tokens", self.usage.cached_tokens),
            number("codex_proxy.reasoning_tokens", self.usage.reasoning_tokens),
        ];
        attributes.extend(self.model.map(|model| text("gen_ai.request.model", model)));
        attributes.extend(self.error.map(|class| text("error.type", class)));
        let milliseconds = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        attributes
            .extend(self.first_content.map(|span| number("codex_proxy.time_to_first_content_ms", milliseconds(span))));
        attributes
    }
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// OTLP encodes integers as strings.
fn number(key: &str, value: u64) -> Value {
    json!({"key": key, "value": {"intValue": value.to_string()}})
}

fn nanoseconds(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos()).to_string()
}
