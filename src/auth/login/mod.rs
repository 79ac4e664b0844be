//! Signs in with a browser (authorization code with PKCE) or with a device code ([`DeviceLogin`]).
//!
//! [`Login::start`] checks that the store is writable, opens the port and creates the address to visit.
//! [`Login::wait`] serves the browser until the issuer redirects it back, or the user pastes the address that it was
//! redirected to. Then it exchanges the code, stores the account as the active one, and shows the result page. Opening
//! the browser and printing are up to the caller.

mod callback;
mod device;
mod error;
mod idle;
mod page;
mod paste;
mod ports;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use oauth2::{CsrfToken, PkceCodeChallenge, PkceCodeVerifier};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use self::callback::{CallbackHandler, CallbackResult, LoginOutcome};
pub use self::device::DeviceLogin;
pub use self::error::LoginError;
use self::idle::IdleConnections;
pub use self::paste::{PasteError, PasteParser, PastedReply};
use self::ports::Listeners;
pub use self::ports::{PortConflict, Ports};
use crate::auth::credential::Credential;
use crate::auth::issuer::Issuer;
use crate::auth::store::Store;
use crate::auth::{Settings, import};
use crate::clock::Clock;
use crate::secret::Secret;
use crate::token_source::AuthError;

/// How long the user may take to sign in.
const TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// How long a browser may take to load the result page.
const RESULT_PAGE_TIMEOUT: Duration = Duration::from_secs(3);
const VERIFIER_SIZE_BYTES: u32 = 64;
const STATE_SIZE_BYTES: u32 = 32;
/// Maximum number of open connections to the callback server.
const MAX_CONNECTIONS: usize = 64;

/// A login in a browser.
#[derive(Debug)]
pub struct Login {
    issuer: Issuer,
    store: Store,
    clock: Arc<dyn Clock>,
    /// Secret because it contains the state.
    url: Secret,
    redirect_uri: String,
    verifier: Secret,
    state: Arc<Secret>,
    port: u16,
    /// `None` without a port: then the user has to paste the address.
    listeners: Option<Listeners>,
    /// Set if the fallback port is used.
    conflict: Option<PortConflict>,
}

/// Where the result of the authorization came from.
enum ReplySource {
    Browser,
    Paste,
}

/// The channels of a running login.
struct PendingLogin {
    handler: CallbackHandler,
    results: mpsc::Receiver<CallbackResult>,
    outcome: watch::Sender<LoginOutcome>,
    shown: watch::Receiver<bool>,
}

impl Login {
    /// Opens the port and creates the address to visit.
    ///
    /// # Errors
    /// If the store isn't writable, or no port can be opened.
    pub async fn start(
        settings: &Settings,
        issuer: Issuer,
        store: Store,
        clock: Arc<dyn Clock>,
        ports: Ports,
    ) -> Result<Self, LoginError> {
        ensure_writable(&store).await.map_err(LoginError::Store)?;
        let (listeners, conflict) = ports.open(issuer.http()).await?;
        let login = Self::new(settings, issuer, store, clock, listeners.port);
        Ok(Self { listeners: Some(listeners), conflict, ..login })
    }

    /// Creates the address to visit without opening a port: the user has to paste the address that the browser is
    /// redirected to, which has the first port of `ports`.
    ///
    /// # Errors
    /// If the store isn't writable.
    pub async fn start_without_port(
        settings: &Settings,
        issuer: Issuer,
        store: Store,
        clock: Arc<dyn Clock>,
        ports: Ports,
    ) -> Result<Self, LoginError> {
        ensure_writable(&store).await.map_err(LoginError::Store)?;
        Ok(Self::new(settings, issuer, store, clock, ports.first))
    }

    fn new(settings: &Settings, issuer: Issuer, store: Store, clock: Arc<dyn Clock>, port: u16) -> Self {
        let redirect_uri = format!("http://{}:{port}/auth/callback", settings.redirect_host);
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256_len(VERIFIER_SIZE_BYTES);
        let state = CsrfToken::new_random_len(STATE_SIZE_BYTES);
        let url = Secret::new(authorize_url(settings, &redirect_uri, &challenge, &state));
        let verifier = Secret::new(PkceCodeVerifier::into_secret(verifier));
        let state = Arc::new(Secret::new(state.into_secret()));
        Self { issuer, store, clock, url, redirect_uri, verifier, state, port, listeners: None, conflict: None }
    }

    /// Returns the address that the user has to visit.
    #[must_use]
    pub fn url(&self) -> &str {
        self.url.expose()
    }

    /// Returns the port that the browser is redirected to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the preferred port, if another program uses it.
    #[must_use]
    pub fn conflict(&self) -> Option<&PortConflict> {
        self.conflict.as_ref()
    }

    /// Returns a parser for addresses and codes that the user pastes.
    #[must_use]
    pub fn paste_parser(&self) -> PasteParser {
        PasteParser::new(Arc::clone(&self.state))
    }

