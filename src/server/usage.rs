//! `GET /usage`: quota, usage totals, cache statistics and recent requests.
//!
//! One [`Snapshot`] has all of it, for scripts and for the page. If the active account's quota is older than a minute,
//! taking a snapshot requests it from the backend, which doesn't count against the quota. If the backend doesn't
//! respond, the snapshot has the last known quota. The format is documented in `docs/usage.md`.
//!
//! [`fingerprint`] hashes requests for the cache statistics.

use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::sync::Arc;

use axum::extract::{Query, Request};
use axum::response::Response;
use http::request::Parts;
use serde::{Deserialize, Serialize};

use super::access::OwnUsage;
use super::active_requests::RequestStatus;
use super::api_flavor::refuse;
use super::batches::BatchProgress;
use super::http_response::json;
use super::state::ServerState;
use super::{Backend, Services, account};
use crate::blocking::off_thread;
use crate::clock::{Clock as _, SystemClock, rfc3339};
use crate::error::Refusal;
use crate::history::{ConversationStats, Day, RequestFingerprint, UsageReport};
use crate::protocol::codex;
use crate::token_source::CredentialSource;
use crate::upstream::Quota;

/// How much of each part of a request is hashed; beyond that, only its length counts.
const MAX_HASHED_BYTES: usize = 16 * 1024;
/// Days that are reported by default.
const DEFAULT_DAYS: u32 = 30;

/// The usage at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Snapshot {
    /// Version of this program.
    pub version: &'static str,
    /// When the snapshot was taken, RFC 3339.
    pub at: String,
    /// True for the demo and for replay: responses and numbers don't come from ChatGPT.
    pub demo: bool,
    /// The last reported quota of each account used since the start.
    pub quota: Vec<Quota>,
    /// Usage totals; `None` if the database can't be read.
    pub totals: Option<UsageReport>,
    /// Cache statistics of recent conversations, latest first.
    pub conversations: Vec<ConversationStats>,
    /// Requests under way, then recently ended ones; each group latest first.
    pub requests: Vec<RequestStatus>,
    /// Batches that haven't ended, oldest first.
    pub batches: Vec<BatchProgress>,
}

/// Query parameters of `GET /usage`.
#[derive(Deserialize)]
struct UsageQuery {
    since: Option<String>,
}

impl Snapshot {
    /// Takes a snapshot for a request, with what its key may see. `since` is the first day of the totals; default: the
    /// last thirty days.
    pub(super) async fn take(services: &Services, state: &ServerState, since: Option<Day>, request: &Parts) -> Self {
        services.upstream.refresh_quota(account::optional_tokens(&request.headers, services).as_ref()).await;
        let since = since.unwrap_or_else(|| services.totals.today().back(DEFAULT_DAYS - 1));
        let all = Self {
            version: env!("CARGO_PKG_VERSION"),
            at: rfc3339(SystemClock.now()),
            demo: services.backend != Backend::ChatGpt,
            quota: services.upstream.quotas(),
            totals: services.totals.report(since).await,
            conversations: services.conversations.latest(),
            requests: state.active_requests.list(),
            batches: state.batches.progress(&services.files).await,
        };
        let visible = match request.extensions.get::<OwnUsage>() {
            Some(own) => all.limited_to(own),
            None => all,
        };
        match services.tokens.credentials() {
            CredentialSource::Store => visible,
            CredentialSource::Client => visible.of_login(account::of_client(&request.headers, services).as_deref()),
        }
    }

    /// Limits the quota to that of the client's own account.
    fn of_login(mut self, account_id: Option<&str>) -> Self {
        self.quota.retain(|quota| Some(quota.account_id.as_str()) == account_id);
        self
    }

    /// Limits a snapshot to one key: its requests and usage, and the quota of its account.
    fn limited_to(mut self, OwnUsage { key, account }: &OwnUsage) -> Self {
        if let Some(account) = account {
            self.quota.retain(|quota| quota.account_id == *account);
        }
        self.conversations.retain(|conversation| conversation.key.as_ref() == Some(key));
        self.requests.retain(|request| request.key.as_ref() == Some(key));
        self.batches.retain(|batch| batch.key.as_ref() == Some(key));
        Self { totals: self.totals.map(|totals| totals.of_key(key)), ..self }
    }
}

/// `GET /usage`. Responds with a snapshot of what the request's key may see.
pub(super) async fn show(services: Arc<Services>, state: Arc<ServerState>, request: Request) -> Response {
    let since = match Query::<UsageQuery>::try_from_uri(request.uri()).map(|Query(query)| query.since) {
        Ok(None) => None,
        Ok(Some(text)) => match Day::parse(&text, services.totals.today()) {
            Ok(day) => Some(day),
            Err(expected) => return refuse(&Refusal::invalid("since", format!("since: {expected}")), &request),
        },
        Err(_) => return refuse(&Refusal::invalid("since", "the query string is not valid"), &request),
    };
    let (parts, _) = request.into_parts();
    let snapshot = Snapshot::take(&services, &state, since, &parts).await;
    json(&snapshot)
}

/// Hashes the parts of a request, for the cache statistics: the first part that differs from the previous request of
/// the conversation explains a cache miss.
pub(super) fn fingerprint(request: &codex::Request<'_>) -> RequestFingerprint {
    off_thread(request.written_bytes(), || {
        let mut hasher = PrefixHasher::default();
        RequestFingerprint {
            model: hasher.hash(&request.model),
            instructions: hasher.hash(&request.instructions),
            tools: hasher.hash(&request.tools),
            items: request.input.iter().map(|item| hasher.hash(item)).collect(),
        }
    })
}

/// Hashes the first [`MAX_HASHED_BYTES`] of what is written and its length, which detects almost any change of a long
/// part. The prefix is buffered because hashing one long slice is faster than many short ones.
#[derive(Default)]
struct PrefixHasher {
    prefix: Vec<u8>,
    /// Including those after the prefix.
    written_bytes: usize,
}

impl PrefixHasher {
    fn hash<T: Serialize>(&mut self, part: &T) -> u64 {
        self.prefix.clear();
        self.written_bytes = 0;
        serde_json::to_writer(&mut *self, part).expect("strings and raw JSON always serialize");
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.prefix);
        hasher.write_usize(self.written_bytes);
        hasher.finish()
    }
}

impl io::Write for PrefixHasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = MAX_HASHED_BYTES.saturating_sub(self.written_bytes);
        self.prefix.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        self.written_bytes += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
