//! Records a request: log line, metrics, usage totals, cache statistics, trace, and entry in the list of requests.
//!
//! They are completed when the [`RequestRecord`] is dropped, whether the response was finished, refused or abandoned by
//! the client. They hold ids, names of models and client keys, counts and times; never headers, bodies or tokens.

use std::sync::{Arc, OnceLock};

use http::StatusCode;
use http::request::Parts;
use tokio::time::Instant;
use tracing::Span;
use uuid::Uuid;

use super::active_requests::{ActiveRequestId, NewRequest, RequestEnd};
use super::concurrency::Permit;
use super::handler::key_name;
use super::internal_request::is_internal;
use super::otlp::RequestSpan;
use super::state::ServerState;
use crate::budget::Reservation;
use crate::clock::{Clock as _, SystemClock};
use crate::error::ProxyError;
use crate::excerpt::{NAME_CHARACTERS, excerpt};
use crate::history::{ConversationKey, RequestFingerprint, Tokens};
use crate::protocol::codex::Usage;
use crate::protocol::{Mode, Summary};

/// The id of a request in the log and in its response: `req_` and 32 hexadecimal digits.
#[derive(Clone, Debug)]
pub(super) struct RequestId(pub(super) String);

impl RequestId {
    pub(super) fn fresh() -> Self {
        Self(format!("req_{}", Uuid::new_v4().simple()))
    }

    /// Returns the id of a request that the routes have identified.
    pub(super) fn of(parts: &Parts) -> Self {
        parts.extensions.get().cloned().unwrap_or_else(Self::fresh)
    }
}

