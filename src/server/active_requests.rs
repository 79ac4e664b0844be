//! The requests under way, and the latest that have ended, for the page and `/usage`.
//!
//! An entry changes when its request arrives, gets a permit, is sent, gets its first content and ends, not with each
//! event. The list is in memory and bounded. It has no content, headers or addresses; of the client, only the kind of
//! program from its `User-Agent`.

mod user_agent;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::USER_AGENT;
use serde::Serialize;
use tokio::time::Instant;

use crate::clock::serialize_rfc3339;
use crate::excerpt::{NAME_CHARACTERS, excerpt};
use crate::history::Tokens;

/// Maximum number of listed requests under way. A request that arrives when there are so many is never listed.
const MAX_ACTIVE: usize = 256;
/// Maximum number of listed requests that have ended.
const MAX_ENDED: usize = 20;

/// The progress of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Its body is being read, or it waits for a permit or in the background.
    Queued,
    /// It has a permit, and the backend hasn't sent content yet.
    Waiting,
    /// The first content of the response has arrived.
    Answering,
    /// The request has ended.
    Ended,
}

/// The state of a request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RequestStatus {
    /// The id, as in the log and in `x-request-id`.
    pub id: String,
    /// When it arrived.
    #[serde(serialize_with = "serialize_rfc3339")]
    pub started_at: SystemTime,
    /// The API: `chat`, `messages`, …
    pub dialect: &'static str,
    /// The backend's name of the model, once known.
    pub model: Option<String>,
    /// Name of the client key, if keys are set.
    pub key: Option<String>,
    /// The client program, from its `User-Agent`.
    pub client: Option<String>,
    /// The progress.
    pub state: Stage,
    /// Milliseconds from arrival to the first content.
    pub first_content_ms: Option<u64>,
    /// Milliseconds from arrival to the end, or until now.
    pub duration_ms: u64,
    /// Token usage, if the backend reported it.
    pub tokens: Option<Tokens>,
    /// The outcome: `completed`, `incomplete`, `refused`, `client_left`, …
    pub outcome: Option<String>,
    /// The class of the error, if it failed.
    pub error: Option<&'static str>,
}

/// How a request ended.
#[derive(Debug)]
pub(super) struct RequestEnd<'r> {
    pub(super) outcome: &'r str,
    pub(super) error: Option<&'static str>,
    pub(super) tokens: Option<Tokens>,
}

/// A request that has arrived.
#[derive(Debug)]
pub(super) struct NewRequest<'r> {
    pub(super) id: &'r str,
    pub(super) dialect: &'static str,
    pub(super) key: Option<&'r str>,
    pub(super) headers: &'r HeaderMap,
    /// When it arrived, to show.
    pub(super) at: SystemTime,
    /// When it arrived, to measure durations.
    pub(super) began: Instant,
}

/// Identifies a request in the list; `None` for one that isn't listed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ActiveRequestId(Option<u64>);

/// The list of requests.
#[derive(Debug, Default)]
pub(super) struct ActiveRequests(Mutex<Lists>);

#[derive(Debug, Default)]
struct Lists {
    next: u64,
    /// Requests under way, and when they arrived.
    active: BTreeMap<u64, (RequestStatus, Instant)>,
    ended: VecDeque<RequestStatus>,
}

impl ActiveRequests {
    /// Adds a request, unless the list is full.
    pub(super) fn add(&self, request: &NewRequest<'_>) -> ActiveRequestId {
        let agent = request.headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
        let status = RequestStatus {
            id: request.id.to_owned(),
            started_at: request.at,
            dialect: request.dialect,
            model: None,
            key: request.key.map(str::to_owned),
            client: agent.and_then(user_agent::of),
            state: Stage::Queued,
            first_content_ms: None,
            duration_ms: 0,
            tokens: None,
            outcome: None,
            error: None,
        };
        let mut lists = self.lock();
        if lists.active.len() >= MAX_ACTIVE {
            return ActiveRequestId(None);
        }
        let number = lists.next;
        lists.next += 1;
        lists.active.insert(number, (status, request.began));
        ActiveRequestId(Some(number))
    }

    /// Records that a request in the background waits again.
    pub(super) fn mark_queued(&self, id: ActiveRequestId) {
        self.update(id, |status| status.state = Stage::Queued);
    }

    pub(super) fn mark_waiting(&self, id: ActiveRequestId) {
        self.update(id, |status| status.state = Stage::Waiting);
    }

    pub(super) fn set_model(&self, id: ActiveRequestId, model: &str) {
        self.update(id, |status| {
            status.model = Some(excerpt(model, NAME_CHARACTERS).to_owned());
        });
    }

    /// Records that the first content has arrived, this long after the request.
    pub(super) fn mark_answering(&self, id: ActiveRequestId, after: Duration) {
        self.update(id, |status| {
            status.state = Stage::Answering;
            status.first_content_ms = Some(milliseconds(after));
        });
    }

    /// Moves a request to the ended ones.
    pub(super) fn finish(&self, id: ActiveRequestId, end: &RequestEnd<'_>) {
        let Some(number) = id.0 else { return };
        let mut lists = self.lock();
        let Some((mut status, began)) = lists.active.remove(&number) else { return };
        status.state = Stage::Ended;
        status.duration_ms = milliseconds(began.elapsed());
        status.outcome = Some(end.outcome.to_owned());
        status.error = end.error;
        status.tokens = end.tokens;
        lists.ended.truncate(MAX_ENDED - 1);
        lists.ended.push_front(status);
    }

    /// All listed requests: those under way, then ended ones; each group latest first.
    pub(super) fn list(&self) -> Vec<RequestStatus> {
        let lists = self.lock();
        let active = lists.active.values().rev().map(|(status, began)| {
            let duration_ms = milliseconds(began.elapsed());
            RequestStatus { duration_ms, ..status.clone() }
        });
        active.chain(lists.ended.iter().cloned()).collect()
    }

    fn update(&self, id: ActiveRequestId, update: impl FnOnce(&mut RequestStatus)) {
        let Some(number) = id.0 else { return };
        if let Some((status, _)) = self.lock().active.get_mut(&number) {
            update(status);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lists> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests;
