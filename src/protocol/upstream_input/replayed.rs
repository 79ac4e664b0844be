//! Repairs items of earlier responses that clients send back as input.
//!
//! SDKs replay items with output-only members, some clients give all items of a type the same id, and others wrap
//! base64 into lines. The backend rejects the whole request for any of these, and the client can't fix its history, so
//! they are removed here. Nothing else is changed.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::value::RawValue;

use super::base64;
use crate::protocol::json::input_text::JsonText;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::{RawObject, Value};
use crate::protocol::json::splice::Splice;
use crate::protocol::json::to_raw;

/// Members of content parts that the backend rejects: cache hints and additions of SDKs.
const REJECTED_IN_PARTS: [&str; 3] = ["prompt_cache_breakpoint", "parsed", "logprobs"];

/// Whether a member, by name and value, is output-only in an item of type `kind`.
#[must_use]
pub fn is_output_only(kind: &str, name: &str, value: &Value<'_>) -> bool {
    match name {
        "status" => kind == "reasoning" || value.is_null(),
        "content" => kind == "reasoning" && value.is_null(),
        "parsed_arguments" => kind == "function_call",
        _ => false,
    }
}

/// Removes rejected members and the white space of base64 from the parts of an item's content or output. An empty
/// `logprobs` stays in an item that the proxy stored (`is_stored`): the backend sent and accepts it.
pub fn repair_parts(members: &RawObject<'_>, is_stored: bool, edits: &mut Splice<'_>) {
    for list in ["content", "output"].into_iter().filter_map(|name| members.get(name)) {
        if needs_repair(list.get()) {
            let parts: Vec<&RawValue> = serde_json::from_str(list.get()).unwrap_or_default();
            for part in parts {
                repair_part(part, is_stored, edits);
            }
        }
    }
}

/// Whether an array may contain something to repair. Most long texts are not parsed for this.
fn needs_repair(list: &str) -> bool {
    let holds = |name: &&str| memchr::memmem::find(list.as_bytes(), name.as_bytes()).is_some();
    list.starts_with('[') && (REJECTED_IN_PARTS.iter().any(holds) || base64::may_have_white_space(list))
}

fn repair_part(part: &RawValue, is_stored: bool, edits: &mut Splice<'_>) {
    let Ok(members) = RawObject::parse(part.get()) else { return };
    edits.remove_where(part.get(), &members, |name, value| {
        REJECTED_IN_PARTS.contains(&name) && !(is_stored && name == "logprobs" && value.text() == "[]")
    });
    for data in ["image_url", "file_data"].into_iter().filter_map(|name| members.get(name)) {
        if let Some(text) = JsonText::from_literal(data)
            && let JsonText::Plain(text) = base64::without_white_space(text)
        {
            edits.replace(data, to_raw(&text).get().to_owned());
        }
    }
}

/// The item ids seen so far, to find duplicates.
#[derive(Debug, Default)]
pub struct SeenIds(BTreeSet<String>);

impl SeenIds {
    /// Returns whether an earlier item has the same id, and remembers the id.
    pub fn has_seen(&mut self, members: &RawObject<'_>) -> bool {
        let id = members.get("id").and_then(|id| Field::root("id", id).text().ok());
        id.is_some_and(|id| !self.0.insert(id.into_owned()))
    }
}

/// Returns an item without its id.
#[must_use]
pub fn without_id(item: Cow<'_, RawValue>) -> Cow<'_, RawValue> {
    let Ok(members) = RawObject::parse(item.get()) else { return item };
    let mut edits = Splice::new(item.get());
    edits.remove(item.get(), &members, "id");
    edits.raw().map_or_else(|| item.clone(), Cow::Owned)
}
