//! Limits the memory and rate of incoming WebSocket messages, below the protocol implementation.
//!
//! The protocol implementation returns a message only when it is complete, and allocates the length that a frame
//! announces. [`MeteredStream`] reads the frame headers as they pass. It splits long frames into fragments, so that
//! buffers grow with received data; reserves memory for that data; and fails a read if a message stops or arrives too
//! slowly. The read error is then a [`ProxyError`].

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::frame_header::FrameHeader;
use crate::budget::Reservation;
use crate::error::ProxyError;
use crate::server::body::BodyLimits;
use crate::server::pace::Pace;

/// The longest frame that is passed on in one piece.
pub(super) const FRAGMENT_BYTES: usize = 64 * 1024;
/// A growing message buffer exists twice while it is copied.
const COPIES: usize = 2;

/// A connection that is metered as it is read.
pub(super) struct MeteredStream<S> {
    stream: S,
    limits: BodyLimits,
    /// How long nothing may arrive between messages, not even a pong; `None`: no limit.
    idle: Option<Duration>,
    state: State,
    /// A frame header that has to be passed on before more is read.
    header: PendingHeader,
    /// The message that has begun to arrive.
    message: Option<IncomingMessage>,
    /// The pending wait for memory.
    growing: Option<BoxFuture<'static, (Reservation, Result<(), ProxyError>)>>,
    /// The memory of complete messages.
    reservations: MessageReservations,
    last_byte: Instant,
    /// Wakes the task when the message or the connection has been silent for too long.
    timer: Pin<Box<Sleep>>,
}

/// The memory of messages that are complete and that the reader hasn't taken, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct MessageReservations(Arc<Mutex<VecDeque<Reservation>>>);

/// The position in the frame of the next byte.
enum State {
    Header(FrameHeader),
    Payload {
        frame: FrameHeader,
        /// Bytes left of the frame.
        left: u64,
        /// Bytes left of the fragment that is passed on.
        fragment_left: usize,
    },
    /// The message exceeds the limit. It is passed on unchanged, and the protocol implementation rejects it.
    Refused,
}

/// A message that is arriving.
struct IncomingMessage {
    memory: Reservation,
    /// Payload received so far.
    bytes: usize,
    pace: Pace,
}

/// Header bytes to pass on.
#[derive(Default)]
struct PendingHeader {
    bytes: Vec<u8>,
    passed: usize,
}

impl MessageReservations {
    /// Takes the reservation of the oldest message.
    pub(super) fn take(&self) -> Option<Reservation> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn put(&self, memory: Reservation) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(memory);
    }
}

impl<S> MeteredStream<S> {
    /// `idle` is how long nothing may arrive between two messages.
    pub(super) fn new(stream: S, limits: BodyLimits, idle: Option<Duration>) -> Self {
        let now = Instant::now();
        Self {
            stream,
            limits,
            idle,
            state: State::Header(FrameHeader::default()),
            header: PendingHeader::default(),
            message: None,
            growing: None,
            reservations: MessageReservations::default(),
            last_byte: now,
            timer: Box::pin(sleep_until(now)),
        }
    }

    /// The memory of complete messages, for the reader of this connection.
    pub(super) fn reservations(&self) -> MessageReservations {
        self.reservations.clone()
    }

