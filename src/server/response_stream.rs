//! Streams a response: passes backend events to the [`Reply`] of an API, and frames what it writes for the connection.
//!
//! The client's connection pulls the stream. A poll reads the events that have arrived, writes them in the client's
//! framing and returns. Dropping the stream drops the upstream connection. A backend stream that ends before its
//! terminal event is reported to the reply as cut, so that the response doesn't look complete. A panic ends only its
//! own response, and nothing half-written is sent.

mod write_batching;

use std::future::poll_fn;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, Sleep, sleep};

use super::item_replay::ItemReplay;
use super::request_log::RequestRecord;
use super::response_store::ResponseStore;
use crate::error::ProxyError;
use crate::protocol::codex::control::ControlKind;
use crate::protocol::codex::{Usage, failure};
use crate::protocol::{Encoder, Fold, Reply, Sink, Summary, Wire};
use crate::upstream::{ControlError, ReplyEvents};
use write_batching::BatchWindow;

/// A chunk is sent when it has this size, even if more events are available.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;

/// Replaces an event that isn't UTF-8. It is no JSON, so every API reports a damaged stream.
const UNREADABLE: &str = "\u{fffd}";

/// How events are framed for the connection: as an HTTP body, or as WebSocket frames.
pub(super) trait Framing<R: Reply>: Sink<R::Encoder> {
    /// An item of the stream: a part of the body, or a frame.
    type Chunk;

    /// Whether enough is buffered to send it before reading more events.
    fn is_full(&self) -> bool;

    /// Marks everything written so far as complete events.
    fn mark_complete(&mut self);

    /// Discards what was written since the last mark.
    fn discard_partial(&mut self);

    /// The next chunk, if any is ready.
    fn take(&mut self) -> Option<Self::Chunk>;

    /// The keepalive, if this connection needs one.
    fn keepalive(reply: &R) -> Option<Self::Chunk>;
}

/// The framing of an HTTP body: encoded events, in chunks.
#[derive(Debug, Default)]
pub(super) struct HttpFraming {
    wire: BytesMut,
    /// Length of the complete events in `wire`.
    complete_bytes: usize,
}

/// A streaming response.
pub(super) struct ResponseStream<R, F> {
    /// `None` once no more events are needed.
    events: Option<ReplyEvents>,
    processor: ReplyProcessor<R>,
    framing: F,
    /// Whether [`Reply::on_commit`] has been called.
    is_committed: bool,
    /// Whether [`Self::prefilled`] has run, and no poll has returned its result yet.
    is_prefilled: bool,
    batch: BatchWindow,
    keepalive: Option<KeepaliveTimer>,
    abort: AbortSignal,
    record: RequestRecord,
}

/// Resolves when a response has to end early, with the reason.
pub(super) type AbortSignal = BoxFuture<'static, ProxyError>;

/// Passes the events of a backend response to a reply, and stores what later requests need.
#[derive(Debug)]
pub(super) struct ReplyProcessor<R> {
    pub(super) reply: R,
    /// Stores items for later requests.
    pub(super) replay: Option<ItemReplay>,
    /// Where the response is stored.
    pub(super) store: ResponseStore,
    /// Usage that the backend reported for a failed response, which the reply's summary doesn't include.
    pub(super) billed: Option<Usage>,
}

/// Elapses when nothing has been sent for a while.
#[derive(Debug)]
struct KeepaliveTimer {
    every: Duration,
    next: Pin<Box<Sleep>>,
}

impl<E: Encoder> Sink<E> for HttpFraming {
    fn put(&mut self, encoder: &mut E, event: &E::Event<'_>) {
        Wire(&mut self.wire).put(encoder, event);
    }
}

impl<R: Reply> Framing<R> for HttpFraming {
    type Chunk = Bytes;

    fn is_full(&self) -> bool {
        self.wire.len() >= CHUNK_BYTES
    }

    fn mark_complete(&mut self) {
        self.complete_bytes = self.wire.len();
    }

    fn discard_partial(&mut self) {
        self.wire.truncate(self.complete_bytes);
    }

    fn take(&mut self) -> Option<Bytes> {
        self.complete_bytes = 0;
        (!self.wire.is_empty()).then(|| self.wire.split().freeze())
    }

    fn keepalive(reply: &R) -> Option<Bytes> {
        Some(reply.keepalive())
    }
}

