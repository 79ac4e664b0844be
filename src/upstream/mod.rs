//! Client for the ChatGPT Codex backend: streaming requests, the model catalog, and the quota.
//!
//! Makes the counted retries. `net` and `websocket` send a request again if its connection was stale, and `attempt`
//! without compression or over server-sent events; those aren't counted. Attempts are repeated until a response is
//! *committed*: output or its successful end has arrived, or `commit_after` has passed since its first event. An
//! earlier failure leads to another attempt, or is returned as an error with a status. A later one is passed on in the
//! stream; a caller that has sent nothing to its client yet can call [`Pending::retry`] instead, and open another
//! response. Tools that the proxy runs for the model are run by `tool_rounds`, which also requests the rest of the
//! response. Dropping a [`ReplyEvents`], or the future that opens one, drops the connection or HTTP/2 stream.

mod attempt;
mod body_format;
pub mod cassette;
mod catalogue;
mod client;
mod client_catalogues;
mod compression;
mod counters;
mod event_class;
mod headers;
mod outgoing;
mod pending;
mod quota;
mod region;
mod rejected_params;
mod reply_events;
mod request_token;
mod response_body;
mod retry_policy;
mod settings;
mod side_call;
mod stream;
mod tool_rounds;
mod unknown_events;
pub mod version;
mod websocket;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method};
use tokio::time::{sleep, timeout};

use crate::budget::ByteBudget;
use crate::error::{ProxyError, UpstreamFailure};
use crate::net::HttpClient;
use crate::protocol::codex;
use crate::protocol::models::Catalogue;
use crate::token_source::{Bearer, CredentialSource, TokenSource};
use body_format::BodyForms;
use cassette::{Player, Recorder};
use catalogue::{CatalogueCache, CatalogueKey};
use client::HttpRequest;
use client_catalogues::ClientCatalogues;
use compression::Compressor;
use counters::Counters;
use headers::RequestHeaders;
use quota::QuotaTracker;
use region::{OnRefusedToken, OriginCache};
use rejected_params::RejectedParams;
use stream::EventStream;
use unknown_events::UnknownEvents;
use websocket::WebSockets;

pub use body_format::BodyForm;
pub use catalogue::CatalogueDocument;
pub use compression::Compression;
pub use counters::CounterValues;
pub use headers::{client_headers, codex_client_headers};
pub use pending::Pending;
pub use quota::account_check::AccountStatus;
pub use quota::snapshot::{Quota, QuotaPace, QuotaWindow};
pub use region::UNBOUND_ORIGIN;
pub use rejected_params::RejectedParam;
pub use reply_events::ReplyEvents;
pub use request_token::RequestToken;
pub use response_body::AcceptEncoding;
pub use settings::Settings;
pub use side_call::{CallQuota, SideCall, SideResponse, SideTarget};
pub use stream::ControlError;
pub use unknown_events::UnknownName;
pub use websocket::Transport;

/// How often the catalog is refreshed if no response reports a change.
const CATALOGUE_INTERVAL: Duration = Duration::from_secs(15 * 60);
/// Time limit for the whole response; `first_event_timeout` applies if it is shorter.
const CATALOGUE_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_CATALOGUE_BYTES: usize = 16 * 1024 * 1024;
/// Delay after a failed refresh. It doubles with each further failure, up to the interval.
const CATALOGUE_BACKOFF: Duration = Duration::from_secs(10);
/// How often to check whether the user has signed in, while signed out.
const SIGN_IN_INTERVAL: Duration = Duration::from_secs(3);

/// Client for the backend, shared by all requests.
#[derive(Debug)]
pub struct Upstream {
    settings: Settings,
    version: String,
    http: HttpClient,
    tokens: Arc<dyn TokenSource>,
    /// The origin that each account's requests are sent to.
    origins: OriginCache,
    catalogue: CatalogueCache,
    client_catalogues: ClientCatalogues,
    websockets: WebSockets,
    rejected_params: RejectedParams,
    body_forms: BodyForms,
    compressor: Compressor,
    quota: Arc<QuotaTracker>,
    counters: Counters,
    memory: Arc<ByteBudget>,
    unknown_events: Arc<UnknownEvents>,
    /// Set with `--record`.
    recorder: Option<Recorder>,
    /// Set with `--replay`: supplies the responses instead of the backend.
    player: Option<Player>,
}

