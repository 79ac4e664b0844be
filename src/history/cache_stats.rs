//! How much of each conversation came from the backend's cache, and whose doing that was.
//!
//! A turn whose request begins with the whole of the one before can be read from the cache, as far
//! as that reached; if it is not, that is the backend's doing. One that begins otherwise (other
//! instructions, other tools, a history that was rewritten) is the client's. Only hashes and numbers
//! are kept, in memory, of the latest turns of the latest conversations.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::Tokens;

const MAX_CONVERSATIONS: usize = 64;
const MAX_TURNS: usize = 8;
/// As much of a hash as tells conversations apart.
const ID_BYTES: usize = 6;
/// The backend caches nothing shorter.
const SHORTEST_CACHED_TOKENS: u64 = 1024;

/// The conversations, shared by all requests.
#[derive(Debug, Default)]
pub struct Conversations(Mutex<VecDeque<Kept>>);

/// Which conversation a request belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Name of the client key, where keys are set.
    pub key: Option<String>,
    /// Id of the account that answers.
    pub account: String,
    /// The prompt cache key.
    pub cache_key: String,
}

/// What a request says, as hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// Of the model's name.
    pub model: u64,
    /// Of the instructions.
    pub instructions: u64,
    /// Of the tools on offer.
    pub tools: u64,
    /// Of each item of the input.
    pub items: Vec<u64>,
}

/// How a request begins, beside the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Prefix {
    /// There is none before it.
    First,
    /// With the whole of it.
    Kept,
    /// Otherwise.
    Changed,
}

/// Where two requests begin to differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// In the model.
    Model,
    /// In the instructions.
    Instructions,
    /// In the tools.
    Tools,
    /// In the conversation itself.
    Input,
}

/// Whose doing it is that little came from the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// The request began otherwise than the one before.
    Client,
    /// It began with the whole of it.
    Upstream,
}

/// A turn that has ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Turn {
    /// When it ended.
    #[serde(serialize_with = "rfc3339")]
    pub at: SystemTime,
    /// Tokens of the prompt.
    pub input_tokens: u64,
    /// Those of them that came from the cache.
    pub cached_tokens: u64,
    /// How the request began, beside the one of the turn before.
    pub prefix: Prefix,
    /// Where it differed first.
    pub changed_in: Option<Change>,
    /// Whose doing it is, where less than half of the prompt before came from the cache.
    pub low_because: Option<Cause>,
}

/// A conversation and its latest turns.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Conversation {
    /// Stands for its prompt cache key, which is not told.
    pub id: String,
    /// Name of the client key, where keys are set.
    pub key: Option<String>,
    /// The backend's name of the model of its latest turn.
    pub model: String,
    /// Its latest turns, oldest first.
    pub turns: Vec<Turn>,
}

#[derive(Debug)]
struct Kept {
    conversation: Conversation,
    fingerprint: Fingerprint,
}

impl Conversations {
    /// Takes note of a turn that has ended, and compares its request with that of the turn before.
    pub fn ended(&self, subject: Subject, model: &str, fingerprint: Fingerprint, tokens: Tokens, at: SystemTime) {
        let id = subject.id();
        let mut kept = self.kept();
        let found = kept.iter().position(|kept| kept.conversation.id == id).and_then(|index| kept.remove(index));
        let mut turns = found.as_ref().map(|kept| kept.conversation.turns.clone()).unwrap_or_default();
        turns.push(turn(found.as_ref(), &fingerprint, tokens, at));
        if turns.len() > MAX_TURNS {
            turns.remove(0);
        }
        if kept.len() >= MAX_CONVERSATIONS {
            kept.pop_front();
        }
        let conversation = Conversation { id, key: subject.key, model: model.to_owned(), turns };
        kept.push_back(Kept { conversation, fingerprint });
    }

