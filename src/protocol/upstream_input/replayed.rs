//! Items of earlier answers that a client sends back as input.
//!
//! SDKs replay an item with members that only answers have, and some clients give every item of a
//! kind the same id. The backend refuses the whole request for either, and the client can't mend its
//! history, so both are taken out here. Nothing else is changed.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::value::RawValue;

use super::base64;
use super::schema::raw;
use crate::protocol::json::input_text::JsonText;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::{RawObject, Value};
use crate::protocol::json::splice::Splice;

/// Members of content parts that the backend does not accept: cache hints, and what SDKs add to an answer.
const REFUSED_IN_PARTS: [&str; 3] = ["prompt_cache_breakpoint", "parsed", "logprobs"];

/// Whether a member of an item of this type is one that only answers have.
#[must_use]
pub fn is_output_only(kind: &str, name: &str, value: &Value<'_>) -> bool {
    match name {
        "status" => kind == "reasoning" || value.is_null(),
        "content" => kind == "reasoning" && value.is_null(),
        "parsed_arguments" => kind == "function_call",
        _ => false,
    }
}

/// Mends the parts of an item's content or output: takes out what the backend refuses, and white space from base64.
/// `is_kept` items are those that the backend gave itself, whose empty lists it also accepts.
pub fn mend_parts(members: &RawObject<'_>, is_kept: bool, edits: &mut Splice<'_>) {
    for list in ["content", "output"].into_iter().filter_map(|name| members.get(name)) {
        if needs_mending(list.get()) {
            let parts: Vec<&RawValue> = serde_json::from_str(list.get()).unwrap_or_default();
            for part in parts {
                mend_part(part, is_kept, edits);
            }
        }
    }
}

/// Whether it is a list that may hold what the backend refuses. Most are long texts, and not read for this.
fn needs_mending(list: &str) -> bool {
    let holds = |name: &&str| memchr::memmem::find(list.as_bytes(), name.as_bytes()).is_some();
    list.starts_with('[') && (REFUSED_IN_PARTS.iter().any(holds) || base64::may_be_wrapped(list))
}

fn mend_part(part: &RawValue, is_kept: bool, edits: &mut Splice<'_>) {
    let Ok(inside) = RawObject::parse(part.get()) else { return };
    edits.remove_where(part.get(), &inside, |name, value| {
        REFUSED_IN_PARTS.contains(&name) && !(is_kept && name == "logprobs" && value.text() == "[]")
    });
    for data in ["image_url", "file_data"].into_iter().filter_map(|name| inside.get(name)) {
        if let Some(words) = JsonText::from_literal(data)
            && let JsonText::Plain(text) = base64::unwrapped(words)
        {
            edits.replace(data, raw(&text).get().to_owned());
        }
    }
}

/// The ids of the items before, to find those that are repeated.
#[derive(Debug, Default)]
pub struct SeenIds(BTreeSet<String>);

impl SeenIds {
    /// Whether an item has the id of one before it. Remembers its id.
    pub fn has_seen(&mut self, members: &RawObject<'_>) -> bool {
        let id = members.get("id").and_then(|id| Field::root("id", id).text().ok());
        id.is_some_and(|id| !self.0.insert(id.into_owned()))
    }
}

/// An item without its id.
#[must_use]
pub fn without_id(item: Cow<'_, RawValue>) -> Cow<'_, RawValue> {
    let Ok(members) = RawObject::parse(item.get()) else { return item };
    let mut edits = Splice::new(item.get());
    edits.remove(item.get(), &members, "id");
    edits.raw().map_or_else(|| item.clone(), Cow::Owned)
}
