//! A simulated ChatGPT backend and sign-in service, to try the proxy without an account.
//!
//! It listens on its own loopback port and has the interface of the real services: paths, headers, event
//! streams, and tokens that expire and are refreshed. It rejects requests that the real backend rejects. The text of a
//! response says that it is simulated. It opens no connections and stores nothing on disk.
//!
//! Words in a prompt cause faults, see [`FAULT_WORDS`]; others cause tool calls, see `backend`.

mod backend;
mod issuer;
mod json_response;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, rfc3339};
use crate::secret::Secret;
use issuer::Sessions;

pub use backend::FAULT_WORDS;

/// Remaining lifetime of the first access token of a login: so short that its first use refreshes it.
const FIRST_TOKEN_LIFE: Duration = Duration::from_secs(60);
/// Pause after a failed `accept`, so that a lack of file descriptors doesn't cause a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The simulated services. Dropping it stops them and closes their connections.
pub struct Demo {
    address: SocketAddr,
    sessions: Arc<Sessions>,
    server: JoinHandle<()>,
    cancel: CancellationToken,
}

/// The tokens of a simulated login.
#[derive(Clone, Debug)]
pub struct DemoLogin {
    /// Contains the claims about the user, whose address is under `.invalid`.
    pub id_token: Secret,
    /// About to expire, so that its first use refreshes it.
    pub access_token: Secret,
    /// Valid for one refresh.
    pub refresh_token: Secret,
    /// Id of the tokens' account.
    pub account_id: String,
}

impl Demo {
    /// Starts the services on a free loopback port; `clock` determines when tokens expire.
    ///
    /// # Errors
    /// If no loopback port can be bound.
    #[expect(clippy::disallowed_methods, reason = "the server task is aborted when the Demo is dropped")]
    pub async fn start(clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let sessions = Arc::new(Sessions::new(format!("http://{address}"), clock));
        let cancel = CancellationToken::new();
        let backend = backend::router(Arc::clone(&sessions), cancel.clone());
        let router = issuer::router(Arc::clone(&sessions)).merge(backend);
        let server = tokio::spawn(accept(listener, router));
        Ok(Self { address, sessions, server, cancel })
    }

    /// The base URL of the backend, for `upstream.url`.
    #[must_use]
    pub fn backend_url(&self) -> String {
        format!("http://{}/backend-api/codex", self.address)
    }

    /// The base URL of the sign-in service, for `auth.url`.
    #[must_use]
    pub fn issuer_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Creates a login whose access token is about to expire. Each call creates a separate login.
    #[must_use]
    pub fn signed_in(&self) -> DemoLogin {
        let tokens = self.sessions.sign_in(FIRST_TOKEN_LIFE);
        DemoLogin {
            id_token: Secret::new(tokens.id_token),
            access_token: Secret::new(tokens.access_token),
            refresh_token: Secret::new(tokens.refresh_token),
            account_id: issuer::ACCOUNT_ID.to_owned(),
        }
    }

    /// Creates a login for a client that signs in itself, in the form of the Codex CLI's `auth.json`.
    #[must_use]
    pub fn client_login(&self) -> String {
        let tokens = self.sessions.sign_in(issuer::TOKEN_LIFETIME);
        let tokens = json!({
            "id_token": tokens.id_token, "access_token": tokens.access_token, "refresh_token": tokens.refresh_token,
            "account_id": issuer::ACCOUNT_ID,
        });
        let last_refresh = rfc3339(self.sessions.now());
        let login =
            json!({ "auth_mode": "chatgpt", "OPENAI_API_KEY": null, "tokens": tokens, "last_refresh": last_refresh });
        login.to_string()
    }
}

impl fmt::Debug for Demo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Demo").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.server.abort();
        self.cancel.cancel();
    }
}

/// Serves connections until dropped.
async fn accept(listener: TcpListener, router: Router) {
    // Dropping the set closes all connections.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => { connections.spawn(serve(stream, router.clone())); }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, router: Router) {
    // Sends each delta without waiting for the acknowledgment of the previous one. A failure only delays deltas.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router);
    // Errors are ignored: the client notices a broken connection itself.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}
