//! Drives an answer: the only place where a reply machine meets the stream.
//!
//! Everything is pulled. A poll takes what has arrived, writes it in the client's framing, and
//! returns; when the client hangs up the drive is dropped, and with it the upstream connection. An
//! end before the terminal event is handed to the machine as a cut: it knows that the answer is not
//! whole. A defect that panics here cuts its own answer, and nothing that is half written is sent.

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

use super::reasoning_replay::ReasoningReplay;
use super::request_log::RequestRecord;
use super::response_store::ResponseStore;
use crate::error::ProxyError;
use crate::protocol::codex::{Usage, failure};
use crate::protocol::{Fold, Reply, Sink, Summary, UpstreamEvent, Wire};
use crate::upstream::EventStream;
use write_batching::BatchWindow;

/// A block is handed to the connection when it has grown to this size, though more has arrived.
const BLOCK_BYTES: usize = 64 * 1024;

/// What stands for an event that is no text; no JSON, so that every dialect takes it for damage.
const UNREADABLE: &str = "\u{fffd}";

/// How the events of an answer are written for the connection that carries them.
pub(super) trait Framing<R: Reply>: Sink<R> {
    /// What is handed to the connection at once.
    type Unit;

    /// Whether so much is ready that it is to be sent before more is taken.
    fn is_full(&self) -> bool;

    /// What has been put so far is whole.
    fn mark_whole(&mut self);

    /// Forgets what was half written.
    fn drop_partial(&mut self);

    /// What is sent next, if anything is ready.
    fn take(&mut self) -> Option<Self::Unit>;

    /// What is sent in a silence, where this connection needs it.
    fn keepalive(reply: &R) -> Option<Self::Unit>;
}

/// The framing of an HTTP body: the dialect's own, in blocks.
#[derive(Debug, Default)]
pub(super) struct HttpFraming {
    wire: BytesMut,
    /// How much of `wire` holds whole client events.
    whole_bytes: usize,
}

/// A streaming answer on its way.
pub(super) struct ResponseStream<R, F> {
    /// `None` once nothing more is wanted from upstream.
    events: Option<EventStream>,
    passage: ReplyProcessor<R>,
    framing: F,
    /// Whether the machine has been told that its answer is committed to.
    is_committed: bool,
    /// Whether what came first is to be sent at once, along with the head of the answer.
    is_primed: bool,
    turn: BatchWindow,
    keepalive: Option<KeepaliveTimer>,
    cut: AbortSignal,
    record: RequestRecord,
}

/// Comes when an answer has to end before its time; says why.
pub(super) type AbortSignal = BoxFuture<'static, ProxyError>;

/// What an event passes through on its way to the client.
#[derive(Debug)]
pub(super) struct ReplyProcessor<R> {
    pub(super) reply: R,
    /// Takes note of what has to be remembered, where anything has.
    pub(super) recall: Option<ReasoningReplay>,
    /// Where the answer is kept for later requests.
    pub(super) keeper: ResponseStore,
    /// What the backend billed for an answer that failed.
    pub(super) billed: Option<Usage>,
}

#[derive(Debug)]
struct KeepaliveTimer {
    every: Duration,
    next: Pin<Box<Sleep>>,
}

impl<R: Reply> Sink<R> for HttpFraming {
    fn put(&mut self, reply: &mut R, event: &R::Event<'_>) {
        Wire(&mut self.wire).put(reply, event);
    }
}

impl<R: Reply> Framing<R> for HttpFraming {
    type Unit = Bytes;

    fn is_full(&self) -> bool {
        self.wire.len() >= BLOCK_BYTES
    }

    fn mark_whole(&mut self) {
        self.whole_bytes = self.wire.len();
    }

    fn drop_partial(&mut self) {
        self.wire.truncate(self.whole_bytes);
    }

