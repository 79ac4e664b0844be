//! The ChatGPT Codex backend: one streaming call for each client request, and the model catalogue.
//!
//! Owns every second try. A request is opened in attempts until its answer is committed to: the
//! first output item, delta or terminal event, or `commit_after` past this attempt's
//! `response.created`. Up to there a failure is hidden by another attempt, or comes back as an
//! error with a status. After it, it is an event of the stream, unless the caller has sent nothing to
//! its client and lets [`Pending`] open another attempt. Dropping an [`EventStream`], or the future
//! that opens one, drops the connection or HTTP/2 stream behind it.

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
use body_format::Forms;
use cassette::{Player, Recorder};
use catalogue::{Label, Shelf};
use client::Call;
use compression::Packing;
use counters::Counters;
use headers::Caller;
use quota::exhausted::Quotas;
use quota::snapshot::Gauges;
use region::{OnRefusedToken, Routing};
use rejected_params::Learned;
use unknown_events::Drift;
use websocket::Sockets;

pub use body_format::BodyForm;
pub use compression::Compression;
pub use counters::Tally;
pub use headers::{passed_on, passed_to_codex};
pub use pending::Pending;
pub use quota::account_check::Standing;
pub use quota::snapshot::{Quota, QuotaPace, QuotaWindow};
pub use rejected_params::Omitted;
pub use request_token::RequestToken;
pub use settings::Settings;
pub use stream::EventStream;
pub use unknown_events::Strange;
pub use websocket::Transport;

/// How often the catalogue is asked for when nothing says that it has changed.
const CATALOGUE_INTERVAL: Duration = Duration::from_secs(15 * 60);
const CATALOGUE_LIMIT: Duration = Duration::from_secs(30);
const CATALOGUE_LIMIT_BYTES: usize = 16 * 1024 * 1024;
/// The first pause after a failed refresh; it doubles up to the interval.
const CATALOGUE_PAUSE: Duration = Duration::from_secs(10);
/// How often to look whether somebody has signed in.
const SIGN_IN_INTERVAL: Duration = Duration::from_secs(3);

/// The backend, as one pooled client. Shared by all requests.
#[derive(Debug)]
pub struct Upstream {
    settings: Settings,
    version: String,
    http: HttpClient,
    tokens: Arc<dyn TokenSource>,
    routing: Routing,
    shelf: Shelf,
    sockets: Sockets,
    omitted: Learned,
    forms: Forms,
    packing: Packing,
    quotas: Quotas,
    gauges: Arc<Gauges>,
    counters: Counters,
    drift: Arc<Drift>,
    recorder: Option<Recorder>,
    /// Answers in the place of the backend.
    player: Option<Player>,
}

/// What a client request says about the call beside its body.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    /// The client's own `originator` header, which wins over ours.
    pub originator: Option<String>,
    /// Headers of a client that speaks the backend's own language: they win over ours, and the answer's
    /// headers are all for it to see.
    pub forwarded: Option<HeaderMap>,
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

impl Upstream {
    /// A client for the backend; connects to nothing yet.
    #[must_use]
    pub fn new(settings: Settings, http: HttpClient, tokens: Arc<dyn TokenSource>) -> Self {
        let version = settings.client_version.clone().unwrap_or_else(|| version::NEWEST_KNOWN.to_owned());
        let shelf = Shelf::new(settings.catalogue_file.clone());
        let (sockets, forms) = (Sockets::new(settings.transport), Forms::new(settings.body));
        let packing = Packing::new(settings.compression);
        let (routing, omitted) = (Routing::default(), Learned::default());
        let (quotas, counters) = (Quotas::new(settings.quota_probe), Counters::default());
        let gauges = Arc::new(Gauges::new(http.clock()));
        let (recorder, player) = (None, None);
        Self {
            settings,
            version,
            http,
            tokens,
            routing,
            shelf,
            sockets,
            omitted,
            forms,
            packing,
            quotas,
            gauges,
            counters,
            drift: Arc::default(),
            recorder,
            player,
        }
    }

    /// Writes every exchange down.
    #[must_use]
    pub fn recording(self, recorder: Recorder) -> Self {
        Self { recorder: Some(recorder), ..self }
    }

    /// Answers from what was recorded, and asks no model.
    #[must_use]
    pub fn playing(self, player: Player) -> Self {
        Self { player: Some(player), ..self }
    }

