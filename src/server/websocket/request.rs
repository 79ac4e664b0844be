//! Handles one request of a WebSocket, up to the frames of its response.

use bytes::Bytes;
use futures_util::future::Either;
use futures_util::stream::{BoxStream, Iter};
use futures_util::{FutureExt, StreamExt};
use http::request::Parts;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

use super::control::{ControlQueue, ControlledReply};
use super::{ConnectionCache, Text, WebSocketHandler};
use crate::budget::Reservation;
use crate::clock::{Clock as _, SystemClock, unix_seconds};
use crate::command_hint;
use crate::error::{ProxyError, Reason, Refusal};
use crate::protocol::files::inputs;
use crate::protocol::responses::socket::{CreateRequest, FrameQueue, error_frame, header_events, warmup_events};
use crate::protocol::responses::{Purpose, Responses, ResponsesReply};
use crate::protocol::{Dialect, Mode};
use crate::server::handler::{OpenedReply, PlannedRequest, log_refusal};
use crate::server::request_log::{RequestId, RequestRecord};
use crate::server::response_store::ResponseStore;
use crate::server::response_stream::{AbortSignal, CHUNK_BYTES, Framing, ReplyProcessor, ResponseStream};
use crate::server::{account, middleware};

/// The frames of a response: streamed from the backend, or all known.
type FrameStream = Either<ControlledReply, Iter<std::vec::IntoIter<Bytes>>>;

/// A request on a WebSocket.
pub(super) struct SocketRequest {
    pub(super) sockets: Arc<WebSocketHandler>,
    /// The request that opened the connection.
    pub(super) parts: Parts,
    /// The responses that its connection keeps.
    pub(super) cache: Arc<ConnectionCache>,
    /// Cancels the response.
    pub(super) cancel: CancellationToken,
    /// The client's frames for the response.
    pub(super) control: ControlQueue,
}

impl Framing<ResponsesReply> for FrameQueue {
    type Chunk = Text;

    fn is_full(&self) -> bool {
        self.ready_bytes() >= CHUNK_BYTES
    }

    /// A frame is complete once its event has been written.
    fn mark_complete(&mut self) {}

    fn discard_partial(&mut self) {
        FrameQueue::discard_partial(self);
    }

    fn take(&mut self) -> Option<Text> {
        FrameQueue::pop(self)
    }

    fn keepalive(reply: &ResponsesReply) -> Option<Text> {
        reply.keepalive_event().map(|event| Bytes::from_static(event.as_bytes()))
    }
}

