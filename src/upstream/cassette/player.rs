//! Plays recorded responses with their original timing, without network access.
//!
//! A request gets the response of a recorded request to the same endpoint whose body is equal after redaction. If there
//! are several, they are played in the order of their recording, and then again from the first.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::task::yield_now;
use tokio::time::{Instant, Sleep, sleep_until};

use super::redact::Redactor;
use super::{Cassette, Content, Outcome, RecordedEndpoint, directory};
use crate::error::{Fault, ProxyError, UpstreamFailure};

/// The cassettes of a directory.
#[derive(Debug)]
pub struct Player {
    directory: PathBuf,
    /// By endpoint, and the hash of the redacted request body.
    recorded: HashMap<(RecordedEndpoint, String), Recordings>,
    count: usize,
}

/// The recorded responses to one request.
#[derive(Debug, Default)]
struct Recordings {
    /// In the order of their recording; never empty.
    cassettes: Vec<Arc<Cassette>>,
    /// Number of responses played so far.
    next: AtomicUsize,
}

/// Why a directory can't be played.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The directory or a file can't be read.
    #[error("{path}: {reason}")]
    Unreadable {
        /// The directory, or a file in it.
        path: String,
        /// The reason.
        reason: String,
    },
    /// The directory has no cassettes.
    #[error("{path} contains no cassettes; record some with `codex-proxy serve --record {path}`")]
    Empty {
        /// The directory.
        path: String,
    },
}

/// A recorded response that is being played.
#[derive(Debug)]
pub(in crate::upstream) struct Playback {
    cassette: Arc<Cassette>,
    started: Instant,
    /// Index of the next event.
    next: usize,
    timer: Pin<Box<Sleep>>,
}

impl Player {
    /// Reads the cassettes of a directory.
    ///
    /// # Errors
    /// If the directory or a cassette can't be read, or there are no cassettes.
    pub fn load(directory: &Path) -> Result<Self, LoadError> {
        let unreadable =
            |path: &Path, reason: String| LoadError::Unreadable { path: path.display().to_string(), reason };
        let files = directory::files(directory).map_err(|error| unreadable(directory, error.to_string()))?;
        if files.is_empty() {
            return Err(LoadError::Empty { path: directory.display().to_string() });
        }
        let mut recorded: HashMap<_, Recordings> = HashMap::new();
        for path in &files {
            let cassette = directory::read(path).map_err(|reason| unreadable(path, reason))?;
            let request = &cassette.head.request;
            let key = (request.endpoint(), request.sha256.clone());
            recorded.entry(key).or_default().cassettes.push(Arc::new(cassette));
        }
        Ok(Self { directory: directory.to_owned(), recorded, count: files.len() })
    }

    /// Number of cassettes loaded.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns the next response for a request with these headers and this body, and starts its clock.
    ///
    /// # Errors
    /// An invalid request, if no response is recorded for it.
    pub(in crate::upstream) fn playback(
        &self,
        endpoint: RecordedEndpoint,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Playback, ProxyError> {
        let hash = Content::of_body(&mut Redactor::new(&endpoint), headers, body).sha256();
        let recordings = self.recorded.get(&(endpoint, hash)).ok_or_else(|| self.not_recorded())?;
        let cassette =
            recordings.cassettes.get(recordings.next.fetch_add(1, Ordering::Relaxed) % recordings.cassettes.len());
        let cassette = Arc::clone(cassette.ok_or_else(|| self.not_recorded())?);
        let started = Instant::now();
        Ok(Playback { cassette, started, next: 0, timer: Box::pin(sleep_until(started)) })
    }

    fn not_recorded(&self) -> ProxyError {
        let (count, directory) = (self.count, self.directory.display());
        ProxyError::Upstream(Box::new(UpstreamFailure {
            fault: Fault::InvalidRequest,
            status: None,
            code: Some("no_cassette".to_owned()),
            message: format!(
                "no response is recorded for this request: none of the {count} cassettes in {directory} has the same \
                 endpoint, model, members and text lengths"
            ),
            param: None,
            request_id: None,
            retry_after: None,
            resets_at: None,
            headers: HeaderMap::new(),
        }))
    }
}

impl Playback {
    /// Waits until the head of the response is due, and returns its status, headers, and body if it isn't an event
    /// stream. The body is due at the end of the recording, see [`Self::into_chunks`].
    ///
    /// # Errors
    /// How the recorded attempt ended, if it got no response.
    pub(in crate::upstream) async fn head(&self) -> Result<(u16, HeaderMap, Option<Bytes>), Outcome> {
        let Some(response) = &self.cassette.response else {
            sleep_until(self.at(self.cassette.end.after_ms)).await;
            return Err(self.cassette.end.how);
        };
        sleep_until(self.at(response.after_ms)).await;
        let header = |(name, value): (&String, &String)| {
            Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
        };
        let body = response.body.as_ref().map(Content::bytes);
        Ok((response.status, response.headers.iter().filter_map(header).collect(), body))
    }

    /// Returns the next event when it is due. After the last one, reports a cut connection, or nothing if the recorded
    /// response timed out.
    pub(in crate::upstream) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, ProxyError>> {
        let cassette = Arc::clone(&self.cassette);
        let next = cassette.events.get(self.next);
        let due = self.at(next.map_or(cassette.end.after_ms, |event| event.after_ms));
        if self.timer.deadline() < due {
            self.timer.as_mut().reset(due);
        }
        ready!(self.timer.as_mut().poll(cx));
        let Some(event) = next else {
            return match cassette.end.how {
                // The timeout of the event stream ends the wait.
                Outcome::Silent => Poll::Pending,
                _ => Poll::Ready(Err(ProxyError::Truncated { cause: None })),
            };
        };
        self.next += 1;
        Poll::Ready(Ok(Bytes::copy_from_slice(event.data.text().as_bytes())))
    }

    /// Returns a body when it is due, and then how the recorded response ended, if that wasn't its regular end.
    pub(in crate::upstream) fn into_chunks(self, body: Bytes) -> impl Stream<Item = io::Result<Bytes>> + Send {
        let (due, how) = (self.at(self.cassette.end.after_ms), self.cassette.end.how);
        let body = async move {
            sleep_until(due).await;
            Ok(body)
        };
        let end = async move {
            match how {
                Outcome::Whole => None,
                // The timeout of the reader ends the wait.
                Outcome::Silent => std::future::pending().await,
                _ => {
                    // The server discards what it hasn't written when it reads an error.
                    yield_now().await;
                    Some(Err(io::ErrorKind::UnexpectedEof.into()))
                }
            }
        };
        stream::once(body).chain(stream::once(end).filter_map(std::future::ready))
    }

    fn at(&self, after_ms: u64) -> Instant {
        self.started + Duration::from_millis(after_ms)
    }
}