    fn take(&mut self) -> Option<Bytes> {
        self.whole_bytes = 0;
        (!self.wire.is_empty()).then(|| self.wire.split().freeze())
    }

    fn keepalive(reply: &R) -> Option<Bytes> {
        Some(reply.keepalive())
    }
}

impl<R: Reply, F: Framing<R>> ResponseStream<R, F> {
    pub(super) fn new(
        events: EventStream,
        passage: ReplyProcessor<R>,
        framing: F,
        keepalive: Option<Duration>,
        cut: AbortSignal,
        mut record: RequestRecord,
    ) -> Self {
        record.streams();
        let keepalive = keepalive.map(|every| KeepaliveTimer { every, next: Box::pin(sleep(every)) });
        Self {
            events: Some(events),
            passage,
            framing,
            is_committed: false,
            is_primed: false,
            turn: BatchWindow::default(),
            keepalive,
            cut,
            record,
        }
    }

    /// Takes what arrives in this turn, up to the first content, before the answer's head is sent: it
    /// then goes out with the head, and not in a write of its own after it.
    pub(super) async fn primed(mut self) -> Self {
        poll_fn(|cx| {
            self.pull(cx);
            let has_content = self.events.as_ref().is_none_or(|events| events.first_content().is_some());
            if has_content || self.framing.is_full() { Poll::Ready(()) } else { self.turn.poll_end(cx) }
        })
        .await;
        self.is_primed = true;
        self
    }

    /// Takes what has arrived, up to a block.
    fn pull(&mut self, cx: &mut Context<'_>) {
        let mut has_come = false;
        while let Some(events) = self.events.as_mut().filter(|_| !self.framing.is_full()) {
            let Poll::Ready(next) = Pin::new(&mut *events).poll_next(cx) else { break };
            has_come = true;
            self.record.event(events.first_content());
            if let Some(Err(error)) = &next {
                self.record.cut(error);
            }
            if self.passage.step(next, &mut self.framing).is_break() {
                self.close();
            }
            self.framing.mark_whole();
        }
        if !std::mem::replace(&mut self.is_committed, true) {
            self.passage.reply.on_commit(&mut self.framing);
            self.framing.mark_whole();
        }
        if has_come {
            self.turn.begin(cx);
        }
    }

    /// Ends the answer before its time.
    fn poll_cut(&mut self, cx: &mut Context<'_>) {
        if self.events.is_some()
            && let Poll::Ready(why) = self.cut.as_mut().poll(cx)
        {
            self.record.cut(&why);
            self.passage.reply.on_end(Some(why), &mut self.framing);
            self.close();
        }
    }

    /// Lets go of upstream at once: what it would still send costs quota.
    fn close(&mut self) {
        self.events = None;
        self.passage.end(&mut self.record);
    }

    fn poll_keepalive(&mut self, cx: &mut Context<'_>) -> Poll<F::Unit> {
        let Some(keepalive) = &mut self.keepalive else { return Poll::Pending };
        ready!(keepalive.next.as_mut().poll(cx));
        keepalive.restart();
        // The timer has to be polled again, or nothing wakes us for the next one.
        cx.waker().wake_by_ref();
        F::keepalive(&self.passage.reply).map_or(Poll::Pending, Poll::Ready)
    }
}

impl KeepaliveTimer {
    fn restart(&mut self) {
        self.next.as_mut().reset(Instant::now() + self.every);
    }
}

impl<R: Reply, F: Framing<R>> ResponseStream<R, F> {
    fn poll_unit(&mut self, cx: &mut Context<'_>) -> Poll<Option<F::Unit>> {
        if std::mem::take(&mut self.is_primed)
            && let Some(unit) = self.take_unit()
        {
            return Poll::Ready(Some(unit));
        }
        self.pull(cx);
        self.poll_cut(cx);
        if self.events.is_some() && !self.framing.is_full() {
            ready!(self.turn.poll_end(cx));
        }
        if let Some(unit) = self.take_unit() {
            return Poll::Ready(Some(unit));
        }
        if self.events.is_none() {
            return Poll::Ready(None);
        }
        self.poll_keepalive(cx).map(Some)
    }

