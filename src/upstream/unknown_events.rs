//! Counts event types, event members and item types that this release doesn't know, so that protocol changes are
//! noticed.
//!
//! Only counts: the data is passed on unchanged. Of the known deltas, only the first in a stream is inspected. The
//! backend chooses the names, so a name that doesn't look like a protocol word is counted as `unnamed`, and once there
//! are [`MAX_NAMES`] counters, new names are counted as `other`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::cassette::is_protocol_word;
use super::event_class;
use crate::protocol::codex::event;

/// Maximum number of names with a separate counter.
const MAX_NAMES: usize = 48;

/// Known event types, except the deltas in [`event_class::is_known_delta`].
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
    "response.interrupt.accepted",
    "response.interrupt.failed",
    "response.metadata",
    "response.output_item.added",
    "response.output_item.done",
    "response.output_item.interrupted",
    "response.output_text.annotation.added",
    "response.output_text.done",
    "response.queued",
    "response.reasoning_summary_part.added",
    "response.reasoning_summary_part.done",
    "response.reasoning_summary_text.done",
    "response.reasoning_text.done",
    "response.refusal.done",
    "response.safety_buffering",
    "response.steer.accepted",
    "response.steer.failed",
    "response.steer.pending",
    "response.web_search_call.completed",
    "response.web_search_call.in_progress",
    "response.web_search_call.searching",
];
/// Prefixes of events about the account or the connection. Their members are not inspected.
const NOT_INSPECTED: &[&str] = &[
    "codex.",
    "error",
    "keepalive",
    "response.interrupt.",
    "response.metadata",
    "response.safety_buffering",
    "response.steer.",
];
/// Known members of events.
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
    "response_id",
    "sequence_number",
    "summary_index",
    "text",
    "type",
];
/// Known types of the items in events.
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

/// The counter of an unknown name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownName {
    /// The kind of name: `event`, `member` (prefixed with its event) or `item`.
    pub what: Cow<'static, str>,
    /// The name.
    pub name: String,
    /// How often it occurred.
    pub count: u64,
}

/// The counters since the process started.
#[derive(Debug, Default)]
pub(super) struct UnknownEvents(Mutex<BTreeMap<(&'static str, String), u64>>);

/// The unknown names in an event of a known type. Known names are skipped without allocation: this runs for every
/// response.
#[derive(Debug, Default)]
struct UnknownNames<'a> {
    members: Vec<Cow<'a, str>>,
    item: Option<Cow<'a, str>>,
}

/// A string, borrowed if it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The type of an item.
#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<Name<'a>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for UnknownNames<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UnknownNamesVisitor)
    }
}

struct UnknownNamesVisitor;

impl<'de> Visitor<'de> for UnknownNamesVisitor {
    type Value = UnknownNames<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut unknown = UnknownNames::default();
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

impl UnknownEvents {
    /// Counts the unknown names in an event.
    pub(super) fn inspect(&self, data: &[u8]) {
        // The server reports events that can't be parsed.
        let Some(kind) = event::kind(data) else { return };
        if !EVENTS.contains(&&*kind) && !event_class::is_known_delta(&kind) {
            return self.count("event", &kind);
        }
        if NOT_INSPECTED.iter().any(|prefix| kind.starts_with(prefix)) {
            return;
        }
        let Ok(unknown) = serde_json::from_slice::<UnknownNames<'_>>(data) else { return };
        for member in unknown.members {
            self.count("member", &format!("{kind}:{member}"));
        }
        if let Some(item) = unknown.item {
            self.count("item", &item);
        }
    }

    fn count(&self, what: &'static str, name: &str) {
        let name = if is_protocol_word(name) { name } else { "unnamed" };
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (what, name.to_owned());
        let has_room = counts.len() < MAX_NAMES || counts.contains_key(&key);
        let count = counts.entry(if has_room { key } else { (what, "other".to_owned()) }).or_default();
        *count += 1;
        let is_first = *count == 1;
        drop(counts);
        if is_first {
            tracing::info!(
                what,
                name,
                "the backend sent something that this release doesn't know; it is passed on unchanged"
            );
        }
    }

    pub(super) fn read(&self) -> Vec<UnknownName> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let unknown_name = |(&(what, ref name), &count): (&(&'static str, String), &u64)| UnknownName {
            what: Cow::Borrowed(what),
            name: name.clone(),
            count,
        };
        counts.iter().map(unknown_name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_NAMES, UnknownEvents};

    fn count_all(events: &[&str]) -> Vec<(String, String, u64)> {
        let unknown = UnknownEvents::default();
        for event in events {
            unknown.inspect(event.as_bytes());
        }
        unknown.read().into_iter().map(|unknown| (unknown.what.into_owned(), unknown.name, unknown.count)).collect()
    }

    fn one(what: &str, name: &str, count: u64) -> (String, String, u64) {
        (what.to_owned(), name.to_owned(), count)
    }

    #[test]
    fn known_names_are_not_counted() {
        for event in [
            r#"{"type":"response.output_text.delta","item_id":"a","delta":"x","logprobs":[],"obfuscation":"y"}"#,
            r#"{"type":"response.output_item.done","item":{"type":"message","whatever":1}}"#,
            r#"{"type":"codex.rate_limits","credits":{},"plan_type":"plus"}"#,
            r#"{"type":"error","status":400,"headers":{}}"#,
            "not json",
            "{}",
        ] {
            assert_eq!(count_all(&[event]), [], "{event}");
        }
    }

    #[test]
    fn unknown_names_are_counted() {
        let new = r#"{"type":"response.dream.delta","delta":"x"}"#;
        let member = r#"{"type":"response.created","mood":1,"response":{}}"#;
        let item = r#"{"type":"response.output_item.added","item":{"type":"dream_call"}}"#;
        let counted = [
            one("event", "response.dream.delta", 2),
            one("item", "dream_call", 1),
            one("member", "response.created:mood", 1),
        ];
        assert_eq!(count_all(&[new, member, new, item]), counted);
    }

    #[test]
    fn counter_names_are_identifiers_and_bounded() {
        let secret = r#"{"type":"me@example.com \"} 1\n"}"#;
        assert_eq!(count_all(&[secret]), [one("event", "unnamed", 1)]);
        let letters = |number: usize| char::from(b'a' + u8::try_from(number % 26).unwrap());
        let events: Vec<String> = (0..1000)
            .map(|number| format!(r#"{{"type":"dream.{}{}"}}"#, letters(number / 26), letters(number)))
            .collect();
        let counted = count_all(&events.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(counted.len() <= MAX_NAMES + 1);
        assert_eq!(counted.iter().map(|(_, _, count)| count).sum::<u64>(), 1000);
    }
}
