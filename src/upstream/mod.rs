//! Client for the ChatGPT Codex backend: streaming requests, the model catalog, and the quota.
//!
//! Makes all retries. A request is attempted until a response is committed: its first output item, delta or terminal
//! event has arrived, or `commit_after` has passed since this attempt's `response.created`. Until then a failure is
//! hidden by another attempt or returned as an error with a status. After that it is an event of the stream, unless
//! the caller has sent nothing to its client and starts another attempt with [`Pending::retry`]. Dropping an
//! [`EventStream`], or the future that opens one, drops the connection or HTTP/2 stream behind it.

mod attempt;
mod body_format;
pub mod cassette;
mod catalogue;
mod client;
mod compression;
mod counters;
mod event_class;
mod headers;
mod pending;
mod quota;
mod region;
mod rejected_params;
mod request_token;
mod retry_policy;
mod settings;
mod stream;
mod unknown_events;
pub mod version;
mod websocket;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method};
use tokio::time::{sleep, timeout};

use crate::error::{Fault, ProxyError};
use crate::net::HttpClient;
use crate::protocol::codex;
use crate::protocol::models::Catalogue;
use crate::token_source::{Bearer, TokenSource};
use body_format::BodyForms;
use cassette::{Player, Recorder};
use catalogue::{CatalogueCache, CatalogueKey};
use client::HttpRequest;
use compression::Compressor;
use counters::Counters;
use headers::RequestHeaders;
use quota::QuotaTracker;
use region::{OnRefusedToken, RouteCache};
use rejected_params::RejectedParams;
use unknown_events::UnknownEvents;
use websocket::WebSockets;

pub use body_format::BodyForm;
pub use compression::Compression;
pub use counters::CounterValues;
pub use headers::{client_headers, codex_client_headers};
pub use pending::Pending;
pub use quota::account_check::AccountStatus;
pub use quota::snapshot::{Quota, QuotaPace, QuotaWindow};
pub use rejected_params::RejectedParam;
pub use request_token::RequestToken;
pub use settings::Settings;
pub use stream::EventStream;
pub use unknown_events::UnknownName;
pub use websocket::Transport;

/// How often the catalog is refreshed if no response reports a change.
const CATALOGUE_INTERVAL: Duration = Duration::from_secs(15 * 60);
const CATALOGUE_LIMIT: Duration = Duration::from_secs(30);
const CATALOGUE_LIMIT_BYTES: usize = 16 * 1024 * 1024;
/// First delay after a failed refresh. It doubles up to the interval.
const CATALOGUE_BACKOFF: Duration = Duration::from_secs(10);
/// How often to check whether the user has signed in.
const SIGN_IN_INTERVAL: Duration = Duration::from_secs(3);

/// Client for the backend, shared by all requests.
#[derive(Debug)]
pub struct Upstream {
    settings: Settings,
    version: String,
    http: HttpClient,
    tokens: Arc<dyn TokenSource>,
    routes: RouteCache,
    catalogue: CatalogueCache,
    websockets: WebSockets,
    rejected_params: RejectedParams,
    body_forms: BodyForms,
    compressor: Compressor,
    quota: Arc<QuotaTracker>,
    counters: Counters,
    unknown_events: Arc<UnknownEvents>,
    recorder: Option<Recorder>,
    /// Replaces the backend.
    player: Option<Player>,
}

/// Parts of a client request that are not in its body.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    /// The client's `originator` header, which replaces ours.
    pub originator: Option<String>,
    /// Headers of a Codex client. They replace ours, and the client gets all Codex headers of the response.
    pub forwarded: Option<HeaderMap>,
}

/// A committed response.
#[derive(Debug)]
pub struct BackendResponse {
    /// The events, starting with the first of the response.
    pub events: EventStream,
    /// Headers for the client, such as the quota headers (`x-codex-…`).
    pub headers: HeaderMap,
    /// The backend's request id, for the log.
    pub request_id: Option<String>,
    /// Values for `x-proxy-warnings`: what was changed in the request.
    pub warnings: Vec<String>,
}

impl Upstream {
    /// Returns a client without connecting it.
    #[must_use]
    pub fn new(settings: Settings, http: HttpClient, tokens: Arc<dyn TokenSource>) -> Self {
        let version = settings.client_version.clone().unwrap_or_else(|| version::NEWEST_KNOWN.to_owned());
        Self {
            version,
            tokens,
            routes: RouteCache::default(),
            catalogue: CatalogueCache::new(settings.catalogue_file.clone()),
            websockets: WebSockets::new(settings.transport),
            rejected_params: RejectedParams::default(),
            body_forms: BodyForms::new(settings.body),
            compressor: Compressor::new(settings.compression),
            quota: Arc::new(QuotaTracker::new(http.clock(), settings.quota_probe)),
            counters: Counters::default(),
            unknown_events: Arc::default(),
            recorder: None,
            player: None,
            settings,
            http,
        }
    }

    /// Records every request and response.
    #[must_use]
    pub fn recording(self, recorder: Recorder) -> Self {
        Self { recorder: Some(recorder), ..self }
    }

    /// Plays recorded responses instead of sending requests.
    #[must_use]
    pub fn playing(self, player: Player) -> Self {
        Self { player: Some(player), ..self }
    }