/// Headers of the client's request that are passed on to the backend.
#[derive(Clone, Debug, Default)]
pub struct ForwardedHeaders {
    /// The `originator` header, which replaces the one in the settings.
    pub originator: Option<String>,
    /// Set if the client is a Codex client: its headers, which replace those of this proxy. Such a client also gets all
    /// Codex headers of the response (see [`codex_client_headers`]).
    pub codex: Option<HeaderMap>,
    /// Headers that describe the request itself, such as the `content-type` of a [`SideCall`].
    pub request: HeaderMap,
}

/// A committed response, whose events follow.
#[derive(Debug)]
pub struct BackendResponse {
    /// The events, starting with the first of the response.
    pub events: ReplyEvents,
    /// Headers for the client, such as the quota headers (`x-codex-…`).
    pub headers: HeaderMap,
    /// The backend's request id, for the log.
    pub request_id: Option<String>,
    /// Values for `x-proxy-warnings`: how the request that the backend accepted differs from the client's.
    pub warnings: Vec<String>,
}

impl Upstream {
    /// Returns a client. Opens no connection and loads no catalog file yet.
    #[must_use]
    pub fn new(settings: Settings, http: HttpClient, tokens: Arc<dyn TokenSource>) -> Self {
        let version = settings.client_version.clone().unwrap_or_else(|| version::NEWEST_KNOWN.to_owned());
        Self {
            version,
            origins: OriginCache::new(tokens.credentials()),
            tokens,
            catalogue: CatalogueCache::new(settings.catalogue_file.clone()),
            client_catalogues: ClientCatalogues::default(),
            websockets: WebSockets::new(settings.transport),
            rejected_params: RejectedParams::default(),
            body_forms: BodyForms::new(settings.body),
            compressor: Compressor::new(settings.compression),
            quota: Arc::new(QuotaTracker::new(http.clock(), settings.quota_probe)),
            counters: Counters::default(),
            memory: Arc::new(ByteBudget::new(settings.memory_limit_bytes)),
            unknown_events: Arc::default(),
            recorder: None,
            player: None,
            settings,
            http,
        }
    }

    /// Records every attempt and its response, redacted.
    #[must_use]
    pub fn recording(self, recorder: Recorder) -> Self {
        Self { recorder: Some(recorder), ..self }
    }

    /// Plays recorded responses instead of sending `/responses` requests.
    #[must_use]
    pub fn playing(self, player: Player) -> Self {
        Self { player: Some(player), ..self }
    }

