//! The event stream of a response, read from the connection on demand.
//!
//! There is no task or channel in between: dropping the stream drops the connection, HTTP/2 stream or WebSocket. Events
//! are passed on unchanged, except that the namespace that the lite form adds to tool names is stripped. The stream
//! ends after the terminal event without waiting for the connection to close; if the connection breaks, closes or times
//! out earlier, the stream ends with an error. After a response that the client has steered, the stream contains the
//! response that the backend starts next.

mod event_timeout;
mod http_events;

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use http::HeaderMap;
use tokio::time::{Instant, timeout_at};

use super::cassette::{Outcome, Playback, Recording};
use super::counters::OpenResponse;
use super::event_class::EventClass;
use super::quota::QuotaObserver;
use super::response_body::ResponseBody;
use super::unknown_events::UnknownEvents;
use super::websocket::{Exchange, Expected};
use crate::error::ProxyError;
use crate::protocol::codex::control::ControlKind;
use crate::protocol::codex::event;
use crate::protocol::codex::failure;
use crate::protocol::codex::lite::ToolNamespace;
use crate::protocol::codex::rate_limits;
use event_timeout::EventTimeout;
use http_events::HttpEvents;

/// How long the backend may take to acknowledge steering input after the response has ended.
const ACKNOWLEDGMENT_WAIT: Duration = Duration::from_secs(5);

/// Where the events come from.
enum Source {
    Http(HttpEvents),
    WebSocket(Box<Exchange>),
    Recorded(Box<Playback>),
}

/// The `data` of each event of a response, up to the terminal event or a transport error.
pub struct EventStream {
    /// Events that were read up to the commit point and not returned yet.
    buffered: VecDeque<Bytes>,
    /// Limit for the total size of `buffered`.
    buffer_limit_bytes: usize,
    /// `None` after the last event.
    source: Option<Source>,
    timeout: EventTimeout,
    /// Headers that events carry; only collected on a WebSocket, whose responses have no others.
    event_headers: HeaderMap,
    namespace: Option<ToolNamespace>,
    open: Option<OpenResponse>,
    quota: Option<QuotaObserver>,
    unknown_events: Option<Arc<UnknownEvents>>,
    recording: Option<Recording>,
    /// When the first content delta arrived.
    first_content: Option<Instant>,
    /// Whether the terminal event of the response has arrived. Another response may follow.
    has_ended: bool,
}

/// Why a control frame was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlError {
    /// The response doesn't arrive over a WebSocket.
    NoWebSocket,
    /// The response has ended, or its connection is broken.
    Ended,
    /// The response has several rounds, because the proxy runs tools for the model.
    ProxyTools,
}

/// Limits of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Time from sending the request to the first event.
    pub(super) first_event: Duration,
    /// Time between two events.
    pub(super) idle: Duration,
    /// Size of an event, and of all events before the commit point together.
    pub(super) event_bytes: usize,
}

impl EventStream {
    /// The events of an HTTP response to a request sent at `sent`.
    pub(super) fn new(body: ResponseBody, limits: Limits, sent: Instant) -> Self {
        Self::with_source(Some(Source::Http(HttpEvents::new(body, limits.event_bytes))), limits, sent)
    }

    /// The events of a WebSocket response to a request sent at `sent`.
    pub(super) fn over_websocket(exchange: Exchange, limits: Limits, sent: Instant) -> Self {
        Self::with_source(Some(Source::WebSocket(Box::new(exchange))), limits, sent)
    }

    /// The events of a recorded response to a request sent at `sent`.
    pub(super) fn recorded(playback: Playback, limits: Limits, sent: Instant) -> Self {
        Self::with_source(Some(Source::Recorded(Box::new(playback))), limits, sent)
    }

    fn with_source(source: Option<Source>, limits: Limits, sent: Instant) -> Self {
        Self {
            buffered: VecDeque::new(),
            buffer_limit_bytes: limits.event_bytes,
            source,
            timeout: EventTimeout::new(limits, sent),
            event_headers: HeaderMap::new(),
            namespace: None,
            open: None,
            quota: None,
            unknown_events: None,
            recording: None,
            first_content: None,
            has_ended: false,
        }
    }

