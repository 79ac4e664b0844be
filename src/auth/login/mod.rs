//! Signing in with a browser: authorization code with PKCE. With a code instead: [`DeviceLogin`].
//!
//! [`Login::start`] makes sure that the outcome can be stored, opens the port and makes the
//! address; [`Login::wait`] answers the browser until the issuer has sent it back, or until the
//! person has pasted the address that it was sent to, exchanges the code, stores the account as the
//! active one, and only then shows the page that says so. Opening a browser and talking to the
//! person are not done here.

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

use self::callback::{Desk, Message, Verdict};
pub use self::device::DeviceLogin;
pub use self::error::LoginError;
use self::idle::Idle;
pub use self::paste::{PasteError, Pasted, Reader};
use self::ports::Listeners;
pub use self::ports::{Obstacle, Ports};
use crate::auth::credential::Credential;
use crate::auth::issuer::Authority;
use crate::auth::store::Store;
use crate::auth::{Settings, import};
use crate::clock::Clock;
use crate::secret::Secret;
use crate::token_source::AuthError;

const TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// How long a browser gets to fetch the last page.
const FAREWELL: Duration = Duration::from_secs(3);
const VERIFIER_SIZE_BYTES: u32 = 64;
const STATE_SIZE_BYTES: u32 = 32;
const MOST_CONNECTIONS: usize = 64;

/// A login that waits for its browser.
#[derive(Debug)]
pub struct Login {
    authority: Authority,
    store: Store,
    clock: Arc<dyn Clock>,
    /// It holds the state, which nobody else may learn.
    url: Secret,
    redirect_uri: String,
    verifier: Secret,
    state: Arc<Secret>,
    port: u16,
    /// None where every port is held: then only a pasted address helps.
    listeners: Option<Listeners>,
    passed_over: Option<Obstacle>,
}

/// Who brought the news.
enum Messenger {
    Browser,
    Person,
}

/// The state of a login that is being waited for.
struct Vigil {
    desk: Desk,
    messages: mpsc::Receiver<Message>,
    verdict: watch::Sender<Verdict>,
    shown: watch::Receiver<bool>,
}

impl Login {
    /// Opens the port and makes the address to visit.
    ///
    /// # Errors
    /// When the store can't take the outcome, or no port can be opened.
    pub async fn start(
        settings: &Settings,
        authority: Authority,
        store: Store,
        clock: Arc<dyn Clock>,
        ports: Ports,
    ) -> Result<Self, LoginError> {
        ensure_writable(&store).await.map_err(LoginError::Store)?;
        let (listeners, passed_over) = ports.open(authority.http()).await?;
        let login = Self::to_port(settings, authority, store, clock, listeners.port);
        Ok(Self { listeners: Some(listeners), passed_over, ..login })
    }

    /// Makes the address to visit without a port to come back to: the browser will find nothing
    /// there, and the person has to paste where it was sent.
    ///
    /// # Errors
    /// When the store can't take the outcome.
    pub async fn start_without_port(
        settings: &Settings,
        authority: Authority,
        store: Store,
        clock: Arc<dyn Clock>,
        ports: Ports,
    ) -> Result<Self, LoginError> {
        ensure_writable(&store).await.map_err(LoginError::Store)?;
        Ok(Self::to_port(settings, authority, store, clock, ports.first))
    }

    fn to_port(settings: &Settings, authority: Authority, store: Store, clock: Arc<dyn Clock>, port: u16) -> Self {
        let redirect_uri = format!("http://{}:{port}/auth/callback", settings.redirect_host);
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256_len(VERIFIER_SIZE_BYTES);
        let state = CsrfToken::new_random_len(STATE_SIZE_BYTES);
        let url = Secret::new(authorize_url(settings, &redirect_uri, &challenge, &state));
        let verifier = Secret::new(PkceCodeVerifier::into_secret(verifier));
        let state = Arc::new(Secret::new(state.into_secret()));
        Self { authority, store, clock, url, redirect_uri, verifier, state, port, listeners: None, passed_over: None }
    }

    /// The address that the person has to visit.
    #[must_use]
    pub fn url(&self) -> &str {
        self.url.expose()
    }

