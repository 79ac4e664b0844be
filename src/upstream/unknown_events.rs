//! What the backend says and this program has no word for: new events, members and items.
//!
//! It is carried unread, as ever; here it is only counted, so that somebody notices. A known piece of
//! content is not looked at but for the first of a stream. Names come from elsewhere: one that does not
//! look like a word of the protocol is `unnamed`, and past so many of them all others are `other`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::cassette::is_word;
use super::event_class;

/// Names that are counted apart.
const MAX_NAMES: usize = 48;

const EVENTS: &[&str] = &[
    "codex.rate_limits",
    "codex.response.metadata",
    "error",
    "keepalive",
    "response.completed",
    "response.content_part.added",
    "response.content_part.done",
    "response.created",
    "response.custom_tool_call_input.done",
    "response.done",
    "response.failed",
    "response.function_call_arguments.done",
    "response.image_generation_call.completed",
    "response.image_generation_call.generating",
    "response.image_generation_call.in_progress",
    "response.image_generation_call.partial_image",
    "response.in_progress",
    "response.incomplete",
    "response.metadata",
    "response.output_item.added",
    "response.output_item.done",
    "response.output_text.annotation.added",
    "response.output_text.done",
    "response.queued",
    "response.reasoning_summary_part.added",
    "response.reasoning_summary_part.done",
    "response.reasoning_summary_text.done",
    "response.reasoning_text.done",
    "response.refusal.done",
    "response.safety_buffering",
    "response.web_search_call.completed",
    "response.web_search_call.in_progress",
    "response.web_search_call.searching",
];
/// Events that tell of the account and the connection; their members are read elsewhere, or nowhere.
const REMARKS: &[&str] = &["codex.", "error", "keepalive", "response.metadata", "response.safety_buffering"];
const MEMBERS: &[&str] = &[
    "annotation",
    "annotation_index",
    "arguments",
    "call_id",
    "content_index",
    "delta",
    "input",
    "item",
    "item_id",
    "logprobs",
    "name",
    "obfuscation",
    "output_format",
    "output_index",
    "part",
    "partial_image_b64",
    "partial_image_index",
    "quality",
    "background",
    "size",
    "refusal",
    "response",
    "sequence_number",
    "summary_index",
    "text",
    "type",
];
const ITEMS: &[&str] = &[
    "compaction",
    "compaction_summary",
    "context_compaction",
    "custom_tool_call",
    "function_call",
    "image_generation_call",
    "local_shell_call",
    "message",
    "reasoning",
    "tool_search_call",
    "tool_search_output",
    "web_search_call",
];

/// What has been counted of one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strange {
    /// What it names: `event`, `member` (with its event in front) or `item`.
    pub what: Cow<'static, str>,
    /// The name.
    pub name: String,
    /// How often it came.
    pub count: u64,
}

/// The counts since the process began.
#[derive(Debug, Default)]
pub(super) struct Drift(Mutex<BTreeMap<(&'static str, String), u64>>);

/// What an event says that has no name here. Nothing is kept of what is known: this is on the way of
/// every answer.
#[derive(Debug, Default)]
struct Unknown<'a> {
    members: Vec<Cow<'a, str>>,
    item: Option<Cow<'a, str>>,
}

/// A name, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<Name<'a>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Unknown<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UnknownVisitor)
    }
}

struct UnknownVisitor;

impl<'de> Visitor<'de> for UnknownVisitor {
    type Value = Unknown<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut unknown = Unknown::default();
        while let Some(Name(name)) = map.next_key()? {
            if name == "item" {
                let item = map.next_value::<Option<Kind<'de>>>()?.and_then(|item| item.kind);
                unknown.item = item.map(|Name(kind)| kind).filter(|kind| !ITEMS.contains(&&**kind));
                continue;
            }
            map.next_value::<IgnoredAny>()?;
            if !MEMBERS.contains(&&*name) {
                unknown.members.push(name);
            }
        }
        Ok(unknown)
    }
}

