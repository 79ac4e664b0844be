//! Handles requests that don't lead to a response of the model: search, images, transcription, account documents.
//!
//! [`SideEndpoint`] does for a [`SideApi`] what `handler` does for the model APIs: account, body limits, permit, token,
//! quota share, log, metrics and errors in OpenAI's format. If the client disconnects, the handler's future or the body
//! of its response is dropped, and with it the upstream call.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures_core::Stream;
use http::header::X_CONTENT_TYPE_OPTIONS;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::body::{self, BodyLimits};
use super::handler::{Handler, Limits, aborted, forwarded_headers, refuse_with_status};
use super::multipart::is_multipart;
use super::request_log::{RequestId, RequestRecord};
use super::response_stream::AbortSignal;
use super::state::ServerState;
use super::{Services, account};
use crate::budget::BufferedBody;
use crate::budget::{ByteBudget, Reservation};
use crate::error::ProxyError;
use crate::protocol::responses::{Responses, relayed_headers};
use crate::protocol::{Dialect, Summary, openai};
use crate::upstream::{ForwardedHeaders, RequestToken, SideCall, SideResponse};

/// An endpoint that calls the backend with [`SideCall`]s.
pub(super) trait SideApi: Clone + Send + Sync + 'static {
    /// The name in logs and metrics, such as `images`.
    fn name(&self) -> &'static str;

    /// The status for an error, if it differs from that of OpenAI's API.
    fn error_status(&self, _error: &ProxyError) -> Option<StatusCode> {
        None
    }

    /// Responds to a request. Takes `record` if the response body completes it; otherwise, the caller completes it.
    fn respond(
        &self,
        request: SideRequest,
        record: &mut Option<RequestRecord>,
    ) -> impl Future<Output = Result<Response, ProxyError>> + Send;
}

/// Handles the requests of a [`SideApi`].
#[derive(Clone, Debug)]
pub(super) struct SideEndpoint<A> {
    api: A,
    services: Arc<Services>,
    limits: Limits,
    /// Cancelled when the drain time has passed.
    abort: CancellationToken,
    state: Arc<ServerState>,
}

/// A request whose body has been read and whose token is known.
pub(super) struct SideRequest {
    pub(super) parts: Parts,
    /// The decoded body.
    pub(super) body: Bytes,
    /// The memory of `body`.
    pub(super) body_memory: Reservation,
    pub(super) token: RequestToken,
    pub(super) services: Arc<Services>,
    /// The memory that all requests share.
    pub(super) budget: Arc<ByteBudget>,
    /// Resolves when the drain time has passed.
    pub(super) abort: AbortSignal,
}

impl<A: SideApi> SideEndpoint<A> {
    /// An endpoint with the services and limits of a handler.
    pub(super) fn new<D: Dialect>(api: A, handler: &Handler<D>) -> Self {
        Self {
            api,
            services: Arc::clone(&handler.services),
            limits: handler.limits,
            abort: handler.abort.clone(),
            state: Arc::clone(&handler.state),
        }
    }

    /// Handles a request. Failures become error responses.
    pub(super) async fn handle(self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let id = RequestId::of(&parts);
        let mut record = RequestRecord::new(self.api.name(), &id, &self.state);
        record.register(&id, &parts);
        let span = record.span();
        let mut record = Some(record);
        let running = Box::pin(self.run(parts, body, &mut record).instrument(span.clone()));
        let result = tokio::select! {
            result = running => result,
            () = self.abort.cancelled() => Err(ProxyError::ShuttingDown),
        };
        let _entered = span.enter();
        match result {
            Ok(response) => {
                record.iter_mut().for_each(complete);
                response
            }
            Err(error) => refuse_with_status::<Responses>(&error, self.api.error_status(&error), &id, record),
        }
    }

    async fn run(&self, parts: Parts, body: Body, record: &mut Option<RequestRecord>) -> Result<Response, ProxyError> {
        let chosen = account::tokens(&parts, &self.services).await?;
        let limits = BodyLimits::new(self.limits, &self.state.memory);
        let BufferedBody { bytes: body, memory: body_memory } = if is_multipart(&parts.headers) {
            body::read_unchanged(&parts.headers, body, &limits).await?
        } else {
            body::read(&parts.headers, body, &limits).await?
        };
        if let Some(record) = record {
            // The permit comes after the body, so that a client that sends slowly doesn't occupy one.
            record.acquire_permit().await?;
        }
        let token = self.services.upstream.token(chosen).await?;
        account::check_share(&parts, &self.services.upstream, token.bearer()).await?;
        let (services, budget) = (Arc::clone(&self.services), Arc::clone(&self.state.memory));
        let abort = aborted(&self.abort);
        self.api.respond(SideRequest { parts, body, body_memory, token, services, budget, abort }, record).await
    }
}

impl SideRequest {
    /// The client's headers that a call passes on.
    pub(super) fn forwarded(&self) -> ForwardedHeaders {
        let headers = &self.parts.headers;
        ForwardedHeaders { request: relayed_headers(headers), ..forwarded_headers::<Responses>(headers) }
    }

    /// Makes a call with the token of this request.
    pub(super) async fn call(&mut self, call: &SideCall) -> Result<SideResponse, ProxyError> {
        self.services.upstream.call(call, &mut self.token).await
    }
}

/// A response that passes on the body of a backend response as it arrives. The request ends with the body.
pub(super) fn passed_on(mut response: SideResponse, abort: AbortSignal, record: RequestRecord) -> Response {
    let headers = std::mem::take(&mut response.headers);
    record.set_upstream_id(response.request_id.as_deref());
    let mut passed = Response::new(Body::from_stream(PassedBody { response, abort, record }));
    passed.headers_mut().extend(headers);
    // A browser must not interpret a response of the backend as anything but its content type.
    passed.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    passed
}

/// Records that the response is complete.
fn complete(record: &mut RequestRecord) {
    record.set_summary(Summary { usage: None, outcome: "completed".to_owned() });
}

/// The body of a backend response, and the record of its request.
struct PassedBody {
    response: SideResponse,
    abort: AbortSignal,
    record: RequestRecord,
}

impl PassedBody {
    /// Records that the body was cut off.
    fn fail(&mut self, error: &ProxyError) {
        let _entered = self.record.span().entered();
        tracing::warn!(error = error.loggable(), "a relayed response was cut");
        self.record.set_error(error);
        self.record.set_summary(Summary { usage: None, outcome: openai::error::code(error) });
    }
}

impl Stream for PassedBody {
    type Item = Result<Bytes, ProxyError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let mut polled = Pin::new(&mut this.response).poll_next(cx);
        if polled.is_pending() {
            polled = this.abort.as_mut().poll(cx).map(|error| Some(Err(error)));
        }
        match &polled {
            Poll::Ready(None) => complete(&mut this.record),
            Poll::Ready(Some(Err(error))) => this.fail(error),
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        polled
    }
}