    /// The port that the browser comes back to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port that was to be used first, where it is held by another program.
    #[must_use]
    pub fn passed_over(&self) -> Option<&Obstacle> {
        self.passed_over.as_ref()
    }

    /// What makes sense of an address or a code that the person pastes.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.state))
    }

    /// Waits until somebody has signed in, in the browser or by what they pasted, and stores the
    /// account as the active one. A closed channel is no answer.
    ///
    /// # Errors
    /// When nobody does within 15 minutes, the issuer refuses, or another login wants the port.
    pub async fn wait(self, pasted: mpsc::Receiver<Pasted>) -> Result<Credential, LoginError> {
        let (sender, messages) = mpsc::channel(1);
        let (verdict, verdicts) = watch::channel(None);
        let (show, shown) = watch::channel(false);
        let desk = Desk { state: Arc::clone(&self.state), messages: sender, verdict: verdicts, shown: show };
        let vigil = Vigil { desk, messages, verdict, shown };
        self.attend(vigil, pasted).await
    }

    /// Drives the connections and the login at the same time.
    async fn attend(&self, vigil: Vigil, mut pasted: mpsc::Receiver<Pasted>) -> Result<Credential, LoginError> {
        let Vigil { desk, mut messages, verdict, mut shown } = vigil;
        let (mut connections, mut idle) = (FuturesUnordered::new(), Idle::default());
        let decide = async {
            let heard = tokio::time::timeout(TIMEOUT, hear(&mut messages, &mut pasted)).await.ok();
            let is_shown = matches!(heard, Some((Messenger::Browser, _)));
            let outcome = match heard {
                Some((_, Message::Code(code))) => self.finish(&code).await,
                Some((_, Message::Failed(error))) => Err(error),
                None => Err(LoginError::TimedOut),
            };
            verdict.send_replace(Some(outcome.as_ref().map(|_| ()).map_err(Clone::clone)));
            if is_shown {
                let _ = tokio::time::timeout(FAREWELL, shown.wait_for(|shown| *shown)).await;
            }
            outcome
        };
        tokio::pin!(decide);
        let outcome = loop {
            let is_full = connections.len() >= MOST_CONNECTIONS;
            tokio::select! {
                outcome = &mut decide => break outcome,
                stream = accept(self.listeners.as_ref()), if !is_full || !idle.is_empty() => {
                    if is_full {
                        idle.close_oldest();
                    }
                    connections.push(desk.clone().serve(stream, idle.add()));
                }
                Some(()) = connections.next(), if !connections.is_empty() => {}
            }
        };
        flush(connections).await;
        outcome
    }

    async fn finish(&self, code: &Secret) -> Result<Credential, LoginError> {
        let granted = self.authority.exchange(code, &self.verifier, &self.redirect_uri).await;
        let grant = granted.map_err(LoginError::Exchange)?;
        let credential = Credential::granted(grant, self.clock.now()).map_err(LoginError::Grant)?;
        import::add(&self.store, &credential).await.map_err(LoginError::Store)?;
        Ok(credential)
    }
}

/// Finds out before anybody signs in whether the outcome can be kept.
async fn ensure_writable(store: &Store) -> Result<(), AuthError> {
    let held = store.lock().await?;
    held.read().await?;
    held.probe().await
}

/// The issuer's page. oauth2's own builder has another order of parameters than the issuer is used to.
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
    format!("{}?{}", settings.authority.join("/oauth/authorize"), query.finish())
}

/// The first news of the login, from wherever it comes.
async fn hear(messages: &mut mpsc::Receiver<Message>, pasted: &mut mpsc::Receiver<Pasted>) -> (Messenger, Message) {
    tokio::select! {
        Some(message) = messages.recv() => (Messenger::Browser, message),
        Some(pasted) = pasted.recv() => (Messenger::Person, pasted.into_message()),
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
            // Out of descriptors, or the peer has gone; neither is cured by asking again at once.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Lets the last page reach the browser.
async fn flush<F: Future<Output = ()>>(connections: FuturesUnordered<F>) {
    let _ = tokio::time::timeout(Duration::from_millis(500), connections.collect::<Vec<()>>()).await;
}