    /// A stream of events that have already arrived.
    #[cfg(test)]
    pub(super) fn of(events: &[&'static str]) -> Self {
        let limit = Duration::from_secs(60);
        let limits = Limits { first_event: limit, idle: limit, event_bytes: usize::MAX };
        let buffered = events.iter().map(|event| Bytes::from_static(event.as_bytes())).collect();
        Self { buffered, ..Self::with_source(None, limits, Instant::now()) }
    }

    /// The headers that the events of a WebSocket response have carried so far.
    pub(super) fn event_headers(&self) -> &HeaderMap {
        &self.event_headers
    }

    /// Whether an event is buffered.
    pub(super) fn has_event(&self) -> bool {
        !self.buffered.is_empty()
    }

    /// Strips the namespace from tool names in the events, so that the client gets the names in its request.
    pub(super) fn strip_namespace(&mut self, namespace: ToolNamespace) {
        self.namespace = Some(namespace);
    }

    /// Keeps the guard that counts the response as open, until the stream is dropped.
    pub(super) fn set_open_guard(&mut self, open: OpenResponse) {
        self.open = Some(open);
    }

    /// Records the rate limits in events, including the buffered ones.
    pub(super) fn observe_quota(&mut self, quota: QuotaObserver) {
        self.buffered.iter().filter(|data| is_rate_limits(data)).for_each(|data| quota.record_event(data));
        self.quota = Some(quota);
    }

    /// Counts unknown names in events, including the buffered ones.
    pub(super) fn count_unknown(&mut self, unknown_events: &Arc<UnknownEvents>) {
        self.buffered.iter().for_each(|data| unknown_events.inspect(data));
        self.unknown_events = Some(Arc::clone(unknown_events));
    }

    /// Records all further events.
    pub(super) fn record(&mut self, recording: Option<Recording>) {
        self.recording = recording;
    }

    /// When the first content delta arrived from the backend.
    #[must_use]
    pub fn first_content(&self) -> Option<Instant> {
        self.first_content
    }

    /// Whether the response has ended and more events may follow: the backend's response to control frames.
    pub(super) fn has_follow_up(&self) -> bool {
        self.has_ended && self.source.is_some()
    }

    /// Sends a control frame to the backend. Takes it out of `frame` once it is buffered; call this again, with the
    /// empty `frame`, until the result is ready. Events can be polled in between.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        kind: ControlKind,
        frame: &mut Option<Bytes>,
    ) -> Poll<Result<(), ControlError>> {
        match &mut self.source {
            Some(Source::WebSocket(exchange)) if !self.has_ended => {
                exchange.poll_send(cx, kind, frame).map_err(|_| ControlError::Ended)
            }
            None | Some(Source::WebSocket(_)) => Poll::Ready(Err(ControlError::Ended)),
            Some(Source::Http(_) | Source::Recorded(_)) => Poll::Ready(Err(ControlError::NoWebSocket)),
        }
    }

    /// Replaces the tool names with those of the client.
    fn with_client_names(&self, data: Bytes) -> Bytes {
        let Some(namespace) = &self.namespace else { return data };
        let stripped = std::str::from_utf8(&data).ok().and_then(|data| namespace.strip_from(data));
        stripped.map_or(data, Bytes::from)
    }

    /// Reads and buffers the events up to the commit point: the first item after `response.created`, the first delta,
    /// the successful end, or `after` has passed since the first event of the response. The buffered events together
    /// may be as large as a single event.
    ///
    /// # Errors
    /// The failure that the events report, or that of the transport. No event has been returned yet, so another attempt
    /// can replace this one.
    pub(super) async fn commit(&mut self, after: Duration) -> Result<(), ProxyError> {
        let (mut deadline, mut is_created) = (None, false);
        let mut buffered_bytes = 0;
        loop {
            let next = poll_fn(|cx| self.poll_read(cx));
            let next = match deadline {
                None => next.await,
                Some(deadline) => match timeout_at(deadline, next).await {
                    Ok(next) => next,
                    Err(_) => return Ok(()),
                },
            };
            let data = next.unwrap_or(Err(ProxyError::Truncated { cause: None }))?;
            buffered_bytes += data.len() + size_of::<Bytes>();
            if buffered_bytes > self.buffer_limit_bytes {
                return Err(ProxyError::EventTooLarge { limit_bytes: self.buffer_limit_bytes });
            }
            let class = EventClass::of(&data);
            if class == EventClass::Failed {
                let failure = failure::from_event(&String::from_utf8_lossy(&data));
                return Err(ProxyError::Upstream(Box::new(failure)));
            }
            self.buffered.push_back(data);
            match class {
                EventClass::Item if is_created => return Ok(()),
                EventClass::Delta | EventClass::Completed => return Ok(()),
                EventClass::Created | EventClass::Item => {
                    is_created |= class == EventClass::Created;
                    deadline = deadline.or(Some(Instant::now() + after));
                }
                EventClass::Failed | EventClass::Other => {}
            }
        }
    }