    fn take_unit(&mut self) -> Option<F::Unit> {
        let unit = self.framing.take()?;
        if let Some(keepalive) = &mut self.keepalive {
            keepalive.restart();
        }
        Some(unit)
    }

    /// Cuts the answer, as far as its machine is still able to say so. What a panic says may repeat
    /// the answer, so that it is not told.
    fn break_off(&mut self) -> Option<F::Unit> {
        self.events = None;
        self.record.cut(&ProxyError::Internal);
        let _inside = self.record.span().entered();
        tracing::error!("an answer ended in a defect of this program");
        self.framing.drop_partial();
        let told = catch_unwind(AssertUnwindSafe(|| {
            self.passage.reply.on_end(Some(ProxyError::Internal), &mut self.framing);
            self.record.ended(self.passage.reply.summary());
        }));
        if told.is_err() {
            self.framing.drop_partial();
        }
        self.framing.take()
    }
}

impl<R: Reply + Unpin, F: Framing<R> + Unpin> Stream for ResponseStream<R, F> {
    type Item = F::Unit;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Unit>> {
        let this = self.get_mut();
        let polled = catch_unwind(AssertUnwindSafe(|| this.poll_unit(cx)));
        polled.unwrap_or_else(|_| Poll::Ready(this.break_off()))
    }
}

impl<R: Reply> ReplyProcessor<R> {
    /// Feeds the machine a whole answer, folded from the events that a stream would have sent.
    pub(super) async fn fold(&mut self, mut events: EventStream, record: &mut RequestRecord) {
        loop {
            let next = events.next().await;
            record.event(events.first_content());
            if self.step(next, &mut Fold).is_break() {
                break;
            }
        }
        self.end(record);
    }

    /// Feeds the machine one event or the end; breaks when nothing more is wanted.
    fn step(&mut self, next: Option<Result<Bytes, ProxyError>>, sink: &mut impl Sink<R>) -> ControlFlow<()> {
        let cut = match next {
            Some(Ok(data)) => {
                let text = std::str::from_utf8(&data).unwrap_or(UNREADABLE);
                self.pass(text, sink);
                if !self.reply.is_finished() {
                    return ControlFlow::Continue(());
                }
                self.billed = self.reply.failure().and_then(|_| failure::usage_of_event(text));
                return ControlFlow::Break(());
            }
            Some(Err(error)) => Some(error),
            None => None,
        };
        self.reply.on_end(cut, sink);
        ControlFlow::Break(())
    }

    fn pass(&mut self, data: &str, sink: &mut impl Sink<R>) {
        if let Some(recall) = &mut self.recall {
            recall.note(&UpstreamEvent::decode(data), data);
        }
        self.feed(data, sink);
    }

    /// Feeds the machine an event that no backend has sent.
    pub(super) fn feed(&mut self, data: &str, sink: &mut impl Sink<R>) {
        self.reply.on_event(R::Upstream::from(data), sink);
    }

    /// The passage for another attempt, which begins with these warnings: nothing of the failed one is left.
    pub(super) fn restarted(mut self, warnings: &[String]) -> Self {
        if let Some(recall) = &mut self.recall {
            recall.restart();
            recall.heed(warnings);
        }
        Self { reply: self.reply.restarted(), billed: None, ..self }
    }

    /// Keeps what later requests may refer to, and tells what the answer came to.
    pub(super) fn end(&mut self, record: &mut RequestRecord) {
        if let Some(memory) = self.reply.memory() {
            self.keeper.keep(memory);
        }
        let summary = self.reply.summary();
        record.ended(Summary { usage: summary.usage.or(self.billed), ..summary });
    }
}

#[cfg(test)]
mod tests;
