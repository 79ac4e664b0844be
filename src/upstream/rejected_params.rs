//! Remembers request members that the backend rejects, and leaves them out of further requests.
//!
//! A member is remembered for one model and one hour, and only once a request without it was accepted, so that a single
//! odd rejection doesn't affect other models or later requests. The client finds the members that were left out of its
//! request in `x-proxy-warnings`.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::blocking::off_thread;
use crate::protocol::codex::Request;
use crate::protocol::codex::request::Omissions;

/// How long a rejection is remembered.
const TTL: Duration = Duration::from_secs(60 * 60);
/// How many rejections are remembered; further ones are not. Clients choose model names, so memory must be bounded.
const MAX_ENTRIES: usize = 64;

/// A member that requests for a model leave out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedParam {
    /// The backend's name of the model.
    pub model: String,
    /// Name of the member.
    pub member: String,
}

/// The remembered rejections: model and member, and when the entry expires.
#[derive(Debug, Default)]
pub(super) struct RejectedParams(Mutex<BTreeMap<(String, String), Instant>>);

impl RejectedParams {
    /// The members to leave out for a model.
    pub(super) fn for_model(&self, model: &str) -> Omissions {
        let entries = self.lock();
        entries.keys().filter(|(entry, _)| entry == model).map(|(_, member)| member.clone()).collect()
    }

    /// Records that the backend accepted a request for a model without this member, after it had rejected it.
    pub(super) fn learn(&self, model: &str, member: &str) {
        let mut entries = self.lock();
        let key = (model.to_owned(), member.to_owned());
        if entries.len() >= MAX_ENTRIES && !entries.contains_key(&key) {
            return;
        }
        if entries.insert(key, Instant::now() + TTL).is_none() {
            tracing::warn!(model, member, "the backend rejects a request member: leaving it out for an hour");
        }
    }

    /// All current entries.
    pub(super) fn read(&self) -> Vec<RejectedParam> {
        self.lock().keys().cloned().map(|(model, member)| RejectedParam { model, member }).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), Instant>> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !entries.is_empty() {
            let now = Instant::now();
            entries.retain(|_, expires| *expires > now);
        }
        entries
    }
}

/// Returns a warning for each member that this request has and that is left out.
pub(super) fn omission_warnings(request: &Request<'_>, omitted: &Omissions) -> Vec<String> {
    if omitted.is_empty() {
        return Vec::new();
    }
    let has = members(request, &Omissions::new());
    omitted.iter().filter(|member| has.contains(*member)).map(|member| format!("ignored:{member}")).collect()
}

/// Whether the body has this member, after the omissions.
pub(super) fn has_member(request: &Request<'_>, omitted: &Omissions, member: &str) -> bool {
    members(request, omitted).contains(member)
}

/// The names of the top-level members of a request's body, after the omissions.
fn members(request: &Request<'_>, omitted: &Omissions) -> HashSet<String> {
    off_thread(request.written_bytes(), || {
        let body = request.encode(omitted);
        let members: Result<HashMap<Cow<'_, str>, &RawValue>, _> = serde_json::from_slice(&body);
        members.unwrap_or_default().into_keys().map(Cow::into_owned).collect()
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{MAX_ENTRIES, RejectedParam, RejectedParams, TTL};

    #[tokio::test(start_paused = true)]
    async fn a_rejection_is_forgotten_after_an_hour() {
        let params = RejectedParams::default();
        params.learn("m", "service_tier");
        tokio::time::advance(TTL.checked_sub(Duration::from_secs(1)).unwrap()).await;
        assert!(params.for_model("m").contains("service_tier") && params.for_model("n").is_empty());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(params.for_model("m").is_empty() && params.read().is_empty());
        params.learn("m", "service_tier");
        assert_eq!(params.read(), [RejectedParam { model: "m".to_owned(), member: "service_tier".to_owned() }]);
    }

    #[tokio::test]
    async fn the_number_of_entries_is_bounded() {
        let params = RejectedParams::default();
        for number in 0..2 * MAX_ENTRIES {
            params.learn(&format!("m-{number}"), "service_tier");
        }
        assert_eq!(params.read().len(), MAX_ENTRIES);
        assert!(params.for_model("m-0").contains("service_tier"));
    }
}
