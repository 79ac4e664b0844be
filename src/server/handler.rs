//! One client request, from its body to its answer, in any dialect.
//!
//! Up to the commit point a failure is a status; past it the drive owns the answer, in the framing of
//! the connection. A client that hangs up drops this future or the drive, and with either the call
//! upstream.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, StreamExt};
use http::header::CONNECTION;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::access::KeyName;
use super::body::BufferedBody;
use super::budget::Reservation;
use super::concurrency::PermitBody;
use super::document::{self, Document};
use super::http_response::{json_response, stream_response, with_headers, with_warnings};
use super::metrics::ServerState;
use super::paths::PathModel;
use super::reasoning_replay::ReasoningReplay;
use super::request_log::{RequestId, RequestRecord, ServedRequest};
use super::response_store::ResponseStore;
use super::response_stream::{AbortSignal, Framing, HttpFraming, ReplyProcessor, ResponseStream};
use super::{Services, account, body, depth_limit, models, usage};
use crate::blocking::off_thread;
use crate::error::{Fault, ProxyError};
use crate::history::{Reasoning, Scope, Subject};
use crate::protocol::models::Models;
use crate::protocol::{Context, Dialect, Fold, Mode, Plan, Reply, Warnings, Wire, tokens};
use crate::token_source::TokenSource;
use crate::upstream::{Answer, Hints, Pending};

/// What one dialect's path is served with.
#[derive(Debug)]
pub(super) struct Handler<D: Dialect> {
    pub(super) services: Arc<Services>,
    pub(super) options: Arc<D::Options>,
    /// Reasoning to give back, for a dialect whose clients can't carry it.
    pub(super) reasoning: Option<Arc<Reasoning>>,
    pub(super) limits: Limits,
    pub(super) cut: CancellationToken,
    pub(super) state: Arc<ServerState>,
}

/// A request in the upstream's form.
pub(super) struct PlannedRequest<'b, D: Dialect> {
    pub(super) plan: Plan<'b, D::Reply>,
    /// What has to be said about it.
    warnings: Warnings,
    /// The account that gave the answer which it goes on from.
    account: Option<String>,
}

/// The settings an exchange goes by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) body_bytes: u64,
    pub(super) body_read: Duration,
    pub(super) keepalive: Option<Duration>,
}

/// An answer that has begun.
#[derive(Debug)]
pub(super) struct OpenedReply<'r, R> {
    pub(super) mode: Mode,
    pub(super) passage: ReplyProcessor<R>,
    pub(super) answer: Answer,
    pub(super) warnings: Warnings,
    /// Opens another attempt, as long as the client has received nothing.
    pending: Pending<'r>,
}

impl<D: Dialect> Clone for Handler<D> {
    fn clone(&self) -> Self {
        self.for_dialect(Arc::clone(&self.options), self.reasoning.clone())
    }
}

impl<D: Dialect> Handler<D> {
    /// The path of another dialect, in the same surroundings.
    pub(super) fn for_dialect<E: Dialect>(
        &self,
        options: Arc<E::Options>,
        reasoning: Option<Arc<Reasoning>>,
    ) -> Handler<E> {
        Handler {
            services: Arc::clone(&self.services),
            options,
            reasoning,
            limits: self.limits,
            cut: self.cut.clone(),
            state: Arc::clone(&self.state),
        }
    }
}

