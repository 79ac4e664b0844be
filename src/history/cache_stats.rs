//! Records how much of each conversation's input came from the backend's prompt cache and, if it was little, why.
//!
//! If a request starts with the complete previous request of its conversation, the backend can read that part from its
//! cache; if it doesn't, the backend is the cause. If the request starts differently (other instructions, other tools,
//! a rewritten history), the client is. Only hashes, token counts, and the names of model and client key are stored, in
//! memory, for the latest turns (a request and its response) of the latest conversations.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::Tokens;
use crate::clock::serialize_rfc3339;

const MAX_CONVERSATIONS: usize = 64;
/// Per conversation.
const MAX_TURNS: usize = 8;
/// Hex digits of the hash that identifies a conversation.
const ID_DIGITS: usize = 12;
/// The backend doesn't cache shorter prompts.
const MIN_CACHED_TOKENS: u64 = 1024;

/// The latest conversations, shared by all requests.
#[derive(Debug, Default)]
pub struct CacheStats(Mutex<VecDeque<TrackedConversation>>);

/// Identifies a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationKey {
    /// Name of the client key, if keys are configured.
    pub key: Option<String>,
    /// Id of the account.
    pub account: String,
    /// The prompt cache key.
    pub cache_key: String,
}

/// Hashes of the parts of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestFingerprint {
    /// Hash of the model's name.
    pub model: u64,
    /// Hash of the instructions.
    pub instructions: u64,
    /// Hash of the tools.
    pub tools: u64,
    /// Hash of each input item.
    pub items: Vec<u64>,
}

/// How the beginning of a request compares with the previous request of the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PrefixMatch {
    /// There is no previous request.
    First,
    /// It starts with the complete previous request.
    Kept,
    /// It starts differently.
    Changed,
}

/// The first part in which two requests differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangedPart {
    /// The model.
    Model,
    /// The instructions.
    Instructions,
    /// The tools.
    Tools,
    /// The input items.
    Input,
}

/// Why little of a prompt came from the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LowCacheCause {
    /// The client changed the beginning of the request.
    Client,
    /// The beginning was unchanged, and the backend didn't use its cache.
    Upstream,
}

/// Cache statistics of a turn.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TurnStats {
    /// When it ended.
    #[serde(serialize_with = "serialize_rfc3339")]
    pub at: SystemTime,
    /// Tokens of the input.
    pub input_tokens: u64,
    /// Input tokens that came from the cache.
    pub cached_tokens: u64,
    /// How the request starts compared with the previous turn's.
    pub prefix: PrefixMatch,
    /// The first part that differs, if one does.
    pub changed_in: Option<ChangedPart>,
    /// Set if the previous turn's input was long enough to be cached, and less than half as many tokens came from the
    /// cache now.
    pub low_because: Option<LowCacheCause>,
}

/// Cache statistics of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConversationStats {
    /// A hash of its client key's name, account and prompt cache key.
    pub id: String,
    /// Name of the client key, if keys are configured.
    pub key: Option<String>,
    /// The backend's name for the model of its latest turn.
    pub model: String,
    /// Its latest turns, oldest first.
    pub turns: Vec<TurnStats>,
}

#[derive(Debug)]
struct TrackedConversation {
    conversation: ConversationStats,
    /// That of its latest request.
    fingerprint: RequestFingerprint,
}

impl CacheStats {
    /// Records a turn that has ended, and compares its request with the previous turn's.
    pub fn record(
        &self,
        key: ConversationKey,
        model: &str,
        fingerprint: RequestFingerprint,
        tokens: Tokens,
        at: SystemTime,
    ) {
        let id = key.id();
        let mut tracked = self.tracked();
        let index = tracked.iter().position(|tracked| tracked.conversation.id == id);
        let found = index.and_then(|index| tracked.remove(index));
        let mut turns = found.as_ref().map(|found| found.conversation.turns.clone()).unwrap_or_default();
        turns.push(turn(found.as_ref(), &fingerprint, tokens, at));
        if turns.len() > MAX_TURNS {
            turns.remove(0);
        }
        if tracked.len() >= MAX_CONVERSATIONS {
            tracked.pop_front();
        }
        let conversation = ConversationStats { id, key: key.key, model: model.to_owned(), turns };
        tracked.push_back(TrackedConversation { conversation, fingerprint });
    }

    /// Returns the most recent conversations, newest first.
    #[must_use]
    pub fn latest(&self) -> Vec<ConversationStats> {
        self.tracked().iter().rev().map(|tracked| tracked.conversation.clone()).collect()
    }

