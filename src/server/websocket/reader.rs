//! Reads the messages of a WebSocket client, reports them to the writer, and notices when the client disconnects.

use std::io;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{SplitSink, SplitStream};
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc::Sender;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::Socket;
use super::intake::MessageReservations;
use crate::blocking::off_thread;
use crate::budget::Reservation;
use crate::error::{ProxyError, Refusal};
use crate::protocol::responses::socket::{ClientFrame, FrameError};

/// Longest time for the client to read the last frames and close.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// An event that the reader reports to the writer.
#[derive(Debug)]
pub(super) enum ReaderEvent {
    /// A parsed message, and its memory.
    Frame(ClientFrame, Reservation),
    /// A message that is refused.
    Refused(ProxyError),
    /// An error that closes the connection.
    Fatal(ProxyError, CloseCode),
}

/// The reading half of a connection.
pub(super) struct Reader {
    incoming: SplitStream<Socket>,
    /// The memory of complete messages.
    reservations: MessageReservations,
    /// Largest message, for the error.
    limit_bytes: u64,
    state: ReadState,
}

/// How the rest of the connection can be read.
#[derive(Debug, PartialEq, Eq)]
enum ReadState {
    Frames,
    /// The frame structure is lost; only raw bytes can be read.
    RawBytes,
    Closed,
}

impl Reader {
    pub(super) fn new(incoming: SplitStream<Socket>, reservations: MessageReservations, limit_bytes: u64) -> Self {
        Self { incoming, reservations, limit_bytes, state: ReadState::Frames }
    }

    /// Reports messages and errors. Returns when the client has disconnected; after a fatal error, never.
    pub(super) async fn run(&mut self, events: &Sender<ReaderEvent>) {
        while let Some(message) = self.incoming.next().await {
            let event = match message {
                Ok(Message::Text(text)) => self.read(text).await,
                Ok(Message::Binary(_)) => {
                    ReaderEvent::Fatal(Refusal::body("WebSocket frames must be text"), CloseCode::Unsupported)
                }
                Ok(Message::Close(_)) => return,
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => continue,
                Err(error) => match self.classify(error) {
                    Some(fatal) => fatal,
                    None => return,
                },
            };
            let is_fatal = matches!(event, ReaderEvent::Fatal(..));
            if events.send(event).await.is_err() {
                return;
            }
            if is_fatal {
                // The writer closes the connection.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Parses a message.
    async fn read(&mut self, text: Utf8Bytes) -> ReaderEvent {
        let Some(mut memory) = self.reservations.take() else { return ReaderEvent::Refused(ProxyError::Internal) };
        let reserved = async {
            memory.set_buffered(text.len()).await?;
            memory.begin_work(text.as_bytes()).await
        };
        if let Err(error) = reserved.await {
            return ReaderEvent::Refused(error);
        }
        match off_thread(text.len(), || ClientFrame::read(&text)) {
            Ok(frame) => {
                memory.end_work();
                ReaderEvent::Frame(frame, memory)
            }
            Err(FrameError::Rejected(error)) => ReaderEvent::Refused(error),
            Err(FrameError::Malformed(error)) => ReaderEvent::Fatal(error, CloseCode::Invalid),
        }
    }

    /// Maps a read error; `None` if the connection is lost.
    fn classify(&mut self, error: Error) -> Option<ReaderEvent> {
        let (error, code) = match error {
            Error::Capacity(_) => (ProxyError::BodyTooLarge { limit_bytes: self.limit_bytes }, CloseCode::Size),
            Error::Utf8(_) => (Refusal::body("the WebSocket frame is not UTF-8"), CloseCode::Invalid),
            Error::Protocol(what) if what != ProtocolError::ResetWithoutClosingHandshake => {
                (Refusal::body(format!("the WebSocket frame is invalid: {what}")), CloseCode::Protocol)
            }
            Error::Io(error) => match error.downcast::<ProxyError>() {
                Ok(error @ ProxyError::MemoryFull { .. }) => (error, CloseCode::Again),
                Ok(error) => (error, CloseCode::Policy),
                Err(error) => {
                    if error.kind() == io::ErrorKind::TimedOut {
                        tracing::debug!("closing a WebSocket: its client has sent nothing for too long");
                    }
                    self.state = ReadState::Closed;
                    return None;
                }
            },
            _ => {
                self.state = ReadState::Closed;
                return None;
            }
        };
        self.state = ReadState::RawBytes;
        Some(ReaderEvent::Fatal(error, code))
    }

    /// Reads and discards until the client closes or a time limit, so that the client gets the last frames. `out` is
    /// needed to read raw bytes.
    pub(super) async fn drain(self, out: Option<SplitSink<Socket, Message>>) {
        let Self { mut incoming, state, .. } = self;
        let drained = async {
            if state == ReadState::Frames {
                while let Some(Ok(_)) = incoming.next().await {}
            }
            if let (ReadState::RawBytes, Some(Ok(mut socket))) = (state, out.map(|out| incoming.reunite(out))) {
                let mut rest = [0; 8192];
                while matches!(socket.get_mut().raw().read(&mut rest).await, Ok(1..)) {}
            }
        };
        let _ = timeout(DRAIN_TIMEOUT, drained).await;
    }
}