impl<R: Reply, F: Framing<R>> ResponseStream<R, F> {
    pub(super) fn new(
        events: ReplyEvents,
        processor: ReplyProcessor<R>,
        framing: F,
        keepalive: Option<Duration>,
        abort: AbortSignal,
        mut record: RequestRecord,
    ) -> Self {
        record.mark_streaming();
        let keepalive = keepalive.map(|every| KeepaliveTimer { every, next: Box::pin(sleep(every)) });
        Self {
            events: Some(events),
            processor,
            framing,
            is_committed: false,
            is_prefilled: false,
            batch: BatchWindow::default(),
            keepalive,
            abort,
            record,
        }
    }

    /// Reads the events that are available before the response head is sent, so that both go out in one write. Waits
    /// for more until the first content or the end of a batch window.
    pub(super) async fn prefilled(mut self) -> Self {
        poll_fn(|cx| {
            self.read_available(cx);
            let has_content = self.events.as_ref().is_none_or(|events| events.first_content().is_some());
            if has_content || self.framing.is_full() { Poll::Ready(()) } else { self.batch.poll_ended(cx) }
        })
        .await;
        self.is_prefilled = true;
        self
    }

    /// Reads available events, up to a full chunk.
    fn read_available(&mut self, cx: &mut Context<'_>) {
        let mut has_new = false;
        while let Some(events) = self.events.as_mut().filter(|_| !self.framing.is_full()) {
            let Poll::Ready(next) = Pin::new(&mut *events).poll_next(cx) else { break };
            has_new = true;
            self.record.count_event(events.first_content());
            self.processor.note_rounds(events, next.as_ref());
            if let Some(Err(error)) = &next {
                self.record.set_error(error);
            }
            if self.processor.process_next(next, &mut self.framing).is_break() {
                self.end_response();
            }
            self.framing.mark_complete();
        }
        if !std::mem::replace(&mut self.is_committed, true) {
            self.processor.reply.on_commit(&mut self.framing);
            self.framing.mark_complete();
        }
        if has_new {
            self.batch.start(cx);
        }
    }

    /// Ends the response with an error if it is aborted.
    fn poll_abort(&mut self, cx: &mut Context<'_>) {
        if self.events.is_some()
            && let Poll::Ready(error) = self.abort.as_mut().poll(cx)
        {
            self.record.set_error(&error);
            self.processor.reply.on_end(Some(error), &mut self.framing);
            self.close_upstream();
        }
    }

    /// Closes the upstream call, unless the backend may respond to control frames after the end.
    fn end_response(&mut self) {
        if self.events.as_ref().is_some_and(ReplyEvents::has_follow_up) {
            self.processor.reply.expect_follow_up();
        } else {
            self.close_upstream();
        }
    }

    /// Closes the upstream call, since further output would use up quota, and stores the response.
    fn close_upstream(&mut self) {
        self.events = None;
        self.processor.finish(&mut self.record);
        // A client may continue the conversation as soon as it has the last event.
        self.processor.store.release_conversation();
    }

    fn poll_keepalive(&mut self, cx: &mut Context<'_>) -> Poll<F::Chunk> {
        let Some(keepalive) = &mut self.keepalive else { return Poll::Pending };
        ready!(keepalive.next.as_mut().poll(cx));
        keepalive.restart();
        // Polls again, to register for the next timeout.
        cx.waker().wake_by_ref();
        F::keepalive(&self.processor.reply).map_or(Poll::Pending, Poll::Ready)
    }
}

impl KeepaliveTimer {
    fn restart(&mut self) {
        self.next.as_mut().reset(Instant::now() + self.every);
    }
}

