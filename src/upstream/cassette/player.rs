//! Plays recorded responses with their original timing, without network access.
//!
//! A request gets the response of a recorded request whose body is equal after redaction. If there are several, they
//! are played in the order of their recording, and then again from the first.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::{Instant, Sleep, sleep_until};

use super::redact::Redactor;
use super::{Cassette, Outcome, directory};
use crate::error::{Fault, ProxyError, UpstreamFailure};

/// The cassettes of a directory.
#[derive(Debug)]
pub struct Player {
    directory: PathBuf,
    /// By the hash of the redacted request body.
    recorded: HashMap<String, Recordings>,
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
        let mut recorded: HashMap<String, Recordings> = HashMap::new();
        for path in &files {
            let cassette = directory::read(path).map_err(|reason| unreadable(path, reason))?;
            recorded.entry(cassette.head.request.sha256.clone()).or_default().cassettes.push(Arc::new(cassette));
        }
        Ok(Self { directory: directory.to_owned(), recorded, count: files.len() })
    }

    /// Number of cassettes loaded.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns the next response for a request with this body, and starts its clock.
    ///
    /// # Errors
    /// An invalid request, if no response is recorded for the body.
    pub(in crate::upstream) fn playback(&self, body: &[u8]) -> Result<Playback, ProxyError> {
        let (_, hash) = super::redact_body(&mut Redactor::default(), body);
        let recordings = self.recorded.get(&hash).ok_or_else(|| self.not_recorded())?;
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
                 model, members and text lengths"
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
    /// stream.
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
        let body = response.body.as_ref().map(|body| Bytes::copy_from_slice(body.text().as_bytes()));
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

    fn at(&self, after_ms: u64) -> Instant {
        self.started + Duration::from_millis(after_ms)
    }
}
