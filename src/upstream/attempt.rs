//! One attempt at a `/responses` request: HTTP, WebSocket or a recorded response, up to the commit point.
//!
//! The result has the same form for all of them: events, headers for the client, and request id. An attempt can send
//! the request again if that is safe (rejected compression, stale connection, WebSocket refused); all other retries are
//! decided in `pending`.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_ENCODING, HeaderMap, HeaderValue};
use tokio::time::{Instant, timeout};

use super::cassette::{Outcome, Playback, RecordedEndpoint, Recorder, Recording};
use super::client::{self, HttpRequest};
use super::counters::OpenResponse;
use super::headers::{client_headers, codex_client_headers, record_failed_id, request_id};
use super::outgoing::OutgoingRequest;
use super::region::OnRefusedToken;
use super::response_body::ResponseBody;
use super::stream::Limits;
use super::websocket::{EncodedRequest, OpenError, OpenedStream};
use super::{EventStream, ForwardedHeaders, Upstream};
use crate::blocking::off_thread;
use crate::endpoint::Endpoint;
use crate::error::{Phase, ProxyError};
use crate::token_source::{Bearer, CredentialSource};

/// A committed response to one attempt.
#[derive(Debug)]
pub(super) struct AttemptResponse {
    pub(super) events: EventStream,
    /// Headers for the client.
    pub(super) headers: HeaderMap,
    /// The backend's request id.
    pub(super) request_id: Option<String>,
}

impl Upstream {
    /// Makes one attempt, and reads its response up to the commit point.
    pub(super) async fn attempt(
        &self,
        request: &OutgoingRequest,
        forwarded: &ForwardedHeaders,
        bearer: &Bearer,
        on_refused: OnRefusedToken,
    ) -> Result<AttemptResponse, ProxyError> {
        let request_headers = self.request_headers(bearer);
        let origin = self.origins.origin(&self.http, &request_headers, on_refused).await?;
        let headers = request_headers.responses(request, forwarded, origin.region)?;
        let body = request.body.clone();
        let open = self.counters.begin();
        let recorded = RecordedEndpoint::responses();
        let start = |recorder: &Recorder| recorder.start_recording(recorded.clone(), &headers, &body);
        let recording = self.recorder.as_ref().map(start);
        let opened = match &self.player {
            Some(player) => {
                let playback = off_thread(body.len(), || player.playback(recorded, &headers, &body))?;
                self.play(playback, forwarded).await
            }
            None => self.send(&origin.endpoint, headers, body, recording.as_ref(), forwarded).await,
        };
        match opened {
            Ok(OpenedStream { events, headers }) => {
                self.quota.record_success(&bearer.account.id, &request.model, &headers);
                Ok(self.response(events, &headers, forwarded, bearer, open))
            }
            Err(error) => {
                if let Some(recording) = recording {
                    recording.end(Outcome::of(&error));
                }
                Err(error)
            }
        }
    }

    /// Sends a request over a WebSocket if that is preferred and possible, else over HTTP.
    async fn send(
        &self,
        endpoint: &Endpoint,
        headers: HeaderMap,
        body: Bytes,
        recording: Option<&Recording>,
        forwarded: &ForwardedHeaders,
    ) -> Result<OpenedStream, ProxyError> {
        if self.websockets.is_preferred() {
            let request = EncodedRequest { endpoint, headers: &headers, body: &body, recording };
            match self.websockets.open(&self.http, &request, self.limits(), self.settings.commit_after).await {
                Ok(opened) => return Ok(opened),
                Err(OpenError::Failed(attempt)) => {
                    return Err(self.with_response_headers(attempt.error, &attempt.headers, forwarded));
                }
                Err(OpenError::FallBack) => {}
            }
        }
        let request = HttpRequest {
            method: Method::POST,
            endpoint,
            path: "/responses",
            headers,
            accept_encoding: self.settings.accept_encoding,
            body,
            limit: self.settings.first_event_timeout,
        };
        let sent = Instant::now();
        let (received, body) = self.post(request, recording).await?;
        let mut events = EventStream::new(body, self.limits(), sent);
        events.record(recording.cloned());
        self.committed(events, received, forwarded).await
    }