impl<D: Dialect> Handler<D>
where
    D::Reply: Unpin + Sync,
{
    /// Answers a request; every failure comes out with the dialect's own face.
    pub(super) async fn handle(self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let id = parts.extensions.get::<RequestId>().cloned().unwrap_or_else(RequestId::fresh);
        let mut record = RequestRecord::new(D::NAME, &id, &self.state);
        record.introduce(&id, &parts);
        let mut record = Some(record);
        let span = record.as_ref().map_or_else(tracing::Span::none, RequestRecord::span);
        // It is large: in its own place, it is not moved with each of the layers around it.
        let running = Box::pin(self.run(&parts, body, &mut record));
        let answered = tokio::select! {
            answered = running => answered,
            why = self.cut() => Err(why),
        };
        let _inside = span.enter();
        answered.unwrap_or_else(|error| refuse::<D>(&error, &id, record))
    }

    async fn run(&self, parts: &Parts, body: Body, record: &mut Option<RequestRecord>) -> Result<Response, ProxyError> {
        let chosen = account::tokens(parts, self.services.tokens.as_ref()).await?;
        let BufferedBody { bytes: body, mut memory } = body::read(&parts.headers, body, &self.intake()).await?;
        // A client that sends slowly must not keep others from a place.
        enter(record).await?;
        let keeper = ResponseStore::new(&self.services.history, &parts.extensions);
        let models = self.services.models();
        let planned = self.plan(parts, &body, &models, &keeper, &mut memory).await?;
        if let Some(record) = record {
            record.hold(memory);
        }
        if !planned.plan.reply.asks() {
            return tell(planned, record);
        }
        let slug = planned.plan.upstream.model.to_string();
        let answered = match self.send(parts, planned, chosen, keeper, record.as_mut()).await {
            Ok(opened) => self.deliver(opened, record).await,
            Err(error) => Err(error),
        };
        answered.map_err(|error| explained(error, &models, &slug))
    }

    /// Sends a request upstream; comes back when its answer is committed to.
    pub(super) async fn open<'r>(
        &'r self,
        parts: &Parts,
        body: &'r [u8],
        mut memory: Reservation,
        chosen: Option<Arc<dyn TokenSource>>,
        keeper: ResponseStore,
        mut record: Option<&mut RequestRecord>,
    ) -> Result<OpenedReply<'r, D::Reply>, ProxyError> {
        let models = self.services.models();
        let planned = self.plan(parts, body, &models, &keeper, &mut memory).await?;
        if let Some(record) = record.as_deref_mut() {
            record.hold(memory);
        }
        let slug = planned.plan.upstream.model.to_string();
        let opened = self.send(parts, planned, chosen, keeper, record).await;
        opened.map_err(|error| explained(error, &models, &slug))
    }

    async fn send<'r>(
        &'r self,
        parts: &Parts,
        planned: PlannedRequest<'r, D>,
        chosen: Option<Arc<dyn TokenSource>>,
        keeper: ResponseStore,
        record: Option<&mut RequestRecord>,
    ) -> Result<OpenedReply<'r, D::Reply>, ProxyError> {
        let PlannedRequest { mut plan, warnings, account } = planned;
        let chosen = match (chosen, &account) {
            // Only the account that answered can read the reasoning that it goes on from.
            (None, Some(account)) => self.services.tokens.prefer(account).await,
            (chosen, _) => chosen,
        };
        let token = self.services.upstream.token(chosen).await?;
        account::check_share(parts, &self.services.upstream, token.bearer()).await?;
        let account = token.bearer().account.clone();
        if let Some(record) = record.as_deref() {
            record.planned(&plan.upstream.model, plan.mode);
        }
        let mut recall = self.recall(key_name(parts), &plan.upstream.model, &account.id);
        let keeper = keeper.answered_by(&account.id);
        if let Some(recall) = &mut recall {
            recall.restore(&mut plan.upstream);
        }
        let originator = parts.headers.get("originator").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let hints = Hints { originator, forwarded: D::forwarded_headers(&parts.headers) };
        let served = ServedRequest {
            subject: Subject {
                key: key_name(parts).map(str::to_owned),
                account: account.id,
                cache_key: plan.upstream.prompt_cache_key.to_string(),
            },
            model: plan.upstream.model.to_string(),
            fingerprint: usage::fingerprint(&plan.upstream),
        };
        let span = record.as_deref().map_or_else(tracing::Span::none, RequestRecord::span);
        let opening = async {
            let mut pending = self.services.upstream.begin(plan.upstream, token, hints)?;
            let answer = pending.open().await?;
            Ok((pending, answer))
        };
        let ((pending, answer), ()) = tokio::try_join!(opening.instrument(span), make_ready(&plan.reply))?;
        if let Some(record) = record {
            record.served(served);
        }
        if let Some(recall) = &recall {
            recall.heed(&answer.warnings);
        }
        let passage = ReplyProcessor { reply: plan.reply, recall, keeper, billed: None };
        Ok(OpenedReply { mode: plan.mode, passage, answer, warnings, pending })
    }

    /// The request in the upstream's form, once what it refers to is looked up.
    pub(super) async fn plan<'b>(
        &self,
        parts: &Parts,
        body: &'b [u8],
        models: &Models,
        keeper: &ResponseStore,
        memory: &mut Reservation,
    ) -> Result<PlannedRequest<'b, D>, ProxyError> {
        memory.begin_work(body).await?;
        let mut request = off_thread(body.len(), || depth_limit::check(body).and_then(|()| D::decode(body)))?;
        let references = D::references(&request);
        let mut account = None;
        if !references.is_empty() {
            let (recalled, answered_by) = keeper.recall(&references, memory).await?;
            account = answered_by;
            D::resolve_references(&mut request, recalled);
        }
        let mut context = Context {
            headers: &parts.headers,
            key: key_name(parts),
            path_model: parts.extensions.get::<PathModel>().map(|model| model.0.as_str()),
            models,
            warnings: Warnings::default(),
        };
        let plan = off_thread(memory.buffered_bytes(), || D::translate(request, &mut context, &self.options))?;
        Ok(PlannedRequest { plan, warnings: context.warnings, account })
    }

    /// The memory for this request, where there is one.
    fn recall(&self, key: Option<&str>, model: &str, account: &str) -> Option<ReasoningReplay> {
        let memory = self.reasoning.as_ref()?;
        let scope = Scope { key: key.map(str::to_owned), account: account.to_owned(), model: model.to_owned() };
        Some(ReasoningReplay::new(Arc::clone(memory), scope))
    }

    async fn deliver(
        &self,
        mut opened: OpenedReply<'_, D::Reply>,
        record: &mut Option<RequestRecord>,
    ) -> Result<Response, ProxyError> {
        let mut warnings = std::mem::take(&mut opened.warnings);
        let Some(open) = record.take() else { return Err(ProxyError::Internal) };
        let (mut response, headers, told) = match opened.mode {
            Mode::Stream => {
                let Answer { headers, warnings, .. } = &mut opened.answer;
                let (headers, told) = (std::mem::take(headers), std::mem::take(warnings));
                let drive = self.drive(opened, HttpFraming::default(), self.cut(), open).primed().await;
                let body = Body::from_stream(drive.map(Ok::<_, Infallible>));
                (stream_response(body, D::STREAM_TYPE), headers, told)
            }
            Mode::Document => {
                let OpenedReply { pending, answer, passage, .. } = opened;
                let read = document::read(pending, answer, passage, record.insert(open)).await;
                let Document { body, headers, warnings: told } = read?;
                let place = record.take().and_then(|mut record| record.take_permit());
                let mut response = json_response(StatusCode::OK, Bytes::new());
                *response.body_mut() = Body::new(PermitBody::new(body, place));
                (response, headers, told)
            }
        };
        for token in told {
            warnings.note(token);
        }
        response.headers_mut().extend(headers);
        Ok(with_warnings(response, &warnings))
    }

    /// The way of a streaming answer to its client.
    pub(super) fn drive<F: Framing<D::Reply>>(
        &self,
        opened: OpenedReply<'_, D::Reply>,
        framing: F,
        cut: AbortSignal,
        mut record: RequestRecord,
    ) -> ResponseStream<D::Reply, F> {
        let OpenedReply { passage, answer: Answer { events, request_id, .. }, pending, .. } = opened;
        record.opened(request_id.as_deref());
        // A stream that has begun is not requested again. A document keeps this memory until its record is dropped.
        drop(pending);
        record.sent();
        ResponseStream::new(events, passage, framing, self.limits.keepalive, cut, record)
    }

    /// Comes when the time to drain has passed.
    pub(super) fn cut(&self) -> AbortSignal {
        self.cut.clone().cancelled_owned().map(|()| ProxyError::ShuttingDown).boxed()
    }
}

