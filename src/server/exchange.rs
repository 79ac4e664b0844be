//! One client request, from its body to its answer, in any dialect.
//!
//! Up to the commit point a failure is a status; past it the drive owns the answer. A client that
//! hangs up drops this future or the body, and with either the call upstream.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::drive::Passage;
use super::gate::KeyName;
use super::keeper::Keeper;
use super::metrics::Traffic;
use super::observe::{Record, RequestId};
use super::paths::PathModel;
use super::places::Placed;
use super::recall::Recall;
use super::{Services, account, body, drive, models, nesting};
use crate::bearer::TokenSource;
use crate::error::{Fault, ProxyError};
use crate::history::{Reasoning, Scope};
use crate::protocol::model::Models;
use crate::protocol::responses::{self, Responses};
use crate::protocol::{Context, Dialect, Mode, Plan, Reply, Warnings, tokens};
use crate::upstream::{Answer, Hints};

/// What one dialect's path is served with.
#[derive(Debug)]
pub(super) struct Exchange<D: Dialect> {
    pub(super) services: Arc<Services>,
    pub(super) options: Arc<D::Options>,
    /// Reasoning to give back, for a dialect whose clients can't carry it.
    pub(super) reasoning: Option<Arc<Reasoning>>,
    pub(super) limits: Limits,
    pub(super) cut: CancellationToken,
    pub(super) traffic: Arc<Traffic>,
}

/// The settings an exchange goes by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) body_bytes: u64,
    pub(super) keepalive: Option<Duration>,
}

impl<D: Dialect> Clone for Exchange<D> {
    fn clone(&self) -> Self {
        Self {
            services: Arc::clone(&self.services),
            options: Arc::clone(&self.options),
            reasoning: self.reasoning.clone(),
            limits: self.limits,
            cut: self.cut.clone(),
            traffic: Arc::clone(&self.traffic),
        }
    }
}

impl<D: Dialect> Exchange<D>
where
    D::Reply: Unpin + Sync,
{
    /// Answers a request; every failure comes out with the dialect's own face.
    pub(super) async fn answer(self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let id = parts.extensions.get::<RequestId>().cloned().unwrap_or_else(RequestId::fresh);
        let mut record = Some(Record::new(D::NAME, &id, &self.traffic));
        let span = record.as_ref().map_or_else(tracing::Span::none, Record::span);
        let cut = self.cut.clone();
        let answered = tokio::select! {
            answered = self.run(&parts, body, &mut record) => answered,
            () = cut.cancelled() => Err(ProxyError::ShuttingDown),
        };
        let _inside = span.enter();
        answered.unwrap_or_else(|error| refuse::<D>(&error, &id, record))
    }

    async fn run(&self, parts: &Parts, body: Body, record: &mut Option<Record>) -> Result<Response, ProxyError> {
        let span = record.as_ref().map_or_else(tracing::Span::none, Record::span);
        if let Err(error) = enter(record).await {
            body::discard(&parts.headers, body).await;
            return Err(error);
        }
        let chosen = account::tokens(parts, self.services.tokens.as_ref()).await?;
        let body = body::read(&parts.headers, body, self.limits.body_bytes).await?;
        let keeper = Keeper::new(&self.services.history, key_name(parts));
        let models = self.services.models();
        let (mut plan, mut warnings) = self.plan(parts, &body, &models, &keeper)?;
        if let Some(record) = record {
            record.planned(&plan.upstream.model, plan.mode);
        }
        let mut recall = self.recall(key_name(parts), &plan.upstream.model, chosen.as_ref()).await?;
        if let Some(recall) = &mut recall {
            recall.restore(&mut plan.upstream);
        }
        let originator = parts.headers.get("originator").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let slug = plan.upstream.model.to_string();
        let hints = Hints { originator, tokens: chosen, forwarded: D::forwarded(&parts.headers) };
        let opening = self.services.upstream.open(plan.upstream, &hints).instrument(span);
        let opened = tokio::try_join!(opening, make_ready(&plan.reply));
        let (answer, ()) = opened.map_err(|error| explained(error, &models, &slug))?;
        if let Some(recall) = &recall {
            recall.heed(&answer.warnings);
        }
        answer.warnings.iter().for_each(|token| warnings.note(token));
        let response = self.deliver(plan.mode, Passage { reply: plan.reply, recall, keeper }, answer, record).await;
        response.map(|response| warned(response, &warnings))
    }

    /// The request in the upstream's form, and what has to be said about it.
    fn plan<'b>(
        &self,
        parts: &Parts,
        body: &'b [u8],
        models: &Models,
        keeper: &Keeper,
    ) -> Result<(Plan<'b, D::Reply>, Warnings), ProxyError> {
        nesting::check(body)?;
        let mut context = Context {
            headers: &parts.headers,
            key: key_name(parts),
            path_model: parts.extensions.get::<PathModel>().map(|model| model.0.as_str()),
            models,
            warnings: Warnings::default(),
        };
        let mut request = D::decode(body)?;
        let references = D::references(&request);
        if !references.is_empty() {
            D::recall(&mut request, keeper.recall(&references));
        }
        let plan = D::translate(request, &mut context, &self.options)?;
        Ok((plan, context.warnings))
    }

    /// The memory for this request, where there is one.
    async fn recall(
        &self,
        key: Option<&str>,
        model: &str,
        chosen: Option<&Arc<dyn TokenSource>>,
    ) -> Result<Option<Recall>, ProxyError> {
        let Some(memory) = &self.reasoning else { return Ok(None) };
        let tokens = chosen.unwrap_or(&self.services.tokens);
        let bearer = tokens.bearer().await.map_err(ProxyError::Auth)?;
        let key = key.map(str::to_owned);
        let scope = Scope { key, account: bearer.account.id, model: model.to_owned() };
        Ok(Some(Recall::new(Arc::clone(memory), scope)))
    }

    async fn deliver(
        &self,
        mode: Mode,
        passage: Passage<D::Reply>,
        answer: Answer,
        record: &mut Option<Record>,
    ) -> Result<Response, ProxyError> {
        let Answer { events, headers, request_id, .. } = answer;
        let Some(open) = record.take() else { return Err(ProxyError::Internal) };
        open.opened(request_id.as_deref());
        let mut response = match mode {
            Mode::Stream => {
                let drive = drive::Drive::new(events, passage, self.limits.keepalive, self.cut.clone(), open);
                stream_response(Body::new(drive))
            }
            Mode::Document => {
                let document = drive::document(events, passage, record.insert(open)).await;
                let document = document.map_err(|error| with_headers(error, &headers))?;
                let place = record.take().and_then(|mut record| record.take_place());
                let mut response = json_response(StatusCode::OK, Bytes::new());
                *response.body_mut() = Body::new(Placed::new(document, place));
                response
            }
        };
        response.headers_mut().extend(headers);
        Ok(response)
    }
}

