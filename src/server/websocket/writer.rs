//! What a socket says: the answers to its requests, one after the other.
//!
//! Requests that come while an answer is under way wait for it, as the public service has it; they
//! are few and small, or refused. A client that reads slowly holds the backend back through this
//! loop, and is never sent more than it takes.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{BoxStream, SplitSink};
use futures_util::{FutureExt, SinkExt, StreamExt};
use http::request::Parts;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;

use super::reader::ReaderEvent;
use super::request::SocketRequest;
use super::{ConnectionCache, Socket, Text, WebSocketHandler};
use crate::error::{ProxyError, Reason, Refusal};
use crate::protocol::responses::socket::{ClientFrame, CreateRequest, FrameQueue, error_frame};
use crate::server::budget::Reservation;

/// Requests that may wait for their turn.
const MAX_WAITING: usize = 16;
/// Lanes that a socket may name, as on the public service.
const MAX_LANES: usize = 32;

/// The speaking half of a socket.
pub(super) struct Writer {
    out: SplitSink<Socket, Message>,
    heard: Receiver<ReaderEvent>,
    sockets: Arc<WebSocketHandler>,
    parts: Parts,
    cache: Arc<ConnectionCache>,
    waiting: VecDeque<(CreateRequest, Reservation)>,
    lanes: HashSet<String>,
    running: Option<RunningReply>,
}

/// The answer under way.
struct RunningReply {
    frames: BoxStream<'static, Text>,
    cancel: CancellationToken,
}

/// Why no further turn begins.
#[derive(Debug)]
enum CloseReason {
    /// The socket has lived as long as one may.
    Old,
    /// The daemon was told to stop.
    Stopped,
    /// No further message can be read.
    Unreadable(ProxyError, CloseCode),
}

impl Writer {
    pub(super) fn new(
        out: SplitSink<Socket, Message>,
        heard: Receiver<ReaderEvent>,
        sockets: Arc<WebSocketHandler>,
        parts: Parts,
    ) -> Self {
        let cache = Arc::new(ConnectionCache::new(&sockets.remembered));
        let (waiting, lanes) = (VecDeque::new(), HashSet::new());
        Self { out, heard, sockets, parts, cache, waiting, lanes, running: None }
    }

    /// Answers until one of the two sides wants no more. Gives the socket back where the client can
    /// still be told something.
    pub(super) async fn speak(mut self) -> Option<SplitSink<Socket, Message>> {
        let told = async {
            let code = self.converse().await?;
            self.running = None;
            self.out.send(Message::Close(Some(CloseFrame { code, reason: Utf8Bytes::default() }))).await
        };
        told.await.is_ok().then_some(self.out)
    }

    /// Answers; ends with the code to close with.
    async fn converse(&mut self) -> Result<CloseCode, Error> {
        let mut ping = self.sockets.turns.limits.keepalive.map(|every| {
            let mut ping = interval_at(Instant::now() + every, every);
            ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ping
        });
        let mut age = std::pin::pin!(sleep(self.sockets.lifetime));
        let stop = self.sockets.shutdown.stop.clone();
        let mut ending = None;
        loop {
            match ending {
                _ if self.running.is_some() => {}
                // The end of an answer may come together with the word to stop.
                _ if stop.is_cancelled() => return self.end(CloseReason::Stopped).await,
                None => self.begin_next(),
                Some(ending) => return self.end(ending).await,
            }
            tokio::select! {
                heard = self.heard.recv() => {
                    let Some(heard) = heard else { return Err(Error::ConnectionClosed) };
                    ending = self.heed(heard).await?.or(ending);
                }
                text = next(self.running.as_mut()) => self.pass(text).await?,
                () = tick(ping.as_mut()) => self.out.send(Message::Ping(Bytes::new())).await?,
                () = &mut age, if ending.is_none() => ending = Some(CloseReason::Old),
                () = stop.cancelled(), if !matches!(ending, Some(CloseReason::Stopped)) => ending = Some(CloseReason::Stopped),
            }
        }
    }

    fn begin_next(&mut self) {
        let Some((create, memory)) = self.waiting.pop_front() else { return };
        let (sockets, parts, cache) = (Arc::clone(&self.sockets), self.parts.clone(), Arc::clone(&self.cache));
        let cancel = CancellationToken::new();
        let turn = SocketRequest { sockets, parts, cache, cancel: cancel.clone() };
        self.running = Some(RunningReply { frames: turn.frames(create, memory), cancel });
    }

