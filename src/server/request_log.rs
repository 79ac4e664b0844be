//! What a request leaves behind: one span and one line in the log, and what is counted of it.
//!
//! All of it is done when the [`RequestRecord`] is dropped, so that it comes whether the answer was finished,
//! refused, or left by its client. It holds ids, counts and times; never headers, bodies, tokens or
//! names of people.

use std::sync::{Arc, OnceLock};

use http::StatusCode;
use http::request::Parts;
use tokio::time::Instant;
use tracing::Span;
use uuid::Uuid;

use super::active_requests::{ActiveRequestId, NewRequest, RequestEnd};
use super::budget::Reservation;
use super::concurrency::Permit;
use super::handler::key_name;
use super::metrics::ServerState;
use super::otlp::RequestSpan;
use crate::clock::{Clock as _, SystemClock};
use crate::error::ProxyError;
use crate::excerpt::{NAME_CHARACTERS, excerpt};
use crate::history::{Fingerprint, Subject, Tokens};
use crate::protocol::codex::Usage;
use crate::protocol::{Mode, Summary};

/// The id that names a request in the log and in its answer.
#[derive(Clone, Debug)]
pub(super) struct RequestId(pub(super) String);

impl RequestId {
    pub(super) fn fresh() -> Self {
        Self(format!("req_{}", Uuid::new_v4().simple()))
    }
}

/// What the backend has begun to answer.
#[derive(Debug)]
pub(super) struct ServedRequest {
    pub(super) subject: Subject,
    /// The backend's name of the model.
    pub(super) model: String,
    pub(super) fingerprint: Fingerprint,
}

/// One request on its way; writes its line when dropped.
#[derive(Debug)]
pub(super) struct RequestRecord {
    id: RequestId,
    dialect: &'static str,
    /// The model that is asked for, once that is known.
    model: OnceLock<String>,
    state: Arc<ServerState>,
    ticket: ActiveRequestId,
    /// Held for as long as the request is.
    place: Option<Permit>,
    /// Likewise.
    memory: Option<Reservation>,
    mode: Mode,
    error: Option<&'static str>,
    span: Span,
    started: Instant,
    first_event: Option<Instant>,
    first_content: Option<Instant>,
    served: Option<ServedRequest>,
    status: StatusCode,
    events: u64,
    summary: Summary,
    /// What was billed for attempts that were given up.
    given_up: Option<Usage>,
}

