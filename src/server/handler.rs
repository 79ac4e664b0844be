//! Handles one client request, from body to response, for any API.
//!
//! Until the backend's response is committed (see [`crate::upstream`]), a failure becomes an HTTP status; after that,
//! [`ResponseStream`] reports it in the stream. If the client disconnects, the handler's future or the stream is
//! dropped, and with it the upstream call.

mod local_response;
mod refusal;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body_util::Full;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::access::KeyName;
use super::background::{BackgroundRuns, NewRun};
use super::document::{self, Document};
use super::guarded_body::GuardedBody;
use super::http_response::{json_response, stream_response, with_warnings};
use super::item_replay::{ItemReplay, ReasoningReplay};
use super::paths::PathModel;
use super::request_log::{RequestId, RequestRecord, ServedRequest};
use super::response_store::ResponseStore;
use super::response_stream::{AbortSignal, Framing, HttpFraming, ReplyProcessor, ResponseStream};
use super::state::ServerState;
use super::{Services, account, body, models, usage};
use crate::blocking::off_thread;
use crate::budget::BufferedBody;
use crate::budget::Reservation;
use crate::command_hint;
use crate::depth_limit;
use crate::error::ProxyError;
use crate::history::{ConversationKey, ReplayScope};
use crate::protocol::models::Models;
use crate::protocol::{Context, Dialect, Mode, Plan, Reply, Warnings, tokens};
use crate::token_source::TokenSource;
use crate::upstream::{BackendResponse, ForwardedHeaders, Pending};

use local_response::respond_locally;
pub(super) use refusal::{log_refusal, refuse, refuse_with_status};

/// Handles requests in one API format.
#[derive(Debug)]
pub(super) struct Handler<D: Dialect> {
    pub(super) services: Arc<Services>,
    pub(super) options: Arc<D::Options>,
    /// Whether reasoning is replayed to the backend.
    pub(super) reasoning: ReasoningReplay,
    pub(super) limits: Limits,
    /// Runs the requests that are to run in the background, if the API has them.
    pub(super) background: Option<Arc<BackgroundRuns>>,
    /// Cancelled when the drain time has passed.
    pub(super) abort: CancellationToken,
    pub(super) state: Arc<ServerState>,
}

/// A translated request.
pub(super) struct PlannedRequest<'b, D: Dialect> {
    pub(super) plan: Plan<'b, D::Reply>,
    warnings: Warnings,
    /// The account that gave the stored response which the request continues.
    account: Option<String>,
}

/// The [settings](super::Settings) that limit requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) body_bytes: u64,
    pub(super) body_read: Duration,
    pub(super) keepalive: Option<Duration>,
}

/// A committed backend response, and the state that turns it into the client's.
#[derive(Debug)]
pub(super) struct OpenedReply<'r, R> {
    pub(super) mode: Mode,
    pub(super) processor: ReplyProcessor<R>,
    pub(super) backend_response: BackendResponse,
    /// Warnings of the translation; those of the backend response are separate.
    pub(super) warnings: Warnings,
    /// Starts another attempt, as long as the client has received nothing.
    pending: Pending<'r>,
}

impl<D: Dialect> Clone for Handler<D> {
    fn clone(&self) -> Self {
        let background = self.background.clone();
        Self { background, ..self.for_dialect(Arc::clone(&self.options), self.reasoning) }
    }
}

impl<D: Dialect> Handler<D> {
    /// A handler for another API format with the same services and limits.
    pub(super) fn for_dialect<E: Dialect>(&self, options: Arc<E::Options>, reasoning: ReasoningReplay) -> Handler<E> {
        Handler {
            services: Arc::clone(&self.services),
            options,
            reasoning,
            limits: self.limits,
            background: None,
            abort: self.abort.clone(),
            state: Arc::clone(&self.state),
        }
    }
}

