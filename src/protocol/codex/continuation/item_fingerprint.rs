//! Fingerprints that identify an item of a conversation across requests.
//!
//! Clients send output items back in the form of their own API: without ids, with the parts of a message joined, with
//! the arguments of a call reformatted. The fingerprint of an output item covers its meaning only, so the translated
//! item of a later request has the same one. Items that only clients write are compared byte for byte.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Digest, finish, update};
use crate::protocol::codex::OutputItem;
use crate::protocol::json::string::{RawText, Str};

/// Members that are not part of an item's meaning, for types of items that aren't interpreted.
const INCIDENTAL: [&str; 4] = ["id", "status", "phase", "internal_chat_message_metadata_passthrough"];
/// Longer items and arguments are compared as text: parsed values take many times the memory of their JSON.
const MAX_PARSED_BYTES: usize = 256 * 1024;
/// The namespace of functions in the lite form; equivalent to none.
const PLAIN_NAMESPACE: &str = "functions";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ItemFingerprint {
    digest: Digest,
    replay: Replay,
}

/// Whether a request that continues a response has to contain an output item of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replay {
    Required,
    /// Reasoning, which most APIs can't represent, or an empty message.
    Optional,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<Str<'a>>,
    #[serde(borrow, default)]
    role: Option<Str<'a>>,
    #[serde(borrow, default)]
    namespace: Option<Str<'a>>,
}

impl ItemFingerprint {
    /// Fingerprints the JSON of an item. An item that can't be parsed matches only the same bytes.
    pub(super) fn of(item: &str) -> Self {
        let Ok(head) = serde_json::from_str::<Head<'_>>(item) else { return Self::verbatim(item) };
        let kind = head.kind.as_ref().map_or("message", Str::as_str);
        let is_assistant = head.role.as_ref().is_some_and(|role| role.as_str() == "assistant");
        match kind {
            "message" if !is_assistant => Self::verbatim(item),
            "message" | "reasoning" | "function_call" | "custom_tool_call" => match serde_json::from_str(item) {
                Ok(output) => Self::of_output(kind, &output, head.namespace.as_ref()),
                Err(_) => Self::verbatim(item),
            },
            kind if kind.ends_with("_output") || kind == "additional_tools" => Self::verbatim(item),
            _ => Self::of_other(item),
        }
    }

    pub(super) fn matches(&self, other: &Self) -> bool {
        self.digest == other.digest
    }

    pub(super) fn replay(&self) -> Replay {
        self.replay
    }

    fn of_output(kind: &str, item: &OutputItem<'_>, namespace: Option<&Str<'_>>) -> Self {
        let mut hash = Sha256::new();
        update(&mut hash, kind);
        let mut replay = Replay::Required;
        match kind {
            "message" if update_message(&mut hash, item) == 0 => replay = Replay::Optional,
            "message" => {}
            "reasoning" => {
                replay = Replay::Optional;
                let reasoning = item.encrypted_content.map_or_else(
                    || Cow::Borrowed(item.summary.map_or("", serde_json::value::RawValue::get)),
                    RawText::decode,
                );
                update(&mut hash, &reasoning);
            }
            _ => {
                let namespace = namespace.map(Str::as_str).filter(|namespace| *namespace != PLAIN_NAMESPACE);
                update(&mut hash, namespace.unwrap_or_default());
                update(&mut hash, item.call_id.as_ref().map_or("", Str::as_str));
                update(&mut hash, item.name.as_ref().map_or("", Str::as_str));
                update(&mut hash, &item.arguments.map(|text| normalized(text.decode())).unwrap_or_default());
                update(&mut hash, &item.input.map(RawText::decode).unwrap_or_default());
            }
        }
        Self { digest: finish(hash), replay }
    }

    /// Fingerprints an item of a type that isn't interpreted, such as a web search, without incidental members.
    fn of_other(item: &str) -> Self {
        if item.len() > MAX_PARSED_BYTES {
            return Self::verbatim(item);
        }
        let Ok(Value::Object(mut members)) = serde_json::from_str(item) else { return Self::verbatim(item) };
        members.retain(|name, value| !value.is_null() && !INCIDENTAL.contains(&name.as_str()));
        Self::verbatim(&Value::Object(members).to_string())
    }

    fn verbatim(item: &str) -> Self {
        let mut hash = Sha256::new();
        update(&mut hash, item);
        Self { digest: finish(hash), replay: Replay::Required }
    }
}

/// Hashes the joined text of a message, and returns its length in bytes.
fn update_message(hash: &mut Sha256, item: &OutputItem<'_>) -> usize {
    let (mut text, mut refusal) = (String::new(), String::new());
    for part in item.content_parts() {
        text.extend(part.text.map(RawText::decode));
        refusal.extend(part.refusal.map(RawText::decode));
    }
    update(hash, &text);
    update(hash, &refusal);
    text.len() + refusal.len()
}

/// Normalizes the spelling of JSON arguments; other or longer text stays as it is. Empty arguments become an empty
/// object, because that is what clients receive for them.
fn normalized(arguments: Cow<'_, str>) -> Cow<'_, str> {
    if arguments.trim().is_empty() {
        return Cow::Borrowed("{}");
    }
    if arguments.len() > MAX_PARSED_BYTES {
        return arguments;
    }
    serde_json::from_str::<Value>(&arguments).map_or(arguments, |value| Cow::Owned(value.to_string()))
}