    /// Starts a request. Nothing is sent before [`Pending::open`].
    ///
    /// # Errors
    /// When the quota is known to be used up.
    pub fn begin<'r>(
        &'r self,
        request: codex::Request<'r>,
        token: RequestToken,
        hints: Hints,
    ) -> Result<Pending<'r>, ProxyError> {
        self.check_quota(token.bearer(), &request)?;
        Ok(Pending::new(self, request, token, hints))
    }

    /// A spent quota is not asked for again, but for a look in a while.
    fn check_quota(&self, bearer: &Bearer, request: &codex::Request<'_>) -> Result<(), ProxyError> {
        let Some(error) = self.quotas.known(&bearer.account.id, &request.model) else { return Ok(()) };
        self.counters.quota_answers.fetch_add(1, Ordering::Relaxed);
        Err(error)
    }

    /// What has been counted so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.counters.read(self.http.connections_opened())
    }

    /// What the backend has said since the process began and nobody here knows.
    #[must_use]
    pub fn drift(&self) -> Vec<Strange> {
        self.drift.read()
    }

    /// The members that requests leave out, since the backend refused them within the last hour.
    #[must_use]
    pub fn omitted(&self) -> Vec<Omitted> {
        self.omitted.read()
    }

    /// The catalogue as last heard: live, else from the file, else the embedded one. Never waits for the network.
    #[must_use]
    pub fn catalogue(&self) -> Arc<Catalogue> {
        self.shelf.catalogue()
    }

    /// The catalogue's JSON as the backend sent it, for clients that speak the Codex form; without prompts where embedded.
    #[must_use]
    pub fn catalogue_json(&self) -> Bytes {
        self.shelf.json()
    }

    /// When the backend told the catalogue; `None` for the embedded one.
    #[must_use]
    pub fn catalogue_heard_at(&self) -> Option<SystemTime> {
        self.shelf.heard_at()
    }

    /// Takes the catalogue that an earlier run kept in its file, unless it is another account's than the one in use.
    pub async fn recall_catalogue(&self, account_id: Option<&str>) {
        self.shelf.load(&self.version).await;
        if let Some(account_id) = account_id {
            self.shelf.claim(&Label::new(&self.version, account_id));
        }
    }

    /// Asks the backend for the catalogue now.
    ///
    /// # Errors
    /// When no token can be had, or the backend did not answer with a list of models; what was
    /// known before stays.
    pub async fn refresh_catalogue(&self) -> Result<(), ProxyError> {
        let bearer = self.tokens.bearer().await.map_err(ProxyError::Auth)?;
        match self.fetch_catalogue(&bearer).await {
            Err(ProxyError::Upstream(failure)) if failure.fault == Fault::Unauthorized => {
                let bearer = self.tokens.recover(&bearer).await.map_err(ProxyError::Auth)?;
                self.fetch_catalogue(&bearer).await
            }
            done => done,
        }
    }

    async fn fetch_catalogue(&self, bearer: &Bearer) -> Result<(), ProxyError> {
        let label = Label::new(&self.version, &bearer.account.id);
        self.shelf.claim(&label);
        let query =
            url::form_urlencoded::Serializer::new(String::new()).append_pair("client_version", &self.version).finish();
        let call = Call {
            method: Method::GET,
            endpoint: &self.settings.url,
            path: &format!("/models?{query}"),
            headers: self.caller(bearer).models()?,
            body: Bytes::new(),
            limit: CATALOGUE_LIMIT.min(self.settings.first_event_timeout),
        };
        let (headers, json) = client::fetch(&self.http, call, CATALOGUE_LIMIT_BYTES).await?;
        let etag = headers::text(&headers, "x-models-etag").or_else(|| headers::text(&headers, "etag"));
        if self.shelf.replace(json, label, etag).await {
            return Ok(());
        }
        Err(ProxyError::Damaged { reason: "the model catalogue lists no models".to_owned() })
    }

    /// Keeps the catalogue fresh; runs until dropped. Also opens a first connection, so that the first request finds it warm.
    pub async fn keep_catalogue(&self) {
        if self.player.is_some() {
            // What was recorded knows nothing newer.
            return std::future::pending().await;
        }
        self.shelf.load(&self.version).await;
        let mut pause = CATALOGUE_PAUSE;
        loop {
            match self.refresh_catalogue().await {
                Ok(()) => {
                    pause = CATALOGUE_PAUSE;
                    self.prepare().await;
                    // Either way it is time to ask again.
                    let _ = timeout(CATALOGUE_INTERVAL, self.shelf.outdated()).await;
                }
                Err(ProxyError::Auth(error)) => {
                    tracing::debug!(%error, "the model catalogue waits for a sign-in");
                    self.wait_for_sign_in(&mut pause).await;
                }
                Err(error) => {
                    let cause = error.loggable();
                    tracing::warn!(cause, "the model catalogue could not be refreshed");
                    sleep(pause).await;
                    pause = (pause * 2).min(CATALOGUE_INTERVAL);
                }
            }
        }
    }

    /// Keeps open connections of use, or closes them; runs until dropped.
    pub async fn keep_connections(&self) {
        self.sockets.keep().await;
    }

    /// Asks for the route and the quota before a request has to wait for them; what fails is asked for again then.
    async fn prepare(&self) {
        if let Ok(bearer) = self.tokens.bearer().await {
            let _ = self.routing.find(&self.http, &self.caller(&bearer), OnRefusedToken::Report).await;
            self.look(&bearer).await;
        }
    }

    async fn wait_for_sign_in(&self, pause: &mut Duration) {
        if self.tokens.check().await.is_ok() {
            // A token is there and can't be had: the issuer has trouble.
            sleep(*pause).await;
            *pause = (*pause * 2).min(CATALOGUE_INTERVAL);
            return;
        }
        while self.tokens.check().await.is_err() {
            sleep(SIGN_IN_INTERVAL).await;
        }
    }

    fn caller<'c>(&'c self, bearer: &'c Bearer) -> Caller<'c> {
        Caller { settings: &self.settings, version: &self.version, bearer }
    }
}