    /// Returns the next event from the source. `None` after the terminal event or an error.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ProxyError>>> {
        loop {
            let polled = match &mut self.source {
                None => return Poll::Ready(None),
                Some(Source::Http(events)) => events.poll_event(cx),
                Some(Source::WebSocket(exchange)) => exchange.poll_event(cx),
                Some(Source::Recorded(playback)) => playback.poll_event(cx),
            };
            let data = match polled {
                Poll::Ready(Ok(data)) => data,
                Poll::Ready(Err(error)) => return self.fail(error),
                Poll::Pending => {
                    let error = ready!(self.timeout.poll_expired(cx));
                    if self.has_ended && self.expects() != Expected::Successor {
                        self.source = None;
                        return Poll::Ready(None);
                    }
                    return self.fail(error);
                }
            };
            if !is_filler(&data) {
                let class = EventClass::of(&data);
                self.timeout.restart(class);
                if class.is_terminal()
                    && let Some(Source::Http(events)) = &mut self.source
                {
                    ready!(events.poll_tail(&data, cx));
                }
                self.observe(&data, class);
                return Poll::Ready(Some(Ok(data)));
            }
        }
    }

    /// Passes an event to the observers. Releases the connection after the terminal event, so that a WebSocket can
    /// carry the next request.
    fn observe(&mut self, data: &Bytes, class: EventClass) {
        if let Some(recording) = &self.recording {
            recording.event(data);
            if class.is_terminal() {
                recording.end(Outcome::Whole);
            }
        }
        if class != EventClass::Delta
            && let Some(Source::WebSocket(exchange)) = &mut self.source
        {
            exchange.observe(data, &mut self.event_headers);
        }
        // Of the deltas, only the first is inspected.
        let is_inspected = class != EventClass::Delta || self.first_content.is_none();
        if let Some(unknown_events) = self.unknown_events.as_ref().filter(|_| is_inspected) {
            unknown_events.inspect(data);
        }
        match (class, &self.quota) {
            (EventClass::Delta, _) if self.first_content.is_none() => self.first_content = Some(Instant::now()),
            (EventClass::Other, Some(quota)) if is_rate_limits(data) => quota.record_event(data),
            _ => {}
        }
        if class.is_terminal() || self.has_ended {
            self.end_response(class);
        }
    }

    /// Handles the terminal event and the events after it.
    fn end_response(&mut self, class: EventClass) {
        self.has_ended = class != EventClass::Created;
        match self.expects() {
            _ if !self.has_ended => return,
            Expected::Successor if class != EventClass::Failed => return,
            Expected::Acknowledgment if class != EventClass::Failed => {
                self.timeout.shorten(ACKNOWLEDGMENT_WAIT);
                return;
            }
            _ => {}
        }
        if let Some(Source::WebSocket(exchange)) = self.source.take()
            && class != EventClass::Failed
        {
            exchange.release();
        }
    }

    fn expects(&self) -> Expected {
        match &self.source {
            Some(Source::WebSocket(exchange)) => exchange.expects(),
            _ => Expected::Nothing,
        }
    }

    /// Ends the stream with an error.
    fn fail(&mut self, error: ProxyError) -> Poll<Option<Result<Bytes, ProxyError>>> {
        self.source = None;
        if let Some(recording) = &self.recording {
            recording.end(Outcome::of(&error));
        }
        Poll::Ready(Some(Err(error)))
    }
}

impl Stream for EventStream {
    type Item = Result<Bytes, ProxyError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let next = match this.buffered.pop_front() {
            Some(data) => Some(Ok(data)),
            None => ready!(this.poll_read(cx)),
        };
        Poll::Ready(next.map(|data| data.map(|data| this.with_client_names(data))))
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("EventStream");
        debug.field("buffered", &self.buffered.len()).field("is_open", &self.source.is_some()).finish_non_exhaustive()
    }
}

fn is_rate_limits(data: &[u8]) -> bool {
    event::kind(data).as_deref() == Some(rate_limits::EVENT)
}

/// Whether an event is empty or `[DONE]`.
fn is_filler(data: &[u8]) -> bool {
    let data = data.trim_ascii();
    data.is_empty() || data == b"[DONE]"
}
