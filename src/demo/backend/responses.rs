//! One request for a response: checked, answered, and sent as a stream.
//!
//! Ids are derived from the request and its number in the run, so that a run can be repeated
//! exactly and two runs don't meet in one conversation.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::super::issuer::{PLAN, Sessions, unix};
use super::super::reply::Refusal;
use super::answer;
use super::catalogue;
use super::events::{Frame, Head, Writer};
use super::fault::Fault;
use super::prompt::Prompt;
use super::{quota, validate};
use crate::protocol::codex::WireFormat;

const WORD_PAUSE: Duration = Duration::from_millis(4);
const SLOW_PAUSE: Duration = Duration::from_millis(333);
/// Until an exhausted quota comes back: soon, or it would be the end of the demo.
const RESET_SECONDS: u64 = 2;

/// What the responses of a run share.
pub(super) struct Responses {
    sessions: Arc<Sessions>,
    count: AtomicU64,
    cut: CancellationToken,
}

/// How a stream ends after its last event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    /// After its last event.
    Clean,
    /// As if it were whole, and is not.
    Early,
    Broken,
}

/// An answer on its way.
pub(super) struct Answered {
    pub(super) headers: HeaderMap,
    pub(super) frames: Vec<Frame>,
    pub(super) close: Close,
}

impl Responses {
    pub(super) fn new(sessions: Arc<Sessions>, cut: CancellationToken) -> Self {
        Self { sessions, count: AtomicU64::new(0), cut }
    }

    /// When to end connections that nobody else ends.
    pub(super) fn cut(&self) -> &CancellationToken {
        &self.cut
    }

    pub(super) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The answer to a body, or what is wrong with it.
    pub(super) fn answer(&self, body: &Value, format: WireFormat) -> Result<Answered, Refusal> {
        let request = validate::check(body, format)?;
        let prompt = Prompt::read(request);
        let fault = Fault::find(&prompt);
        if fault == Some(Fault::Lite) && format == WireFormat::Classic {
            let model = text(request, "model");
            let message = format!("The '{model}' model requires the responses-lite form of requests.");
            return Err(Refusal::invalid(Some("unsupported_value"), "model", message));
        }
        if let Some(refusal) = fault.and_then(|fault| self.refused(fault)) {
            return Err(refusal);
        }
        let key = self.key(body);
        let head = Head {
            key: key.clone(),
            created_at: unix(self.sessions.now()),
            echo: echo(request),
            pause: if fault == Some(Fault::Slow) { SLOW_PAUSE } else { WORD_PAUSE },
        };
        let (mut frames, close) = script(head, request, &prompt, fault);
        frames.insert(0, Frame { pause: Duration::ZERO, event: quota::event(self.sessions.now()) });
        Ok(Answered { headers: self.headers(&key, request), frames, close })
    }

