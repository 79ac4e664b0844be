//! Playing back: a request is answered with what was recorded for one like it.
//!
//! Requests are alike when nothing but private words differs: they are redacted the same way and
//! compared then. Several answers to the same request come in the order of their recording, and from
//! the first again after the last. Times are those of the recording. Nothing here needs a network.

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

use super::redact::Redaction;
use super::{Cassette, End, directory};
use crate::error::{Fault, ProxyError, UpstreamFailure};

/// The cassettes of a directory.
#[derive(Debug)]
pub struct Player {
    directory: PathBuf,
    recorded: HashMap<String, Takes>,
    count: usize,
}

/// The answers to one request.
#[derive(Debug, Default)]
struct Takes {
    cassettes: Vec<Arc<Cassette>>,
    next: AtomicUsize,
}

/// A directory that can't be played from.
#[derive(Debug, thiserror::Error)]
pub enum Unplayable {
    /// It can't be read.
    #[error("{path}: {reason}")]
    Unreadable {
        /// The directory, or a file in it.
        path: String,
        /// Why not.
        reason: String,
    },
    /// There is nothing in it.
    #[error("{path} holds no cassettes; `codex-proxy serve --record {path}` makes some")]
    Empty {
        /// The directory.
        path: String,
    },
}

/// An answer as it was recorded.
#[derive(Debug)]
pub(in crate::upstream) struct Reel {
    cassette: Arc<Cassette>,
    began: Instant,
    next: usize,
    timer: Pin<Box<Sleep>>,
}

impl Player {
    /// Reads the cassettes of a directory.
    ///
    /// # Errors
    /// When the directory or a cassette can't be read, or there are none.
    pub fn load(directory: &Path) -> Result<Self, Unplayable> {
        let unreadable =
            |path: &Path, reason: String| Unplayable::Unreadable { path: path.display().to_string(), reason };
        let files = directory::files(directory).map_err(|error| unreadable(directory, error.to_string()))?;
        if files.is_empty() {
            return Err(Unplayable::Empty { path: directory.display().to_string() });
        }
        let mut recorded: HashMap<String, Takes> = HashMap::new();
        for path in &files {
            let cassette = directory::read(path).map_err(|reason| unreadable(path, reason))?;
            recorded.entry(cassette.head.request.sha256.clone()).or_default().cassettes.push(Arc::new(cassette));
        }
        Ok(Self { directory: directory.to_owned(), recorded, count: files.len() })
    }

    /// How many exchanges were recorded.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The next answer to a request like this one.
    pub(in crate::upstream) fn reel(&self, body: &[u8]) -> Result<Reel, ProxyError> {
        let (_, sum) = super::body(&mut Redaction::default(), body);
        let takes = self.recorded.get(&sum).ok_or_else(|| self.nothing_fits())?;
        let cassette = takes.cassettes.get(takes.next.fetch_add(1, Ordering::Relaxed) % takes.cassettes.len());
        let cassette = Arc::clone(cassette.ok_or_else(|| self.nothing_fits())?);
        let began = Instant::now();
        Ok(Reel { cassette, began, next: 0, timer: Box::pin(sleep_until(began)) })
    }

    fn nothing_fits(&self) -> ProxyError {
        let (count, directory) = (self.count, self.directory.display());
        ProxyError::Upstream(Box::new(UpstreamFailure {
            fault: Fault::InvalidRequest,
            status: None,
            code: Some("no_cassette".to_owned()),
            message: format!(
                "nothing was recorded for a request like this one: none of the {count} cassettes in {directory} fits \
                 (it has to have the same model, members and lengths of texts)"
            ),
            param: None,
            request_id: None,
            retry_after: None,
            resets_at: None,
            headers: HeaderMap::new(),
        }))
    }
}

impl Reel {
    /// Waits for the head of the answer; `Err` with how the exchange ended where none came.
    pub(in crate::upstream) async fn head(&self) -> Result<(u16, HeaderMap, Option<Bytes>), End> {
        let Some(answer) = &self.cassette.answer else {
            sleep_until(self.at(self.cassette.end.after_ms)).await;
            return Err(self.cassette.end.how);
        };
        sleep_until(self.at(answer.after_ms)).await;
        let header = |(name, value): (&String, &String)| {
            Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
        };
        let body = answer.body.as_ref().map(|body| Bytes::copy_from_slice(body.text().as_bytes()));
        Ok((answer.status, answer.headers.iter().filter_map(header).collect(), body))
    }

    /// The next event, when its time has come; after the last one the end.
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
                // The one who waits has a limit of its own.
                End::Silent => Poll::Pending,
                _ => Poll::Ready(Err(ProxyError::Truncated { cause: None })),
            };
        };
        self.next += 1;
        Poll::Ready(Ok(Bytes::copy_from_slice(event.data.text().as_bytes())))
    }

    fn at(&self, after_ms: u64) -> Instant {
        self.began + Duration::from_millis(after_ms)
    }
}