impl Drift {
    /// Looks at an event that is no known piece of content, or the first of them.
    pub(super) fn look(&self, data: &[u8]) {
        // What can't be read is somebody else's to tell.
        let Some(kind) = event_class::kind(data) else { return };
        if !EVENTS.contains(&&*kind) && !event_class::is_known_delta(&kind) {
            return self.note("event", &kind);
        }
        if REMARKS.iter().any(|remark| kind.starts_with(remark)) {
            return;
        }
        let Ok(unknown) = serde_json::from_slice::<Unknown<'_>>(data) else { return };
        for member in unknown.members {
            self.note("member", &format!("{kind}:{member}"));
        }
        if let Some(item) = unknown.item {
            self.note("item", &item);
        }
    }

    fn note(&self, what: &'static str, name: &str) {
        let name = if is_word(name) { name } else { "unnamed" };
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (what, name.to_owned());
        let has_room = seen.len() < MAX_NAMES || seen.contains_key(&key);
        let count = seen.entry(if has_room { key } else { (what, "other".to_owned()) }).or_default();
        *count += 1;
        let is_first = *count == 1;
        drop(seen);
        if is_first {
            tracing::info!(what, name, "the backend says something that this release does not know; it is passed on");
        }
    }

    pub(super) fn read(&self) -> Vec<Strange> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let strange = |(&(what, ref name), &count): (&(&'static str, String), &u64)| Strange {
            what: Cow::Borrowed(what),
            name: name.clone(),
            count,
        };
        seen.iter().map(strange).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Drift, MAX_NAMES};

    fn seen(events: &[&str]) -> Vec<(String, String, u64)> {
        let drift = Drift::default();
        for event in events {
            drift.look(event.as_bytes());
        }
        drift.read().into_iter().map(|strange| (strange.what.into_owned(), strange.name, strange.count)).collect()
    }

    fn one(what: &str, name: &str, count: u64) -> (String, String, u64) {
        (what.to_owned(), name.to_owned(), count)
    }

    #[test]
    fn what_is_known_is_not_counted() {
        for event in [
            r#"{"type":"response.output_text.delta","item_id":"a","delta":"x","logprobs":[],"obfuscation":"y"}"#,
            r#"{"type":"response.output_item.done","item":{"type":"message","whatever":1}}"#,
            r#"{"type":"codex.rate_limits","credits":{},"plan_type":"plus"}"#,
            r#"{"type":"error","status":400,"headers":{}}"#,
            "not json",
            "{}",
        ] {
            assert_eq!(seen(&[event]), [], "{event}");
        }
    }

    #[test]
    fn what_is_new_is_counted_by_its_name() {
        let new = r#"{"type":"response.dream.delta","delta":"x"}"#;
        let member = r#"{"type":"response.created","mood":1,"response":{}}"#;
        let item = r#"{"type":"response.output_item.added","item":{"type":"dream_call"}}"#;
        let counted = [
            one("event", "response.dream.delta", 2),
            one("item", "dream_call", 1),
            one("member", "response.created:mood", 1),
        ];
        assert_eq!(seen(&[new, member, new, item]), counted);
    }

    #[test]
    fn names_are_words_and_there_are_not_too_many() {
        let secret = r#"{"type":"me@example.com \"} 1\n"}"#;
        assert_eq!(seen(&[secret]), [one("event", "unnamed", 1)]);
        let letters = |number: usize| char::from(b'a' + u8::try_from(number % 26).unwrap());
        let events: Vec<String> = (0..1000)
            .map(|number| format!(r#"{{"type":"dream.{}{}"}}"#, letters(number / 26), letters(number)))
            .collect();
        let counted = seen(&events.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(counted.len() <= MAX_NAMES + 1);
        assert_eq!(counted.iter().map(|(_, _, count)| count).sum::<u64>(), 1000);
    }
}