    /// The same on a connection that has served before, and may have reached its limit.
    pub(super) fn answer_again(&self, body: &Value, format: WireFormat) -> Result<Answered, Refusal> {
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

    /// What says that a request was read that is not to be answered yet.
    pub(super) fn prewarmed(&self, body: &Value, format: WireFormat) -> Result<Answered, Refusal> {
        let is_empty = body["input"].as_array().is_some_and(Vec::is_empty);
        let request = if is_empty { body.as_object() } else { Some(validate::check(body, format)?) };
        let request = request.ok_or_else(|| Refusal::rule("Request body must be a JSON object"))?;
        let key = self.key(body);
        let created_at = unix(self.sessions.now());
        let mut writer = Writer::new(Head { key: key.clone(), created_at, echo: echo(request), pause: WORD_PAUSE });
        writer.end("completed", json!({ "usage": usage(request, &writer) }));
        Ok(Answered { headers: self.headers(&key, request), frames: writer.finish(), close: Close::Clean })
    }

    /// Faults that are a status.
    fn refused(&self, fault: Fault) -> Option<Refusal> {
        let error = |status, code: &str, message: &str, headers| {
            let error = json!({ "message": message, "type": null, "param": null, "code": code });
            Some(Refusal { status, body: json!({ "error": error }), headers })
        };
        match fault {
            Fault::UsageLimit => Some(self.exhausted()),
            Fault::RateLimit => error(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limit_exceeded",
                "Rate limit reached. Please try again in 1s.",
                vec![(RETRY_AFTER, "1".to_owned())],
            ),
            Fault::Unavailable => error(
                StatusCode::SERVICE_UNAVAILABLE,
                "server_is_overloaded",
                "Our servers are currently overloaded. Please try again later.",
                vec![(RETRY_AFTER, "1".to_owned())],
            ),
            _ => None,
        }
    }

    fn exhausted(&self) -> Refusal {
        let resets_at = unix(self.sessions.now()) + RESET_SECONDS;
        let error = json!({
            "type": "usage_limit_reached", "message": "The usage limit has been reached", "plan_type": PLAN,
            "resets_at": resets_at, "eligible_promo": null, "resets_in_seconds": RESET_SECONDS,
        });
        let header = |name: &'static str, value: &str| (HeaderName::from_static(name), value.to_owned());
        let headers = vec![
            header("x-codex-plan-type", PLAN),
            header("x-codex-active-limit", "codex"),
            header("x-codex-primary-used-percent", "100"),
            header("x-codex-primary-window-minutes", "300"),
            header("x-codex-primary-reset-at", &resets_at.to_string()),
            header("x-codex-rate-limit-reached-type", "rate_limit_reached"),
        ];
        Refusal { status: StatusCode::TOO_MANY_REQUESTS, body: json!({ "error": error }), headers }
    }

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
            // A model's name that no header can carry is not worth a failure.
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        headers
    }
}

impl Answered {
    /// As an HTTP response.
    pub(super) fn into_response(self) -> Response {
        let mut response = Response::new(Body::from_stream(stream(self.frames, self.close)));
        *response.headers_mut() = self.headers;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }
}

/// The events of an answer, and how its stream closes.
fn script(head: Head, request: &Map<String, Value>, prompt: &Prompt<'_>, fault: Option<Fault>) -> (Vec<Frame>, Close) {
    let mut writer = Writer::new(head);
    if let Some(error) = fault.and_then(early_failure) {
        writer.end("failed", json!({ "error": error }));
        return (writer.finish(), Close::Clean);
    }
    for output in answer::answer(prompt, fault) {
        writer.item(&output);
    }
    let usage = usage(request, &writer);
    let is_halved = matches!(fault, Some(Fault::Error | Fault::Cut | Fault::End | Fault::Length));
    if is_halved {
        writer.halve();
    }
    match fault {
        Some(Fault::Cut) => return (writer.finish(), Close::Broken),
        Some(Fault::End) => return (writer.finish(), Close::Early),
        Some(Fault::Error) => {
            let error = json!({ "code": "server_error", "message": "The demo was asked to fail here." });
            writer.end("failed", json!({ "error": error }));
        }
        Some(Fault::Length) => {
            let details = json!({ "reason": "max_output_tokens" });
            writer.end("incomplete", json!({ "incomplete_details": details, "usage": usage }));
        }
        _ => writer.end("completed", json!({ "usage": usage, "end_turn": true })),
    }
    (writer.finish(), Close::Clean)
}

/// Faults that come before any output.
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

/// Tokens, guessed as four characters each.
fn usage(request: &Map<String, Value>, writer: &Writer) -> Value {
    let measured = ["instructions", "input", "tools"].iter().filter_map(|name| request.get(*name));
    let input: usize = measured.map(|value| value.to_string().chars().count().div_ceil(4)).sum();
    let (output, thought) = writer.tokens();
    json!({
        "input_tokens": input,
        "input_tokens_details": { "cached_tokens": 0, "cache_write_tokens": 0 },
        "output_tokens": output,
        "output_tokens_details": { "reasoning_tokens": thought },
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

fn stream(frames: Vec<Frame>, close: Close) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let broken = (close == Close::Broken).then(|| Err(io::Error::other("the demo was asked to break here")));
    let events = stream::iter(frames).then(|frame| async move {
        if !frame.pause.is_zero() {
            tokio::time::sleep(frame.pause).await;
        }
        let kind = frame.event["type"].as_str().unwrap_or_default();
        Ok(Bytes::from(format!("event: {kind}\ndata: {}\n\n", frame.event)))
    });
    events.chain(stream::iter(broken))
}
