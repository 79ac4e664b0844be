//! Responds to the requests of a WebSocket client, one after the other.
//!
//! Requests that arrive while a response is under way wait, as in the public API; their number and size are limited. A
//! client that reads slowly slows down the backend stream through this loop.

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

use super::control::{ControlSender, control_queue, refusal_event};
use super::reader::ReaderEvent;
use super::request::SocketRequest;
use super::{ConnectionCache, Socket, Text, WebSocketHandler};
use crate::budget::Reservation;
use crate::command_hint;
use crate::error::{ProxyError, Reason, Refusal};
use crate::protocol::responses::socket::{
    ClientFrame, ControlFrame, ControlRefusal, CreateRequest, FrameQueue, error_frame,
};

/// Maximum number of waiting requests per connection.
const MAX_WAITING: usize = 16;
/// Maximum number of stream ids per connection, as in the public API.
const MAX_STREAM_IDS: usize = 32;

/// The writing half of a connection.
pub(super) struct Writer {
    out: SplitSink<Socket, Message>,
    events: Receiver<ReaderEvent>,
    sockets: Arc<WebSocketHandler>,
    /// The request that opened the connection.
    parts: Parts,
    cache: Arc<ConnectionCache>,
    /// Requests, and their memory.
    waiting: VecDeque<(CreateRequest, Reservation)>,
    /// The stream ids used so far.
    stream_ids: HashSet<String>,
    running: Option<RunningReply>,
}

/// The response under way.
struct RunningReply {
    frames: BoxStream<'static, Text>,
    cancel: CancellationToken,
    control: ControlSender,
}

/// Why no further request is started.
#[derive(Debug)]
enum CloseReason {
    /// The connection has reached its longest lifetime.
    LifetimeReached,
    /// The server is shutting down.
    ShuttingDown,
    /// No further message can be read.
    Unreadable(ProxyError, CloseCode),
}

impl Writer {
    pub(super) fn new(
        out: SplitSink<Socket, Message>,
        events: Receiver<ReaderEvent>,
        sockets: Arc<WebSocketHandler>,
        parts: Parts,
    ) -> Self {
        let cache = Arc::new(ConnectionCache::new(&sockets.caches));
        let (waiting, stream_ids) = (VecDeque::new(), HashSet::new());
        Self { out, events, sockets, parts, cache, waiting, stream_ids, running: None }
    }

    /// Responds until the client disconnects or the connection has to close. Returns the sink if frames can still be
    /// sent.
    pub(super) async fn run(mut self) -> Option<SplitSink<Socket, Message>> {
        let result = async {
            let code = self.serve().await?;
            self.running = None;
            self.out.send(Message::Close(Some(CloseFrame { code, reason: Utf8Bytes::default() }))).await
        };
        result.await.is_ok().then_some(self.out)
    }

    /// Responds to requests. Returns the code to close with.
    async fn serve(&mut self) -> Result<CloseCode, Error> {
        let mut ping = self.sockets.handler.limits.keepalive.map(|every| {
            let mut ping = interval_at(Instant::now() + every, every);
            ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ping
        });
        let mut age = std::pin::pin!(sleep(self.sockets.lifetime));
        let stop = self.sockets.shutdown.stop.clone();
        let mut close_reason = None;
        loop {
            match close_reason {
                _ if self.running.is_some() => {}
                // A response may end at the same time as the shutdown begins.
                _ if stop.is_cancelled() => return self.finish(CloseReason::ShuttingDown).await,
                None => self.begin_next(),
                Some(close_reason) => return self.finish(close_reason).await,
            }
            tokio::select! {
                event = self.events.recv() => {
                    let Some(event) = event else { return Err(Error::ConnectionClosed) };
                    close_reason = self.handle_event(event).await?.or(close_reason);
                }
                text = next(self.running.as_mut()) => self.forward(text).await?,
                () = tick(ping.as_mut()) => self.out.send(Message::Ping(Bytes::new())).await?,
                () = &mut age, if close_reason.is_none() => close_reason = Some(CloseReason::LifetimeReached),
                () = stop.cancelled(), if !matches!(close_reason, Some(CloseReason::ShuttingDown)) => {
                    close_reason = Some(CloseReason::ShuttingDown);
                }
            }
        }
    }

    /// Starts the request that has waited longest, if there is one.
    fn begin_next(&mut self) {
        let Some((create, memory)) = self.waiting.pop_front() else { return };
        let (sockets, parts, cache) = (Arc::clone(&self.sockets), self.parts.clone(), Arc::clone(&self.cache));
        let cancel = CancellationToken::new();
        let (sender, control) = control_queue(create.stream_id.clone());
        let request = SocketRequest { sockets, parts, cache, cancel: cancel.clone(), control };
        self.running = Some(RunningReply { frames: request.frames(create, memory), cancel, control: sender });
    }

