//! Passes the client's control frames to the backend while a response arrives.
//!
//! The frames of a response are queued from its start, in a bounded queue; each holds its memory until it is sent.
//! [`ControlledReply`] sends them whenever the response is polled, whether or not an event has arrived. Events don't
//! wait for them: if the backend doesn't read, frames stay in the queue until the response ends. A frame that can't be
//! sent is refused with an event, and the response continues.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::Text;
use crate::budget::Reservation;
use crate::protocol::responses::ResponsesReply;
use crate::protocol::responses::socket::{ControlFrame, ControlRefusal, FrameQueue};
use crate::server::response_stream::ResponseStream;
use crate::upstream::ControlError;

/// Maximum number of frames that wait to be sent, per response.
const MAX_WAITING: usize = 8;

/// The client's end of the queue of a response.
#[derive(Debug)]
pub(super) struct ControlSender {
    frames: Sender<(ControlFrame, Reservation)>,
    /// The `stream_id` of the response.
    stream_id: Option<String>,
}

/// The backend's end of the queue of a response.
#[derive(Debug)]
pub(super) struct ControlQueue {
    frames: Receiver<(ControlFrame, Reservation)>,
    stream_id: Option<String>,
}

/// A response, and the control frames for it.
pub(super) struct ControlledReply {
    response: ResponseStream<ResponsesReply, FrameQueue>,
    queue: ControlQueue,
    sending: Option<SendingFrame>,
    refused: VecDeque<Text>,
}

/// The frame that is being sent.
#[derive(Debug)]
struct SendingFrame {
    frame: ControlFrame,
    /// The text, until the connection has accepted it.
    text: Option<Bytes>,
    _memory: Reservation,
}

/// Creates the queue of a response with this `stream_id`.
pub(super) fn control_queue(stream_id: Option<String>) -> (ControlSender, ControlQueue) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    (ControlSender { frames: sender, stream_id: stream_id.clone() }, ControlQueue { frames: receiver, stream_id })
}

impl ControlSender {
    /// Queues a frame with its memory. Returns the frame and the reason if it is refused.
    pub(super) fn push(&self, frame: ControlFrame, memory: Reservation) -> Result<(), (ControlFrame, ControlRefusal)> {
        if frame.stream_id.is_some() && frame.stream_id != self.stream_id {
            return Err((frame, ControlRefusal::NotRunning));
        }
        self.frames.try_send((frame, memory)).map_err(|error| match error {
            mpsc::error::TrySendError::Full((frame, _)) => (frame, ControlRefusal::TooMany),
            mpsc::error::TrySendError::Closed((frame, _)) => (frame, ControlRefusal::Ended),
        })
    }
}

impl ControlQueue {
    /// Closes the queue, and returns the events that refuse its frames.
    pub(super) fn close(&mut self) -> Vec<Text> {
        self.frames.close();
        let mut refused = Vec::new();
        while let Ok((frame, _)) = self.frames.try_recv() {
            refused.push(self.refusal(&frame, ControlRefusal::Ended));
        }
        refused
    }

    fn refusal(&self, frame: &ControlFrame, refusal: ControlRefusal) -> Text {
        refusal_event(frame, refusal, frame.stream_id.clone().or_else(|| self.stream_id.clone()))
    }
}

/// The event that refuses a frame.
pub(super) fn refusal_event(frame: &ControlFrame, refusal: ControlRefusal, stream_id: Option<String>) -> Text {
    tracing::debug!(kind = frame.kind.type_name(), code = refusal.code(frame.kind), "a control frame was refused");
    let mut events = FrameQueue::new(stream_id);
    events.push(&frame.refused(refusal));
    events.pop().unwrap_or_default()
}

impl ControlledReply {
    pub(super) fn new(response: ResponseStream<ResponsesReply, FrameQueue>, queue: ControlQueue) -> Self {
        Self { response, queue, sending: None, refused: VecDeque::new() }
    }

    /// Sends the frames that have been queued, as far as the backend reads them.
    fn poll_send(&mut self, cx: &mut Context<'_>) {
        loop {
            let Some(sending) = &mut self.sending else {
                let Poll::Ready(Some((frame, memory))) = self.queue.frames.poll_recv(cx) else { return };
                let text = Some(Bytes::from(frame.text.clone()));
                self.sending = Some(SendingFrame { frame, text, _memory: memory });
                continue;
            };
            let Poll::Ready(sent) = self.response.poll_send(cx, sending.frame.kind, &mut sending.text) else { return };
            let Some(sending) = self.sending.take() else { return };
            let refusal = match sent {
                Ok(()) => continue,
                Err(ControlError::NoWebSocket) => ControlRefusal::NoWebSocket,
                Err(ControlError::Ended) => ControlRefusal::Ended,
                Err(ControlError::ProxyTools) => ControlRefusal::ProxyTools,
            };
            self.refused.push_back(self.queue.refusal(&sending.frame, refusal));
        }
    }

    /// Refuses the frames that were not sent when the response ended.
    fn end(&mut self) {
        if let Some(sending) = self.sending.take() {
            self.refused.push_back(self.queue.refusal(&sending.frame, ControlRefusal::Ended));
        }
        self.refused.extend(self.queue.close());
    }
}

impl Stream for ControlledReply {
    type Item = Text;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Text>> {
        let this = self.get_mut();
        this.poll_send(cx);
        if let Some(refused) = this.refused.pop_front() {
            return Poll::Ready(Some(refused));
        }
        match Pin::new(&mut this.response).poll_next(cx) {
            Poll::Ready(None) => {
                this.end();
                Poll::Ready(this.refused.pop_front())
            }
            polled => polled,
        }
    }
}
