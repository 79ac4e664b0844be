//! Runs the tools of the proxy between the rounds of a response.
//!
//! A round is one request to the backend and its response. If it ends with calls of such tools ([`proxy_tools`]), they
//! are run and the next round is opened with their outputs, until a round has no such calls. All of this happens while
//! the stream is polled, so dropping the stream cancels it.
//!
//! At most [`MAX_CALLS`] calls of a round are run. After [`MAX_ROUNDS`] rounds with calls, or when searches have taken
//! [`MAX_SEARCH_TIME`] in all, the outputs end with [`LAST_CALLS`], and the next round doesn't offer the tools.
//! Images have a separate time limit. The output of a failed call gives the reason; an exhausted quota or a refused
//! token ends the response.
//!
//! [`proxy_tools`]: crate::protocol::codex::proxy_tools

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::Method;
use http::header::{CONTENT_TYPE, HeaderValue};
use tokio::time::{Instant, timeout_at};

use super::event_class::EventClass;
use super::outgoing::OutgoingRequest;
use super::region::OnRefusedToken;
use super::{EventStream, ForwardedHeaders, RequestToken, SideCall, SideTarget, Upstream};
use crate::blocking::off_thread;
use crate::error::{Fault, ProxyError};
use crate::protocol::codex::Usage;
use crate::protocol::codex::lite::ToolNamespace;
use crate::protocol::codex::proxy_tools::{
    CallTime, HiddenItems, Merged, ProxyCall, ProxyTool, RoundMerger, SideRequest, ToolOutcome, next_round,
};

/// Maximum number of rounds whose calls are run.
const MAX_ROUNDS: u32 = 8;
/// Time limit for all searches of a response together.
const MAX_SEARCH_TIME: Duration = Duration::from_secs(120);
/// Time limit for the images of a round: the backend needs up to two minutes for one.
const MAX_IMAGE_TIME: Duration = Duration::from_secs(300);
/// Maximum number of calls that run at a time.
const CONCURRENT_CALLS: usize = 4;
/// Maximum number of calls of a round that are run.
const MAX_CALLS: usize = 16;
/// Size limits for the response to a call.
const MAX_SEARCH_BYTES: usize = 256 * 1024;
const MAX_IMAGE_BYTES: usize = 32 * 1024 * 1024;
/// Added to the outputs of the last calls.
const LAST_CALLS: &str =
    "No further calls of this tool are possible in this response. Answer with what you have found so far.";

/// A response that may consist of several rounds.
pub(super) struct ToolRounds {
    state: State,
    /// Events to return next.
    ready: VecDeque<Bytes>,
    merger: RoundMerger,
    /// `None` while the calls of a round are run or the next one is opened.
    backend: Option<Box<RoundBackend>>,
    /// When the client's first content delta arrived.
    first_content: Option<Instant>,
    has_run_calls: bool,
}

enum State {
    /// The events of the round arrive.
    Streaming(Box<EventStream>),
    /// The calls of the round run.
    Calling(BoxFuture<'static, (Box<RoundBackend>, Outcomes)>),
    /// The next round is being opened.
    Opening(BoxFuture<'static, Result<(Box<RoundBackend>, EventStream), ProxyError>>),
    Ended,
}

/// The calls of a round with their results, or the error that ends the response.
type Outcomes = Result<Vec<(ProxyCall, ToolOutcome)>, ProxyError>;

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
        let Some(backend) = self.backend.take() else { return };
        self.has_run_calls = true;
        self.state = State::Calling(Box::pin(backend.run(calls.to_vec())));
    }

