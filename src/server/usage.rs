//! `GET /usage`: quota, usage totals, cache statistics and recent requests.
//!
//! One [`Snapshot`] has all of it, for scripts and for the page. Taking one requests the quota from the backend if it
//! wasn't reported within the last minute, which uses none of the plan. If the backend doesn't respond, the snapshot
//! has the last known quota. The format is documented in `docs/usage.md`.

use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::sync::Arc;

use axum::extract::{Query, Request};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::access::OwnUsage;
use super::active_requests::RequestStatus;
use super::api_flavor::refuse;
use super::http_response::json_response;
use super::state::ServerState;
use super::{Backend, Services};
use crate::blocking::off_thread;
use crate::clock::{Clock as _, SystemClock, rfc3339};
use crate::error::Refusal;
use crate::history::{ConversationStats, Day, RequestFingerprint, UsageReport};
use crate::protocol::codex;
use crate::upstream::Quota;

/// Longest prefix of an item that is hashed.
const HASHED_BYTES: usize = 16 * 1024;
/// Days that are reported by default.
const DEFAULT_DAYS: u32 = 30;

/// The usage at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Snapshot {
    /// Version of this program.
    pub version: &'static str,
    /// When the snapshot was taken, RFC 3339.
    pub at: String,
    /// Whether responses are simulated or replayed.
    pub demo: bool,
    /// The quota of each account.
    pub quota: Vec<Quota>,
    /// Usage totals; `None` if the database can't be read.
    pub totals: Option<UsageReport>,
    /// Cache statistics of recent conversations, latest first.
    pub conversations: Vec<ConversationStats>,
    /// Requests under way, then recently ended ones; the latest first in each.
    pub requests: Vec<RequestStatus>,
}

/// The query parameters.
#[derive(Deserialize)]
struct UsageQuery {
    since: Option<String>,
}

impl Snapshot {
    /// Takes a snapshot of what a request may read. `since` is the first day of the totals; default: thirty days.
    pub(super) async fn take(
        services: &Services,
        state: &ServerState,
        since: Option<Day>,
        own: Option<&OwnUsage>,
    ) -> Self {
        services.upstream.refresh_quota(services.tokens.as_ref()).await;
        let since = since.unwrap_or_else(|| services.totals.today().back(DEFAULT_DAYS - 1));
        let all = Self {
            version: env!("CARGO_PKG_VERSION"),
            at: rfc3339(SystemClock.now()),
            demo: services.backend != Backend::ChatGpt,
            quota: services.upstream.quotas(),
            totals: services.totals.report(since).await,
            conversations: services.conversations.latest(),
            requests: state.active_requests.list(),
        };
        match own {
            Some(own) => all.limited_to(own),
            None => all,
        }
    }

    /// Limits a snapshot to one key: its requests and usage, and the quota of its account.
    fn limited_to(mut self, OwnUsage { key, account }: &OwnUsage) -> Self {
        if let Some(account) = account {
            self.quota.retain(|quota| quota.account_id == *account);
        }
        self.conversations.retain(|conversation| conversation.key.as_ref() == Some(key));
        self.requests.retain(|request| request.key.as_ref() == Some(key));
        Self { totals: self.totals.map(|totals| totals.of_key(key)), ..self }
    }
}

/// Responds with a snapshot.
pub(super) async fn show(services: Arc<Services>, state: Arc<ServerState>, request: Request) -> Response {
    let since = match Query::<UsageQuery>::try_from_uri(request.uri()).map(|Query(query)| query.since) {
        Ok(None) => None,
        Ok(Some(text)) => match Day::parse(&text, services.totals.today()) {
            Ok(day) => Some(day),
            Err(expected) => return refuse(&Refusal::invalid("since", format!("since: {expected}")), &request),
        },
        Err(_) => return refuse(&Refusal::invalid("since", "the query string is not valid"), &request),
    };
    let snapshot = Snapshot::take(&services, &state, since, request.extensions().get()).await;
    let body = serde_json::to_vec(&snapshot).expect("strings and numbers always serialize");
    json_response(StatusCode::OK, Bytes::from(body))
}

/// Hashes the parts of a request, to find where two requests begin to differ.
pub(super) fn fingerprint(request: &codex::Request<'_>) -> RequestFingerprint {
    off_thread(request.written_bytes(), || {
        let mut head = PrefixHasher::default();
        RequestFingerprint {
            model: head.hash(&request.model),
            instructions: head.hash(&request.instructions),
            tools: head.hash(&request.tools),
            items: request.input.iter().map(|item| head.hash(item)).collect(),
        }
    })
}

/// Hashes the prefix and the length of what is written, which detects almost any change of a long document. The prefix
/// is buffered because hashing one long slice is faster than many short ones.
#[derive(Default)]
struct PrefixHasher {
    start: Vec<u8>,
    bytes: usize,
}

impl PrefixHasher {
    fn hash<T: Serialize>(&mut self, part: &T) -> u64 {
        self.start.clear();
        self.bytes = 0;
        serde_json::to_writer(&mut *self, part).expect("strings and raw JSON always serialize");
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
