//! The ChatGPT Codex backend: one streaming call for each client request, and the model catalogue.
//!
//! Owns every second try. A request is opened in attempts until its answer is committed to: the
//! first output item, delta or terminal event, or `commit_after` past this attempt's
//! `response.created`. Up to there a failure is hidden by another attempt, or comes back as an
//! error with a status; after it, it is an event of the stream. Dropping an [`EventStream`] drops
//! the connection or HTTP/2 stream behind it.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use http::HeaderMap;

use crate::bearer::TokenSource;
use crate::error::ProxyError;
use crate::net::{Endpoint, HttpClient};
use crate::protocol::codex;
use crate::protocol::model::Catalogue;

/// How the backend is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Base of the model endpoints (`upstream.url`).
    pub url: Endpoint,
    /// Value of the `version` header and of `client_version` (`upstream.client_version`); `None`: `auto`.
    pub client_version: Option<String>,
    /// Header `originator`; empty: not sent (`upstream.originator`).
    pub originator: String,
    /// Header `user-agent`, suffix included.
    pub user_agent: String,
    /// Limit for the first event of an attempt (`upstream.first_event_timeout`).
    pub first_event_timeout: Duration,
    /// Limit between two events (`upstream.idle_timeout`).
    pub idle_timeout: Duration,
    /// Further attempts after the first (`upstream.max_retries`).
    pub max_retries: u32,
    /// Waiting that retries may add to one request (`upstream.retry_budget`).
    pub retry_budget: Duration,
    /// Silence after `response.created` that commits an answer (`timing.commit_after`).
    pub commit_after: Duration,
    /// Largest event (`limits.event`).
    pub event_limit_bytes: usize,
    /// Where the catalogue is kept between runs; `None`: nowhere.
    pub catalogue_file: Option<PathBuf>,
}

/// The backend, as one pooled client. Shared by all requests.
#[derive(Debug)]
pub struct Upstream {}

/// What a client request says about the call beside its body.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    /// The client's own `originator` header, which wins over ours.
    pub originator: Option<String>,
}

/// An answer that is committed to.
#[derive(Debug)]
pub struct Answer {
    /// The events, those held back until the commit point first.
    pub events: EventStream,
    /// Headers to pass on: the quota headers (`x-codex-…`) and their like.
    pub headers: HeaderMap,
    /// The backend's request id, for the log.
    pub request_id: Option<String>,
    /// Tokens for `x-proxy-warnings` that the attempts brought about.
    pub warnings: Vec<String>,
}

/// The `data` of each event of one answer, up to its end or a failure of the transport.
#[derive(Debug)]
pub struct EventStream {}

impl Stream for EventStream {
    type Item = Result<Bytes, ProxyError>;

    fn poll_next(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(None)
    }
}

impl Upstream {
    /// A client for the backend; connects to nothing yet.
    #[must_use]
    pub fn new(_settings: Settings, _http: HttpClient, _tokens: Arc<dyn TokenSource>) -> Self {
        Self {}
    }

    /// Opens an answer: attempts until one is committed to, or none is worth another try.
    ///
    /// # Errors
    /// When no token can be had, or the last attempt failed.
    pub async fn open(&self, _request: codex::Request<'_>, _hints: &Hints) -> Result<Answer, ProxyError> {
        Err(ProxyError::Internal)
    }

    /// The catalogue as last heard: live, else from the file, else the embedded one. Never waits for the network.
    #[must_use]
    pub fn catalogue(&self) -> Arc<Catalogue> {
        Arc::default()
    }

    /// The catalogue's JSON as the backend sent it, for clients that speak the Codex form; without prompts where embedded.
    #[must_use]
    pub fn catalogue_json(&self) -> Bytes {
        Bytes::new()
    }

    /// Keeps the catalogue fresh; runs until dropped. Also opens a first connection, so that the first request finds it warm.
    pub async fn keep_catalogue(&self) {}
}
