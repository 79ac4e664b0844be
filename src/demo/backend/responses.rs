//! Handles one request: validates it, generates the response, and streams it.
//!
//! Ids are derived from the request and its number since the start of the demo, so runs are reproducible.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::super::issuer::{Sessions, unix};
use super::super::json_response::Refusal;
use super::catalogue;
use super::events::{EventWriter, ResponseMeta, TimedEvent};
use super::fault::Fault;
use super::output;
use super::prompt::Prompt;
use super::{quota, validate};
use crate::protocol::codex::WireFormat;

/// Delay before each delta, normally and for [`Fault::Slow`].
const DELTA_DELAY: Duration = Duration::from_millis(4);
const SLOW_DELAY: Duration = Duration::from_millis(333);

/// Generates responses; holds the state that they share.
pub(super) struct Responses {
    sessions: Arc<Sessions>,
    /// Number of responses so far.
    count: AtomicU64,
    cancel: CancellationToken,
}

/// How a stream ends after its last event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamEnd {
    /// After the terminal event.
    Complete,
    /// Normally, but before the terminal event.
    Truncated,
    /// With a connection error.
    Aborted,
}

/// A response that is ready to be sent.
pub(super) struct PreparedResponse {
    pub(super) headers: HeaderMap,
    pub(super) events: Vec<TimedEvent>,
    pub(super) end: StreamEnd,
}

impl Responses {
    pub(super) fn new(sessions: Arc<Sessions>, cancel: CancellationToken) -> Self {
        Self { sessions, count: AtomicU64::new(0), cancel }
    }

    /// Canceled when the demo stops.
    pub(super) fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    pub(super) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Validates a request and generates its response. Invalid requests and some faults are errors.
    pub(super) fn answer(&self, body: &Value, format: WireFormat) -> Result<PreparedResponse, Refusal> {
        let request = validate::check(body, format)?;
        let prompt = Prompt::read(request);
        let fault = Fault::find(&prompt);
        if fault == Some(Fault::Lite) && format == WireFormat::Classic {
            let model = text(request, "model");
            let message = format!("The '{model}' model requires the responses-lite form of requests.");
            return Err(Refusal::invalid(Some("unsupported_value"), "model", message));
        }
        if let Some(refusal) = fault.and_then(|fault| fault.refusal(unix(self.sessions.now()))) {
            return Err(refusal);
        }
        let key = self.key(body);
        let head = ResponseMeta {
            key: key.clone(),
            created_at: unix(self.sessions.now()),
            echo: echo(request),
            delay: if fault == Some(Fault::Slow) { SLOW_DELAY } else { DELTA_DELAY },
        };
        let (mut events, end) = response_events(head, request, &prompt, fault);
        events.insert(0, TimedEvent { delay: Duration::ZERO, event: quota::event(self.sessions.now()) });
        Ok(PreparedResponse { headers: self.headers(&key, request), events, end })
    }

    /// Like [`Self::answer`], on a WebSocket that has been used before and may report its age limit.
    pub(super) fn answer_on_used_connection(
        &self,
        body: &Value,
        format: WireFormat,
    ) -> Result<PreparedResponse, Refusal> {
        let prompt = body.as_object().filter(|members| members.contains_key("input")).map(Prompt::read);
        if prompt.and_then(|prompt| Fault::find(&prompt)) == Some(Fault::ConnectionLimit) {
            return Err(Refusal::invalid(
                Some("websocket_connection_limit_reached"),
                Value::Null,
                "Responses websocket connection limit reached (60 minutes). Create a new websocket connection to continue.",
            ));
        }
        self.answer(body, format)
    }

    /// Generates the response to a WebSocket request with `generate: false`, which only stores its input for the next
    /// one: a completed response without output.
    pub(super) fn prewarmed(&self, body: &Value, format: WireFormat) -> Result<PreparedResponse, Refusal> {
        let is_empty = body["input"].as_array().is_some_and(Vec::is_empty);
        let request = if is_empty { body.as_object() } else { Some(validate::check(body, format)?) };
        let request = request.ok_or_else(|| Refusal::bad_request("Request body must be a JSON object"))?;
        let key = self.key(body);
        let created_at = unix(self.sessions.now());
        let mut writer =
            EventWriter::new(ResponseMeta { key: key.clone(), created_at, echo: echo(request), delay: DELTA_DELAY });
        writer.end("completed", json!({ "usage": usage(request, &writer) }));
        Ok(PreparedResponse { headers: self.headers(&key, request), events: writer.finish(), end: StreamEnd::Complete })
    }