    /// The underlying connection, for reading bytes that aren't frames.
    pub(super) fn raw(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Reserves memory for the received part of the message.
    fn poll_grow(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(message) = &mut self.message else { return Poll::Ready(Ok(())) };
        let wanted = COPIES * message.bytes;
        if self.growing.is_none() {
            if message.memory.try_set_buffered(wanted) {
                return Poll::Ready(Ok(()));
            }
            let mut memory = std::mem::replace(&mut message.memory, self.limits.memory.reserve());
            self.growing = Some(Box::pin(async move {
                let grown = memory.set_buffered(wanted).await;
                (memory, grown)
            }));
        }
        let Some(growing) = &mut self.growing else { return Poll::Ready(Ok(())) };
        let (memory, grown) = ready!(growing.as_mut().poll(cx));
        self.growing = None;
        message.memory = memory;
        message.pace.restart();
        Poll::Ready(grown.map_err(io::Error::other))
    }

    /// Fails if the message is too slow or, between messages, nothing has arrived for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let deadline = match (&self.message, self.idle) {
            (Some(message), _) => message.pace.deadline(),
            (None, Some(idle)) => self.last_byte + idle,
            (None, None) => return Poll::Pending,
        };
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
        ready!(self.timer.as_mut().poll(cx));
        Poll::Ready(Err(match &self.message {
            Some(message) => io::Error::other(message.pace.too_slow()),
            None => io::ErrorKind::TimedOut.into(),
        }))
    }

    /// Begins the payload of a frame, unless its message gets too large.
    fn begin_frame(&mut self, frame: FrameHeader) {
        let left = frame.length();
        if frame.is_control() {
            self.pass_header(frame, left, left);
            return;
        }
        let message = self.message.get_or_insert_with(|| IncomingMessage {
            memory: self.limits.memory.reserve(),
            bytes: 0,
            pace: Pace::new(self.limits.max_pause),
        });
        if (message.bytes as u64).saturating_add(left) > self.limits.limit_bytes {
            self.header = PendingHeader { bytes: frame.as_bytes().to_vec(), passed: 0 };
            self.state = State::Refused;
            return;
        }
        self.pass_header(frame, left, left.min(FRAGMENT_BYTES as u64));
    }

    /// Passes on the header of the next fragment.
    fn pass_header(&mut self, mut frame: FrameHeader, left: u64, fragment: u64) {
        self.header = PendingHeader { bytes: frame.fragment(left, fragment), passed: 0 };
        let fragment_left = usize::try_from(fragment).unwrap_or(usize::MAX);
        if fragment_left == 0 {
            // An empty fragment ends with its header.
            return self.advance(frame, left, 0, 0);
        }
        self.state = State::Payload { frame, left, fragment_left };
    }

    /// Advances by the number of payload bytes read.
    fn advance(&mut self, frame: FrameHeader, left: u64, fragment_left: usize, read: usize) {
        let (left, fragment_left) = (left.saturating_sub(read as u64), fragment_left.saturating_sub(read));
        if let Some(message) = self.message.as_mut().filter(|_| !frame.is_control()) {
            message.bytes += read;
            message.pace.received(read);
        }
        if fragment_left > 0 {
            self.state = State::Payload { frame, left, fragment_left };
        } else if left > 0 {
            self.pass_header(frame, left, left.min(FRAGMENT_BYTES as u64));
        } else {
            self.state = State::Header(FrameHeader::default());
            if frame.ends_message()
                && let Some(message) = self.message.take()
            {
                self.reservations.put(message.memory);
            }
        }
    }
}

impl<S: AsyncRead + Unpin> MeteredStream<S> {
    /// Reads from the connection into the slice.
    fn poll_bytes(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut part = ReadBuf::new(into);
        match Pin::new(&mut self.stream).poll_read(cx, &mut part) {
            Poll::Pending => {
                ready!(self.poll_silence(cx))?;
                Poll::Pending
            }
            Poll::Ready(read) => {
                let read = read.map(|()| part.filled().len());
                self.last_byte = Instant::now();
                Poll::Ready(read)
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MeteredStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if this.header.pass(into) {
                return Poll::Ready(Ok(()));
            }
            match this.state {
                State::Header(mut header) => {
                    let mut bytes = [0; FrameHeader::MAX_BYTES];
                    let read = ready!(this.poll_bytes(cx, &mut bytes[..header.missing()]))?;
                    if read == 0 {
                        return Poll::Ready(Ok(()));
                    }
                    header.extend(&bytes[..read]);
                    if header.missing() == 0 {
                        this.begin_frame(header);
                    } else {
                        this.state = State::Header(header);
                    }
                }
                State::Payload { frame, left, fragment_left } => {
                    if !frame.is_control() {
                        ready!(this.poll_grow(cx))?;
                    }
                    let most = into.remaining().min(fragment_left);
                    let read = ready!(this.poll_bytes(cx, into.initialize_unfilled_to(most)))?;
                    into.advance(read);
                    if read > 0 {
                        this.advance(frame, left, fragment_left, read);
                    }
                    return Poll::Ready(Ok(()));
                }
                State::Refused => {
                    let read = ready!(this.poll_bytes(cx, into.initialize_unfilled()))?;
                    into.advance(read);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl PendingHeader {
    /// Passes on as many bytes as fit. Returns whether there were any.
    fn pass(&mut self, into: &mut ReadBuf<'_>) -> bool {
        let rest = self.bytes.get(self.passed..).unwrap_or_default();
        let passed = rest.get(..into.remaining()).unwrap_or(rest);
        into.put_slice(passed);
        self.passed += passed.len();
        !passed.is_empty()
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MeteredStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
