//! The events of one answer, pulled from the connection as they are asked for.
//!
//! No task and no channel stands between: dropping the stream drops the connection or HTTP/2
//! stream behind it, or the WebSocket. Events that were held back until the commit point come first. The stream ends
//! after its terminal event without waiting for the connection's end; an end before that is an error.
//! Names that the lite form wraps are unwrapped here, on the way out.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use http::HeaderMap;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use super::cassette::{End, Reel, Tape};
use super::counters::Ticket;
use super::event_class::{self, Sign};
use super::quota::snapshot::Dial;
use super::unknown_events::Drift;
use super::websocket::Exchange;
use crate::error::{Phase, ProxyError};
use crate::net::{InUse, error_chain};
use crate::protocol::codex::failure;
use crate::protocol::codex::lite::ToolNamespace;
use crate::protocol::codex::rate_limits;
use crate::protocol::sse::Splitter;

type Body = Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>;

/// Where the events come from.
enum Source {
    Http(Lines),
    Socket(Box<Exchange>),
    Recorded(Box<Reel>),
}

/// Events between the lines of a response's body.
struct Lines {
    body: Body,
    splitter: Splitter,
    event_limit_bytes: usize,
    _in_use: Option<InUse>,
}

/// The `data` of each event of one answer, up to its end or a failure of the transport.
pub struct EventStream {
    held: VecDeque<Bytes>,
    /// Largest size of `held` up to the commit point.
    held_limit_bytes: usize,
    /// `None` when nothing more comes.
    source: Option<Source>,
    patience: Patience,
    /// What events said that a response's head says elsewhere.
    told: HeaderMap,
    /// What the names of the client's tools are wrapped into, where they are.
    namespace: Option<ToolNamespace>,
    /// Counts the answer as open.
    ticket: Option<Ticket>,
    /// Learns what the events tell of the quota.
    dial: Option<Dial>,
    /// Counts what is new.
    drift: Option<Arc<Drift>>,
    /// Takes down what comes.
    tape: Option<Tape>,
    /// When the first piece of content came.
    first_content: Option<Instant>,
}

/// How long a stream may be silent, for its first event and for those after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) first_event: Duration,
    pub(super) idle: Duration,
    pub(super) event_bytes: usize,
}

/// A timer that is set back by each event. Only its firing touches the real timer.
struct Patience {
    phase: Phase,
    limit: Duration,
    idle: Duration,
    since: Instant,
    timer: Pin<Box<Sleep>>,
}

impl EventStream {
    /// The events of a response to a request that was sent at `sent`.
    pub(super) fn new(mut response: reqwest::Response, limits: Limits, sent: Instant) -> Self {
        let lines = Lines {
            _in_use: InUse::take(&mut response),
            body: Box::pin(response.bytes_stream()),
            splitter: Splitter::new(limits.event_bytes),
            event_limit_bytes: limits.event_bytes,
        };
        Self::from(Source::Http(lines), limits, sent)
    }

    /// The events of an answer that comes over a WebSocket, asked for at `sent`.
    pub(super) fn over_socket(exchange: Exchange, limits: Limits, sent: Instant) -> Self {
        Self::from(Source::Socket(Box::new(exchange)), limits, sent)
    }

    /// The events of an answer that was recorded, asked for at `sent`.
    pub(super) fn recorded(reel: Reel, limits: Limits, sent: Instant) -> Self {
        Self::from(Source::Recorded(Box::new(reel)), limits, sent)
    }

    fn from(source: Source, limits: Limits, sent: Instant) -> Self {
        Self {
            held: VecDeque::new(),
            held_limit_bytes: limits.event_bytes,
            source: Some(source),
            patience: Patience {
                phase: Phase::FirstEvent,
                limit: limits.first_event,
                idle: limits.idle,
                since: sent,
                timer: Box::pin(sleep_until(sent + limits.first_event)),
            },
            told: HeaderMap::new(),
            namespace: None,
            ticket: None,
            dial: None,
            drift: None,
            tape: None,
            first_content: None,
        }
    }

