//! `GET /usage`: the quota, what was used, and how much of it came from the cache.
//!
//! One [`Snapshot`] holds it all, for scripts and for whoever shows it to people. Taking one asks the
//! backend for the quota where nothing was told of it within a minute, which spends nothing of the
//! plan; where it does not answer, what is known is told. Described in `docs/usage.md`.

use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{Query, Request};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::access::OwnUsage;
use super::active_requests::RequestStatus;
use super::api_flavor::refuse;
use super::http_response::json_response;
use super::metrics::ServerState;
use super::{Backend, Services};
use crate::blocking::off_thread;
use crate::clock::{Clock as _, SystemClock};
use crate::error::Refusal;
use crate::history::{Conversation, Day, Fingerprint, Report};
use crate::protocol::codex;
use crate::upstream::Quota;

/// How much of an item is hashed.
const HASHED_BYTES: usize = 16 * 1024;
/// How many days are told when nobody says since when.
const DAYS: u32 = 30;

/// What is known about the usage at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Snapshot {
    /// The release of this program.
    pub version: &'static str,
    /// When it was taken, RFC 3339.
    pub at: String,
    /// Whether no model answers, but the simulated backend or a replay.
    pub demo: bool,
    /// What is known of each account's quota.
    pub quota: Vec<Quota>,
    /// What was used; `None`: the file can't be read right now.
    pub totals: Option<Report>,
    /// The latest conversations, the latest one first.
    pub conversations: Vec<Conversation>,
    /// The requests under way, then those that ended last; the latest first in each.
    pub requests: Vec<RequestStatus>,
}

/// What can be asked for.
#[derive(Deserialize)]
struct UsageQuery {
    since: Option<String>,
}

impl Snapshot {
    /// Takes one of what a request may see; `since`: the first day of the totals, else the last thirty days.
    pub(super) async fn take(
        services: &Services,
        state: &ServerState,
        since: Option<Day>,
        own: Option<&OwnUsage>,
    ) -> Self {
        services.upstream.look_for(services.tokens.as_ref()).await;
        let since = since.unwrap_or_else(|| services.totals.today().back(DAYS - 1));
        let all = Self {
            version: env!("CARGO_PKG_VERSION"),
            at: timestamp(SystemClock.now()),
            demo: services.backend != Backend::ChatGpt,
            quota: services.upstream.quotas(),
            totals: services.totals.report(since).await,
            conversations: services.conversations.latest(),
            requests: state.active_requests.list(),
        };
        match own {
            Some(own) => all.of_key(own),
            None => all,
        }
    }

    /// What concerns one key: its own requests, and the quota of the accounts that it can use.
    fn of_key(mut self, OwnUsage { key, account }: &OwnUsage) -> Self {
        if let Some(account) = account {
            self.quota.retain(|quota| quota.account_id == *account);
        }
        self.conversations.retain(|conversation| conversation.key.as_ref() == Some(key));
        self.requests.retain(|visit| visit.key.as_ref() == Some(key));
        Self { totals: self.totals.map(|totals| totals.of_key(key)), ..self }
    }
}

pub(super) fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// Answers with a snapshot.
pub(super) async fn show(services: Arc<Services>, state: Arc<ServerState>, request: Request) -> Response {
    let since = match Query::<UsageQuery>::try_from_uri(request.uri()).map(|Query(wanted)| wanted.since) {
        Ok(None) => None,
        Ok(Some(text)) => match Day::parse(&text, services.totals.today()) {
            Ok(day) => Some(day),
            Err(expected) => return refuse(&Refusal::invalid("since", format!("since: {expected}")), &request),
        },
        Err(_) => return refuse(&Refusal::invalid("since", "the query can't be read"), &request),
    };
    let snapshot = Snapshot::take(&services, &state, since, request.extensions().get()).await;
    let body = serde_json::to_vec(&snapshot).expect("texts and numbers always serialise");
    json_response(StatusCode::OK, Bytes::from(body))
}

/// What a request says, as hashes: enough to see where two of them begin to differ.
pub(super) fn fingerprint(request: &codex::Request<'_>) -> Fingerprint {
    off_thread(request.written_bytes(), || {
        let mut head = PrefixHasher::default();
        Fingerprint {
            model: head.hash(&request.model),
            instructions: head.hash(&request.instructions),
            tools: head.hash(&request.tools),
            items: request.input.iter().map(|item| head.hash(item)).collect(),
        }
    })
}

/// The beginning of what is written to it, and how long it gets: a long document that is changed keeps
/// neither, but for rare cases. The pieces are gathered, since a hash takes one long text faster than
/// many short ones.
#[derive(Default)]
struct PrefixHasher {
    start: Vec<u8>,
    bytes: usize,
}

impl PrefixHasher {
    fn hash<T: Serialize>(&mut self, part: &T) -> u64 {
        self.start.clear();
        self.bytes = 0;
        serde_json::to_writer(&mut *self, part).expect("strings and raw JSON always serialise");
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.start);
        hasher.write_usize(self.bytes);
        hasher.finish()
    }
}

impl io::Write for PrefixHasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = HASHED_BYTES.saturating_sub(self.bytes);
        self.start.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        self.bytes += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
