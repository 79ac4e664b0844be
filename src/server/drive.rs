//! Drives an answer: the only place where a reply machine meets the stream.
//!
//! Everything is pulled. A poll takes what has arrived, writes it as one block, and returns; when
//! the client hangs up the body is dropped, and with it the upstream connection. An end before the
//! terminal event is handed to the machine as a cut: it knows that the answer is not whole.

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
use crate::error::ProxyError;
use crate::protocol::{Fold, Reply, Sink, Wire};
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
    reply: R,
    wire: BytesMut,
    opening: Opening,
    keepalive: Option<Keepalive>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    keeper: Keeper,
    record: Record,
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
        reply: R,
        keepalive: Option<Duration>,
        cut: CancellationToken,
        keeper: Keeper,
        record: Record,
    ) -> Self {
        let keepalive = keepalive.map(|every| Keepalive { every, next: Box::pin(sleep(every)) });
        let cut = Box::pin(cut.cancelled_owned());
        let (wire, opening) = (BytesMut::new(), Opening::Due);
        Self { events: Some(events), reply, wire, opening, keepalive, cut, keeper, record }
    }

    /// Takes what has arrived, up to a block.
    fn pull(&mut self, cx: &mut Context<'_>) {
        while let Some(events) = self.events.as_mut().filter(|_| self.wire.len() < BLOCK_BYTES) {
            let Poll::Ready(next) = Pin::new(events).poll_next(cx) else { break };
            self.record.event();
            if step(&mut self.reply, next, &mut Wire(&mut self.wire)).is_break() {
                self.close();
            }
        }
        if self.opening == Opening::Due {
            self.opening = Opening::Done;
            self.reply.on_commit(&mut Wire(&mut self.wire));
        }
    }

    /// Ends the answer when the proxy has to stop.
    fn poll_cut(&mut self, cx: &mut Context<'_>) {
        if self.events.is_some() && self.cut.as_mut().poll(cx).is_ready() {
            self.reply.on_end(Some(ProxyError::ShuttingDown), &mut Wire(&mut self.wire));
            self.close();
        }
    }

    /// Lets go of upstream at once: what it would still send costs quota.
    fn close(&mut self) {
        self.events = None;
        if let Some(memory) = self.reply.memory() {
            self.keeper.keep(memory);
        }
        self.record.ended(self.reply.summary());
    }

    fn poll_keepalive(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        let Some(keepalive) = &mut self.keepalive else { return Poll::Pending };
        ready!(keepalive.next.as_mut().poll(cx));
        keepalive.restart();
        // The timer has to be polled again, or nothing wakes us for the next one.
        cx.waker().wake_by_ref();
        Poll::Ready(Bytes::from_static(self.reply.keepalive()))
    }
}

impl Keepalive {
    fn restart(&mut self) {
        self.next.as_mut().reset(Instant::now() + self.every);
    }
}

impl<R: Reply + Unpin> http_body::Body for Drive<R> {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        this.pull(cx);
        this.poll_cut(cx);
        if !this.wire.is_empty() {
            if let Some(keepalive) = &mut this.keepalive {
                keepalive.restart();
            }
            return Poll::Ready(Some(Ok(Frame::data(this.wire.split().freeze()))));
        }
        if this.events.is_none() {
            return Poll::Ready(None);
        }
        this.poll_keepalive(cx).map(|sign| Some(Ok(Frame::data(sign))))
    }
}

/// The whole answer, folded from the events that a stream would have sent.
pub(super) async fn document<R: Reply>(
    mut events: EventStream,
    mut reply: R,
    keeper: &Keeper,
    record: &mut Record,
) -> Result<Bytes, ProxyError> {
    loop {
        let next = events.next().await;
        record.event();
        if step(&mut reply, next, &mut Fold).is_break() {
            break;
        }
    }
    if let Some(memory) = reply.memory() {
        keeper.keep(memory);
    }
    record.ended(reply.summary());
    reply.document()
}

/// Feeds the machine one event or the end; breaks when nothing more is wanted.
fn step<R: Reply>(
    reply: &mut R,
    next: Option<Result<Bytes, ProxyError>>,
    sink: &mut impl Sink<R>,
) -> std::ops::ControlFlow<()> {
    let cut = match next {
        Some(Ok(data)) => {
            reply.on_event(R::Upstream::from(std::str::from_utf8(&data).unwrap_or(UNREADABLE)), sink);
            return if reply.is_finished() {
                std::ops::ControlFlow::Break(())
            } else {
                std::ops::ControlFlow::Continue(())
            };
        }
        Some(Err(error)) => Some(error),
        None => None,
    };
    reply.on_end(cut, sink);
    std::ops::ControlFlow::Break(())
}
