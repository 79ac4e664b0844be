//! Signing in with a browser: authorization code with PKCE.
//!
//! [`Login::start`] makes sure that the outcome can be stored, opens the port and makes the
//! address; [`Login::wait`] answers the browser until the issuer has sent it back, exchanges the
//! code, stores the account as the active one, and only then shows the page that says so. Opening
//! a browser and talking to the person are not done here. The issuer's texts are shown only when
//! they can't hold a token or an address.

mod callback;
mod page;
mod ports;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use oauth2::{CsrfToken, PkceCodeChallenge, PkceCodeVerifier};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use self::callback::{Desk, Message, Verdict};
use self::ports::Listeners;
pub use self::ports::Ports;
use crate::auth::authority::{Authority, AuthorityError, is_code};
use crate::auth::credential::{Credential, GrantError};
use crate::auth::store::Store;
use crate::auth::{Settings, import};
use crate::bearer::AuthError;
use crate::clock::Clock;
use crate::secret::Secret;

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
    listeners: Listeners,
}

/// Why a login came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// Another login asked for the port.
    #[error("another login was started meanwhile")]
    Cancelled,
    /// Nobody came back.
    #[error("nobody signed in within 15 minutes")]
    TimedOut,
    /// Every port that could be used is held by another program.
    #[error("port {ports} is held by another program; end it, or try again later")]
    Held {
        /// The ports, as a person lists them.
        ports: String,
    },
    /// A port can't be used for another reason.
    #[error("port {port} can't be used: {reason}")]
    Port {
        /// The port.
        port: u16,
        /// The system's word.
        reason: String,
    },
    /// The workspace does not allow it.
    #[error("Codex is not enabled for your workspace; ask its administrator to enable it")]
    NotEntitled,
    /// The issuer sent an error instead of a code.
    #[error("the issuer refused the sign-in: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
    /// The code could not be turned into tokens.
    #[error("the code could not be exchanged for tokens: {0}")]
    Exchange(AuthorityError),
    /// The tokens can't be used.
    #[error(transparent)]
    Grant(GrantError),
    /// The store can't be used.
    #[error(transparent)]
    Store(AuthError),
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
        let listeners = ports.open(authority.http()).await?;
        let redirect_uri = format!("http://{}:{}/auth/callback", settings.redirect_host, listeners.port);
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256_len(VERIFIER_SIZE_BYTES);
        let state = CsrfToken::new_random_len(STATE_SIZE_BYTES);
        let url = Secret::new(authorize_url(settings, &redirect_uri, &challenge, &state));
        let verifier = Secret::new(PkceCodeVerifier::into_secret(verifier));
        let state = Arc::new(Secret::new(state.into_secret()));
        Ok(Self { authority, store, clock, url, redirect_uri, verifier, state, listeners })
    }

    /// The address that the person has to visit.
    #[must_use]
    pub fn url(&self) -> &str {
        self.url.expose()
    }

    /// The port that the browser comes back to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.listeners.port
    }

    /// Waits until somebody has signed in, and stores the account as the active one.
    ///
    /// # Errors
    /// When nobody does within 15 minutes, the issuer refuses, or another login wants the port.
    pub async fn wait(self) -> Result<Credential, LoginError> {
        let (sender, messages) = mpsc::channel(1);
        let (verdict, verdicts) = watch::channel(None);
        let (show, shown) = watch::channel(false);
        let desk = Desk { state: Arc::clone(&self.state), messages: sender, verdict: verdicts, shown: show };
        let vigil = Vigil { desk, messages, verdict, shown };
        self.attend(vigil).await
    }

    /// Drives the connections and the login at the same time.
    async fn attend(&self, vigil: Vigil) -> Result<Credential, LoginError> {
        let Vigil { desk, mut messages, verdict, mut shown } = vigil;
        let mut connections = FuturesUnordered::new();
        let decide = async {
            let outcome = match tokio::time::timeout(TIMEOUT, messages.recv()).await {
                Ok(Some(Message::Code(code))) => self.finish(&code).await,
                Ok(Some(Message::Failed(error))) => Err(error),
                Ok(None) | Err(_) => Err(LoginError::TimedOut),
            };
            verdict.send_replace(Some(outcome.as_ref().map(|_| ()).map_err(Clone::clone)));
            if !matches!(outcome, Err(LoginError::TimedOut)) {
                let _ = tokio::time::timeout(FAREWELL, shown.wait_for(|shown| *shown)).await;
            }
            outcome
        };
        tokio::pin!(decide);
        let outcome = loop {
            let has_room = connections.len() < MOST_CONNECTIONS;
            tokio::select! {
                outcome = &mut decide => break outcome,
                stream = accept(&self.listeners), if has_room => connections.push(desk.clone().serve(stream)),
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

impl LoginError {
    /// The issuer's error, as far as it may be shown.
    fn refused(error: &str, description: &str) -> Self {
        if description.contains("missing_codex_entitlement") {
            return Self::NotEntitled;
        }
        let code = if is_code(error) { error } else { "an unnamed error" };
        let is_prose = |word: &str| word.len() <= 24 && !word.contains('@') && !word.chars().any(char::is_control);
        let words: Vec<&str> = description.split_whitespace().filter(|word| is_prose(word)).take(40).collect();
        let reason = if words.is_empty() { code.to_owned() } else { format!("{} ({code})", words.join(" ")) };
        Self::Refused { reason }
    }

    fn held(ports: &[u16]) -> Self {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        Self::Held { ports: ports.join(" and ") }
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

async fn accept(listeners: &Listeners) -> TcpStream {
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

#[cfg(test)]
mod tests {
    use super::LoginError;

    #[test]
    fn a_missing_entitlement_is_explained() {
        let error = LoginError::refused("access_denied", "x missing_codex_entitlement y");
        assert!(error.to_string().contains("administrator"), "{error}");
    }

    #[test]
    fn the_issuers_words_are_shown_without_addresses_and_long_words() {
        let long = "e".repeat(60);
        let error = LoginError::refused("access_denied", &format!("ann@example.com said no {long}"));
        assert_eq!(error.to_string(), "the issuer refused the sign-in: said no (access_denied)");
        assert!(!LoginError::refused(&long.to_uppercase(), "").to_string().contains("EEE"));
    }
}