    fn tracked(&self) -> MutexGuard<'_, VecDeque<TrackedConversation>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn turn(
    before: Option<&TrackedConversation>,
    fingerprint: &RequestFingerprint,
    tokens: Tokens,
    at: SystemTime,
) -> TurnStats {
    let changed_in = before.and_then(|before| fingerprint.first_difference(&before.fingerprint));
    let (prefix, cause) = match (before, changed_in) {
        (None, _) => (PrefixMatch::First, None),
        (Some(_), None) => (PrefixMatch::Kept, Some(LowCacheCause::Upstream)),
        (Some(_), Some(_)) => (PrefixMatch::Changed, Some(LowCacheCause::Client)),
    };
    let earlier = before.and_then(|before| before.conversation.turns.last()).map_or(0, |turn| turn.input_tokens);
    let is_low = earlier >= MIN_CACHED_TOKENS && tokens.cached < earlier / 2;
    TurnStats {
        at,
        input_tokens: tokens.input,
        cached_tokens: tokens.cached,
        prefix,
        changed_in,
        low_because: cause.filter(|_| is_low),
    }
}

impl RequestFingerprint {
    /// Returns the first part in which this request doesn't start with an earlier one.
    fn first_difference(&self, earlier: &Self) -> Option<ChangedPart> {
        let is_other = [
            (ChangedPart::Model, self.model != earlier.model),
            (ChangedPart::Instructions, self.instructions != earlier.instructions),
            (ChangedPart::Tools, self.tools != earlier.tools),
            (ChangedPart::Input, !self.items.starts_with(&earlier.items)),
        ];
        is_other.into_iter().find_map(|(change, is_other)| is_other.then_some(change))
    }
}

impl ConversationKey {
    /// Returns a hash of the key.
    fn id(&self) -> String {
        let mut hash = Sha256::new();
        for part in [self.key.as_deref().unwrap_or_default(), &self.account, &self.cache_key] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        format!("{:.ID_DIGITS$x}", hash.finalize())
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::{
        CacheStats, ChangedPart, ConversationKey, LowCacheCause, MAX_CONVERSATIONS, MAX_TURNS, PrefixMatch,
        RequestFingerprint,
    };
    use crate::history::Tokens;

    fn key(cache_key: &str) -> ConversationKey {
        ConversationKey { key: None, account: "a".to_owned(), cache_key: cache_key.to_owned() }
    }

    fn request(tools: u64, items: &[u64]) -> RequestFingerprint {
        RequestFingerprint { model: 1, instructions: 2, tools, items: items.to_vec() }
    }

    fn record(conversations: &CacheStats, cache_key: &str, request: RequestFingerprint, input: u64, cached: u64) {
        let tokens = Tokens { input, cached, ..Tokens::default() };
        conversations.record(key(cache_key), "m", request, tokens, UNIX_EPOCH);
    }

    #[test]
    fn the_cause_of_a_low_share_is_the_client_or_upstream() {
        let conversations = CacheStats::default();
        for (request, input, cached) in [
            (request(3, &[10]), 2000, 0),
            (request(3, &[10, 11, 12]), 4000, 1920),
            (request(3, &[10, 11, 12, 13]), 6000, 0),
            (request(3, &[10, 99, 12, 13, 14]), 6000, 640),
            (request(4, &[10, 99, 12, 13, 14]), 6000, 0),
            (request(4, &[10, 99, 12, 13, 14]), 6000, 5900),
        ] {
            record(&conversations, "k", request, input, cached);
        }
        let turns = conversations.latest().remove(0).turns;
        let found: Vec<_> = turns.iter().map(|turn| (turn.prefix, turn.changed_in, turn.low_because)).collect();
        let expected = [
            (PrefixMatch::First, None, None),
            (PrefixMatch::Kept, None, None),
            (PrefixMatch::Kept, None, Some(LowCacheCause::Upstream)),
            (PrefixMatch::Changed, Some(ChangedPart::Input), Some(LowCacheCause::Client)),
            (PrefixMatch::Changed, Some(ChangedPart::Tools), Some(LowCacheCause::Client)),
            (PrefixMatch::Kept, None, None),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_prompt_that_is_too_short_for_the_cache_has_no_cause() {
        let conversations = CacheStats::default();
        record(&conversations, "k", request(3, &[10]), 1023, 0);
        record(&conversations, "k", request(3, &[9]), 1023, 0);
        assert_eq!(conversations.latest()[0].turns[1].low_because, None);
    }

    #[test]
    fn conversations_and_turns_are_bounded_and_the_latest_come_first() {
        let conversations = CacheStats::default();
        for number in 0..=MAX_CONVERSATIONS {
            record(&conversations, &number.to_string(), request(3, &[]), 1, 0);
        }
        for _ in 0..MAX_TURNS {
            record(&conversations, "1", request(3, &[]), 2, 0);
        }
        let latest = conversations.latest();
        assert_eq!(latest.len(), MAX_CONVERSATIONS);
        assert_eq!(latest[0].turns.len(), MAX_TURNS);
        assert!(latest[0].turns.iter().all(|turn| turn.input_tokens == 2));
        let written = serde_json::to_value(&latest[0]).unwrap();
        let turn = serde_json::json!({
            "at": "1970-01-01T00:00:00Z", "input_tokens": 2, "cached_tokens": 0,
            "prefix": "kept", "changed_in": null, "low_because": null,
        });
        assert_eq!(written["turns"][1], turn);
        assert_eq!(written["id"].as_str().map(str::len), Some(12));
    }
}