    /// A stream that has arrived already.
    #[cfg(test)]
    pub(crate) fn of(events: &[&'static str]) -> Self {
        let (limit, since) = (Duration::MAX, Instant::now());
        let timer = Box::pin(sleep_until(since));
        Self {
            held: events.iter().map(|event| Bytes::from_static(event.as_bytes())).collect(),
            held_limit_bytes: usize::MAX,
            source: None,
            patience: Patience { phase: Phase::Streaming, limit, idle: limit, since, timer },
            told: HeaderMap::new(),
            namespace: None,
            ticket: None,
            dial: None,
            drift: None,
            tape: None,
            first_content: None,
        }
    }

    /// The headers that events up to here have brought: over a WebSocket an answer has no others.
    pub(super) fn told(&self) -> &HeaderMap {
        &self.told
    }

    /// Whether an event is held back.
    pub(super) fn has_event(&self) -> bool {
        !self.held.is_empty()
    }

    /// Gives the events with names as the client knows them.
    pub(super) fn strip_namespace(&mut self, namespace: ToolNamespace) {
        self.namespace = Some(namespace);
    }

    /// Lets the answer count as open until it is dropped.
    pub(super) fn keep(&mut self, ticket: Ticket) {
        self.ticket = Some(ticket);
    }

    /// Passes on what the events tell of the quota, beginning with those that are here already.
    pub(super) fn watch(&mut self, dial: Dial) {
        let held = self.held.iter().filter(|data| event_class::kind(data).as_deref() == Some(rate_limits::EVENT));
        held.for_each(|data| dial.turn(data));
        self.dial = Some(dial);
    }

    /// Counts what is new in the events, beginning with those that are here already.
    pub(super) fn compare(&mut self, drift: &Arc<Drift>) {
        self.held.iter().for_each(|data| drift.look(data));
        self.drift = Some(Arc::clone(drift));
    }

    /// Records the events from here on.
    pub(super) fn record(&mut self, tape: Option<Tape>) {
        self.tape = tape;
    }

    /// When the first piece of content came from the backend, if one has.
    #[must_use]
    pub fn first_content(&self) -> Option<Instant> {
        self.first_content
    }

    fn unwrapped(&self, data: Bytes) -> Bytes {
        let Some(namespace) = &self.namespace else { return data };
        let plain = std::str::from_utf8(&data).ok().and_then(|data| namespace.strip_from(data));
        plain.map_or(data, Bytes::from)
    }

    /// Reads up to the commit point and holds the events back. An error means that nothing of an
    /// answer has come, so that another attempt can hide it.
    ///
    /// The response has to begin within the limit for the first event, and the commit point follows
    /// `after` that. The events that are held back are limited together like a single one.
    pub(super) async fn commit(&mut self, after: Duration) -> Result<(), ProxyError> {
        let (mut deadline, mut has_begun) = (None, false);
        let mut held_bytes = 0;
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
            held_bytes += data.len() + size_of::<Bytes>();
            if held_bytes > self.held_limit_bytes {
                return Err(ProxyError::EventTooLarge { limit_bytes: self.held_limit_bytes });
            }
            let sign = Sign::of(&data);
            if sign == Sign::Failed {
                let failure = failure::from_event(&String::from_utf8_lossy(&data));
                return Err(ProxyError::Upstream(Box::new(failure)));
            }
            self.held.push_back(data);
            match sign {
                Sign::Item if has_begun => return Ok(()),
                Sign::Delta | Sign::Done => return Ok(()),
                Sign::Begun | Sign::Item => {
                    has_begun |= sign == Sign::Begun;
                    deadline = deadline.or(Some(Instant::now() + after));
                }
                Sign::Failed | Sign::Nothing => {}
            }
        }
    }