impl RequestRecord {
    pub(super) fn new(dialect: &'static str, id: &RequestId, state: &Arc<ServerState>) -> Self {
        state.metrics.began();
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
            ticket: ActiveRequestId::default(),
            place: None,
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
            given_up: None,
        }
    }

    /// The span that everything done for this request belongs to.
    pub(super) fn span(&self) -> Span {
        self.span.clone()
    }

    /// Puts it on the list of requests that people can look at.
    pub(super) fn introduce(&mut self, id: &RequestId, parts: &Parts) {
        self.ticket = self.state.active_requests.came(&NewRequest {
            id: &id.0,
            dialect: self.dialect,
            key: key_name(parts),
            headers: &parts.headers,
            at: SystemClock.now(),
            began: self.started,
        });
    }

    /// Waits for a place among those that are answered at a time.
    pub(super) async fn enter(&mut self) -> Result<(), ProxyError> {
        self.place = Some(self.state.concurrency.enter().await?);
        self.state.active_requests.entered(self.ticket);
        Ok(())
    }

    /// The place, for an answer that outlives its record.
    pub(super) fn take_permit(&mut self) -> Option<Permit> {
        self.place.take()
    }

    /// The request goes to a model, whose name may be any text of the client's.
    pub(super) fn planned(&self, model: &str, mode: Mode) {
        let model = excerpt(model, NAME_CHARACTERS);
        self.span.record("model", model);
        self.state.active_requests.planned(self.ticket, model);
        // A request is planned once.
        let _ = self.model.set(model.to_owned());
        self.span.record("stream", mode == Mode::Stream);
    }

    pub(super) fn opened(&self, upstream_id: Option<&str>) {
        if let Some(id) = upstream_id {
            self.span.record("upstream.id", id);
        }
    }

    /// Holds the memory of the request until the answer has ended.
    pub(super) fn hold(&mut self, memory: Reservation) {
        self.memory = Some(memory);
    }

    /// The backend has begun to answer.
    pub(super) fn served(&mut self, served: ServedRequest) {
        self.served = Some(served);
    }

    /// Releases the memory that sending needs. To be called when the request is not sent again.
    pub(super) fn sent(&mut self) {
        self.memory.iter_mut().for_each(Reservation::end_work);
    }

    /// The answer is sent as it comes.
    pub(super) fn streams(&mut self) {
        self.mode = Mode::Stream;
        self.state.metrics.streams();
    }

    /// An event has come; `first_content` is when the first one with content did.
    pub(super) fn event(&mut self, first_content: Option<Instant>) {
        self.events += 1;
        if let (None, Some(first)) = (self.first_content, first_content) {
            self.first_content = first_content;
            self.state.active_requests.answers(self.ticket, first.saturating_duration_since(self.started));
        }
        if self.first_event.is_none() {
            self.first_event = Some(Instant::now());
        }
    }

    /// The request was answered with an error status.
    pub(super) fn refused(&mut self, status: StatusCode, error: &ProxyError) {
        self.status = status;
        self.error = Some(error.class());
        "refused".clone_into(&mut self.summary.outcome);
    }

    /// The answer was cut in the middle.
    pub(super) fn cut(&mut self, error: &ProxyError) {
        self.error = Some(error.class());
    }

    /// The answer has failed, and its client knows nothing of it. What it cost stays counted.
    pub(super) fn give_up(&mut self) {
        self.given_up = sum(self.given_up, self.summary.usage);
        self.summary = Summary::default();
        (self.first_event, self.first_content) = (None, None);
    }

    pub(super) fn ended(&mut self, summary: Summary) {
        self.summary = summary;
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        let _inside = self.span.enter();
        let billed = sum(self.given_up, self.summary.usage);
        let usage = billed.unwrap_or_default();
        let outcome = if self.summary.outcome.is_empty() { "client_left" } else { &self.summary.outcome };
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
            "completed" | "incomplete" => None,
            "client_left" => Some("client_left"),
            _ => Some("answer_failed"),
        });
        let metrics = &self.state.metrics;
        metrics.ended(self.dialect, self.status, error, self.mode);
        let tokens = billed.map(tokens_of);
        self.state.active_requests.ended(self.ticket, &RequestEnd { outcome, error, tokens });
        let first_content = self.first_content.map(|first| first.saturating_duration_since(self.started));
        metrics.took(self.dialect, self.mode, first_content, self.started.elapsed());
        if let Some(telemetry) = &self.state.telemetry {
            telemetry.ended(&RequestSpan {
                request_id: &self.id.0,
                dialect: self.dialect,
                model: self.model.get().map(String::as_str),
                is_stream: self.mode == Mode::Stream,
                status: self.status.as_u16(),
                outcome,
                error,
                usage,
                first_content,
                whole: self.started.elapsed(),
                ended_at: SystemClock.now(),
            });
        }
        if let Some(served) = self.served.take() {
            self.count(served, usage);
        }
    }
}

impl RequestRecord {
    /// Adds what was used to the totals. Where the client has left, the backend did not say.
    fn count(&self, ServedRequest { subject, model, fingerprint }: ServedRequest, billed: Usage) {
        let (model, billed) = (excerpt(&model, NAME_CHARACTERS), tokens_of(billed));
        self.state.totals.add(subject.key.as_deref(), model, billed);
        self.state.metrics.spent(model, billed);
        if let Some(usage) = self.summary.usage {
            self.state.conversations.ended(subject, model, fingerprint, tokens_of(usage), SystemClock.now());
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
