//! Calls of the backend's endpoints other than `/responses`: search, images, transcription, account documents.
//!
//! Token recovery, retries and quota memory are the same as for a request for a response. A call returns when the head
//! of a success response has arrived. The caller reads the body; if that fails, the call isn't retried. Region routing
//! doesn't apply: the official client sends these calls to the default origin for every account.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, StatusCode};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::attempt::{headers_for_client, played_head};
use super::cassette::{Outcome, RecordedEndpoint, Recorder, Recording};
use super::client::{self, HttpRequest};
use super::response_body::ResponseBody;
use super::retry_policy::{Change, Retry, random_jitter};
use super::{ForwardedHeaders, RequestToken, Upstream, headers, region};
use crate::blocking::off_thread;
use crate::budget::{BufferedBody, ByteBudget, GrowingBuffer};
use crate::content_encoding::content_encoding;
use crate::endpoint::Endpoint;
use crate::error::{Phase, ProxyError};
use crate::protocol::codex::failure::text_header;
use crate::token_source::Bearer;

/// A call of an endpoint other than `/responses`.
#[derive(Clone, Debug)]
pub struct SideCall {
    /// The method of the request.
    pub method: Method,
    /// The endpoint.
    pub target: SideTarget,
    /// The limit that the call depends on.
    pub quota: CallQuota,
    /// The client's `originator`, and headers to add, such as `content-type` and those of a Codex client.
    pub forwarded: ForwardedHeaders,
    /// The request body.
    pub body: Bytes,
    /// Time limit for the head of the response.
    pub head_timeout: Duration,
}

/// The limit that a call depends on. An exhausted limit refuses the call without a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallQuota {
    /// None.
    Free,
    /// That of this model. A success shows that the limit isn't exhausted.
    Counted(String),
    /// That of this model. A success doesn't show whether the limit is exhausted: a search isn't a response.
    Uncounted(String),
}

/// An endpoint: a path with its query, below one of the backend's base URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SideTarget {
    /// Below `upstream.url`: `/alpha/search`.
    Codex(String),
    /// Below the parent of `upstream.url`: `/transcribe`.
    ChatGpt(String),
    /// An account document, by its name: `usage`. Its path depends on the base URL (`/wham/…` or `/api/codex/…`).
    Account(String),
}