    /// The latest conversations, the latest one first.
    #[must_use]
    pub fn latest(&self) -> Vec<Conversation> {
        self.kept().iter().rev().map(|kept| kept.conversation.clone()).collect()
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn turn(before: Option<&Kept>, fingerprint: &Fingerprint, tokens: Tokens, at: SystemTime) -> Turn {
    let changed_in = before.and_then(|before| fingerprint.differs_from(&before.fingerprint));
    let (prefix, cause) = match (before, changed_in) {
        (None, _) => (Prefix::First, None),
        (Some(_), None) => (Prefix::Kept, Some(Cause::Upstream)),
        (Some(_), Some(_)) => (Prefix::Changed, Some(Cause::Client)),
    };
    let earlier = before.and_then(|before| before.conversation.turns.last()).map_or(0, |turn| turn.input_tokens);
    let is_low = earlier >= SHORTEST_CACHED_TOKENS && tokens.cached < earlier / 2;
    Turn {
        at,
        input_tokens: tokens.input,
        cached_tokens: tokens.cached,
        prefix,
        changed_in,
        low_because: cause.filter(|_| is_low),
    }
}

impl Fingerprint {
    /// Where this request does not begin with the whole of an earlier one.
    fn differs_from(&self, earlier: &Self) -> Option<Change> {
        let is_other = [
            (Change::Model, self.model != earlier.model),
            (Change::Instructions, self.instructions != earlier.instructions),
            (Change::Tools, self.tools != earlier.tools),
            (Change::Input, !self.items.starts_with(&earlier.items)),
        ];
        is_other.into_iter().find_map(|(change, is_other)| is_other.then_some(change))
    }
}

impl Subject {
    /// Stands for the conversation, and does not tell its key.
    fn id(&self) -> String {
        let mut hash = Sha256::new();
        for part in [self.key.as_deref().unwrap_or_default(), &self.account, &self.cache_key] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut id = String::new();
        for byte in hash.finalize().iter().take(ID_BYTES) {
            write!(id, "{byte:02x}").expect("writing to a string can't fail");
        }
        id
    }
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_seconds(*time))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::{Cause, Change, Conversations, Fingerprint, MAX_CONVERSATIONS, MAX_TURNS, Prefix, Subject};
    use crate::history::Tokens;

    fn subject(cache_key: &str) -> Subject {
        Subject { key: None, account: "a".to_owned(), cache_key: cache_key.to_owned() }
    }

    fn request(tools: u64, items: &[u64]) -> Fingerprint {
        Fingerprint { model: 1, instructions: 2, tools, items: items.to_vec() }
    }

    fn say(conversations: &Conversations, cache_key: &str, request: Fingerprint, input: u64, cached: u64) {
        let tokens = Tokens { input, cached, ..Tokens::default() };
        conversations.ended(subject(cache_key), "m", request, tokens, UNIX_EPOCH);
    }

    #[test]
    fn a_low_share_is_seen_to_be_upstream_s_or_the_client_s() {
        let conversations = Conversations::default();
        for (request, input, cached) in [
            (request(3, &[10]), 2000, 0),
            (request(3, &[10, 11, 12]), 4000, 1920),
            (request(3, &[10, 11, 12, 13]), 6000, 0),
            (request(3, &[10, 99, 12, 13, 14]), 6000, 640),
            (request(4, &[10, 99, 12, 13, 14]), 6000, 0),
            (request(4, &[10, 99, 12, 13, 14]), 6000, 5900),
        ] {
            say(&conversations, "k", request, input, cached);
        }
        let turns = conversations.latest().remove(0).turns;
        let told: Vec<_> = turns.iter().map(|turn| (turn.prefix, turn.changed_in, turn.low_because)).collect();
        let expected = [
            (Prefix::First, None, None),
            (Prefix::Kept, None, None),
            (Prefix::Kept, None, Some(Cause::Upstream)),
            (Prefix::Changed, Some(Change::Input), Some(Cause::Client)),
            (Prefix::Changed, Some(Change::Tools), Some(Cause::Client)),
            (Prefix::Kept, None, None),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_too_short_for_the_cache_is_nobody_s_fault() {
        let conversations = Conversations::default();
        say(&conversations, "k", request(3, &[10]), 1023, 0);
        say(&conversations, "k", request(3, &[9]), 1023, 0);
        assert_eq!(conversations.latest()[0].turns[1].low_because, None);
    }

    #[test]
    fn conversations_and_turns_are_bounded_and_the_latest_come_first() {
        let conversations = Conversations::default();
        for number in 0..=MAX_CONVERSATIONS {
            say(&conversations, &number.to_string(), request(3, &[]), 1, 0);
        }
        for _ in 0..MAX_TURNS {
            say(&conversations, "1", request(3, &[]), 2, 0);
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
