//! What a socket hears: frames of the client, and its going.

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
use crate::error::{ProxyError, Refusal};
use crate::protocol::responses::socket::{ClientFrame, FrameError};
use crate::server::budget::Reservation;

/// How long a client may take to read our last words and to go.
const PARTING: Duration = Duration::from_secs(2);

/// What the voice has to know.
#[derive(Debug)]
pub(super) enum ReaderEvent {
    /// A frame, and its memory.
    Frame(ClientFrame, Reservation),
    /// A frame that is refused.
    Refused(ProxyError),
    /// The socket can't go on.
    Over(ProxyError, CloseCode),
}

/// The hearing half of a socket.
pub(super) struct Reader {
    incoming: SplitStream<Socket>,
    /// The memory of the messages.
    arrived: MessageReservations,
    limit_bytes: u64,
    state: ReadState,
}

/// What can still be read.
#[derive(Debug, PartialEq, Eq)]
enum ReadState {
    Frames,
    /// The bytes that come are no whole frames any more.
    Noise,
    Nothing,
}

impl Reader {
    pub(super) fn new(incoming: SplitStream<Socket>, arrived: MessageReservations, limit_bytes: u64) -> Self {
        Self { incoming, arrived, limit_bytes, state: ReadState::Frames }
    }

    /// Tells what is heard; ends when the client is gone.
    pub(super) async fn listen(&mut self, say: &Sender<ReaderEvent>) {
        while let Some(message) = self.incoming.next().await {
            let heard = match message {
                Ok(Message::Text(text)) => self.read(text).await,
                Ok(Message::Binary(_)) => {
                    ReaderEvent::Over(Refusal::body("frames must be text"), CloseCode::Unsupported)
                }
                Ok(Message::Close(_)) => return,
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => continue,
                Err(error) => match self.broken(error) {
                    Some(over) => over,
                    None => return,
                },
            };
            let is_over = matches!(heard, ReaderEvent::Over(..));
            if say.send(heard).await.is_err() {
                return;
            }
            if is_over {
                // The voice ends the conversation.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Reads a message.
    async fn read(&mut self, text: Utf8Bytes) -> ReaderEvent {
        let Some(mut memory) = self.arrived.take() else { return ReaderEvent::Refused(ProxyError::Internal) };
        let reserved = async {
            memory.buffer(text.len()).await?;
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
            Err(FrameError::Malformed(error)) => ReaderEvent::Over(error, CloseCode::Invalid),
        }
    }

    /// What an error means; `None`: the connection is gone.
    fn broken(&mut self, error: Error) -> Option<ReaderEvent> {
        let (why, code) = match error {
            Error::Capacity(_) => (ProxyError::BodyTooLarge { limit_bytes: self.limit_bytes }, CloseCode::Size),
            Error::Utf8(_) => (Refusal::body("the frame is not UTF-8"), CloseCode::Invalid),
            Error::Protocol(what) if what != ProtocolError::ResetWithoutClosingHandshake => {
                (Refusal::body(format!("the frame is broken: {what}")), CloseCode::Protocol)
            }
            Error::Io(error) => match error.downcast::<ProxyError>() {
                Ok(error @ ProxyError::MemoryFull { .. }) => (error, CloseCode::Again),
                Ok(error) => (error, CloseCode::Policy),
                Err(error) => {
                    if error.kind() == io::ErrorKind::TimedOut {
                        tracing::debug!("a socket is given up: its client has sent nothing for too long");
                    }
                    self.state = ReadState::Nothing;
                    return None;
                }
            },
            _ => {
                self.state = ReadState::Nothing;
                return None;
            }
        };
        self.state = ReadState::Noise;
        Some(ReaderEvent::Over(why, code))
    }

    /// Hears the client out after our last words, so that it gets to read them.
    pub(super) async fn part(self, out: Option<SplitSink<Socket, Message>>) {
        let Self { mut incoming, state, .. } = self;
        let parted = async {
            if state == ReadState::Frames {
                while let Some(Ok(_)) = incoming.next().await {}
            }
            if let (ReadState::Noise, Some(Ok(mut socket))) = (state, out.map(|out| incoming.reunite(out))) {
                let mut noise = [0; 8192];
                while matches!(socket.get_mut().raw().read(&mut noise).await, Ok(1..)) {}
            }
        };
        let _ = timeout(PARTING, parted).await;
    }
}