impl<D: Dialect> Handler<D>
where
    D::Reply: Unpin + Sync,
{
    /// Handles a request. Failures become error responses of the API.
    pub(super) async fn handle(self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let id = RequestId::of(&parts);
        let mut record = RequestRecord::new(D::NAME, &id, &self.state);
        record.register(&id, &parts);
        let span = record.span();
        let mut record = Some(record);
        // Boxed so that the layers above don't each copy a large future.
        let running = Box::pin(self.run(&parts, body, &mut record));
        let result = tokio::select! {
            result = running => result,
            error = self.aborted() => Err(error),
        };
        let _entered = span.enter();
        result.unwrap_or_else(|error| refuse::<D>(&error, &id, record))
    }

    async fn run(&self, parts: &Parts, body: Body, record: &mut Option<RequestRecord>) -> Result<Response, ProxyError> {
        let chosen = account::tokens(parts, &self.services).await?;
        let BufferedBody { bytes: body, mut memory } = body::read(&parts.headers, body, &self.body_limits()).await?;
        // The permit comes after the body, so that a client that sends slowly doesn't occupy one.
        if let Some(record) = record {
            record.acquire_permit().await?;
        }
        let body = self.with_files(parts, body, &mut memory).await?;
        let store = ResponseStore::new(&self.services.history, &parts.extensions);
        self.respond_to(parts, &body, memory, chosen, store, record).await
    }

    /// Runs a request that was queued in the background, as `run` does. The response is a stream.
    pub(super) async fn run_queued(
        &self,
        parts: &Parts,
        body: Bytes,
        memory: Reservation,
        store: ResponseStore,
        record: &mut Option<RequestRecord>,
    ) -> Result<Response, ProxyError> {
        let chosen = account::tokens(parts, &self.services).await?;
        if let Some(record) = record {
            record.acquire_permit().await?;
        }
        Box::pin(self.respond_to(parts, &body, memory, chosen, store, record)).await
    }

    /// Responds to a request whose body has been read.
    async fn respond_to(
        &self,
        parts: &Parts,
        body: &Bytes,
        mut memory: Reservation,
        chosen: Option<Arc<dyn TokenSource>>,
        mut store: ResponseStore,
        record: &mut Option<RequestRecord>,
    ) -> Result<Response, ProxyError> {
        let models = self.services.models(&parts.headers);
        let planned = self.plan(parts, body, &models, &mut store, &mut memory).await?;
        if let Some(runs) = &self.background
            && let Some((identity, object)) = planned.plan.reply.queued_object(BackgroundRuns::identity)
        {
            let Some(record) = record.take() else { return Err(ProxyError::Internal) };
            let (mode, warnings, body) = (planned.plan.mode, planned.warnings, body.clone());
            let new = NewRun { identity, object, mode, warnings, parts, body, memory, store, record };
            return Arc::clone(runs).start(new).await;
        }
        if let Some(record) = record {
            record.hold_memory(memory);
        }
        if !planned.plan.reply.needs_backend() {
            return respond_locally(planned, record);
        }
        let slug = planned.plan.upstream.model.to_string();
        let result = match self.send(parts, planned, chosen, store, record.as_mut()).await {
            Ok(opened) => self.respond(opened, record).await,
            Err(error) => Err(error),
        };
        result.map_err(|error| models::with_model_hint(error, &models, &slug))
    }

    /// Translates and sends a request, as `run` does. Returns when the backend's response is committed. `chosen` has
    /// the tokens of the account that the client's key or header selects.
    pub(super) async fn open<'r>(
        &'r self,
        parts: &Parts,
        body: &'r [u8],
        mut memory: Reservation,
        chosen: Option<Arc<dyn TokenSource>>,
        mut store: ResponseStore,
        mut record: Option<&mut RequestRecord>,
    ) -> Result<OpenedReply<'r, D::Reply>, ProxyError> {
        let models = self.services.models(&parts.headers);
        let planned = self.plan(parts, body, &models, &mut store, &mut memory).await?;
        if let Some(record) = record.as_deref_mut() {
            record.hold_memory(memory);
        }
        let slug = planned.plan.upstream.model.to_string();
        let opened = self.send(parts, planned, chosen, store, record).await;
        opened.map_err(|error| models::with_model_hint(error, &models, &slug))
    }

    /// Sends a translated request, with the items to replay. Returns when the backend's response is committed.
    async fn send<'r>(
        &'r self,
        parts: &Parts,
        planned: PlannedRequest<'r, D>,
        chosen: Option<Arc<dyn TokenSource>>,
        store: ResponseStore,
        record: Option<&mut RequestRecord>,
    ) -> Result<OpenedReply<'r, D::Reply>, ProxyError> {
        let PlannedRequest { mut plan, warnings, account } = planned;
        let chosen = match (chosen, &account) {
            // Reasoning in the continued response can only be decrypted by the account that gave it.
            (None, Some(account)) => self.services.tokens.prefer(account).await,
            (chosen, _) => chosen,
        };
        let token = self.services.upstream.token(chosen).await?;
        account::check_share(parts, &self.services.upstream, token.bearer()).await?;
        let account = token.bearer().account.clone();
        if let Some(record) = record.as_deref() {
            record.set_model(&plan.upstream.model, plan.mode);
        }
        let mut replay = self.item_replay(key_name(parts), &plan.upstream.model, &account.id);
        let store = store.with_account(&account.id, self.services.tokens.credentials());
        replay.restore(&mut plan.upstream);
        let forwarded = forwarded_headers::<D>(&parts.headers);
        let served = ServedRequest {
            conversation: ConversationKey {
                key: key_name(parts).map(str::to_owned),
                account: account.id,
                cache_key: plan.upstream.prompt_cache_key.to_string(),
            },
            model: plan.upstream.model.to_string(),
            fingerprint: Some(usage::fingerprint(&plan.upstream)),
        };
        let span = record.as_deref().map_or_else(tracing::Span::none, RequestRecord::span);
        let opening = async {
            let mut pending = self.services.upstream.begin(plan.upstream, token, forwarded)?;
            let backend_response = pending.open().await?;
            Ok((pending, backend_response))
        };
        let ((pending, backend_response), ()) =
            tokio::try_join!(opening.instrument(span), load_tokenizer(&plan.reply))?;
        if let Some(record) = record {
            record.set_served(served);
        }
        replay.forget_rejected(&backend_response.warnings);
        let replay = replay.with_proxy_tools(backend_response.events.has_proxy_tools());
        let processor = ReplyProcessor { reply: plan.reply, replay: Some(replay), store, billed: None };
        Ok(OpenedReply { mode: plan.mode, processor, backend_response, warnings, pending })
    }

    /// Decodes and translates a request, after loading the stored responses that it refers to.
    pub(super) async fn plan<'b>(
        &self,
        parts: &Parts,
        body: &'b [u8],
        models: &Models,
        store: &mut ResponseStore,
        memory: &mut Reservation,
    ) -> Result<PlannedRequest<'b, D>, ProxyError> {
        memory.begin_work(body).await?;
        let mut request = off_thread(body.len(), || depth_limit::check(body).and_then(|()| D::decode(body)))?;
        let references = D::references(&request);
        let mut account = None;
        if !references.is_empty() {
            let (resolved, stored_account) = store.load(&references, memory).await?;
            account = stored_account;
            D::resolve_references(&mut request, resolved);
        }
        let mut context = context(parts, models);
        let plan = off_thread(memory.buffered_bytes(), || D::translate(request, &mut context, &self.options))?;
        Ok(PlannedRequest { plan, warnings: context.warnings, account })
    }

    fn item_replay(&self, key: Option<&str>, model: &str, account: &str) -> ItemReplay {
        let scope = ReplayScope { key: key.map(str::to_owned), account: account.to_owned(), model: model.to_owned() };
        ItemReplay::new(Arc::clone(&self.services.replayed), scope, self.reasoning, D::ITEM_IDS)
    }

    /// Responds with a stream, or with a document once it is complete.
    async fn respond(
        &self,
        mut opened: OpenedReply<'_, D::Reply>,
        record: &mut Option<RequestRecord>,
    ) -> Result<Response, ProxyError> {
        let mut warnings = std::mem::take(&mut opened.warnings);
        let Some(owned_record) = record.take() else { return Err(ProxyError::Internal) };
        let (mut response, headers, upstream_warnings) = match opened.mode {
            Mode::Stream => {
                let BackendResponse { headers, warnings, .. } = &mut opened.backend_response;
                let (headers, upstream_warnings) = (std::mem::take(headers), std::mem::take(warnings));
                let stream =
                    self.stream(opened, HttpFraming::default(), self.aborted(), owned_record).prefilled().await;
                let body = Body::from_stream(stream.map(Ok::<_, Infallible>));
                (stream_response(body, D::STREAM_TYPE), headers, upstream_warnings)
            }
            Mode::Document => {
                let OpenedReply { pending, backend_response, processor, .. } = opened;
                let read = document::read(pending, backend_response, processor, record.insert(owned_record)).await;
                let Document { body, headers, warnings: upstream_warnings } = read?;
                let permit = record.take().and_then(|mut record| record.take_permit());
                let mut response = json_response(StatusCode::OK, Bytes::new());
                *response.body_mut() = Body::new(GuardedBody::new(Full::new(body), permit));
                (response, headers, upstream_warnings)
            }
        };
        for token in upstream_warnings {
            warnings.note(token);
        }
        response.headers_mut().extend(headers);
        Ok(with_warnings(response, &warnings))
    }

    /// Turns a backend response into the client's stream, framed for its connection.
    pub(super) fn stream<F: Framing<D::Reply>>(
        &self,
        opened: OpenedReply<'_, D::Reply>,
        framing: F,
        abort: AbortSignal,
        mut record: RequestRecord,
    ) -> ResponseStream<D::Reply, F> {
        let OpenedReply { processor, backend_response: BackendResponse { events, request_id, .. }, pending, .. } =
            opened;
        record.set_upstream_id(request_id.as_deref());
        // A stream isn't retried once it has started, and needs its body only for further rounds. A document may be
        // retried, so it keeps this memory until its end.
        drop(pending);
        if !events.has_proxy_tools() {
            record.release_work_memory();
        }
        ResponseStream::new(events, processor, framing, self.limits.keepalive, abort, record)
    }

    /// Resolves when the drain time has passed, with the error for responses that are still open.
    pub(super) fn aborted(&self) -> AbortSignal {
        aborted(&self.abort)
    }
}