    /// Prepares a request. [`Pending::open`] sends it.
    ///
    /// # Errors
    /// If the quota is known to be exhausted.
    pub fn begin<'r>(
        &'r self,
        request: codex::Request<'r>,
        token: RequestToken,
        hints: Hints,
    ) -> Result<Pending<'r>, ProxyError> {
        if let Some(failure) = self.quota.exhausted(&token.bearer().account.id, &request.model) {
            self.counters.quota_answers.fetch_add(1, Ordering::Relaxed);
            return Err(ProxyError::Upstream(Box::new(failure)));
        }
        Ok(Pending::new(self, request, token, hints))
    }

    /// The current counters.
    #[must_use]
    pub fn counters(&self) -> CounterValues {
        self.counters.read(self.http.connections_opened())
    }

    /// Names in the backend's events that this release doesn't know, since the process started.
    #[must_use]
    pub fn unknown_names(&self) -> Vec<UnknownName> {
        self.unknown_events.read()
    }

    /// The members that requests leave out because the backend rejected them within the last hour.
    #[must_use]
    pub fn rejected_params(&self) -> Vec<RejectedParam> {
        self.rejected_params.read()
    }

    /// The latest catalog: from the backend, else from the file, else the embedded one. Sends no request.
    #[must_use]
    pub fn catalogue(&self) -> Arc<Catalogue> {
        self.catalogue.catalogue()
    }

    /// The catalog's JSON as the backend sent it, for Codex clients. The embedded one has no prompts.
    #[must_use]
    pub fn catalogue_json(&self) -> Bytes {
        self.catalogue.json()
    }

    /// When the backend sent the catalog. `None` for the embedded one.
    #[must_use]
    pub fn catalogue_fetched_at(&self) -> Option<SystemTime> {
        self.catalogue.fetched_at()
    }

    /// Loads the catalog file, unless it belongs to another account than the active one.
    pub async fn load_catalogue(&self, account_id: Option<&str>) {
        self.catalogue.load(&self.version).await;
        if let Some(account_id) = account_id {
            self.catalogue.discard_others(&CatalogueKey::new(&self.version, account_id));
        }
    }

    /// Requests the catalog from the backend.
    ///
    /// # Errors
    /// If no token is available, or the backend doesn't send a list of models. The previous catalog stays.
    pub async fn refresh_catalogue(&self) -> Result<(), ProxyError> {
        let bearer = self.tokens.bearer().await.map_err(ProxyError::Auth)?;
        match self.fetch_catalogue(&bearer).await {
            Err(ProxyError::Upstream(failure)) if failure.fault == Fault::Unauthorized => {
                let bearer = self.tokens.recover(&bearer).await.map_err(ProxyError::Auth)?;
                self.fetch_catalogue(&bearer).await
            }
            fetched => fetched,
        }
    }

    async fn fetch_catalogue(&self, bearer: &Bearer) -> Result<(), ProxyError> {
        let key = CatalogueKey::new(&self.version, &bearer.account.id);
        self.catalogue.discard_others(&key);
        let query =
            url::form_urlencoded::Serializer::new(String::new()).append_pair("client_version", &self.version).finish();
        let request = HttpRequest {
            method: Method::GET,
            endpoint: &self.settings.url,
            path: &format!("/models?{query}"),
            headers: self.request_headers(bearer).models()?,
            body: Bytes::new(),
            limit: CATALOGUE_LIMIT.min(self.settings.first_event_timeout),
        };
        let (headers, json) = client::fetch(&self.http, request, CATALOGUE_LIMIT_BYTES).await?;
        let etag = headers::text(&headers, "x-models-etag").or_else(|| headers::text(&headers, "etag"));
        if self.catalogue.replace(json, key, etag).await {
            return Ok(());
        }
        Err(ProxyError::Damaged { reason: "the model catalog lists no models".to_owned() })
    }

    /// Refreshes the catalog until dropped. Also opens the first connection, which the first request then reuses.
    pub async fn keep_catalogue(&self) {
        if self.player.is_some() {
            // Cassettes have no catalog.
            return std::future::pending().await;
        }
        self.catalogue.load(&self.version).await;
        let mut backoff = CATALOGUE_BACKOFF;
        loop {
            match self.refresh_catalogue().await {
                Ok(()) => {
                    backoff = CATALOGUE_BACKOFF;
                    self.prepare().await;
                    // Refresh after the interval, or when a response reports a change.
                    let _ = timeout(CATALOGUE_INTERVAL, self.catalogue.outdated()).await;
                }
                Err(ProxyError::Auth(error)) => {
                    tracing::debug!(%error, "the model catalog is not refreshed until the user signs in");
                    self.wait_for_sign_in(&mut backoff).await;
                }
                Err(error) => {
                    let cause = error.loggable();
                    tracing::warn!(cause, "the model catalog could not be refreshed");
                    sleep(backoff).await;
                    backoff = (backoff * 2).min(CATALOGUE_INTERVAL);
                }
            }
        }
    }

    /// Pings idle WebSocket connections, and closes those that are dead or too old. Runs until dropped.
    pub async fn keep_connections(&self) {
        self.websockets.keep().await;
    }

    /// Requests the route and the quota, so that client requests don't wait for them. Failures are ignored: the next
    /// client request tries again.
    async fn prepare(&self) {
        if let Ok(bearer) = self.tokens.bearer().await {
            let headers = self.request_headers(&bearer);
            let _ = self.routes.route(&self.http, &headers, OnRefusedToken::Report).await;
            self.refresh(&bearer).await;
        }
    }

    async fn wait_for_sign_in(&self, backoff: &mut Duration) {
        if self.tokens.check().await.is_ok() {
            // Signed in, but the issuer doesn't refresh the token.
            sleep(*backoff).await;
            *backoff = (*backoff * 2).min(CATALOGUE_INTERVAL);
            return;
        }
        while self.tokens.check().await.is_err() {
            sleep(SIGN_IN_INTERVAL).await;
        }
    }

    fn request_headers<'h>(&'h self, bearer: &'h Bearer) -> RequestHeaders<'h> {
        RequestHeaders { settings: &self.settings, version: &self.version, bearer }
    }
}