    /// The next event from the connection; `None` after the terminal one.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ProxyError>>> {
        loop {
            let polled = match &mut self.source {
                None => return Poll::Ready(None),
                Some(Source::Http(lines)) => lines.poll_event(cx),
                Some(Source::Socket(exchange)) => exchange.poll_event(cx),
                Some(Source::Recorded(reel)) => reel.poll_event(cx),
            };
            let data = match polled {
                Poll::Ready(Ok(data)) => data,
                Poll::Ready(Err(error)) => return self.cut(error),
                Poll::Pending => {
                    let error = ready!(self.patience.poll_end(cx));
                    return self.cut(error);
                }
            };
            if !is_filler(&data) {
                let sign = Sign::of(&data);
                self.patience.renew(sign);
                self.take_note(&data, sign);
                return Poll::Ready(Some(Ok(data)));
            }
        }
    }

    /// Lets go of the connection with the terminal event; a WebSocket can serve the next request.
    fn take_note(&mut self, data: &Bytes, sign: Sign) {
        if let Some(tape) = &self.tape {
            tape.event(data);
            if sign.is_terminal() {
                tape.end(End::Whole);
            }
        }
        if let Some(Source::Socket(exchange)) = &mut self.source {
            exchange.note(data, &mut self.told);
        }
        if let Some(drift) = self.drift.as_ref().filter(|_| sign != Sign::Delta || self.first_content.is_none()) {
            drift.look(data);
        }
        match (sign, &self.dial) {
            (Sign::Delta, _) if self.first_content.is_none() => self.first_content = Some(Instant::now()),
            (Sign::Nothing, Some(dial)) if event_class::kind(data).as_deref() == Some(rate_limits::EVENT) => {
                dial.turn(data)
            }
            _ => {}
        }
        if !sign.is_terminal() {
            return;
        }
        if let Some(Source::Socket(exchange)) = self.source.take()
            && sign == Sign::Done
        {
            exchange.release();
        }
    }

    fn cut(&mut self, error: ProxyError) -> Poll<Option<Result<Bytes, ProxyError>>> {
        self.source = None;
        if let Some(tape) = &self.tape {
            tape.end(End::of(&error));
        }
        Poll::Ready(Some(Err(error)))
    }
}

impl Lines {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, ProxyError>> {
        loop {
            match self.splitter.next_event() {
                Ok(Some(data)) => return Poll::Ready(Ok(data)),
                Ok(None) => {}
                Err(_) => return Poll::Ready(Err(ProxyError::EventTooLarge { limit_bytes: self.event_limit_bytes })),
            }
            match ready!(self.body.as_mut().poll_next(cx)) {
                Some(Ok(bytes)) => self.splitter.push(&bytes),
                Some(Err(error)) => {
                    return Poll::Ready(Err(ProxyError::Truncated { cause: Some(error_chain(&error)) }));
                }
                None => return Poll::Ready(Err(ProxyError::Truncated { cause: None })),
            }
        }
    }
}

impl Stream for EventStream {
    type Item = Result<Bytes, ProxyError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let next = match this.held.pop_front() {
            Some(data) => Some(Ok(data)),
            None => ready!(this.poll_read(cx)),
        };
        Poll::Ready(next.map(|data| data.map(|data| this.unwrapped(data))))
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("EventStream");
        debug
            .field("held", &self.held.len())
            .field("is_open", &self.source.is_some())
            .field("ticket", &self.ticket)
            .finish_non_exhaustive()
    }
}

impl Patience {
    /// Starts the time anew. Events that say nothing of an answer don't count as its first event.
    fn renew(&mut self, sign: Sign) {
        if self.phase == Phase::FirstEvent && sign == Sign::Nothing {
            return;
        }
        self.since = Instant::now();
        self.phase = Phase::Streaming;
        self.limit = self.idle;
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<ProxyError> {
        let end = self.since + self.limit;
        loop {
            // A timer set for a longer limit must not outlast a shorter one.
            if self.timer.deadline() > end {
                self.timer.as_mut().reset(end);
            }
            ready!(self.timer.as_mut().poll(cx));
            if Instant::now() >= end {
                return Poll::Ready(ProxyError::Silent { phase: self.phase, limit: self.limit });
            }
            self.timer.as_mut().reset(end);
        }
    }
}

/// `[DONE]` and empty events say nothing here.
fn is_filler(data: &[u8]) -> bool {
    let data = data.trim_ascii();
    data.is_empty() || data == b"[DONE]"
}
