//! One attempt at an answer, by the transport of the moment, up to the commit point.
//!
//! Whatever the transport, what comes out is the same: the events, the headers that the client may
//! see, the request id. Whether a failure is worth another attempt is not decided here.

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_ENCODING, HeaderMap, HeaderValue};
use tokio::time::{Instant, timeout};

use super::cassette::{End, Reel, Tape};
use super::client::{self, Call};
use super::counters::Ticket;
use super::headers::{note_failed, passed_on, passed_to_codex, request_id};
use super::region::OnRefusedToken;
use super::stream::Limits;
use super::websocket::{Opened, Posting, Trouble};
use super::{Answer, EventStream, Hints, Upstream};
use crate::blocking::off_thread;
use crate::endpoint::Endpoint;
use crate::error::{Phase, ProxyError};
use crate::protocol::codex;
use crate::protocol::codex::request::Omissions;
use crate::token_source::Bearer;

impl Upstream {
    pub(super) async fn attempt(
        &self,
        request: &codex::Request<'_>,
        omitted: &Omissions,
        hints: &Hints,
        bearer: &Bearer,
        on_refused: OnRefusedToken,
    ) -> Result<Answer, ProxyError> {
        let caller = self.caller(bearer);
        let route = self.routing.find(&self.http, &caller, on_refused).await?;
        let (headers, body) = (caller.responses(request, omitted, hints, route.region)?, encoded(request, omitted));
        let ticket = self.counters.begin();
        let tape = self.recorder.as_ref().map(|recorder| recorder.tape(&headers, &body));
        let opened = match &self.player {
            Some(player) => self.play(off_thread(body.len(), || player.reel(&body))?, hints).await,
            None => self.send(&route.endpoint, headers, body, tape.as_ref(), hints).await,
        };
        match opened {
            Ok(Opened { events, headers }) => Ok(self.answer(events, &headers, hints, bearer, ticket)),
            Err(error) => {
                if let Some(tape) = tape {
                    tape.end(End::of(&error));
                }
                Err(error)
            }
        }
    }

    /// Sends a request by the transport of the moment.
    async fn send(
        &self,
        endpoint: &Endpoint,
        headers: HeaderMap,
        body: Bytes,
        tape: Option<&Tape>,
        hints: &Hints,
    ) -> Result<Opened, ProxyError> {
        if self.sockets.are_wanted() {
            let posting = Posting { endpoint, headers: &headers, body: &body, tape };
            match self.sockets.open(&self.http, &posting, self.limits(), self.settings.commit_after).await {
                Ok(opened) => return Ok(opened),
                Err(Trouble::Failed(failure)) => return Err(self.identified(failure.error, &failure.headers, hints)),
                Err(Trouble::Avoided) => {}
            }
        }
        let limit = self.settings.first_event_timeout;
        let call = Call { method: Method::POST, endpoint, path: "/responses", headers, body, limit };
        let sent = Instant::now();
        let response = self.post(call, tape).await?;
        let received = response.headers().clone();
        let mut events = EventStream::new(response, self.limits(), sent);
        events.record(tape.cloned());
        self.committed(events, received, hints).await
    }

    /// Posts a request, packed where that is wanted and taken.
    async fn post(&self, plain: Call<'_>, tape: Option<&Tape>) -> Result<reqwest::Response, ProxyError> {
        let Some(body) = self.packing.pack(plain.endpoint, &plain.body).await else {
            return client::open_stream(&self.http, plain, tape).await;
        };
        let mut packed = Call { body, ..plain.clone() };
        packed.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("zstd"));
        match client::open_stream(&self.http, packed, tape).await {
            Err(error) if self.packing.was_refused(&error) => client::open_stream(&self.http, plain, tape).await,
            sent => sent,
        }
    }

    /// Plays what was recorded, as it came then, within the limits that hold for the backend.
    async fn play(&self, reel: Reel, hints: &Hints) -> Result<Opened, ProxyError> {
        let (sent, limit) = (Instant::now(), self.settings.first_event_timeout);
        let head = timeout(limit, reel.head()).await.unwrap_or(Err(End::Silent));
        let (status, received, body) = head.map_err(|end| match end {
            End::Unreachable => ProxyError::Unreachable { cause: "as it was recorded".to_owned() },
            End::Silent => ProxyError::Silent { phase: Phase::FirstEvent, limit },
            _ => ProxyError::Truncated { cause: None },
        })?;
        if let Some(body) = body {
            return Err(client::refused(status, &received, &body));
        }
        self.committed(EventStream::recorded(reel, self.limits(), sent), received, hints).await
    }

    async fn committed(
        &self,
        mut events: EventStream,
        headers: HeaderMap,
        hints: &Hints,
    ) -> Result<Opened, ProxyError> {
        match events.commit(self.settings.commit_after).await {
            Ok(()) => Ok(Opened { events, headers }),
            Err(error) => Err(self.identified(error, &headers, hints)),
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            first_event: self.settings.first_event_timeout,
            idle: self.settings.idle_timeout,
            event_bytes: self.settings.event_limit_bytes,
        }
    }

    /// An answer that is committed to, with what the backend has said in headers.
    fn answer(
        &self,
        mut events: EventStream,
        received: &HeaderMap,
        hints: &Hints,
        bearer: &Bearer,
        ticket: Ticket,
    ) -> Answer {
        events.keep(ticket);
        self.gauges.heard(&bearer.account.id, received);
        events.compare(&self.drift);
        events.watch(self.gauges.dial(&bearer.account.id));
        self.shelf.notice(received);
        Answer {
            events,
            headers: shown(received, hints),
            request_id: request_id(received).map(str::to_owned),
            warnings: Vec::new(),
        }
    }

    /// A failure inside a stream has no headers of its own: it gets the request id of its answer, and
    /// the headers that the answer would have passed on.
    fn identified(&self, mut error: ProxyError, received: &HeaderMap, hints: &Hints) -> ProxyError {
        self.shelf.notice(received);
        let id = request_id(received);
        note_failed(id);
        if let ProxyError::Upstream(failure) = &mut error {
            failure.request_id = failure.request_id.take().or_else(|| id.map(str::to_owned));
            failure.headers.extend(shown(received, hints));
        }
        error
    }
}

fn encoded(request: &codex::Request<'_>, omitted: &Omissions) -> Bytes {
    off_thread(request.written_bytes(), || request.encode(omitted))
}

/// The headers of an answer that the client may see.
fn shown(received: &HeaderMap, hints: &Hints) -> HeaderMap {
    if hints.forwarded.is_some() { passed_to_codex(received) } else { passed_on(received) }
}
