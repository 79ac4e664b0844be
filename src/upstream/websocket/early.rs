//! Messages that the backend sends before it has received the whole request.
//!
//! A backend that refuses a request for its size closes the WebSocket while the request is still being written, and
//! then stops reading or resets the connection. Reading during the write finds the close frame, which has the reason.
//! All messages are queued for the reader of the response. The queue is bounded; when it is full, reading stops until
//! the request is sent.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Limits of the queue. The last message may exceed the size.
const MAX_MESSAGES: usize = 16;
const MAX_BYTES: usize = 1 << 20;
/// How long to wait for a close frame after a write has failed: it may be in the socket's buffer already. If the
/// connection was reset, the wait ends at once.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// The result of a read. `None` at the end of the connection.
pub(super) type Received = Option<Result<Message, Error>>;

/// Queue of messages received while the request is sent.
#[derive(Debug, Default)]
pub(super) struct EarlyMessages {
    messages: VecDeque<Received>,
    bytes: usize,
}

impl EarlyMessages {
    /// Removes the oldest message.
    pub(super) fn pop(&mut self) -> Option<Received> {
        self.messages.pop_front()
    }

    /// Writes the request that is buffered in `stream`, and queues the messages that arrive meanwhile. `fed` is the
    /// result of buffering it.
    ///
    /// Returns early, without an error, if the connection ends: the reader of the response finds the reason in the
    /// queue.
    ///
    /// # Errors
    /// The error of a write, unless the backend has sent a close frame.
    pub(super) async fn flush<S>(&mut self, stream: &mut S, fed: Result<(), Error>) -> Result<(), Error>
    where
        S: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Unpin,
    {
        let flushed = match fed {
            Ok(()) => poll_fn(|cx| self.poll_flush(stream, cx)).await,
            failed => failed,
        };
        if flushed.is_err() {
            // Without a close frame, the write error is the reason.
            let _ = timeout(CLOSE_WAIT, poll_fn(|cx| self.poll_read(stream, cx))).await;
        }
        if self.is_closed() { Ok(()) } else { flushed }
    }

    fn poll_flush<S>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<Result<(), Error>>
    where
        S: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Unpin,
    {
        if self.poll_read(stream, cx).is_ready() && self.has_end() {
            return Poll::Ready(Ok(()));
        }
        stream.poll_flush_unpin(cx)
    }

    /// Queues messages until the connection ends or the queue is full. Ready in both cases.
    fn poll_read<S>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<()>
    where
        S: Stream<Item = Result<Message, Error>> + Unpin,
    {
        while !self.has_end() && self.messages.len() < MAX_MESSAGES && self.bytes < MAX_BYTES {
            let received = ready!(stream.poll_next_unpin(cx));
            if !is_control(&received) {
                self.bytes += received.as_ref().map_or(0, |read| read.as_ref().map_or(0, Message::len));
                self.messages.push_back(received);
            }
        }
        Poll::Ready(())
    }

    /// Whether no message can follow.
    fn has_end(&self) -> bool {
        matches!(self.messages.back(), Some(None | Some(Err(_) | Ok(Message::Close(_)))))
    }

    /// Whether the backend has sent a close frame.
    fn is_closed(&self) -> bool {
        matches!(self.messages.back(), Some(Some(Ok(Message::Close(_)))))
    }
}

/// Whether a message is a ping, pong or raw frame.
pub(super) fn is_control(received: &Received) -> bool {
    matches!(received, Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::ErrorKind;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use futures_util::{Sink, Stream};
    use tokio_tungstenite::tungstenite::protocol::CloseFrame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
    use tokio_tungstenite::tungstenite::{Error, Message};

    use super::{EarlyMessages, MAX_MESSAGES};

    /// A connection with scripted reads (`None`: nothing to read yet), whose write fails or never completes.
    struct Scripted {
        reads: VecDeque<Option<Message>>,
        is_reset: bool,
    }

    impl Scripted {
        fn new(reads: impl IntoIterator<Item = Option<Message>>, is_reset: bool) -> Self {
            Self { reads: reads.into_iter().collect(), is_reset }
        }
    }

    impl Stream for Scripted {
        type Item = Result<Message, Error>;

        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            match self.reads.pop_front() {
                Some(Some(message)) => Poll::Ready(Some(Ok(message))),
                Some(None) => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                None => Poll::Pending,
            }
        }
    }

    impl Sink<Message> for Scripted {
        type Error = Error;

        fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Ready(Ok(()))
        }

        fn start_send(self: Pin<&mut Self>, _: Message) -> Result<(), Error> {
            Ok(())
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            if self.is_reset { Poll::Ready(Err(reset())) } else { Poll::Pending }
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Ready(Ok(()))
        }
    }

    fn reset() -> Error {
        Error::Io(ErrorKind::ConnectionReset.into())
    }

    fn close() -> Message {
        Message::Close(Some(CloseFrame { code: CloseCode::Size, reason: "message too big".into() }))
    }

    fn all(early: &mut EarlyMessages) -> Vec<Message> {
        std::iter::from_fn(|| early.pop()).map(|received| received.unwrap().unwrap()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_close_frame_is_read_after_a_write_has_failed() {
        for fed in [Ok(()), Err(reset())] {
            let mut early = EarlyMessages::default();
            early.flush(&mut Scripted::new([None, None, Some(close())], true), fed).await.unwrap();
            assert_eq!(all(&mut early), [close()]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_fails_without_a_close_frame_is_an_error() {
        let event = Message::text("{}");
        let mut stream = Scripted::new([Some(event)], true);
        let error = EarlyMessages::default().flush(&mut stream, Ok(())).await.unwrap_err();
        assert!(matches!(&error, Error::Io(error) if error.kind() == ErrorKind::ConnectionReset), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_close_frame_after_other_messages_ends_a_write_that_is_blocked() {
        let (event, ping) = (Message::text("{}"), Message::Ping("x".into()));
        let mut early = EarlyMessages::default();
        let reads = [Some(event.clone()), Some(ping), None, Some(event.clone()), Some(close())];
        early.flush(&mut Scripted::new(reads, false), Ok(())).await.unwrap();
        assert_eq!(all(&mut early), [event.clone(), event, close()]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded() {
        let mut early = EarlyMessages::default();
        let mut stream = Scripted::new(std::iter::repeat_n(Some(Message::text("{}")), 2 * MAX_MESSAGES), true);
        early.flush(&mut stream, Ok(())).await.unwrap_err();
        assert_eq!((early.messages.len(), stream.reads.len()), (MAX_MESSAGES, MAX_MESSAGES));
    }
}