/// Resolves when this token is cancelled, with the error for responses that are still open.
pub(super) fn aborted(abort: &CancellationToken) -> AbortSignal {
    abort.clone().cancelled_owned().map(|()| ProxyError::ShuttingDown).boxed()
}

/// Loads the tokenizer off the serving thread while the request is sent, if the reply counts tokens.
async fn load_tokenizer(reply: &impl Reply) -> Result<(), ProxyError> {
    if !reply.counts_tokens() || tokens::is_loaded() {
        return Ok(());
    }
    tokio::task::spawn_blocking(tokens::load).await.map_err(|_| ProxyError::Internal)
}

/// The context of the translation of a request.
pub(super) fn context<'c>(parts: &'c Parts, models: &'c Models) -> Context<'c> {
    Context {
        headers: &parts.headers,
        key: key_name(parts),
        path_model: PathModel::of(parts),
        commands: command_hint::current(),
        models,
        warnings: Warnings::default(),
    }
}

/// The name of the client key that a request was sent with.
pub(super) fn key_name(parts: &Parts) -> Option<&str> {
    parts.extensions.get::<KeyName>().map(|key| key.0.as_str())
}

/// The client's headers that are passed on to the backend.
pub(super) fn forwarded_headers<D: Dialect>(headers: &HeaderMap) -> ForwardedHeaders {
    let originator = headers.get("originator").and_then(|value| value.to_str().ok()).map(str::to_owned);
    ForwardedHeaders { originator, codex: D::forwarded_headers(headers), ..ForwardedHeaders::default() }
}