    /// Handles an event of the reader. Returns why the connection has to close after the running response.
    async fn handle_event(&mut self, event: ReaderEvent) -> Result<Option<CloseReason>, Error> {
        match event {
            ReaderEvent::Frame(ClientFrame::Create(create), memory) => {
                let stream_id = create.stream_id.clone();
                if let Err(error) = self.enqueue(*create, memory) {
                    self.refuse(&error, stream_id).await?;
                }
            }
            ReaderEvent::Frame(ClientFrame::Cancel, _) => {
                self.running.iter().for_each(|running| running.cancel.cancel());
            }
            ReaderEvent::Frame(ClientFrame::Control(frame), memory) => self.control(frame, memory).await?,
            ReaderEvent::Frame(ClientFrame::Ignored, _) => {}
            ReaderEvent::Refused(error) => self.refuse(&error, None).await?,
            ReaderEvent::Fatal(error, code) => return Ok(Some(CloseReason::Unreadable(error, code))),
        }
        Ok(None)
    }

    /// Queues a frame for the running response, or refuses it.
    async fn control(&mut self, frame: ControlFrame, memory: Reservation) -> Result<(), Error> {
        let queued = match &self.running {
            Some(running) => running.control.push(frame, memory),
            None => Err((frame, ControlRefusal::NotRunning)),
        };
        let Err((frame, refusal)) = queued else { return Ok(()) };
        let stream_id = frame.stream_id.clone();
        self.out.send(message(refusal_event(&frame, refusal, stream_id))).await
    }

    /// Queues a request, or returns why it is refused.
    fn enqueue(&mut self, create: CreateRequest, memory: Reservation) -> Result<(), ProxyError> {
        if let Some(stream_id) = create.stream_id.as_ref().filter(|stream_id| !self.stream_ids.contains(*stream_id)) {
            if self.stream_ids.len() >= MAX_STREAM_IDS {
                let message = format!(
                    "a WebSocket can use {MAX_STREAM_IDS} stream ids; reuse one of them, or open another WebSocket"
                );
                return Err(Refusal::coded("websocket_stream_limit_reached", "stream_id", message));
            }
            self.stream_ids.insert(stream_id.clone());
        }
        let waiting = self.waiting.iter().map(|(create, _)| create);
        let bytes = waiting.chain([&create]).map(|create| create.body.len() as u64).sum::<u64>();
        let exceeds_limit = bytes > self.sockets.handler.limits.body_bytes && !self.waiting.is_empty();
        if self.waiting.len() >= MAX_WAITING || exceeds_limit {
            return Err(socket_refusal(
                "websocket_queue_full",
                "too many requests are waiting on this WebSocket; wait for a response to end, or open another WebSocket",
            ));
        }
        self.waiting.push_back((create, memory));
        Ok(())
    }

    /// Sends available frames of a response, starting with this one. `None`: the response has ended.
    async fn forward(&mut self, text: Option<Text>) -> Result<(), Error> {
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

    /// Refuses the waiting requests with the reason, which is also sent if no request waits, except at a shutdown.
    /// After an unreadable message, only the reason is sent. Returns the code to close with.
    async fn finish(&mut self, close_reason: CloseReason) -> Result<CloseCode, Error> {
        let is_lifetime = matches!(close_reason, CloseReason::LifetimeReached);
        let (error, code) = match close_reason {
            CloseReason::Unreadable(error, code) => {
                self.refuse(&error, None).await?;
                return Ok(code);
            }
            CloseReason::ShuttingDown => (ProxyError::ShuttingDown, CloseCode::Away),
            CloseReason::LifetimeReached => {
                let minutes = self.sockets.lifetime.as_secs() / 60;
                let message = format!(
                    "this WebSocket has reached its lifetime of {minutes} minutes; open another one to continue"
                );
                (socket_refusal("websocket_connection_limit_reached", message), CloseCode::Normal)
            }
        };
        if self.waiting.is_empty() && is_lifetime {
            self.refuse(&error, None).await?;
        }
        while let Some((create, _)) = self.waiting.pop_front() {
            self.refuse(&error, create.stream_id).await?;
        }
        Ok(code)
    }

    /// Sends an error.
    async fn refuse(&mut self, error: &ProxyError, stream_id: Option<String>) -> Result<(), Error> {
        tracing::debug!(error = error.loggable(), "a WebSocket frame was refused");
        let mut frames = FrameQueue::new(stream_id);
        frames.push(&error_frame(error, "", command_hint::current()));
        while let Some(frame) = frames.pop() {
            self.out.feed(message(frame)).await?;
        }
        self.out.flush().await
    }
}

/// A refusal because of the connection, not of a request member.
fn socket_refusal(code: &'static str, message: impl Into<String>) -> ProxyError {
    ProxyError::Refused(Refusal { reason: Reason::Invalid, message: message.into(), param: None, code: Some(code) })
}

fn message(text: Text) -> Message {
    Message::Text(Utf8Bytes::try_from(text).expect("frames are made of text"))
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
