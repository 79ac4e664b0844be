//! Runs the calls of a round, several at a time.
//!
//! A result is returned as soon as its call has ended. If a call ends the response, its error is returned last: no
//! further calls start, searches are cancelled, and the images under way are completed, since they are billed.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use http::Method;
use http::header::{CONTENT_TYPE, HeaderValue};
use tokio::time::{Instant, timeout_at};

use super::super::{CallQuota, ForwardedHeaders, RequestToken, SideCall, SideTarget, Upstream};
use crate::blocking::off_thread;
use crate::budget::{BufferedBody, Reservation};
use crate::error::{Fault, ProxyError};
use crate::protocol::codex::proxy_tools::{CallContext, CallKind, ProxyCall, ToolOutcome, ToolRequest};

/// Maximum number of calls that run at a time.
const CONCURRENT_CALLS: usize = 4;
/// Size limits for the response to a call.
const MAX_SEARCH_BYTES: u64 = 256 * 1024;
const MAX_IMAGE_BYTES: u64 = 32 * 1024 * 1024;

/// The calls of a round.
pub(super) struct RoundCalls {
    caller: Arc<Caller>,
    /// Calls that haven't started, in order.
    waiting: VecDeque<ProxyCall>,
    searches: Running,
    images: Running,
    search_time: Duration,
    /// The error that ends the response.
    failure: Option<ProxyError>,
}

type Running = FuturesUnordered<BoxFuture<'static, Result<FinishedCall, ProxyError>>>;

/// A call that has ended.
pub(super) struct FinishedCall {
    pub(super) call: ProxyCall,
    pub(super) outcome: ToolOutcome,
    /// The memory of the outcome and of the events with it.
    pub(super) memory: Reservation,
    /// The token, which may have been replaced.
    pub(super) token: RequestToken,
}

/// Makes the requests of a round's calls.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) upstream: Arc<Upstream>,
    pub(super) forwarded: ForwardedHeaders,
    pub(super) token: RequestToken,
    pub(super) session: String,
    pub(super) model: String,
    /// Time limit for the searches of the round together.
    pub(super) search_limit: Duration,
    /// When the first search of the round started.
    pub(super) search_started: OnceLock<Instant>,
}

impl RoundCalls {
    /// The calls, in order. They start when they are polled.
    pub(super) fn new(caller: Caller, calls: Vec<ProxyCall>) -> Self {
        Self {
            caller: Arc::new(caller),
            waiting: calls.into(),
            searches: Running::new(),
            images: Running::new(),
            search_time: Duration::ZERO,
            failure: None,
        }
    }

    /// The time that searches have taken: from the start of the first one to the end of the last one.
    pub(super) fn search_time(&self) -> Duration {
        self.search_time
    }

    /// Returns the next call that has ended; `None` after the last one, or the error that ends the response.
    pub(super) fn poll_finished(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<FinishedCall, ProxyError>>> {
        loop {
            self.start();
            let mut polled = self.searches.poll_next_unpin(cx);
            if let Poll::Ready(Some(_)) = &polled {
                self.search_time = self.caller.search_started.get().map(Instant::elapsed).unwrap_or_default();
            } else {
                polled = self.images.poll_next_unpin(cx);
            }
            match polled {
                Poll::Ready(Some(Ok(finished))) => return Poll::Ready(Some(Ok(finished))),
                Poll::Ready(Some(Err(error))) => self.fail(error),
                Poll::Ready(None) | Poll::Pending if !self.is_running() => {
                    return Poll::Ready(self.failure.take().map(Err));
                }
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn is_running(&self) -> bool {
        !self.searches.is_empty() || !self.images.is_empty()
    }

    /// Starts waiting calls, as far as the limit allows.
    fn start(&mut self) {
        while self.searches.len() + self.images.len() < CONCURRENT_CALLS
            && let Some(call) = self.waiting.pop_front()
        {
            let running = match call.kind() {
                CallKind::Search => &self.searches,
                CallKind::Image => &self.images,
            };
            running.push(Arc::clone(&self.caller).run(call).boxed());
        }
    }

    /// Stops everything except the images under way.
    fn fail(&mut self, error: ProxyError) {
        self.waiting.clear();
        self.searches.clear();
        self.failure.get_or_insert(error);
    }
}

impl Caller {
    /// Runs a call.
    ///
    /// # Errors
    /// A failure that ends the response. Others are outcomes.
    async fn run(self: Arc<Self>, call: ProxyCall) -> Result<FinishedCall, ProxyError> {
        let (mut token, memory) = (self.token.clone(), self.upstream.memory.reserve());
        let image_model = &self.upstream.settings.image_model;
        let context = CallContext { session: &self.session, model: &self.model, image_model };
        let request = match call.request(context) {
            Ok(request) => request,
            Err(reason) => return Ok(FinishedCall { call, outcome: ToolOutcome::Failed(reason), memory, token }),
        };
        let fetched = match request.kind {
            CallKind::Search => {
                let deadline = *self.search_started.get_or_init(Instant::now) + self.search_limit;
                timeout_at(deadline, self.fetch(request, self.search_limit, &mut token)).await
            }
            CallKind::Image => {
                // A failed call may have been billed.
                token.retry_only_unaccepted();
                Ok(self.fetch(request, self.upstream.settings.image_timeout, &mut token).await)
            }
        };
        let (outcome, memory) = match fetched {
            Ok(Ok(BufferedBody { bytes, memory })) => (off_thread(bytes.len(), || call.outcome(&bytes)), memory),
            Ok(Err(error)) if ends_response(&error) => return Err(error),
            Ok(Err(error)) => {
                tracing::info!(cause = error.loggable(), "a tool call of the model failed");
                (ToolOutcome::Failed(reason(&error)), memory)
            }
            Err(_) => (ToolOutcome::Failed("there was no result in time".to_owned()), memory),
        };
        Ok(FinishedCall { call, outcome, memory, token })
    }

    /// Requests the result of a call. The memory of an image includes that of the event with it.
    async fn fetch(
        &self,
        request: ToolRequest,
        head_timeout: Duration,
        token: &mut RequestToken,
    ) -> Result<BufferedBody, ProxyError> {
        let mut forwarded = self.forwarded.clone();
        forwarded.request.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let model = self.model.clone();
        let (quota, max_bytes) = match request.kind {
            CallKind::Search => (CallQuota::Uncounted(model), MAX_SEARCH_BYTES),
            CallKind::Image => (CallQuota::Counted(model), MAX_IMAGE_BYTES),
        };
        let call = SideCall {
            method: Method::POST,
            target: SideTarget::Codex(request.path.to_owned()),
            quota,
            forwarded,
            body: request.body,
            head_timeout,
        };
        let mut body = self.upstream.call(&call, token).await?.read(max_bytes, &self.upstream.memory).await?;
        if request.kind == CallKind::Image {
            body.memory.set_buffered(2 * body.bytes.len()).await?;
        }
        Ok(body)
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
