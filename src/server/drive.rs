//! Drives an answer: the only place where a reply machine meets the stream.
//!
//! Everything is pulled. A poll takes what has arrived, writes it as one block, and returns; when
//! the client hangs up the body is dropped, and with it the upstream connection. An end before the
//! terminal event is handed to the machine as a cut: it knows that the answer is not whole. A defect
//! that panics here cuts its own answer, and nothing of what it had half written is sent.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use futures_util::StreamExt;
use http_body::Frame;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::keeper::Keeper;
use super::observe::Record;
use super::recall::Recall;
use crate::error::ProxyError;
use crate::protocol::{Fold, Reply, Sink, UpstreamEvent, Wire};
use crate::upstream::EventStream;

/// A block is handed to the connection when it has grown to this size, though more has arrived.
const BLOCK_BYTES: usize = 64 * 1024;

/// What stands for an event that is no text; no JSON, so that every dialect takes it for damage.
const UNREADABLE: &str = "\u{fffd}";

/// The body of a streaming answer.
#[derive(Debug)]
pub(super) struct Drive<R: Reply> {
    /// `None` once nothing more is wanted from upstream.
    events: Option<EventStream>,
    passage: Passage<R>,
    wire: BytesMut,
    /// How much of `wire` holds whole client events.
    whole_bytes: usize,
    opening: Opening,
    keepalive: Option<Keepalive>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    record: Record,
}

/// What an event passes through on its way to the client.
#[derive(Debug)]
pub(super) struct Passage<R> {
    pub(super) reply: R,
    /// Takes note of what has to be remembered, where anything has.
    pub(super) recall: Option<Recall>,
    /// Where the answer is kept for later requests.
    pub(super) keeper: Keeper,
}

/// Whether the machine has been told that its answer is committed to.
#[derive(Debug, PartialEq, Eq)]
enum Opening {
    Due,
    Done,
}

#[derive(Debug)]
struct Keepalive {
    every: Duration,
    next: Pin<Box<Sleep>>,
}

impl<R: Reply> Drive<R> {
    pub(super) fn new(
        events: EventStream,
        passage: Passage<R>,
        keepalive: Option<Duration>,
        cut: CancellationToken,
        mut record: Record,
    ) -> Self {
        record.streams();
        let keepalive = keepalive.map(|every| Keepalive { every, next: Box::pin(sleep(every)) });
        let cut = Box::pin(cut.cancelled_owned());
        let (wire, opening) = (BytesMut::new(), Opening::Due);
        Self { events: Some(events), passage, wire, whole_bytes: 0, opening, keepalive, cut, record }
    }

    /// Takes what has arrived, up to a block.
    fn pull(&mut self, cx: &mut Context<'_>) {
        while let Some(events) = self.events.as_mut().filter(|_| self.wire.len() < BLOCK_BYTES) {
            let Poll::Ready(next) = Pin::new(events).poll_next(cx) else { break };
            self.record.event();
            if let Some(Err(error)) = &next {
                self.record.cut(error);
            }
            if self.passage.step(next, &mut Wire(&mut self.wire)).is_break() {
                self.close();
            }
            self.whole_bytes = self.wire.len();
        }
        if self.opening == Opening::Due {
            self.opening = Opening::Done;
            self.passage.reply.on_commit(&mut Wire(&mut self.wire));
            self.whole_bytes = self.wire.len();
        }
    }

    /// Ends the answer when the proxy has to stop.
    fn poll_cut(&mut self, cx: &mut Context<'_>) {
        if self.events.is_some() && self.cut.as_mut().poll(cx).is_ready() {
            self.record.cut(&ProxyError::ShuttingDown);
            self.passage.reply.on_end(Some(ProxyError::ShuttingDown), &mut Wire(&mut self.wire));
            self.close();
        }
    }

    /// Lets go of upstream at once: what it would still send costs quota.
    fn close(&mut self) {
        self.events = None;
        self.passage.end(&mut self.record);
    }

    fn poll_keepalive(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        let Some(keepalive) = &mut self.keepalive else { return Poll::Pending };
        ready!(keepalive.next.as_mut().poll(cx));
        keepalive.restart();
        // The timer has to be polled again, or nothing wakes us for the next one.
        cx.waker().wake_by_ref();
        Poll::Ready(Bytes::from_static(self.passage.reply.keepalive()))
    }
}

impl Keepalive {
    fn restart(&mut self) {
        self.next.as_mut().reset(Instant::now() + self.every);
    }
}

impl<R: Reply + Unpin> Drive<R> {
    fn poll_block(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.pull(cx);
        self.poll_cut(cx);
        if !self.wire.is_empty() {
            if let Some(keepalive) = &mut self.keepalive {
                keepalive.restart();
            }
            return Poll::Ready(self.block());
        }
        if self.events.is_none() {
            return Poll::Ready(None);
        }
        self.poll_keepalive(cx).map(Some)
    }

    /// What has been written; `None` for nothing.
    fn block(&mut self) -> Option<Bytes> {
        self.whole_bytes = 0;
        (!self.wire.is_empty()).then(|| self.wire.split().freeze())
    }

    /// Cuts the answer, as far as its machine is still able to say so. What a panic says may repeat
    /// the answer, so that it is not told.
    fn break_off(&mut self) -> Option<Bytes> {
        self.events = None;
        let _inside = self.record.span().entered();
        tracing::error!("an answer ended in a defect of this program");
        self.wire.truncate(self.whole_bytes);
        let told = catch_unwind(AssertUnwindSafe(|| {
            self.passage.reply.on_end(Some(ProxyError::Internal), &mut Wire(&mut self.wire));
            self.record.ended(self.passage.reply.summary());
        }));
        if told.is_err() {
            self.wire.truncate(self.whole_bytes);
        }
        self.block()
    }
}

impl<R: Reply + Unpin> http_body::Body for Drive<R> {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let polled = catch_unwind(AssertUnwindSafe(|| this.poll_block(cx)));
        let block = polled.unwrap_or_else(|_| Poll::Ready(this.break_off()));
        block.map(|block| block.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// The whole answer, folded from the events that a stream would have sent.
pub(super) async fn document<R: Reply>(
    mut events: EventStream,
    mut passage: Passage<R>,
    record: &mut Record,
) -> Result<Bytes, ProxyError> {
    loop {
        let next = events.next().await;
        record.event();
        if passage.step(next, &mut Fold).is_break() {
            break;
        }
    }
    passage.end(record);
    passage.reply.document()
}

impl<R: Reply> Passage<R> {
    /// Feeds the machine one event or the end; breaks when nothing more is wanted.
    fn step(&mut self, next: Option<Result<Bytes, ProxyError>>, sink: &mut impl Sink<R>) -> ControlFlow<()> {
        let cut = match next {
            Some(Ok(data)) => {
                self.pass(std::str::from_utf8(&data).unwrap_or(UNREADABLE), sink);
                return if self.reply.is_finished() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
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
        self.reply.on_event(R::Upstream::from(data), sink);
    }

    /// Keeps what later requests may refer to, and tells what the answer came to.
    fn end(&mut self, record: &mut Record) {
        if let Some(memory) = self.reply.memory() {
            self.keeper.keep(memory);
        }
        record.ended(self.reply.summary());
    }
}

#[cfg(test)]
mod tests;