    /// Posts a request, compressed if [`super::compression`] says so. If the backend rejects the compression, posts it
    /// once more uncompressed.
    async fn post(
        &self,
        plain: HttpRequest<'_>,
        recording: Option<&Recording>,
    ) -> Result<(HeaderMap, ResponseBody), ProxyError> {
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

    /// Plays a recorded response with its original timing. The timeouts of the settings apply to it too.
    async fn play(&self, playback: Playback, forwarded: &ForwardedHeaders) -> Result<OpenedStream, ProxyError> {
        let sent = Instant::now();
        let (status, received, body) =
            played_head(&playback, Phase::FirstEvent, self.settings.first_event_timeout).await?;
        if let Some(body) = body {
            return Err(client::classify(status, &received, &body));
        }
        self.committed(EventStream::recorded(playback, self.limits(), sent), received, forwarded).await
    }

    /// Reads the events up to the commit point.
    async fn committed(
        &self,
        mut events: EventStream,
        headers: HeaderMap,
        forwarded: &ForwardedHeaders,
    ) -> Result<OpenedStream, ProxyError> {
        match events.commit(self.settings.commit_after).await {
            Ok(()) => Ok(OpenedStream { events, headers }),
            Err(error) => Err(self.with_response_headers(error, &headers, forwarded)),
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            first_event: self.settings.first_event_timeout,
            idle: self.settings.idle_timeout,
            event_bytes: self.settings.event_limit_bytes,
        }
    }

    /// Attaches the observers to a committed stream.
    fn response(
        &self,
        mut events: EventStream,
        received: &HeaderMap,
        forwarded: &ForwardedHeaders,
        bearer: &Bearer,
        open: OpenResponse,
    ) -> AttemptResponse {
        events.set_open_guard(open);
        events.count_unknown(&self.unknown_events);
        events.observe_quota(self.quota.observer(&bearer.account.id));
        self.check_etag(received, &bearer.account.id);
        AttemptResponse {
            events,
            headers: headers_for_client(received, forwarded),
            request_id: request_id(received).map(str::to_owned),
        }
    }

    fn check_etag(&self, received: &HeaderMap, account_id: &str) {
        match self.tokens.credentials() {
            CredentialSource::Store => self.catalogue.check_etag(received),
            CredentialSource::Client => self.check_client_etag(account_id, received),
        }
    }

    /// Adds the response's request id and its headers for the client to an error that has none: one from an event.
    fn with_response_headers(
        &self,
        mut error: ProxyError,
        received: &HeaderMap,
        forwarded: &ForwardedHeaders,
    ) -> ProxyError {
        self.catalogue.check_etag(received);
        let id = request_id(received);
        record_failed_id(id);
        if let ProxyError::Upstream(failure) = &mut error {
            failure.request_id = failure.request_id.take().or_else(|| id.map(str::to_owned));
            failure.headers.extend(headers_for_client(received, forwarded));
        }
        error
    }
}

/// Returns the head of a recorded response when it is due: status, headers, and body if it isn't an event stream.
pub(super) async fn played_head(
    playback: &Playback,
    phase: Phase,
    limit: Duration,
) -> Result<(u16, HeaderMap, Option<Bytes>), ProxyError> {
    let head = timeout(limit, playback.head()).await.unwrap_or(Err(Outcome::Silent));
    head.map_err(|end| match end {
        Outcome::Unreachable => ProxyError::Unreachable { cause: "recorded in the cassette".to_owned() },
        Outcome::Silent => ProxyError::Silent { phase, limit },
        _ => ProxyError::Truncated { cause: None },
    })
}

/// Returns the response headers that this client gets.
pub(super) fn headers_for_client(received: &HeaderMap, forwarded: &ForwardedHeaders) -> HeaderMap {
    if forwarded.codex.is_some() { codex_client_headers(received) } else { client_headers(received) }
}