/// A success response, whose body follows.
pub struct SideResponse {
    /// The headers for the client: content type, quota and, for Codex clients, all Codex headers.
    pub headers: HeaderMap,
    /// The backend's request id, for the log.
    pub request_id: Option<String>,
    /// The size of the body in bytes, if the backend announces it and doesn't compress the body.
    announced_bytes: Option<u64>,
    body: ResponseBody,
    recording: Option<Recording>,
    /// Maximum time between two chunks of the body (`upstream.idle_timeout`).
    idle_limit: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Upstream {
    /// Makes a call. The token is replaced if the backend refuses it.
    ///
    /// # Errors
    /// The failure of the last attempt; the failure of the limit that the call depends on, if it is known to be
    /// exhausted.
    pub async fn call(&self, call: &SideCall, token: &mut RequestToken) -> Result<SideResponse, ProxyError> {
        match &call.quota {
            CallQuota::Free => {}
            CallQuota::Counted(model) => self.check_quota(token, model)?,
            CallQuota::Uncounted(model) => {
                self.unless_exhausted(self.quota.exhausted_without_probe(&token.bearer().account.id, model))?;
            }
        }
        self.call_unchecked(call, token).await
    }

    /// Makes a call without checking the quota, for a request with several calls that has checked it once.
    ///
    /// # Errors
    /// As [`Self::call`], without the check.
    pub async fn call_unchecked(&self, call: &SideCall, token: &mut RequestToken) -> Result<SideResponse, ProxyError> {
        loop {
            match self.attempt_call(call, token.bearer()).await {
                Ok(response) => {
                    token.accepted();
                    return Ok(response);
                }
                Err(error) => self.retry_unchanged(call.quota.model(), token, error).await?,
            }
        }
    }

    async fn attempt_call(&self, call: &SideCall, bearer: &Bearer) -> Result<SideResponse, ProxyError> {
        let request_headers = self.request_headers(bearer);
        let (endpoint, path) = call.target.url(&self.settings.url);
        let headers = match call.target {
            SideTarget::Codex(_) => request_headers.side_call(&call.forwarded)?,
            SideTarget::ChatGpt(_) | SideTarget::Account(_) => request_headers.account_call(&call.forwarded)?,
        };
        let request = HttpRequest {
            method: call.method.clone(),
            endpoint: &endpoint,
            path: &path,
            headers,
            accept_encoding: self.settings.accept_encoding,
            body: call.body.clone(),
            limit: call.head_timeout,
        };
        let recorded = RecordedEndpoint::new(call.method.as_str(), &call.target.recorded_path());
        let start = |recorder: &Recorder| recorder.start_recording(recorded.clone(), &request.headers, &call.body);
        let recording = self.recorder.as_ref().map(start);
        match self.open_call(request, recorded, recording.as_ref()).await {
            Ok((received, body)) => {
                match &call.quota {
                    CallQuota::Free => {}
                    CallQuota::Counted(model) => self.quota.record_success(&bearer.account.id, model, &received),
                    CallQuota::Uncounted(_) => self.quota.record_headers(&bearer.account.id, &received),
                }
                let idle_limit = self.settings.idle_timeout;
                Ok(SideResponse { recording, ..SideResponse::new(&received, body, &call.forwarded, idle_limit) })
            }
            Err(error) => {
                if let Some(recording) = recording {
                    recording.end(Outcome::of(&error));
                }
                Err(error)
            }
        }
    }

    /// Sends a request, or plays the recorded response.
    async fn open_call(
        &self,
        request: HttpRequest<'_>,
        recorded: RecordedEndpoint,
        recording: Option<&Recording>,
    ) -> Result<(HeaderMap, ResponseBody), ProxyError> {
        let Some(player) = &self.player else { return client::open_document(&self.http, request, recording).await };
        let HttpRequest { headers, body, limit, .. } = request;
        let playback = off_thread(body.len(), || player.playback(recorded, &headers, &body))?;
        let (status, received, body) = played_head(&playback, Phase::Document, limit).await?;
        let body = body.unwrap_or_default();
        if StatusCode::from_u16(status).is_ok_and(|status| client::is_success(status, &received)) {
            return Ok((received, ResponseBody::recorded(playback.into_chunks(body))));
        }
        Err(client::classify(status, &received, &body))
    }

    /// Waits until the next attempt at the same request is due, or returns the failure. `model` is the model whose
    /// limit the request counts against.
    pub(super) async fn retry_unchanged(
        &self,
        model: Option<&str>,
        token: &mut RequestToken,
        error: ProxyError,
    ) -> Result<(), ProxyError> {
        let error = self.attributed(error, token);
        let Some(retry) = self.next_attempt(model, token, &error) else { return Err(error) };
        match retry.change {
            Change::Nothing => sleep(retry.after).await,
            Change::FreshToken => self.recover(token).await?,
            Change::Omit(_) | Change::DropReasoning | Change::Lite => return Err(error),
        }
        self.counters.retries.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Records a failure, and decides whether the request is attempted again. `None`: the client gets the failure.
    pub(super) fn next_attempt(
        &self,
        model: Option<&str>,
        token: &mut RequestToken,
        error: &ProxyError,
    ) -> Option<Retry> {
        if let Some(model) = model {
            self.quota.record_failure(&token.bearer().account.id, model, error);
        }
        let retry = token.retries.next_attempt(error, random_jitter())?;
        let cause = error.loggable();
        tracing::info!(cause, change = retry.change.loggable(), wait = ?retry.after, "retrying the backend request");
        Some(retry)
    }
}

impl CallQuota {
    /// The model whose limit it is.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        match self {
            Self::Free => None,
            Self::Counted(model) | Self::Uncounted(model) => Some(model),
        }
    }
}

