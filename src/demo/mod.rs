//! A simulated ChatGPT backend and sign-in service, so that the proxy can be tried without an account.
//!
//! It listens on a loopback port of its own and is spoken to exactly like the real services: same
//! paths, same headers, same event streams, tokens that end and are refreshed. It refuses what the
//! real backend refuses, so that a mistake in a request shows here first. Every answer says that no
//! model wrote it. It must not be on the path to the real services, and it keeps nothing.
//!
//! Words in a prompt make things go wrong on purpose, see [`FAULT_WORDS`].

mod backend;
mod issuer;
mod reply;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::secret::Secret;
use issuer::Sessions;

pub use backend::FAULT_WORDS;

/// Left of the signed-in token's life: less than any margin at which a client refreshes.
const FIRST_TOKEN_LIFE: Duration = Duration::from_secs(60);
/// Pause after the system refused a connection, so that a lack of descriptors doesn't spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The simulated services. Dropping it stops them and cuts their connections.
pub struct Demo {
    address: SocketAddr,
    sessions: Arc<Sessions>,
    server: JoinHandle<()>,
    cut: CancellationToken,
}

/// The tokens of a simulated sign-in.
#[derive(Clone, Debug)]
pub struct DemoLogin {
    /// Names the person, whose address is under `.invalid`.
    pub id_token: Secret,
    /// About to end, so that its first use refreshes it.
    pub access_token: Secret,
    /// Good for one refresh.
    pub refresh_token: Secret,
    /// The account that the tokens speak for.
    pub account_id: String,
}

impl Demo {
    /// Starts the services on a free loopback port; `clock` tells when a token ends.
    ///
    /// # Errors
    /// When no loopback port can be had.
    #[expect(
        clippy::disallowed_methods,
        reason = "the server lives as long as its Demo, beside the requests it answers"
    )]
    pub async fn start(clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let sessions = Arc::new(Sessions::new(format!("http://{address}"), clock));
        let cut = CancellationToken::new();
        let backend = backend::router(Arc::clone(&sessions), cut.clone());
        let router = issuer::router(Arc::clone(&sessions)).merge(backend);
        let server = tokio::spawn(accept(listener, router));
        Ok(Self { address, sessions, server, cut })
    }

    /// Base of the model endpoints, as `upstream.url` takes it.
    #[must_use]
    pub fn backend_url(&self) -> String {
        format!("http://{}/backend-api/codex", self.address)
    }

    /// Base of the sign-in service, as `auth.url` takes it.
    #[must_use]
    pub fn issuer_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Signs in, as if a person had done so almost an hour ago. Each call is a login of its own.
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
}

impl fmt::Debug for Demo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Demo").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.server.abort();
        self.cut.cancel();
    }
}

async fn accept(listener: TcpListener, router: Router) {
    // Dropped with this future, it ends all connections.
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
    // Without it a word waits for the word before it to be acknowledged; the stream still works.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router);
    // A connection that breaks is the client's to notice.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}
