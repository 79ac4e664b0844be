//! Sends requests, and sends them again if a pooled connection turns out to be stale.
//!
//! If a pooled connection breaks before any part of a response has arrived, the backend may still have executed and
//! billed the request. The request is therefore sent again, at once and on a new connection, only in these cases:
//! - The connection closed before the request was written, or the server reports that it ignored the request
//!   (`REFUSED_STREAM`, or `GOAWAY` with an earlier stream). The HTTP library does this itself.
//! - The request is safe (GET).
//! - All connections had been idle for more than five seconds, so the connection was probably closed while it was idle.
//!
//! In all other cases the caller gets an error; the retries of the caller are counted and limited. Whenever a pooled
//! connection breaks, all pooled connections are abandoned, so that retries use new ones.

use std::error::Error;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{ClientError, HttpClient, InUse, Protocol, error_chain};
use crate::endpoint::Endpoint;

/// A connection that breaks after it was idle for longer than this was probably closed while idle.
pub(crate) const STALE_AFTER: Duration = Duration::from_secs(5);

tokio::task_local! {
    /// Whether the request that is being sent has opened a connection.
    static OPENED: AtomicBool;
}

/// Why a request got no response.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The client could not be built.
    #[error(transparent)]
    Client(ClientError),
    /// The request could not be sent, or its connection broke.
    #[error(transparent)]
    Transport(reqwest::Error),
}

/// The connection that a request was sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UsedConnection {
    /// Opened for the request.
    New,
    /// Opened for an earlier request.
    Pooled,
}

impl HttpClient {
    /// Sends the request that `prepare` builds, and sends it again if its connection was stale (see the module
    /// documentation).
    ///
    /// # Errors
    /// If the client can't be built, or no response arrived.
    pub async fn send(
        &self,
        endpoint: &Endpoint,
        prepare: impl Fn(&reqwest::Client) -> reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, SendError> {
        let clients = self.clients();
        let client = self.client(&clients.streaming, Protocol::Any, endpoint).await.map_err(SendError::Client)?;
        let request = prepare(&client).build().map_err(SendError::Transport)?;
        let (in_use, idle) = clients.start_request();
        let may_repeat = request.method().is_safe() || idle.is_some_and(|idle| idle > STALE_AFTER);
        let sent = match observed(client.execute(request)).await {
            (Err(error), UsedConnection::Pooled) if is_broken(&error) => {
                tracing::debug!(cause = error_chain(&error), may_repeat, "a pooled connection broke");
                // The other connections may be dead too, and the caller's retry must not use one of them.
                self.pool.abandon(&clients);
                if may_repeat {
                    return self.send_once(endpoint, prepare).await;
                }
                Err(error)
            }
            (sent, _) => sent,
        };
        guarded(sent, in_use)
    }

    /// Sends a request on the current clients, once.
    async fn send_once(
        &self,
        endpoint: &Endpoint,
        prepare: impl Fn(&reqwest::Client) -> reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, SendError> {
        let clients = self.clients();
        let client = self.client(&clients.streaming, Protocol::Any, endpoint).await.map_err(SendError::Client)?;
        let (in_use, _) = clients.start_request();
        guarded(prepare(&client).send().await, in_use)
    }
}

/// Attaches the in-progress guard to the response.
fn guarded(sent: reqwest::Result<reqwest::Response>, in_use: InUse) -> Result<reqwest::Response, SendError> {
    let mut response = sent.map_err(SendError::Transport)?;
    in_use.attach(&mut response);
    Ok(response)
}

/// Records that a connection was opened for the current request. Has no effect outside a request: the HTTP library
/// may finish opening a connection after a pooled one became free.
pub(super) fn note_opened() {
    let _ = OPENED.try_with(|opened| opened.store(true, Ordering::Relaxed));
}

/// Awaits `sending`, and returns its output and the connection it used.
async fn observed<T>(sending: impl Future<Output = T>) -> (T, UsedConnection) {
    let sent = async {
        let outcome = sending.await;
        let is_new = OPENED.with(|opened| opened.load(Ordering::Relaxed));
        (outcome, if is_new { UsedConnection::New } else { UsedConnection::Pooled })
    };
    OPENED.scope(AtomicBool::new(false), sent).await
}

/// Whether the connection broke before any part of a response had arrived. If the server reset only this stream, it
/// has seen the request, and the connection still works.
fn is_broken(error: &reqwest::Error) -> bool {
    error.is_request() && !error.is_connect() && !error.is_timeout() && !is_reset_stream(error)
}

/// The downcast needs the version of `h2` that hyper uses; a test fails if they differ.
fn is_reset_stream(error: &(dyn Error + 'static)) -> bool {
    let is_reset = error.downcast_ref::<h2::Error>().is_some_and(h2::Error::is_reset);
    is_reset || error.source().is_some_and(is_reset_stream)
}
