//! Sending a request over a connection that may be stale.
//!
//! A request that breaks on a pooled connection before anything of a response has come may still have
//! been executed, and a second one would be billed, too. It is sent again at once, on a new connection
//! and without counting as a failure, only if nothing can have been sent or the connection is stale:
//! - The HTTP library sends a request again if the connection closed before the request was written,
//!   or if the server says that it ignored it (`REFUSED_STREAM`, or `GOAWAY` with an earlier stream).
//! - A safe request (GET) may be sent twice.
//! - The connection had been idle for more than five seconds: it was closed in the meantime, by the
//!   server, a firewall or a change of networks.
//!
//! Anything else is an error for the caller, whose retries are counted and limited. Whenever an open connection
//! breaks, all of them are abandoned, so that retries use new ones.

use std::error::Error;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{ClientError, HttpClient, InUse, Protocol, error_chain};

/// A connection that breaks after having been idle for longer than this was closed while it was idle.
pub(crate) const STALE_AFTER: Duration = Duration::from_secs(5);

tokio::task_local! {
    /// Whether the request that is being sent has opened a connection of its own.
    static OPENED: AtomicBool;
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No client could be made.
    #[error(transparent)]
    Client(ClientError),
    /// The connection, or the way to it.
    #[error(transparent)]
    Transport(reqwest::Error),
}

/// The connection that a request went over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Opened for it.
    New,
    /// One that was open already.
    Open,
}

impl HttpClient {
    /// Sends a request. One that breaks on a stale connection is sent again at once on a new one (see
    /// the module).
    ///
    /// # Errors
    /// When no client can be had, or no answer came.
    pub async fn send(
        &self,
        endpoint: &Endpoint,
        prepare: impl Fn(&reqwest::Client) -> reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, SendError> {
        let clients = self.clients();
        let client = self.client(&clients.streaming, Protocol::Any, endpoint).await.map_err(SendError::Client)?;
        let request = prepare(&client).build().map_err(SendError::Transport)?;
        let (in_use, idle) = clients.use_now();
        let may_repeat = request.method().is_safe() || idle.is_some_and(|idle| idle > STALE_AFTER);
        let sent = match watched(client.execute(request)).await {
            (Err(error), Way::Open) if is_broken(&error) => {
                tracing::debug!(cause = error_chain(&error), may_repeat, "an open connection broke");
                // The other connections may be dead, too. A retry of the caller must not use one of them.
                self.pool.abandon(&clients);
                if may_repeat {
                    return self.send_anew(endpoint, prepare).await;
                }
                Err(error)
            }
            (sent, _) => sent,
        };
        answered(sent, in_use)
    }

    /// Sends a request on the current clients, and not again if it breaks.
    async fn send_anew(
        &self,
        endpoint: &Endpoint,
        prepare: impl Fn(&reqwest::Client) -> reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, SendError> {
        let clients = self.clients();
        let client = self.client(&clients.streaming, Protocol::Any, endpoint).await.map_err(SendError::Client)?;
        let (in_use, _) = clients.use_now();
        answered(prepare(&client).send().await, in_use)
    }
}

/// The response, which counts as under way while it exists.
fn answered(sent: reqwest::Result<reqwest::Response>, in_use: InUse) -> Result<reqwest::Response, SendError> {
    let mut response = sent.map_err(SendError::Transport)?;
    in_use.attach(&mut response);
    Ok(response)
}

/// Notes that a connection was opened for the request at hand. One that loses the race against a
/// pooled one is opened outside of any request.
pub(super) fn note_opened() {
    let _ = OPENED.try_with(|opened| opened.store(true, Ordering::Relaxed));
}

/// Sends a request and tells over which connection it went.
async fn watched<T>(sending: impl Future<Output = T>) -> (T, Way) {
    let sent = async {
        let outcome = sending.await;
        let is_new = OPENED.with(|opened| opened.load(Ordering::Relaxed));
        (outcome, if is_new { Way::New } else { Way::Open })
    };
    OPENED.scope(AtomicBool::new(false), sent).await
}

/// Whether a connection broke before anything of a response had come. If the server ended just this
/// stream, it has seen the request, and the connection is as good as before.
fn is_broken(error: &reqwest::Error) -> bool {
    error.is_request() && !error.is_connect() && !error.is_timeout() && !is_reset_stream(error)
}

/// The downcast needs the version of `h2` that hyper uses: a test fails if they part.
fn is_reset_stream(error: &(dyn Error + 'static)) -> bool {
    let is_reset = error.downcast_ref::<h2::Error>().is_some_and(h2::Error::is_reset);
    is_reset || error.source().is_some_and(is_reset_stream)
}
