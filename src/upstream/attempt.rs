//! One attempt at a request, over the current transport, up to the commit point.
//!
//! The result doesn't depend on the transport: events, headers for the client, and request id. Callers decide about
//! further attempts.

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_ENCODING, HeaderMap, HeaderValue};
use tokio::time::{Instant, timeout};

use super::cassette::{End, Playback, Recording};
use super::client::{self, HttpRequest};
use super::counters::OpenResponse;
use super::headers::{client_headers, codex_client_headers, record_failed_id, request_id};
use super::region::OnRefusedToken;
use super::stream::Limits;
use super::websocket::{EncodedRequest, OpenError, OpenedStream};
use super::{BackendResponse, EventStream, Hints, Upstream};
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
    ) -> Result<BackendResponse, ProxyError> {
        let request_headers = self.request_headers(bearer);
        let route = self.routes.route(&self.http, &request_headers, on_refused).await?;
        let headers = request_headers.responses(request, omitted, hints, route.region)?;
        let body = off_thread(request.written_bytes(), || request.encode(omitted));
        let open = self.counters.begin();
        let recording = self.recorder.as_ref().map(|recorder| recorder.start_recording(&headers, &body));
        let opened = match &self.player {
            Some(player) => self.play(off_thread(body.len(), || player.playback(&body))?, hints).await,
            None => self.send(&route.endpoint, headers, body, recording.as_ref(), hints).await,
        };
        match opened {
            Ok(OpenedStream { events, headers }) => {
                self.quota.record_success(&bearer.account.id, &request.model, &headers);
                Ok(self.response(events, &headers, hints, bearer, open))
            }
            Err(error) => {
                if let Some(recording) = recording {
                    recording.end(End::of(&error));
                }
                Err(error)
            }
        }
    }

    /// Sends a request over the current transport.
    async fn send(
        &self,
        endpoint: &Endpoint,
        headers: HeaderMap,
        body: Bytes,
        recording: Option<&Recording>,
        hints: &Hints,
    ) -> Result<OpenedStream, ProxyError> {
        if self.websockets.is_preferred() {
            let request = EncodedRequest { endpoint, headers: &headers, body: &body, recording };
            match self.websockets.open(&self.http, &request, self.limits(), self.settings.commit_after).await {
                Ok(opened) => return Ok(opened),
                Err(OpenError::Failed(attempt)) => {
                    return Err(self.with_response_headers(attempt.error, &attempt.headers, hints));
                }
                Err(OpenError::FallBack) => {}
            }
        }
        let limit = self.settings.first_event_timeout;
        let request = HttpRequest { method: Method::POST, endpoint, path: "/responses", headers, body, limit };
        let sent = Instant::now();
        let response = self.post(request, recording).await?;
        let received = response.headers().clone();
        let mut events = EventStream::new(response, self.limits(), sent);
        events.record(recording.cloned());
        self.committed(events, received, hints).await
    }

    /// Posts a request, compressed if that is worthwhile and the backend accepts it.
    async fn post(
        &self,
        plain: HttpRequest<'_>,
        recording: Option<&Recording>,
    ) -> Result<reqwest::Response, ProxyError> {
        let Some(body) = self.compressor.compress(plain.endpoint, &plain.body).await else {
            return client::open_stream(&self.http, plain, recording).await;
        };
        let mut compressed = HttpRequest { body, ..plain.clone() };
        compressed.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("zstd"));
        match client::open_stream(&self.http, compressed, recording).await {
            Err(error) if self.compressor.was_rejected(&error) => {
                client::open_stream(&self.http, plain, recording).await
            }
            sent => sent,
        }
    }

    /// Plays a recorded response with its original timing. The backend's timeouts apply.
    async fn play(&self, playback: Playback, hints: &Hints) -> Result<OpenedStream, ProxyError> {
        let (sent, limit) = (Instant::now(), self.settings.first_event_timeout);
        let head = timeout(limit, playback.head()).await.unwrap_or(Err(End::Silent));
        let (status, received, body) = head.map_err(|end| match end {
            End::Unreachable => ProxyError::Unreachable { cause: "recorded in the cassette".to_owned() },
            End::Silent => ProxyError::Silent { phase: Phase::FirstEvent, limit },
            _ => ProxyError::Truncated { cause: None },
        })?;
        if let Some(body) = body {
            return Err(client::classify(status, &received, &body));
        }
        self.committed(EventStream::recorded(playback, self.limits(), sent), received, hints).await
    }

    async fn committed(
        &self,
        mut events: EventStream,
        headers: HeaderMap,
        hints: &Hints,
    ) -> Result<OpenedStream, ProxyError> {
        match events.commit(self.settings.commit_after).await {
            Ok(()) => Ok(OpenedStream { events, headers }),
            Err(error) => Err(self.with_response_headers(error, &headers, hints)),
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            first_event: self.settings.first_event_timeout,
            idle: self.settings.idle_timeout,
            event_bytes: self.settings.event_limit_bytes,
        }
    }

    fn response(
        &self,
        mut events: EventStream,
        received: &HeaderMap,
        hints: &Hints,
        bearer: &Bearer,
        open: OpenResponse,
    ) -> BackendResponse {
        events.set_open_guard(open);
        events.count_unknown(&self.unknown_events);
        events.observe_quota(self.quota.observer(&bearer.account.id));
        self.catalogue.check_etag(received);
        BackendResponse {
            events,
            headers: headers_for_client(received, hints),
            request_id: request_id(received).map(str::to_owned),
            warnings: Vec::new(),
        }
    }

    /// Adds the request id and the client's headers of the response to a failure event in its stream.
    fn with_response_headers(&self, mut error: ProxyError, received: &HeaderMap, hints: &Hints) -> ProxyError {
        self.catalogue.check_etag(received);
        let id = request_id(received);
        record_failed_id(id);
        if let ProxyError::Upstream(failure) = &mut error {
            failure.request_id = failure.request_id.take().or_else(|| id.map(str::to_owned));
            failure.headers.extend(headers_for_client(received, hints));
        }
        error
    }
}

fn headers_for_client(received: &HeaderMap, hints: &Hints) -> HeaderMap {
    if hints.forwarded.is_some() { codex_client_headers(received) } else { client_headers(received) }
}