impl SideTarget {
    /// The path in a cassette, which doesn't depend on the base URL.
    fn recorded_path(&self) -> String {
        match self {
            Self::Codex(path) | Self::ChatGpt(path) => path.clone(),
            Self::Account(document) => format!("/wham/{document}"),
        }
    }

    /// The base URL, and the path below it.
    fn url(&self, codex: &Endpoint) -> (Endpoint, String) {
        match self {
            Self::Codex(path) => (codex.clone(), path.clone()),
            Self::ChatGpt(path) => (region::chatgpt_base(codex), path.clone()),
            Self::Account(document) => (region::chatgpt_base(codex), region::account_path(codex, document)),
        }
    }
}

impl SideResponse {
    fn new(received: &HeaderMap, body: ResponseBody, forwarded: &ForwardedHeaders, idle_limit: Duration) -> Self {
        let mut client_headers = headers_for_client(received, forwarded);
        let kind = received.get(http::header::CONTENT_TYPE).cloned();
        kind.map(|kind| client_headers.insert(http::header::CONTENT_TYPE, kind));
        Self {
            headers: client_headers,
            request_id: headers::request_id(received).map(str::to_owned),
            announced_bytes: announced_bytes(received),
            body,
            recording: None,
            idle_limit,
            timer: Box::pin(sleep_until(Instant::now() + idle_limit)),
        }
    }

    /// Reads the whole body. Reserves the memory of all of it at once if the backend announces its size, and waits
    /// longer for memory than a request body does: the backend has done the work.
    ///
    /// # Errors
    /// [`ProxyError::Damaged`] if it is longer than the limit; [`ProxyError::MemoryFull`]; the failure of the
    /// connection.
    pub async fn read(mut self, limit_bytes: u64, memory: &Arc<ByteBudget>) -> Result<BufferedBody, ProxyError> {
        let too_large = || ProxyError::Damaged { reason: format!("it is larger than {limit_bytes} bytes") };
        let expected_bytes = self.announced_bytes.unwrap_or(limit_bytes);
        if expected_bytes > limit_bytes {
            return Err(too_large());
        }
        let mut buffer = GrowingBuffer::new(memory.reserve_for_reply(self.idle_limit), expected_bytes);
        if self.announced_bytes.is_some() {
            buffer.expect_whole();
        }
        while let Some(chunk) = self.next().await {
            let chunk = chunk?;
            if (buffer.bytes.len() + chunk.len()) as u64 > limit_bytes {
                return Err(too_large());
            }
            buffer.grow(chunk.len()).await?;
            buffer.bytes.extend_from_slice(&chunk);
        }
        Ok(buffer.finish())
    }
}

/// The size of a body that isn't compressed.
fn announced_bytes(received: &HeaderMap) -> Option<u64> {
    let is_plain = matches!(content_encoding(received).as_str(), "" | "identity");
    text_header(received, CONTENT_LENGTH.as_str())?.parse().ok().filter(|_| is_plain)
}

/// The chunks of the body, up to its end or the first error.
impl Stream for SideResponse {
    type Item = Result<Bytes, ProxyError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let next = if let Poll::Ready(next) = this.body.poll_chunk(cx) {
            this.timer.as_mut().reset(Instant::now() + this.idle_limit);
            next
        } else {
            ready!(this.timer.as_mut().poll(cx));
            Some(Err(ProxyError::Silent { phase: Phase::Streaming, limit: this.idle_limit }))
        };
        if let Some(recording) = &this.recording {
            match &next {
                Some(Ok(chunk)) => recording.chunk(chunk),
                Some(Err(error)) => recording.end(Outcome::of(error)),
                None => recording.end(Outcome::Whole),
            }
        }
        Poll::Ready(next)
    }
}

impl fmt::Debug for SideResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SideResponse").field("request_id", &self.request_id).finish_non_exhaustive()
    }
}
