//! Runs the tools of the proxy between the rounds of a response.
//!
//! A round is one request to the backend and its response. If it ends with calls of such tools ([`proxy_tools`]), they
//! are run and the next round is opened with their outputs, until a round has no such calls. All of this happens while
//! the stream is polled, so dropping the stream cancels it.
//!
//! At most [`MAX_CALLS`] calls of a round are run. After [`MAX_ROUNDS`] rounds with calls, or when searches have taken
//! [`MAX_SEARCH_TIME`] in all, the outputs end with [`LAST_CALLS`], and the next round doesn't offer the tools. Each
//! image has its own time limit (`images.timeout`). The output of a failed call gives the reason; an exhausted
//! quota or a refused token ends the response.
//!
//! [`proxy_tools`]: crate::protocol::codex::proxy_tools

mod calls;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::event_class::EventClass;
use super::outgoing::OutgoingRequest;
use super::region::OnRefusedToken;
use super::{EventStream, ForwardedHeaders, RequestToken, Upstream};
use crate::blocking::off_thread;
use crate::budget::Reservation;
use crate::error::ProxyError;
use crate::protocol::codex::Usage;
use crate::protocol::codex::lite::ToolNamespace;
use crate::protocol::codex::proxy_tools::{
    HiddenItems, Merged, ProxyCall, ProxyTool, RoundMerger, ToolOutcome, next_round,
};
use calls::{Caller, FinishedCall, RoundCalls};

/// Maximum number of rounds whose calls are run.
const MAX_ROUNDS: u32 = 8;
/// Time limit for all searches of a response together.
const MAX_SEARCH_TIME: Duration = Duration::from_secs(120);
/// Maximum number of calls of a round that are run.
const MAX_CALLS: usize = 16;
/// Added to the outputs of the last calls.
const LAST_CALLS: &str =
    "No further calls of this tool are possible in this response. Answer with what you have found so far.";

/// A response that may consist of several rounds.
pub(super) struct ToolRounds {
    state: State,
    /// Events to return next.
    ready: VecDeque<Bytes>,
    /// The memory of images in `ready`, until all of it has been returned.
    ready_memory: Vec<Reservation>,
    merger: RoundMerger,
    /// `None` while the next round is opened.
    backend: Option<Box<RoundBackend>>,
    /// When the client's first content delta arrived.
    first_content: Option<Instant>,
    has_run_calls: bool,
}

enum State {
    /// The events of the round arrive.
    Streaming(Box<EventStream>),
    /// The calls of the round run.
    Calling(Box<RoundCalls>),
    /// The next round is being opened.
    Opening(BoxFuture<'static, Result<(Box<RoundBackend>, EventStream), ProxyError>>),
    Ended,
}

/// Runs the calls of a round, and opens the next round.
#[derive(Debug)]
pub(super) struct RoundBackend {
    upstream: Arc<Upstream>,
    /// The request of the last round.
    request: OutgoingRequest,
    forwarded: ForwardedHeaders,
    token: RequestToken,
    namespace: ToolNamespace,
    /// The tools that the last round offered.
    tools: Vec<ProxyTool>,
    rounds_left: u32,
    search_time_left: Duration,
}

impl ToolRounds {
    /// The response whose first round is `events`. `backend` runs its calls.
    pub(super) fn new(events: EventStream, backend: RoundBackend) -> Self {
        Self {
            state: State::Streaming(Box::new(events)),
            ready: VecDeque::new(),
            ready_memory: Vec::new(),
            merger: RoundMerger::new(backend.tools.clone()),
            backend: Some(Box::new(backend)),
            first_content: None,
            has_run_calls: false,
        }
    }

    /// When the client's first content delta arrived.
    pub(super) fn first_content(&self) -> Option<Instant> {
        self.first_content
    }

    /// Whether calls have been run.
    pub(super) fn has_run_calls(&self) -> bool {
        self.has_run_calls
    }

    /// The usage of the rounds that have ended.
    pub(super) fn finished_usage(&self) -> Option<Usage> {
        self.merger.usage()
    }

    /// Returns the calls that have been run since the last time, with their outputs.
    pub(super) fn take_hidden(&mut self) -> Vec<HiddenItems> {
        self.merger.take_hidden()
    }

    /// Merges an event of the round. Returns the next event for the client, if there is one.
    fn merge(&mut self, data: Bytes) -> Option<Bytes> {
        let merged = std::str::from_utf8(&data).map_or(Merged::Unchanged, |text| self.merger.accept(text));
        let next = match merged {
            Merged::Unchanged => Some(data),
            Merged::Events(events) => {
                self.ready.extend(events.into_iter().map(Bytes::from));
                self.ready.pop_front()
            }
        };
        if self.first_content.is_none() && next.as_ref().is_some_and(|data| EventClass::of(data) == EventClass::Delta) {
            self.first_content = Some(Instant::now());
        }
        next
    }

    /// Starts the calls of the round, if it has ended with some.
    fn call(&mut self) {
        let Some(calls) = self.merger.ended_with_calls() else { return };
        let Some(backend) = self.backend.as_mut() else { return };
        let mut calls = calls.to_vec();
        let (refused, reason) = if backend.tools.is_empty() {
            (std::mem::take(&mut calls), "no further calls are possible")
        } else {
            backend.rounds_left -= 1;
            (calls.split_off(calls.len().min(MAX_CALLS)), "there are too many calls at a time")
        };
        self.state = State::Calling(Box::new(RoundCalls::new(backend.caller(), calls)));
        self.has_run_calls = true;
        for call in refused {
            self.show_result(&call, ToolOutcome::Failed(reason.to_owned()));
        }
    }

