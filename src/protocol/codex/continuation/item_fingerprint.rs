//! What makes two items of a conversation the same one.
//!
//! A client gives back an answer's items in its own dialect's words: without ids, with the parts of
//! a message joined, with the arguments of a call written anew. A likeness is a fingerprint of what
//! an item means, so that it survives that. What only a client writes is compared byte for byte.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Digest, add, short};
use crate::protocol::codex::OutputItem;
use crate::protocol::json::string::{RawText, Str};

/// Members that say nothing about what an item means.
const INCIDENTAL: [&str; 4] = ["id", "status", "phase", "internal_chat_message_metadata_passthrough"];
/// The longest JSON text that is parsed into values to compare it.
const MAX_PARSED_BYTES: usize = 256 * 1024;
/// The wrapping that the lite body puts around plain functions.
const PLAIN_NAMESPACE: &str = "functions";

/// The fingerprint of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Likeness {
    digest: Digest,
    weight: Weight,
}

/// Whether a client that goes on from an answer gives an item back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    Needed,
    /// Reasoning, which most dialects can't carry, or a message without a word.
    Silent,
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

impl Likeness {
    /// Reads an item; what can't be read is like nothing but itself.
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

    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.digest == other.digest
    }

    pub(super) fn weight(&self) -> Weight {
        self.weight
    }

    fn of_output(kind: &str, item: &OutputItem<'_>, namespace: Option<&Str<'_>>) -> Self {
        let mut hash = Sha256::new();
        add(&mut hash, kind);
        let mut weight = Weight::Needed;
        match kind {
            "message" if add_message(&mut hash, item) == 0 => weight = Weight::Silent,
            "message" => {}
            "reasoning" => {
                weight = Weight::Silent;
                let thought = item.encrypted_content.map_or_else(
                    || Cow::Borrowed(item.summary.map_or("", serde_json::value::RawValue::get)),
                    RawText::decode,
                );
                add(&mut hash, &thought);
            }
            _ => {
                let namespace = namespace.map(Str::as_str).filter(|namespace| *namespace != PLAIN_NAMESPACE);
                add(&mut hash, namespace.unwrap_or_default());
                add(&mut hash, item.call_id.as_ref().map_or("", Str::as_str));
                add(&mut hash, item.name.as_ref().map_or("", Str::as_str));
                add(&mut hash, &item.arguments.map(|text| rewritten(text.decode())).unwrap_or_default());
                add(&mut hash, &item.input.map(RawText::decode).unwrap_or_default());
            }
        }
        Self { digest: short(hash), weight }
    }

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
        add(&mut hash, item);
        Self { digest: short(hash), weight: Weight::Needed }
    }
}

/// Adds what a message says, however it is cut into parts; gives how much that is.
fn add_message(hash: &mut Sha256, item: &OutputItem<'_>) -> usize {
    let (mut said, mut refused) = (String::new(), String::new());
    for part in item.content_parts() {
        said.extend(part.text.map(RawText::decode));
        refused.extend(part.refusal.map(RawText::decode));
    }
    add(hash, &said);
    add(hash, &refused);
    said.len() + refused.len()
}

/// JSON in one spelling; any other text as it is, and one too long to be parsed into values, which take many times
/// the room of their text. A client is given an empty object for no arguments.
fn rewritten(arguments: Cow<'_, str>) -> Cow<'_, str> {
    if arguments.trim().is_empty() {
        return Cow::Borrowed("{}");
    }
    if arguments.len() > MAX_PARSED_BYTES {
        return arguments;
    }
    serde_json::from_str::<Value>(&arguments).map_or(arguments, |value| Cow::Owned(value.to_string()))
}