impl SocketRequest {
    /// The frames of the response. The request is handled when they are polled.
    pub(super) fn frames(self, create: CreateRequest, memory: Reservation) -> BoxStream<'static, Text> {
        self.run(create, memory).flatten_stream().boxed()
    }

    async fn run(mut self, mut create: CreateRequest, mut memory: Reservation) -> FrameStream {
        let id = RequestId::fresh();
        self.parts.headers.extend(create.headers.clone());
        self.parts.extensions.insert(id.clone());
        let mut record = RequestRecord::new(Responses::NAME, &id, &self.sockets.handler.state);
        let span = record.span();
        let mut frames = FrameQueue::new(create.stream_id.clone());
        let live = Arc::clone(&self.sockets.handler.services.live.borrow());
        let admitted = middleware::reauthorize(&live, &mut self.parts).await;
        record.register(&id, &self.parts);
        let admitted = match admitted {
            Ok(()) => self.load_files(&mut create, &mut memory).await,
            refused => refused,
        };
        let result = match admitted.map(|()| create.purpose) {
            Err(error) => Err(error),
            Ok(Purpose::Warmup) => self.warm_up(&create, memory, &id, &mut record, &mut frames).await,
            Ok(Purpose::Http | Purpose::WebSocket) => tokio::select! {
                opened = self.open(&create, memory, &mut record) => match opened {
                    Ok(opened) => {
                        let response = self.stream(opened, frames, record);
                        return Either::Left(ControlledReply::new(response, self.control));
                    }
                    Err(error) => Err(error),
                },
                error = self.aborted() => Err(error),
            },
        };
        let _entered = span.enter();
        if let Err(error) = result {
            let (status, ..) = Responses::to_error_response(&error, &id.0, command_hint::current());
            log_refusal(&error, status, Some(record));
            frames.push(&error_frame(&error, &id.0, command_hint::current()));
        }
        let mut all: Vec<Bytes> = std::iter::from_fn(|| frames.pop()).collect();
        all.extend(self.control.close());
        Either::Right(futures_util::stream::iter(all))
    }

    /// The stored responses that the request may refer to, including those of its connection.
    fn store(&self) -> ResponseStore {
        let history = &self.sockets.handler.services.history;
        ResponseStore::new(history, &self.parts.extensions).with_cache(Arc::clone(&self.cache))
    }

    /// Puts the contents of the client's files into the request.
    async fn load_files(&self, create: &mut CreateRequest, memory: &mut Reservation) -> Result<(), ProxyError> {
        if inputs::may_have_any(create.body.as_bytes()) {
            let body = std::mem::take(&mut create.body).into();
            let body = self.sockets.handler.with_files(&self.parts, body, memory).await?;
            create.body = String::from_utf8(body.into()).map_err(|_| ProxyError::Internal)?;
        }
        Ok(())
    }

    /// Translates and sends the request. Returns when the backend's response is committed.
    async fn open<'r>(
        &'r self,
        create: &'r CreateRequest,
        memory: Reservation,
        record: &mut RequestRecord,
    ) -> Result<OpenedReply<'r, ResponsesReply>, ProxyError> {
        let handler = &self.sockets.handler;
        record.acquire_permit().await?;
        let chosen = account::tokens(&self.parts, &handler.services).await?;
        handler.open(&self.parts, create.body.as_bytes(), memory, chosen, self.store(), Some(record)).await
    }

    /// Streams a backend response as frames. Codex clients get its headers as events.
    fn stream(
        &self,
        opened: OpenedReply<'_, ResponsesReply>,
        mut frames: FrameQueue,
        record: RequestRecord,
    ) -> ResponseStream<ResponsesReply, FrameQueue> {
        if Responses::forwarded_headers(&self.parts.headers).is_some() {
            frames = frames.with_header_events(header_events(&opened.backend_response.headers));
        }
        self.sockets.handler.stream(opened, frames, self.aborted(), record)
    }

    /// Responds to a warm-up request: translates and stores it like any other, without sending it upstream.
    async fn warm_up(
        &self,
        create: &CreateRequest,
        mut memory: Reservation,
        id: &RequestId,
        record: &mut RequestRecord,
        frames: &mut FrameQueue,
    ) -> Result<(), ProxyError> {
        let warmup_handler = &self.sockets.warmup_handler;
        record.acquire_permit().await?;
        let (models, mut store) = (warmup_handler.services.models(&self.parts.headers), self.store());
        let body = create.body.as_bytes();
        let PlannedRequest { plan, .. } =
            warmup_handler.plan(&self.parts, body, &models, &mut store, &mut memory).await?;
        record.set_model(&plan.upstream.model, Mode::Stream);
        let created_at = unix_seconds(SystemClock.now());
        let events = warmup_events(&id.0.replacen("req_", "resp_", 1), created_at, &plan.upstream.model);
        let mut processor = ReplyProcessor { reply: plan.reply, replay: None, store, billed: None };
        for event in &events {
            processor.process_event(event, frames);
        }
        processor.finish(record);
        Ok(())
    }

    /// Resolves when the drain time has passed, or the client cancels the response.
    fn aborted(&self) -> AbortSignal {
        let (shutdown, cancel) = (self.sockets.handler.aborted(), self.cancel.clone());
        async move {
            tokio::select! {
                error = shutdown => error,
                () = cancel.cancelled() => cancelled(),
            }
        }
        .boxed()
    }
}

/// The error of a response that the client cancelled.
fn cancelled() -> ProxyError {
    let message = "the response was cancelled by the client".to_owned();
    ProxyError::Refused(Refusal { reason: Reason::Invalid, message, param: None, code: Some("response_cancelled") })
}