    /// Waits until the user has signed in, in the browser or with a pasted reply, and stores the account as the active
    /// one. A closed channel means that nothing can be pasted.
    ///
    /// # Errors
    /// If this takes longer than 15 minutes, the issuer refuses, or another login asks for the port.
    pub async fn wait(self, pasted: mpsc::Receiver<PastedReply>) -> Result<Credential, LoginError> {
        let (sender, results) = mpsc::channel(1);
        let (outcome, outcomes) = watch::channel(None);
        let (show, shown) = watch::channel(false);
        let handler =
            CallbackHandler { state: Arc::clone(&self.state), results: sender, outcome: outcomes, shown: show };
        self.run(PendingLogin { handler, results, outcome, shown }, pasted).await
    }

    /// Drives the connections and the login at the same time.
    async fn run(
        &self,
        pending: PendingLogin,
        mut pasted: mpsc::Receiver<PastedReply>,
    ) -> Result<Credential, LoginError> {
        let PendingLogin { handler, mut results, outcome: announced, mut shown } = pending;
        let (mut connections, mut idle) = (FuturesUnordered::new(), IdleConnections::default());
        let decide = async {
            let reply = tokio::time::timeout(TIMEOUT, first_reply(&mut results, &mut pasted)).await.ok();
            let has_browser = matches!(reply, Some((ReplySource::Browser, _)));
            let outcome = match reply {
                Some((_, CallbackResult::Code(code))) => self.finish(&code).await,
                Some((_, CallbackResult::Failed(error))) => Err(error),
                None => Err(LoginError::TimedOut),
            };
            announced.send_replace(Some(outcome.as_ref().map(|_| ()).map_err(Clone::clone)));
            if has_browser {
                let _ = tokio::time::timeout(RESULT_PAGE_TIMEOUT, shown.wait_for(|shown| *shown)).await;
            }
            outcome
        };
        tokio::pin!(decide);
        let outcome = loop {
            let is_full = connections.len() >= MAX_CONNECTIONS;
            tokio::select! {
                outcome = &mut decide => break outcome,
                stream = accept(self.listeners.as_ref()), if !is_full || !idle.is_empty() => {
                    if is_full {
                        idle.close_oldest();
                    }
                    connections.push(handler.clone().serve(stream, idle.add()));
                }
                Some(()) = connections.next(), if !connections.is_empty() => {}
            }
        };
        flush(connections).await;
        outcome
    }

    /// Exchanges the code for tokens, and stores the account.
    async fn finish(&self, code: &Secret) -> Result<Credential, LoginError> {
        let granted = self.issuer.exchange(code, &self.verifier, &self.redirect_uri).await;
        let grant = granted.map_err(LoginError::Exchange)?;
        let credential = Credential::from_response(grant, self.clock.now()).map_err(LoginError::TokenResponse)?;
        import::add(&self.store, &credential).await.map_err(LoginError::Store)?;
        Ok(credential)
    }
}

/// Checks that the store is writable, before the user signs in.
async fn ensure_writable(store: &Store) -> Result<(), AuthError> {
    let locked = store.lock().await?;
    locked.read().await?;
    locked.probe().await
}

/// Returns the authorization URL. The oauth2 crate would order the parameters differently than the Codex client does.
fn authorize_url(settings: &Settings, redirect_uri: &str, challenge: &PkceCodeChallenge, state: &CsrfToken) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query
        .append_pair("response_type", "code")
        .append_pair("client_id", &settings.client_id)
        .append_pair("redirect_uri", redirect_uri)
        .append_pair("code_challenge", challenge.as_str())
        .append_pair("code_challenge_method", challenge.method())
        .append_pair("state", state.secret())
        .append_pair("scope", &settings.scopes.join(" "))
        .append_pair("id_token_add_organizations", "true")
        .append_pair("codex_cli_simplified_flow", "true");
    if !settings.originator.is_empty() {
        query.append_pair("originator", &settings.originator);
    }
    format!("{}?{}", settings.issuer.join("/oauth/authorize"), query.finish())
}

/// Waits for the first result from the browser or the prompt.
async fn first_reply(
    results: &mut mpsc::Receiver<CallbackResult>,
    pasted: &mut mpsc::Receiver<PastedReply>,
) -> (ReplySource, CallbackResult) {
    tokio::select! {
        Some(result) = results.recv() => (ReplySource::Browser, result),
        Some(pasted) = pasted.recv() => (ReplySource::Paste, pasted.into_result()),
        else => std::future::pending().await,
    }
}

async fn accept(listeners: Option<&Listeners>) -> TcpStream {
    let Some(listeners) = listeners else { return std::future::pending().await };
    tokio::select! {
        stream = accept_one(&listeners.v4) => stream,
        stream = accept_v6(listeners.v6.as_ref()) => stream,
    }
}

async fn accept_v6(listener: Option<&TcpListener>) -> TcpStream {
    match listener {
        Some(listener) => accept_one(listener).await,
        None => std::future::pending().await,
    }
}

async fn accept_one(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // Out of file descriptors, or the peer has disconnected. Don't retry in a busy loop.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Completes open responses, so that the browser gets the result page.
async fn flush<F: Future<Output = ()>>(connections: FuturesUnordered<F>) {
    let _ = tokio::time::timeout(Duration::from_millis(500), connections.collect::<Vec<()>>()).await;
}
