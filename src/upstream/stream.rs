//! The events of one answer, pulled from the connection as they are asked for.
//!
//! No task and no channel stands between: dropping the stream drops the connection or HTTP/2
//! stream behind it. Events that were held back until the commit point come first. The stream ends
//! after its terminal event without waiting for the connection's end; an end before that is an error.
//! Names that the lite form wraps are unwrapped here, on the way out.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use super::sign::Sign;
use crate::error::{Phase, ProxyError};
use crate::net::causes;
use crate::protocol::codex::failure;
use crate::protocol::codex::lite::Wrapping;
use crate::protocol::sse::Splitter;

type Body = Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>;

/// The `data` of each event of one answer, up to its end or a failure of the transport.
pub struct EventStream {
    held: VecDeque<Bytes>,
    /// `None` when nothing more comes.
    body: Option<Body>,
    splitter: Splitter,
    event_limit_bytes: usize,
    patience: Patience,
    /// What the names of the client's tools are wrapped into, where they are.
    wrapping: Option<Wrapping>,
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
    pub(super) fn new(response: reqwest::Response, limits: Limits, sent: Instant) -> Self {
        Self {
            held: VecDeque::new(),
            body: Some(Box::pin(response.bytes_stream())),
            splitter: Splitter::new(limits.event_bytes),
            event_limit_bytes: limits.event_bytes,
            patience: Patience {
                phase: Phase::FirstEvent,
                limit: limits.first_event,
                idle: limits.idle,
                since: sent,
                timer: Box::pin(sleep_until(sent + limits.first_event)),
            },
            wrapping: None,
        }
    }

    /// A stream that has arrived already.
    #[cfg(test)]
    pub(crate) fn of(events: &[&'static str]) -> Self {
        let (limit, since) = (Duration::MAX, Instant::now());
        let timer = Box::pin(sleep_until(since));
        Self {
            held: events.iter().map(|event| Bytes::from_static(event.as_bytes())).collect(),
            body: None,
            splitter: Splitter::new(0),
            event_limit_bytes: 0,
            patience: Patience { phase: Phase::Streaming, limit, idle: limit, since, timer },
            wrapping: None,
        }
    }

    /// Gives the events with names as the client knows them.
    pub(super) fn unwrap_names(&mut self, wrapping: Wrapping) {
        self.wrapping = Some(wrapping);
    }

    fn unwrapped(&self, data: Bytes) -> Bytes {
        let Some(wrapping) = &self.wrapping else { return data };
        let plain = std::str::from_utf8(&data).ok().and_then(|data| wrapping.taken_off(data));
        plain.map_or(data, Bytes::from)
    }

    /// Reads up to the commit point and holds the events back. An error means that nothing of an
    /// answer has come, so that another attempt can hide it.
    pub(super) async fn commit(&mut self, after: Duration) -> Result<(), ProxyError> {
        let mut deadline = None;
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
            let sign = Sign::of(&data);
            if sign == Sign::Failed {
                let failure = failure::from_event(&String::from_utf8_lossy(&data));
                return Err(ProxyError::Upstream(Box::new(failure)));
            }
            self.held.push_back(data);
            match sign {
                Sign::Begun => deadline = deadline.or(Some(Instant::now() + after)),
                Sign::Item if deadline.is_some() => return Ok(()),
                Sign::Delta | Sign::Done => return Ok(()),
                Sign::Item | Sign::Failed | Sign::Nothing => {}
            }
        }
    }

    /// The next event from the connection; `None` after the terminal one.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ProxyError>>> {
        loop {
            if self.body.is_none() {
                return Poll::Ready(None);
            }
            match self.splitter.next_event() {
                Ok(Some(data)) if is_filler(&data) => continue,
                Ok(Some(data)) => {
                    self.patience.renew();
                    if Sign::of(&data).is_terminal() {
                        self.body = None;
                    }
                    return Poll::Ready(Some(Ok(data)));
                }
                Ok(None) => {}
                Err(_) => return self.cut(ProxyError::EventTooLarge { limit_bytes: self.event_limit_bytes }),
            }
            if let Err(error) = ready!(self.poll_bytes(cx)) {
                return self.cut(error);
            }
        }
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProxyError>> {
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(())) };
        Poll::Ready(match body.as_mut().poll_next(cx) {
            Poll::Ready(Some(Ok(bytes))) => {
                self.splitter.push(&bytes);
                Ok(())
            }
            Poll::Ready(Some(Err(error))) => Err(ProxyError::Truncated { cause: Some(causes(&error)) }),
            Poll::Ready(None) => Err(ProxyError::Truncated { cause: None }),
            Poll::Pending => Err(ready!(self.patience.poll_end(cx))),
        })
    }

    fn cut(&mut self, error: ProxyError) -> Poll<Option<Result<Bytes, ProxyError>>> {
        self.body = None;
        Poll::Ready(Some(Err(error)))
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
        debug.field("held", &self.held.len()).field("is_open", &self.body.is_some()).finish_non_exhaustive()
    }
}

impl Patience {
    fn renew(&mut self) {
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