async fn enter(record: &mut Option<Record>) -> Result<(), ProxyError> {
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
        failure.message.push_str(&models::hint(models, slug));
    }
    error
}

/// A failure in the middle of an answer passes on what the answer would have.
fn with_headers(mut error: ProxyError, headers: &HeaderMap) -> ProxyError {
    if let ProxyError::Upstream(failure) = &mut error {
        failure.headers.clone_from(headers);
    }
    error
}

/// The name of the client key that was used.
pub(super) fn key_name(parts: &Parts) -> Option<&str> {
    parts.extensions.get::<KeyName>().map(|key| key.0.as_str())
}

fn warned(mut response: Response, warnings: &Warnings) -> Response {
    if let Some(tokens) = warnings.header().and_then(|tokens| HeaderValue::try_from(tokens).ok()) {
        response.headers_mut().insert("x-proxy-warnings", tokens);
    }
    response
}

fn refuse<D: Dialect>(error: &ProxyError, id: &RequestId, record: Option<Record>) -> Response {
    let (status, mut headers, body) = D::face(error, &id.0);
    if let ProxyError::Upstream(failure) = error {
        headers.extend(failure.headers.clone());
    }
    if let Some(mut record) = record {
        record.refused(status, error);
    }
    if status.is_server_error() {
        tracing::warn!(error = error.loggable(), "request failed");
    } else {
        tracing::debug!(error = error.loggable(), "request refused");
    }
    faced(status, headers, body)
}

/// An answer from a face: JSON with the face's own headers.
pub(super) fn faced(status: StatusCode, headers: HeaderMap, body: Bytes) -> Response {
    let mut response = json_response(status, body);
    response.headers_mut().extend(headers);
    response
}

/// A whole JSON answer.
pub(super) fn json_response(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn stream_response(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Front proxies would otherwise gather the stream before passing it on.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

#[derive(Serialize)]
struct InputTokens {
    object: &'static str,
    input_tokens: usize,
}

impl Exchange<Responses> {
    /// `POST /v1/responses/input_tokens`: how long the input of a request is, by our own estimate.
    pub(super) async fn count(self, request: Request) -> Response {
        let (mut parts, body) = request.into_parts();
        if parts.extensions.get::<PathModel>().is_none() {
            // The model doesn't change the estimate, and may be left out here.
            parts.extensions.insert(PathModel("default".to_owned()));
        }
        let id = parts.extensions.get::<RequestId>().cloned().unwrap_or_else(RequestId::fresh);
        self.counted(&parts, body).await.unwrap_or_else(|error| refuse::<Responses>(&error, &id, None))
    }

    async fn counted(&self, parts: &Parts, body: Body) -> Result<Response, ProxyError> {
        let body = body::read(&parts.headers, body, self.limits.body_bytes).await?;
        let keeper = Keeper::new(&self.services.history, key_name(parts));
        let (plan, _) = self.plan(parts, &body, &self.services.models(), &keeper)?;
        let counted =
            InputTokens { object: "response.input_tokens", input_tokens: responses::tokens::estimate(&plan.upstream) };
        let bytes = serde_json::to_vec(&counted).expect("a number always serialises");
        Ok(json_response(StatusCode::OK, Bytes::from(bytes)))
    }
}
