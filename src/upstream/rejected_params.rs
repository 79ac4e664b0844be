//! Request members that the backend refuses, and without which it accepts a request.
//!
//! Learned for a model once a request without the member was accepted, and forgotten after an hour:
//! one odd refusal must change neither the requests of other models nor those of tomorrow. Clients
//! read in `x-proxy-warnings` what was left out of their request.

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

/// How long a refusal is believed.
const LEARNED_FOR: Duration = Duration::from_secs(60 * 60);
/// How many refusals are remembered. A model's name is the client's word until the backend accepts it.
const MAX_LEARNED: usize = 64;

/// A member that requests for a model leave out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Omitted {
    /// The backend's name of the model.
    pub model: String,
    /// The member.
    pub member: String,
}

/// What was learned: model and member, and until when it holds.
#[derive(Debug, Default)]
pub(super) struct Learned(Mutex<BTreeMap<(String, String), Instant>>);

impl Learned {
    /// The members to leave out for a model.
    pub(super) fn of(&self, model: &str) -> Omissions {
        let learned = self.lock();
        learned.keys().filter(|(learned, _)| learned == model).map(|(_, member)| member.clone()).collect()
    }

    /// Takes note that the backend accepted a request for a model without this member.
    pub(super) fn learn(&self, model: &str, member: &str) {
        let mut learned = self.lock();
        let key = (model.to_owned(), member.to_owned());
        if learned.len() >= MAX_LEARNED && !learned.contains_key(&key) {
            return;
        }
        if learned.insert(key, Instant::now() + LEARNED_FOR).is_none() {
            tracing::warn!(model, member, "the backend refuses a member of requests; it is left out for an hour");
        }
    }

    /// Everything that is left out now.
    pub(super) fn read(&self) -> Vec<Omitted> {
        self.lock().keys().cloned().map(|(model, member)| Omitted { model, member }).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), Instant>> {
        let mut learned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !learned.is_empty() {
            let now = Instant::now();
            learned.retain(|_, until| *until > now);
        }
        learned
    }
}

/// A warning for each member that this request would have had.
pub(super) fn left_out(request: &Request<'_>, omitted: &Omissions) -> Vec<String> {
    if omitted.is_empty() {
        return Vec::new();
    }
    let has = members(request, &Omissions::new());
    omitted.iter().filter(|member| has.contains(*member)).map(|member| format!("ignored:{member}")).collect()
}

/// Whether the body of a request has this member.
pub(super) fn has_member(request: &Request<'_>, omitted: &Omissions, member: &str) -> bool {
    members(request, omitted).contains(member)
}

/// The members of the body of a request.
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

    use super::{LEARNED_FOR, Learned, MAX_LEARNED, Omitted};

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_forgotten_after_an_hour() {
        let learned = Learned::default();
        learned.learn("m", "service_tier");
        tokio::time::advance(LEARNED_FOR.checked_sub(Duration::from_secs(1)).unwrap()).await;
        assert!(learned.of("m").contains("service_tier") && learned.of("n").is_empty());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(learned.of("m").is_empty() && learned.read().is_empty());
        learned.learn("m", "service_tier");
        assert_eq!(learned.read(), [Omitted { model: "m".to_owned(), member: "service_tier".to_owned() }]);
    }

    #[tokio::test]
    async fn a_bounded_number_is_remembered() {
        let learned = Learned::default();
        for number in 0..2 * MAX_LEARNED {
            learned.learn(&format!("m-{number}"), "service_tier");
        }
        assert_eq!(learned.read().len(), MAX_LEARNED);
        assert!(learned.of("m-0").contains("service_tier"));
    }
}