/// An answer that is known without the backend.
fn tell<D: Dialect>(
    planned: PlannedRequest<'_, D>,
    record: &mut Option<RequestRecord>,
) -> Result<Response, ProxyError> {
    let PlannedRequest { plan: Plan { upstream, mode, mut reply }, warnings, .. } = planned;
    let mut wire = BytesMut::new();
    match mode {
        Mode::Stream => reply.on_commit(&mut Wire(&mut wire)),
        Mode::Document => reply.on_commit(&mut Fold),
    }
    if let Some(record) = record {
        record.planned(&upstream.model, mode);
        record.ended(reply.summary());
    }
    let response = match mode {
        Mode::Stream => stream_response(Body::from(wire.freeze()), D::STREAM_TYPE),
        Mode::Document => json_response(StatusCode::OK, reply.document()?),
    };
    Ok(with_warnings(response, &warnings))
}

async fn enter(record: &mut Option<RequestRecord>) -> Result<(), ProxyError> {
    match record {
        Some(record) => record.enter().await,
        None => Ok(()),
    }
}

/// Loads the tokenizer for a machine that counts, where it may take its time, while the backend is asked.
async fn make_ready(reply: &impl Reply) -> Result<(), ProxyError> {
    if !reply.counts_tokens() || tokens::is_loaded() {
        return Ok(());
    }
    tokio::task::spawn_blocking(tokens::load).await.map_err(|_| ProxyError::Internal)
}

/// Names the model that may have been meant, where the backend does not know the one asked for.
fn explained(mut error: ProxyError, models: &Models, slug: &str) -> ProxyError {
    if let ProxyError::Upstream(failure) = &mut error
        && failure.fault == Fault::ModelNotFound
    {
        failure.message = models::with_hint(&failure.message, models, slug);
    }
    error
}

/// The name of the client key that was used.
pub(super) fn key_name(parts: &Parts) -> Option<&str> {
    parts.extensions.get::<KeyName>().map(|key| key.0.as_str())
}

/// An error in the dialect's own words.
pub(super) fn refuse<D: Dialect>(error: &ProxyError, id: &RequestId, record: Option<RequestRecord>) -> Response {
    let (status, mut headers, body) = D::to_error_response(error, &id.0);
    if let ProxyError::Upstream(failure) = error {
        headers.extend(failure.headers.clone());
    }
    if let ProxyError::BodyTooSlow { .. } = error {
        // The rest of the body would be taken for the next request.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    note_refusal(error, status, record);
    with_headers(status, headers, body)
}

/// Leaves in the log that a request got no answer.
pub(super) fn note_refusal(error: &ProxyError, status: StatusCode, record: Option<RequestRecord>) {
    if let Some(mut record) = record {
        record.refused(status, error);
    }
    if status.is_server_error() {
        tracing::warn!(error = error.loggable(), "request failed");
    } else {
        tracing::debug!(error = error.loggable(), "request refused");
    }
}