    /// Completes the calls of the round, and opens the next round. Ends the response instead if the client has calls to
    /// run, or the round didn't offer the tools.
    fn finish_calls(&mut self, mut backend: Box<RoundBackend>, outcomes: Vec<(ProxyCall, ToolOutcome)>) {
        let is_last = backend.tools.is_empty() || self.merger.has_client_calls();
        let withdrawn = if is_last { Vec::new() } else { backend.withdraw() };
        let note = if withdrawn.is_empty() { "" } else { LAST_CALLS };
        for (call, outcome) in outcomes {
            self.ready.extend(self.merger.finish_call(&call, &outcome, note).into_iter().map(Bytes::from));
        }
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
                State::Calling(running) => {
                    let (backend, outcomes) = ready!(running.as_mut().poll(cx));
                    match outcomes {
                        Ok(outcomes) => self.finish_calls(backend, outcomes),
                        Err(error) => return self.fail(error),
                    }
                }
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

    /// Runs the calls of a round, several at a time. Returns the results in the order of the calls.
    async fn run(mut self: Box<Self>, mut calls: Vec<ProxyCall>) -> (Box<Self>, Outcomes) {
        let refused = |reason: &'static str| move |call: ProxyCall| (call, ToolOutcome::Failed(reason.to_owned()));
        if self.tools.is_empty() {
            return (self, Ok(calls.into_iter().map(refused("no further calls are possible")).collect()));
        }
        let excess = calls.split_off(calls.len().min(MAX_CALLS));
        let started = Instant::now();
        let running = calls.into_iter().map(|call| self.run_one(call, started));
        let finished: Result<Vec<_>, _> = stream::iter(running).buffered(CONCURRENT_CALLS).try_collect().await;
        self.rounds_left -= 1;
        let outcomes = finished.map(|finished| {
            let searched = finished.iter().map(|(.., ended)| ended.saturating_duration_since(started)).max();
            self.search_time_left = self.search_time_left.saturating_sub(searched.unwrap_or_default());
            let keep = |(call, outcome, token, _): (_, _, RequestToken, _)| {
                // Each call may have replaced the refused token. The next round uses the newest one.
                self.token.adopt(token);
                (call, outcome)
            };
            let finished = finished.into_iter().map(keep);
            finished.chain(excess.into_iter().map(refused("there are too many calls at a time"))).collect()
        });
        (self, outcomes)
    }

    /// Runs a call of a batch that started at `started`. Also returns the call's token, and the time up to which the
    /// call counts against the time limit of searches.
    async fn run_one(
        &self,
        call: ProxyCall,
        started: Instant,
    ) -> Result<(ProxyCall, ToolOutcome, RequestToken, Instant), ProxyError> {
        let mut token = self.token.clone();
        let request = match call.request(&self.request.session, &self.request.model) {
            Ok(request) => request,
            Err(reason) => return Ok((call, ToolOutcome::Failed(reason), token, started)),
        };
        let time = request.time;
        if time == CallTime::Image {
            // A failed call may have been billed.
            token.retry_only_unaccepted();
        }
        let limit = match time {
            CallTime::Shared => self.search_time_left,
            CallTime::Image => MAX_IMAGE_TIME,
        };
        let deadline = started + limit;
        let outcome = match timeout_at(deadline, self.fetch(request, limit, &mut token)).await {
            Ok(Ok(body)) => off_thread(body.len(), || call.outcome(&body)),
            Ok(Err(error)) if ends_response(&error) => return Err(error),
            Ok(Err(error)) => {
                tracing::info!(cause = error.loggable(), "a tool call of the model failed");
                ToolOutcome::Failed(reason(&error))
            }
            Err(_) => ToolOutcome::Failed("there was no result in time".to_owned()),
        };
        let ended = if time == CallTime::Shared { Instant::now() } else { started };
        Ok((call, outcome, token, ended))
    }

    async fn fetch(
        &self,
        request: SideRequest,
        head_timeout: Duration,
        token: &mut RequestToken,
    ) -> Result<Bytes, ProxyError> {
        let mut forwarded = self.forwarded.clone();
        forwarded.request.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let max_bytes = match request.time {
            CallTime::Shared => MAX_SEARCH_BYTES,
            CallTime::Image => MAX_IMAGE_BYTES,
        };
        let call = SideCall {
            method: Method::POST,
            target: SideTarget::Codex(request.path.to_owned()),
            model: Some(self.request.model.clone()),
            forwarded,
            body: request.body,
            head_timeout,
        };
        self.upstream.call(&call, token).await?.read(max_bytes).await
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

/// Whether this failure of a call ends the response.
fn ends_response(error: &ProxyError) -> bool {
    match error {
        ProxyError::Auth(_) => true,
        ProxyError::Upstream(failure) => {
            matches!(
                failure.fault,
                Fault::UsageLimit | Fault::InsufficientQuota | Fault::Unauthorized | Fault::ClientUnauthorized
            )
        }
        _ => false,
    }
}

/// Describes a failure for the model, without text from the backend.
fn reason(error: &ProxyError) -> String {
    match error {
        ProxyError::Upstream(failure) => match failure.status {
            Some(status) => format!("the backend answered with status {status}"),
            None => "the backend reported a failure".to_owned(),
        },
        other => other.loggable(),
    }
}