/// The outcome of a request that is ended by the daemon before it is complete, to be set before its record is dropped.
#[derive(Clone, Debug, Default)]
pub(super) struct EarlyOutcome(Arc<OnceLock<&'static str>>);

impl EarlyOutcome {
    /// Sets the outcome: `cancelled`, `interrupted`, or `handed_over` to a later process. The first one counts.
    pub(super) fn set(&self, outcome: &'static str) {
        let _ = self.0.set(outcome);
    }
}

/// A request that the backend has started to respond to.
#[derive(Debug)]
pub(super) struct ServedRequest {
    /// The conversation that the request belongs to.
    pub(super) conversation: ConversationKey,
    /// The backend's name of the model.
    pub(super) model: String,
    /// For the cache statistics; `None` for a request that belongs to no conversation.
    pub(super) fingerprint: Option<RequestFingerprint>,
}

/// The record of a request under way. Holds its permit and memory.
#[derive(Debug)]
pub(super) struct RequestRecord {
    id: RequestId,
    dialect: &'static str,
    /// The requested model, once known.
    model: OnceLock<String>,
    state: Arc<ServerState>,
    active_id: ActiveRequestId,
    /// The daemon's own requests need no permit.
    needs_permit: bool,
    /// Held until the request ends, like `memory`.
    permit: Option<Permit>,
    memory: Option<Reservation>,
    /// Becomes `Stream` when a stream starts.
    mode: Mode,
    /// The class of the error, if there was one.
    error: Option<&'static str>,
    span: Span,
    started: Instant,
    first_event: Option<Instant>,
    first_content: Option<Instant>,
    /// Set once the backend has started to respond.
    served: Option<ServedRequest>,
    status: StatusCode,
    events: u64,
    /// Usage and outcome of the current attempt.
    summary: Summary,
    /// The outcome if the request ends without one.
    early_outcome: EarlyOutcome,
    /// Usage of attempts that were discarded.
    discarded_usage: Option<Usage>,
}

impl RequestRecord {
    pub(super) fn new(dialect: &'static str, id: &RequestId, state: &Arc<ServerState>) -> Self {
        state.metrics.request_started();
        let span = tracing::info_span!(
            "request",
            request.id = %id.0,
            dialect,
            model = tracing::field::Empty,
            stream = tracing::field::Empty,
            upstream.id = tracing::field::Empty,
        );
        Self {
            id: id.clone(),
            dialect,
            model: OnceLock::new(),
            state: Arc::clone(state),
            active_id: ActiveRequestId::default(),
            needs_permit: true,
            permit: None,
            memory: None,
            mode: Mode::Document,
            error: None,
            span,
            started: Instant::now(),
            first_event: None,
            first_content: None,
            served: None,
            status: StatusCode::OK,
            events: 0,
            summary: Summary::default(),
            early_outcome: EarlyOutcome::default(),
            discarded_usage: None,
        }
    }

    /// The span of everything done for this request.
    pub(super) fn span(&self) -> Span {
        self.span.clone()
    }

    /// Adds the request to the list of active ones.
    pub(super) fn register(&mut self, id: &RequestId, parts: &Parts) {
        self.needs_permit = !is_internal(parts);
        self.active_id = self.state.active_requests.add(&NewRequest {
            id: &id.0,
            dialect: self.dialect,
            key: key_name(parts),
            headers: &parts.headers,
            at: SystemClock.now(),
            began: self.started,
        });
    }

    /// Waits for a concurrency permit, if the request needs one.
    pub(super) async fn acquire_permit(&mut self) -> Result<(), ProxyError> {
        if self.needs_permit {
            self.permit = Some(self.state.concurrency.acquire().await?);
        }
        self.state.active_requests.mark_waiting(self.active_id);
        Ok(())
    }

    /// Releases the permit of a request that is to run in the background, and lists it as queued. It needs no permit
    /// when it runs.
    pub(super) fn return_to_queue(&mut self) {
        self.permit = None;
        self.needs_permit = false;
        self.state.active_requests.mark_queued(self.active_id);
    }

    /// The outcome to set if the request is ended early.
    pub(super) fn early_outcome(&self) -> EarlyOutcome {
        self.early_outcome.clone()
    }

    /// Measures times from now on, when a request of the background begins to run.
    pub(super) fn restart_clock(&mut self) {
        self.started = Instant::now();
    }

    /// Takes the permit, for a document that is still being sent when the record is dropped.
    pub(super) fn take_permit(&mut self) -> Option<Permit> {
        self.permit.take()
    }

    /// Records the model and the requested mode. The model's name may be any text from the client, so it is shortened.
    pub(super) fn set_model(&self, model: &str, mode: Mode) {
        let model = excerpt(model, NAME_CHARACTERS);
        self.span.record("model", model);
        self.state.active_requests.set_model(self.active_id, model);
        // If the model is set again, the trace keeps the first name.
        let _ = self.model.set(model.to_owned());
        self.span.record("stream", mode == Mode::Stream);
    }

    pub(super) fn set_upstream_id(&self, upstream_id: Option<&str>) {
        if let Some(id) = upstream_id {
            self.span.record("upstream.id", id);
        }
    }

    /// Holds the memory of the request until the response has ended.
    pub(super) fn hold_memory(&mut self, memory: Reservation) {
        self.memory = Some(memory);
    }

    pub(super) fn set_served(&mut self, served: ServedRequest) {
        self.served = Some(served);
    }

    /// Releases the memory for sending. Call it when the request won't be sent again.
    pub(super) fn release_work_memory(&mut self) {
        self.memory.iter_mut().for_each(Reservation::end_work);
    }

    /// Records that the response is streamed.
    pub(super) fn mark_streaming(&mut self) {
        self.mode = Mode::Stream;
        self.state.metrics.stream_started();
    }

    /// Counts an event. `first_content` is when the first event with content arrived.
    pub(super) fn count_event(&mut self, first_content: Option<Instant>) {
        self.events += 1;
        if let (None, Some(first)) = (self.first_content, first_content) {
            self.first_content = first_content;
            self.state.active_requests.mark_answering(self.active_id, first.saturating_duration_since(self.started));
        }
        if self.first_event.is_none() {
            self.first_event = Some(Instant::now());
        }
    }

    /// Records that the request ended with an error status.
    pub(super) fn set_refused(&mut self, status: StatusCode, error: &ProxyError) {
        self.status = status;
        self.error = Some(error.class());
        "refused".clone_into(&mut self.summary.outcome);
    }

    /// Records that the response failed after its start.
    pub(super) fn set_error(&mut self, error: &ProxyError) {
        self.error = Some(error.class());
    }

    /// Discards the record of a failed attempt that has sent nothing to the client. Its usage still counts.
    pub(super) fn discard_attempt(&mut self) {
        self.discarded_usage = sum(self.discarded_usage, self.summary.usage);
        self.summary = Summary::default();
        (self.first_event, self.first_content) = (None, None);
    }

    pub(super) fn set_summary(&mut self, summary: Summary) {
        self.summary = summary;
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        let _entered = self.span.enter();
        let billed = sum(self.discarded_usage, self.summary.usage);
        let usage = billed.unwrap_or_default();
        let early = self.early_outcome.0.get().copied().unwrap_or("client_left");
        let outcome = if self.summary.outcome.is_empty() { early } else { &self.summary.outcome };
        tracing::info!(
            status = self.status.as_u16(),
            first_event_ms = self.first_event.map(|first| milliseconds(first - self.started)),
            duration_ms = milliseconds(self.started.elapsed()),
            events = self.events,
            tokens.in = usage.input_tokens,
            tokens.out = usage.output_tokens,
            outcome,
            "request ended"
        );
        let error = self.error.or(match outcome {
            "completed" | "incomplete" | "cancelled" | "handed_over" => None,
            "client_left" => Some("client_left"),
            "interrupted" => Some("shutting_down"),
            _ => Some("answer_failed"),
        });
        let metrics = &self.state.metrics;
        metrics.request_ended(self.dialect, self.status, error, self.mode);
        let tokens = billed.map(tokens_of);
        self.state.active_requests.finish(self.active_id, &RequestEnd { outcome, error, tokens });
        let first_content = self.first_content.map(|first| first.saturating_duration_since(self.started));
        metrics.add_durations(self.dialect, self.mode, first_content, self.started.elapsed());
        if let Some(telemetry) = &self.state.telemetry {
            telemetry.record(&RequestSpan {
                request_id: &self.id.0,
                dialect: self.dialect,
                model: self.model.get().map(String::as_str),
                is_stream: self.mode == Mode::Stream,
                status: self.status.as_u16(),
                outcome,
                error,
                usage,
                first_content,
                duration: self.started.elapsed(),
                ended_at: SystemClock.now(),
            });
        }
        if let Some(served) = self.served.take() {
            self.add_usage(served, usage);
        }
    }
}

impl RequestRecord {
    /// Adds the request to totals, metrics and cache statistics. `billed` is zero if the client disconnected, since the
    /// backend reports usage at the end; the cache statistics leave out such a request.
    fn add_usage(&self, ServedRequest { conversation, model, fingerprint }: ServedRequest, billed: Usage) {
        let (model, billed) = (excerpt(&model, NAME_CHARACTERS), tokens_of(billed));
        self.state.totals.add(conversation.key.as_deref(), model, billed);
        self.state.metrics.add_tokens(model, billed);
        if let (Some(usage), Some(fingerprint)) = (self.summary.usage, fingerprint) {
            self.state.conversations.record(conversation, model, fingerprint, tokens_of(usage), SystemClock.now());
        }
    }
}

fn sum(one: Option<Usage>, other: Option<Usage>) -> Option<Usage> {
    one.into_iter().chain(other).reduce(Usage::plus)
}

fn tokens_of(spent: Usage) -> Tokens {
    Tokens {
        input: spent.input_tokens,
        cached: spent.cached_tokens,
        output: spent.output_tokens,
        reasoning: spent.reasoning_tokens,
    }
}

fn milliseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
