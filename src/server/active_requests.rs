//! The requests that are under way, and the last ones that have ended, for whoever looks.
//!
//! A request is noted when it comes, when it gets a place, when it is sent, when its answer begins and
//! when it ends: never for a piece of an answer. It lives in memory, and as much as it may hold is
//! fixed: of a crowd beyond that only the number is known. There is no content in it, no header and no
//! address; of a client no more than the kind of program it says to be.

mod user_agent;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::USER_AGENT;
use serde::{Serialize, Serializer};
use tokio::time::Instant;

use crate::excerpt::{NAME_CHARACTERS, excerpt};
use crate::history::Tokens;

/// Requests under way that are listed.
const MAX_ACTIVE: usize = 256;
/// Requests that have ended and are remembered.
const MAX_ENDED: usize = 20;

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It waits for its turn.
    Queued,
    /// It is read and sent, and nothing of its answer has come.
    Waiting,
    /// Its answer comes.
    Answering,
    /// It is over.
    Ended,
}

/// A request as it stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RequestStatus {
    /// Its id, as in the log and in `x-request-id`.
    pub id: String,
    /// When it came.
    #[serde(serialize_with = "rfc3339")]
    pub started_at: SystemTime,
    /// Whose API it speaks: `chat`, `messages`, …
    pub dialect: &'static str,
    /// The backend's name of the model, once that is known.
    pub model: Option<String>,
    /// Name of the client key; `None`: none was asked for.
    pub key: Option<String>,
    /// The program that it comes from, as far as it says so.
    pub client: Option<String>,
    /// How far it is.
    pub state: Stage,
    /// From its coming to the first content of its answer.
    pub first_content_ms: Option<u64>,
    /// From its coming to its end, or to now.
    pub duration_ms: u64,
    /// What it took, once the backend has said so.
    pub tokens: Option<Tokens>,
    /// How it ended: `completed`, `incomplete`, `refused`, `client_left`, …
    pub outcome: Option<String>,
    /// The class of the error that it ended in.
    pub error: Option<&'static str>,
}

/// How a request ended.
#[derive(Debug)]
pub(super) struct RequestEnd<'r> {
    pub(super) outcome: &'r str,
    pub(super) error: Option<&'static str>,
    pub(super) tokens: Option<Tokens>,
}

/// Who a request comes from.
#[derive(Debug)]
pub(super) struct NewRequest<'r> {
    pub(super) id: &'r str,
    pub(super) dialect: &'static str,
    pub(super) key: Option<&'r str>,
    pub(super) headers: &'r HeaderMap,
    pub(super) at: SystemTime,
    pub(super) began: Instant,
}

/// The place of a request on the list; none for one that nobody has introduced, or in a crowd.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ActiveRequestId(Option<u64>);

/// The list.
#[derive(Debug, Default)]
pub(super) struct ActiveRequests(Mutex<Lists>);

#[derive(Debug, Default)]
struct Lists {
    next: u64,
    /// Those under way, and since when they are.
    active: BTreeMap<u64, (RequestStatus, Instant)>,
    ended: VecDeque<RequestStatus>,
}

impl ActiveRequests {
    /// A request has come.
    pub(super) fn came(&self, caller: &NewRequest<'_>) -> ActiveRequestId {
        let agent = caller.headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
        let visit = RequestStatus {
            id: caller.id.to_owned(),
            started_at: caller.at,
            dialect: caller.dialect,
            model: None,
            key: caller.key.map(str::to_owned),
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
        lists.active.insert(number, (visit, caller.began));
        ActiveRequestId(Some(number))
    }

    /// It has got a place.
    pub(super) fn entered(&self, ticket: ActiveRequestId) {
        self.change(ticket, |visit| visit.state = Stage::Waiting);
    }

    /// It is sent.
    pub(super) fn planned(&self, ticket: ActiveRequestId, model: &str) {
        self.change(ticket, |visit| {
            visit.model = Some(excerpt(model, NAME_CHARACTERS).to_owned());
        });
    }

    /// Its answer has begun, so long after it came.
    pub(super) fn answers(&self, ticket: ActiveRequestId, after: Duration) {
        self.change(ticket, |visit| {
            visit.state = Stage::Answering;
            visit.first_content_ms = Some(milliseconds(after));
        });
    }

    /// It is over.
    pub(super) fn ended(&self, ticket: ActiveRequestId, ending: &RequestEnd<'_>) {
        let Some(number) = ticket.0 else { return };
        let mut lists = self.lock();
        let Some((mut visit, began)) = lists.active.remove(&number) else { return };
        visit.state = Stage::Ended;
        visit.duration_ms = milliseconds(began.elapsed());
        visit.outcome = Some(ending.outcome.to_owned());
        visit.error = ending.error;
        visit.tokens = ending.tokens;
        lists.ended.truncate(MAX_ENDED - 1);
        lists.ended.push_front(visit);
    }

    /// All of them: those under way first, the latest first in each.
    pub(super) fn list(&self) -> Vec<RequestStatus> {
        let lists = self.lock();
        let active = lists.active.values().rev().map(|(visit, began)| {
            let duration_ms = milliseconds(began.elapsed());
            RequestStatus { duration_ms, ..visit.clone() }
        });
        active.chain(lists.ended.iter().cloned()).collect()
    }

    fn change(&self, ticket: ActiveRequestId, change: impl FnOnce(&mut RequestStatus)) {
        let Some(number) = ticket.0 else { return };
        if let Some((visit, _)) = self.lock().active.get_mut(&number) {
            change(visit);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lists> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_seconds(*time))
}

#[cfg(test)]
pub(super) mod tests;