    /// Handles what the reader received. Returns why the socket has to be closed once the running answer is complete.
    async fn heed(&mut self, heard: ReaderEvent) -> Result<Option<CloseReason>, Error> {
        match heard {
            ReaderEvent::Frame(ClientFrame::Create(create), memory) => {
                let lane = create.stream_id.clone();
                if let Err(error) = self.admit(*create, memory) {
                    self.refuse(&error, lane).await?;
                }
            }
            ReaderEvent::Frame(ClientFrame::Cancel, _) => {
                self.running.iter().for_each(|running| running.cancel.cancel())
            }
            ReaderEvent::Frame(ClientFrame::Ignored, _) => {}
            ReaderEvent::Refused(error) => self.refuse(&error, None).await?,
            ReaderEvent::Over(error, code) => return Ok(Some(CloseReason::Unreadable(error, code))),
        }
        Ok(None)
    }

    /// Lets a request wait for its turn.
    fn admit(&mut self, create: CreateRequest, memory: Reservation) -> Result<(), ProxyError> {
        if let Some(lane) = create.stream_id.as_ref().filter(|lane| !self.lanes.contains(*lane)) {
            if self.lanes.len() >= MAX_LANES {
                let message = format!(
                    "a socket takes {MAX_LANES} different stream ids; use one of them again, or open another socket"
                );
                return Err(Refusal::coded("websocket_stream_limit_reached", "stream_id", message));
            }
            self.lanes.insert(lane.clone());
        }
        let waiting = self.waiting.iter().map(|(create, _)| create);
        let bytes = waiting.chain([&create]).map(|create| create.body.len() as u64).sum::<u64>();
        let is_too_much = bytes > self.sockets.turns.limits.body_bytes && !self.waiting.is_empty();
        if self.waiting.len() >= MAX_WAITING || is_too_much {
            return Err(of_socket(
                "websocket_queue_full",
                "too many requests wait on this socket; wait for a response to end, or open another socket",
            ));
        }
        self.waiting.push_back((create, memory));
        Ok(())
    }

    /// Sends what is ready of an answer, beginning with this; nothing: the answer is over.
    async fn pass(&mut self, text: Option<Text>) -> Result<(), Error> {
        let mut ready = Some(text);
        while let (Some(text), Some(running)) = (ready, &mut self.running) {
            ready = None;
            if let Some(text) = text {
                self.out.feed(message(text)).await?;
                ready = running.frames.next().now_or_never();
            } else {
                self.running = None;
            }
        }
        self.out.flush().await
    }

    /// Tells whoever waits, and the client as such, that nothing more comes.
    async fn end(&mut self, ending: CloseReason) -> Result<CloseCode, Error> {
        let is_old = matches!(ending, CloseReason::Old);
        let (error, code) = match ending {
            CloseReason::Unreadable(error, code) => {
                self.refuse(&error, None).await?;
                return Ok(code);
            }
            CloseReason::Stopped => (ProxyError::ShuttingDown, CloseCode::Away),
            CloseReason::Old => {
                let minutes = self.sockets.lifetime.as_secs() / 60;
                let message = format!("this socket has been open for its {minutes} minutes; open another one to go on");
                (of_socket("websocket_connection_limit_reached", message), CloseCode::Normal)
            }
        };
        if self.waiting.is_empty() && is_old {
            self.refuse(&error, None).await?;
        }
        while let Some((create, _)) = self.waiting.pop_front() {
            self.refuse(&error, create.stream_id).await?;
        }
        Ok(code)
    }

    async fn refuse(&mut self, error: &ProxyError, lane: Option<String>) -> Result<(), Error> {
        tracing::debug!(error = error.loggable(), "a frame was refused");
        let mut frames = FrameQueue::new(lane);
        frames.push(&error_frame(error, ""));
        while let Some(frame) = frames.pop() {
            self.out.feed(message(frame)).await?;
        }
        self.out.flush().await
    }
}

/// A refusal that is about the socket, not about a member.
fn of_socket(code: &'static str, message: impl Into<String>) -> ProxyError {
    ProxyError::Refused(Refusal { reason: Reason::Wrong, message: message.into(), param: None, code: Some(code) })
}

fn message(text: Text) -> Message {
    Message::Text(Utf8Bytes::try_from(text).expect("frames are put together from text"))
}

async fn next(running: Option<&mut RunningReply>) -> Option<Text> {
    match running {
        Some(running) => running.frames.next().await,
        None => std::future::pending().await,
    }
}

async fn tick(ping: Option<&mut Interval>) {
    match ping {
        Some(ping) => _ = ping.tick().await,
        None => std::future::pending().await,
    }
}
