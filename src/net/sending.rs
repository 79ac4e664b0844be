//! Sending a request over a connection that may be stale.
//!
//! A request that breaks on a connection which was open already, before anything of an answer has
//! come, says nothing about the service: it is sent again at once, on a new connection, without
//! counting as a failure. Only for requests that may be sent twice.

use std::error::Error;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{ClientError, Endpoint, HttpClient, Protocol, causes};

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
    /// Sends a request that may be sent twice: one that breaks on a connection which was open
    /// already, before anything of an answer has come, is sent again at once on a new connection.
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
        let sent = match watched(prepare(&client).send()).await {
            (Err(error), Way::Open) if is_broken(&error) => {
                tracing::debug!(cause = causes(&error), "a connection was stale; the request goes out on a new one");
                self.pool.abandon(&clients);
                let client = self.to(endpoint).await.map_err(SendError::Client)?;
                prepare(&client).send().await
            }
            (sent, _) => sent,
        };
        sent.map_err(SendError::Transport)
    }
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

/// Whether a connection broke before anything of an answer had come. Where the other side refused
/// just this stream, the connection is as good as before.
fn is_broken(error: &reqwest::Error) -> bool {
    error.is_request() && !error.is_connect() && !error.is_timeout() && !is_refused_stream(error)
}

fn is_refused_stream(error: &(dyn Error + 'static)) -> bool {
    let refused = error.downcast_ref::<h2::Error>().is_some_and(h2::Error::is_reset);
    refused || error.source().is_some_and(is_refused_stream)
}