impl<R: Reply, F: Framing<R>> ResponseStream<R, F> {
    /// Sends a control frame to the backend, as [`ReplyEvents::poll_send`] does.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        kind: ControlKind,
        frame: &mut Option<Bytes>,
    ) -> Poll<Result<(), ControlError>> {
        match &mut self.events {
            Some(events) => events.poll_send(cx, kind, frame),
            None => Poll::Ready(Err(ControlError::Ended)),
        }
    }

    /// The next chunk: events, an error, or a keepalive; `None` at the end.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<F::Chunk>> {
        if std::mem::take(&mut self.is_prefilled)
            && let Some(chunk) = self.take_chunk()
        {
            return Poll::Ready(Some(chunk));
        }
        self.read_available(cx);
        self.poll_abort(cx);
        if self.events.is_some() && !self.framing.is_full() {
            ready!(self.batch.poll_ended(cx));
        }
        if let Some(chunk) = self.take_chunk() {
            return Poll::Ready(Some(chunk));
        }
        if self.events.is_none() {
            return Poll::Ready(None);
        }
        self.poll_keepalive(cx).map(Some)
    }

    fn take_chunk(&mut self) -> Option<F::Chunk> {
        let chunk = self.framing.take()?;
        if let Some(keepalive) = &mut self.keepalive {
            keepalive.restart();
        }
        Some(chunk)
    }

    /// Ends the response with an error after a panic, if the reply still can. The panic message isn't reported, since
    /// it can repeat the response.
    fn abort_after_panic(&mut self) -> Option<F::Chunk> {
        self.events = None;
        self.record.set_error(&ProxyError::Internal);
        let _entered = self.record.span().entered();
        tracing::error!("a response handler panicked");
        self.framing.discard_partial();
        let ended = catch_unwind(AssertUnwindSafe(|| {
            self.processor.reply.on_end(Some(ProxyError::Internal), &mut self.framing);
            self.record.set_summary(self.processor.reply.summary());
        }));
        if ended.is_err() {
            self.framing.discard_partial();
        }
        self.framing.take()
    }
}

impl<R: Reply + Unpin, F: Framing<R> + Unpin> Stream for ResponseStream<R, F> {
    type Item = F::Chunk;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Chunk>> {
        let this = self.get_mut();
        let polled = catch_unwind(AssertUnwindSafe(|| this.poll_chunk(cx)));
        polled.unwrap_or_else(|_| Poll::Ready(this.abort_after_panic()))
    }
}

impl<R: Reply> ReplyProcessor<R> {
    /// Processes a whole response. The reply folds it into a document.
    pub(super) async fn fold(&mut self, events: &mut ReplyEvents, record: &mut RequestRecord) {
        loop {
            let next = events.next().await;
            record.count_event(events.first_content());
            self.note_rounds(events, next.as_ref());
            if self.process_next(next, &mut Fold).is_break() {
                break;
            }
        }
        self.finish(record);
    }

    /// Notes the calls that the proxy has run before the next event, and the usage of the rounds before it.
    fn note_rounds(&mut self, events: &mut ReplyEvents, next: Option<&Result<Bytes, ProxyError>>) {
        if !events.has_proxy_tools() {
            return;
        }
        let hidden = events.take_hidden();
        if !hidden.is_empty() || !matches!(next, Some(Ok(_))) {
            self.billed = events.finished_usage();
        }
        if let Some(replay) = &mut self.replay {
            replay.note_hidden(hidden);
        }
    }

    /// Processes an event or the end of the stream. Breaks when no more events are needed.
    fn process_next(
        &mut self,
        next: Option<Result<Bytes, ProxyError>>,
        sink: &mut impl Sink<R::Encoder>,
    ) -> ControlFlow<()> {
        let cut = match next {
            Some(Ok(data)) => {
                let text = std::str::from_utf8(&data).unwrap_or(UNREADABLE);
                if let Some(replay) = &mut self.replay {
                    replay.observe(text);
                }
                self.process_event(text, sink);
                if !self.reply.is_finished() {
                    return ControlFlow::Continue(());
                }
                if self.reply.failure().is_some() {
                    self.billed = failure::usage_of_event(text).or(self.billed);
                }
                return ControlFlow::Break(());
            }
            Some(Err(error)) => Some(error),
            None => None,
        };
        self.reply.on_end(cut, sink);
        ControlFlow::Break(())
    }

    /// Passes an event to the reply, without noting its items.
    pub(super) fn process_event(&mut self, data: &str, sink: &mut impl Sink<R::Encoder>) {
        self.reply.on_event(R::Upstream::from(data), sink);
    }

    /// Starts over with the response of another attempt, which has these warnings.
    pub(super) fn restarted(mut self, warnings: &[String]) -> Self {
        if let Some(replay) = &mut self.replay {
            replay.restart();
            replay.forget_rejected(warnings);
        }
        Self { reply: self.reply.restarted(), billed: None, ..self }
    }

    /// Stores the response for later requests, and records its summary.
    pub(super) fn finish(&mut self, record: &mut RequestRecord) {
        if let Some(response) = self.reply.take_stored_response() {
            self.store.save(response);
        }
        let summary = self.reply.summary();
        record.set_summary(Summary { usage: summary.usage.or(self.billed), ..summary });
    }
}

#[cfg(test)]
mod tests;