    /// Shows the result of a call to the client.
    fn finish_call(&mut self, finished: FinishedCall) {
        let FinishedCall { call, outcome, mut memory, token } = finished;
        if let Some(backend) = self.backend.as_mut() {
            // Each call may have replaced the refused token. The next round uses the newest one.
            backend.token.adopt(token);
        }
        let event_bytes = outcome.image_bytes();
        self.show_result(&call, outcome);
        memory.shrink(event_bytes);
        self.ready_memory.push(memory);
    }

    fn show_result(&mut self, call: &ProxyCall, outcome: ToolOutcome) {
        let Self { merger, ready, .. } = self;
        let events = off_thread(outcome.image_bytes(), || merger.finish_call(call, outcome));
        ready.extend(events.into_iter().map(Bytes::from));
    }

    /// Opens the next round. Ends the response instead if the client has calls to run, or the round didn't offer the
    /// tools.
    fn continue_response(&mut self, search_time: Duration) {
        let Some(mut backend) = self.backend.take() else { return };
        backend.search_time_left = backend.search_time_left.saturating_sub(search_time);
        let is_last = backend.tools.is_empty() || self.merger.has_client_calls();
        let withdrawn = if is_last { Vec::new() } else { backend.withdraw() };
        self.merger.record_outputs(if withdrawn.is_empty() { "" } else { LAST_CALLS });
        if is_last {
            self.ready.extend(self.merger.release_end().map(Bytes::from));
            self.state = State::Ended;
            return;
        }
        let added = self.merger.next_input();
        self.merger.begin_round();
        self.state = State::Opening(Box::pin(async move {
            let body = &backend.request.body;
            let next = off_thread(body.len(), || next_round::continued(body, &added, &withdrawn));
            drop(added);
            backend.request.body = next.ok_or(ProxyError::Internal)?;
            let events = backend.open().await?;
            Ok((backend, events))
        }));
    }

    fn fail(&mut self, error: ProxyError) -> Poll<Option<Result<Bytes, ProxyError>>> {
        self.state = State::Ended;
        Poll::Ready(Some(Err(error)))
    }

    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ProxyError>>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            self.ready_memory.clear();
            match &mut self.state {
                State::Streaming(events) => match ready!(Pin::new(&mut **events).poll_next(cx)) {
                    Some(Ok(data)) => {
                        let next = self.merge(data);
                        self.call();
                        if let Some(event) = next {
                            return Poll::Ready(Some(Ok(event)));
                        }
                    }
                    Some(Err(error)) => return self.fail(error),
                    None => self.state = State::Ended,
                },
                State::Calling(calls) => match ready!(calls.poll_finished(cx)) {
                    Some(Ok(finished)) => self.finish_call(finished),
                    Some(Err(error)) => {
                        self.merger.record_outputs("");
                        return self.fail(error);
                    }
                    None => {
                        let search_time = calls.search_time();
                        self.continue_response(search_time);
                    }
                },
                State::Opening(opening) => match ready!(opening.as_mut().poll(cx)) {
                    Ok((backend, events)) => {
                        self.backend = Some(backend);
                        self.state = State::Streaming(Box::new(events));
                    }
                    Err(error) => return self.fail(error),
                },
                State::Ended => return Poll::Ready(None),
            }
        }
    }
}

impl RoundBackend {
    /// Creates the state after the first round, whose request was `request` and offered `tools`.
    pub(super) fn new(
        upstream: &Arc<Upstream>,
        request: OutgoingRequest,
        forwarded: ForwardedHeaders,
        token: RequestToken,
        namespace: ToolNamespace,
        tools: Vec<ProxyTool>,
    ) -> Self {
        Self {
            upstream: Arc::clone(upstream),
            request,
            forwarded,
            token,
            namespace,
            tools,
            rounds_left: MAX_ROUNDS,
            search_time_left: MAX_SEARCH_TIME,
        }
    }

    /// Makes the requests of the calls of a round.
    fn caller(&self) -> Caller {
        Caller {
            upstream: Arc::clone(&self.upstream),
            forwarded: self.forwarded.clone(),
            token: self.token.clone(),
            session: self.request.session.clone(),
            model: self.request.model.clone(),
            search_limit: self.search_time_left,
            search_started: OnceLock::new(),
        }
    }

    /// Returns the tools that the next round no longer offers: all of them once a limit is reached.
    fn withdraw(&mut self) -> Vec<ProxyTool> {
        let is_over = self.rounds_left == 0 || self.search_time_left.is_zero();
        if is_over { std::mem::take(&mut self.tools) } else { Vec::new() }
    }

    /// Opens the next round. The client has received no part of it, so failures are retried as in the first round.
    async fn open(&mut self) -> Result<EventStream, ProxyError> {
        self.upstream.check_quota(&self.token, &self.request.model)?;
        loop {
            let Self { upstream, request, forwarded, token, .. } = &mut *self;
            match upstream.attempt(request, forwarded, token.bearer(), OnRefusedToken::FallBack).await {
                Ok(response) => {
                    token.accepted();
                    let mut events = response.events;
                    events.strip_namespace(self.namespace.clone());
                    return Ok(events);
                }
                Err(error) => upstream.retry_unchanged(Some(&request.model), token, error).await?,
            }
        }
    }
}