    /// Returns the part of ids that is unique to the response.
    fn key(&self, body: &Value) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let digest = Sha256::new().chain_update(count.to_be_bytes()).chain_update(body.to_string()).finalize();
        format!("{digest:.12x}")
    }

    fn headers(&self, key: &str, request: &Map<String, Value>) -> HeaderMap {
        let mut headers = quota::headers(self.sessions.now());
        headers.insert("x-models-etag", HeaderValue::from_static(catalogue::ETAG));
        let texts = [("x-request-id", format!("req_demo_{key}")), ("openai-model", text(request, "model"))];
        for (name, value) in texts {
            // Skip a model name that isn't a valid header value.
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        headers
    }
}

impl PreparedResponse {
    /// Converts to a streaming HTTP response.
    pub(super) fn into_response(self) -> Response {
        let mut response = Response::new(Body::from_stream(stream(self.events, self.end)));
        *response.headers_mut() = self.headers;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }
}

/// Returns the events of a response and the end of its stream.
fn response_events(
    head: ResponseMeta,
    request: &Map<String, Value>,
    prompt: &Prompt<'_>,
    fault: Option<Fault>,
) -> (Vec<TimedEvent>, StreamEnd) {
    let mut writer = EventWriter::new(head);
    if let Some(error) = fault.and_then(early_failure) {
        writer.end("failed", json!({ "error": error }));
        return (writer.finish(), StreamEnd::Complete);
    }
    for output in output::outputs(prompt, fault) {
        writer.item(&output);
    }
    let usage = usage(request, &writer);
    let is_interrupted = matches!(fault, Some(Fault::Error | Fault::Cut | Fault::End | Fault::Length));
    if is_interrupted {
        writer.drop_second_half();
    }
    match fault {
        Some(Fault::Cut) => return (writer.finish(), StreamEnd::Aborted),
        Some(Fault::End) => return (writer.finish(), StreamEnd::Truncated),
        Some(Fault::Error) => {
            let error =
                json!({ "code": "server_error", "message": "This failure is simulated by the codex-proxy demo." });
            writer.end("failed", json!({ "error": error }));
        }
        Some(Fault::Length) => {
            let details = json!({ "reason": "max_output_tokens" });
            writer.end("incomplete", json!({ "incomplete_details": details, "usage": usage }));
        }
        _ => writer.end("completed", json!({ "usage": usage, "end_turn": true })),
    }
    (writer.finish(), StreamEnd::Complete)
}

/// Returns the error of a fault that makes the response fail before any output.
fn early_failure(fault: Fault) -> Option<Value> {
    let (code, message) = match fault {
        Fault::Overloaded => ("server_is_overloaded", "Our servers are currently overloaded. Please try again later."),
        Fault::Context | Fault::Overflow => (
            "context_length_exceeded",
            "Your input exceeds the context window of this model. Please adjust your input and try again.",
        ),
        _ => return None,
    };
    Some(json!({ "code": code, "message": message }))
}

/// Returns the usage of a response. Tokens are estimated at four characters each.
fn usage(request: &Map<String, Value>, writer: &EventWriter) -> Value {
    let measured = ["instructions", "input", "tools"].iter().filter_map(|name| request.get(*name));
    let input: usize = measured.map(|value| value.to_string().chars().count().div_ceil(4)).sum();
    let (output, reasoning) = writer.tokens();
    json!({
        "input_tokens": input,
        "input_tokens_details": { "cached_tokens": 0, "cache_write_tokens": 0 },
        "output_tokens": output,
        "output_tokens_details": { "reasoning_tokens": reasoning },
        "total_tokens": input + output,
    })
}

/// The members of the request that a response repeats.
fn echo(request: &Map<String, Value>) -> Value {
    let repeated = [
        "model",
        "instructions",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "reasoning",
        "prompt_cache_key",
        "text",
    ];
    let mut echo: Map<String, Value> =
        repeated.iter().filter_map(|name| Some(((*name).to_owned(), request.get(*name)?.clone()))).collect();
    echo.insert("service_tier".to_owned(), request.get("service_tier").cloned().unwrap_or_else(|| json!("default")));
    Value::Object(echo)
}

fn text(request: &Map<String, Value>, name: &str) -> String {
    request.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn stream(events: Vec<TimedEvent>, end: StreamEnd) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let broken = (end == StreamEnd::Aborted)
        .then(|| Err(io::Error::other("this connection error is simulated by the codex-proxy demo")));
    let events = stream::iter(events).then(|timed| async move {
        if !timed.delay.is_zero() {
            tokio::time::sleep(timed.delay).await;
        }
        let kind = timed.event["type"].as_str().unwrap_or_default();
        Ok(Bytes::from(format!("event: {kind}\ndata: {}\n\n", timed.event)))
    });
    events.chain(stream::iter(broken))
}