    /// Prepares a request. [`Pending::open`] sends it.
    ///
    /// # Errors
    /// If the limit that the model counts against is known to be exhausted, and no probe of it is due.
    pub fn begin<'r>(
        self: &'r Arc<Self>,
        request: codex::Request<'r>,
        token: RequestToken,
        forwarded: ForwardedHeaders,
    ) -> Result<Pending<'r>, ProxyError> {
        self.check_quota(&token, &request.model)?;
        Ok(Pending::new(self, request, token, forwarded))
    }

    /// Checks whether the limit that the model counts against is known to be exhausted. After a success, the caller has
    /// to make a call: it may be the one that finds out whether the limit is still exhausted.
    ///
    /// # Errors
    /// The failure that exhausted the limit.
    pub fn check_quota(&self, token: &RequestToken, model: &str) -> Result<(), ProxyError> {
        self.unless_exhausted(self.quota.exhausted(&token.bearer().account.id, model))
    }

    /// Counts the failure of an exhausted limit, and returns it.
    fn unless_exhausted(&self, failure: Option<UpstreamFailure>) -> Result<(), ProxyError> {
        let Some(failure) = failure else { return Ok(()) };
        self.counters.quota_refusals.fetch_add(1, Ordering::Relaxed);
        Err(ProxyError::Upstream(Box::new(failure)))
    }

    /// The memory that everything buffered for requests shares, here and in the server.
    #[must_use]
    pub fn memory(&self) -> &Arc<ByteBudget> {
        &self.memory
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

    /// The members that requests leave out, because the backend rejected them within the last hour.
    #[must_use]
    pub fn rejected_params(&self) -> Vec<RejectedParam> {
        self.rejected_params.read()
    }

    /// The latest catalog: from the backend, else from the file, else the embedded one. Sends no request.
    #[must_use]
    pub fn catalogue(&self) -> Arc<Catalogue> {
        self.catalogue.catalogue()
    }

    /// The catalog for requests of an account: the latest one or, if clients send their own tokens, that of this
    /// account, else the embedded one. Sends no request.
    #[must_use]
    pub fn catalogue_of(&self, account_id: Option<&str>) -> Arc<Catalogue> {
        match self.tokens.credentials() {
            CredentialSource::Store => self.catalogue(),
            CredentialSource::Client => self.client_catalogue(account_id).catalogue,
        }
    }

    /// The same catalog as the backend sent it, for Codex clients.
    #[must_use]
    pub fn catalogue_document_of(&self, account_id: Option<&str>) -> CatalogueDocument {
        match self.tokens.credentials() {
            CredentialSource::Store => self.catalogue.document(),
            CredentialSource::Client => self.client_catalogue(account_id).document,
        }
    }

    /// When the backend sent the catalog. `None` for the embedded one.
    #[must_use]
    pub fn catalogue_fetched_at(&self) -> Option<SystemTime> {
        self.catalogue.fetched_at()
    }

    /// Loads the catalog file. With an account, a catalog of another one is discarded again.
    pub async fn load_catalogue(&self, account_id: Option<&str>) {
        self.catalogue.load(&self.version).await;
        if let Some(account_id) = account_id {
            self.catalogue.discard_others(&CatalogueKey::new(&self.version, account_id));
        }
    }

    /// Requests the catalog with the active account's token. A refused token is replaced once.
    ///
    /// # Errors
    /// If no token is available, or the backend doesn't send a list of models. The previous catalog stays, unless it
    /// belongs to another account.
    pub async fn refresh_catalogue(&self) -> Result<(), ProxyError> {
        self.with_active_token(async |bearer| self.fetch_catalogue(bearer).await).await
    }

    /// Makes a request with the active account's token, and once more if that token is refused and replaced.
    async fn with_active_token<T>(
        &self,
        request: impl AsyncFn(&Bearer) -> Result<T, ProxyError>,
    ) -> Result<T, ProxyError> {
        let bearer = self.tokens.bearer().await.map_err(ProxyError::Auth)?;
        match request(&bearer).await {
            Err(error) if region::is_refused_token(&error) => {
                request(&self.tokens.recover(&bearer).await.map_err(ProxyError::Auth)?).await
            }
            result => result,
        }
    }

    async fn fetch_catalogue(&self, bearer: &Bearer) -> Result<(), ProxyError> {
        let key = CatalogueKey::new(&self.version, &bearer.account.id);
        self.catalogue.discard_others(&key);
        let (headers, json) = self.request_catalogue(bearer).await?;
        if self.catalogue.replace(json, key, &headers).await {
            return Ok(());
        }
        Err(ProxyError::Damaged { reason: "the model catalog lists no models".to_owned() })
    }

    async fn request_catalogue(&self, bearer: &Bearer) -> Result<(HeaderMap, Bytes), ProxyError> {
        let query =
            url::form_urlencoded::Serializer::new(String::new()).append_pair("client_version", &self.version).finish();
        let request = HttpRequest {
            method: Method::GET,
            endpoint: &self.settings.url,
            path: &format!("/models?{query}"),
            headers: self.request_headers(bearer).models()?,
            accept_encoding: self.settings.accept_encoding,
            body: Bytes::new(),
            limit: CATALOGUE_TIMEOUT.min(self.settings.first_event_timeout),
        };
        client::fetch(&self.http, request, MAX_CATALOGUE_BYTES).await
    }

    /// Loads the catalog file, then refreshes the catalog until dropped. The first refresh also opens the connection
    /// that the first client request reuses. Does nothing if cassettes are played.
    pub async fn keep_catalogue(&self) {
        if self.player.is_some() {
            // Cassettes contain no catalog.
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

    /// Pings idle WebSocket connections, and closes those that are dead, too old, or idle for too long. Runs until
    /// dropped.
    pub async fn keep_connections(&self) {
        self.websockets.keep().await;
    }

    /// Requests the origin and the quota of the active account unless they are known, so that client requests don't
    /// wait for them. Failures are ignored: the next client request tries again.
    async fn prepare(&self) {
        if let Ok(bearer) = self.tokens.bearer().await {
            let headers = self.request_headers(&bearer);
            let _ = self.origins.origin(&self.http, &headers, OnRefusedToken::Report).await;
            self.refresh_quota_of(&bearer).await;
        }
    }

    /// Waits until a token may be available.
    async fn wait_for_sign_in(&self, backoff: &mut Duration) {
        if self.tokens.check().await.is_ok() {
            // Signed in, but the issuer supplied no valid token.
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
