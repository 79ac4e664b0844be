//! An item of the conversation in the lite form: as it came, but for two edits in place.
//!
//! A call that names no namespace is one of a plain tool, and plain tools are in the wrapping
//! namespace here. Pictures say nothing about their detail.

use std::borrow::Cow;

use serde::Serialize;
use serde::ser::{Error, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use super::{list, text};
use crate::protocol::codex::request::{Item, Output, Part};
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::splice::Splice;

/// An item as it is sent.
pub(super) struct Sent<'r> {
    pub(super) item: &'r Item<'r>,
    pub(super) wrapper: &'r str,
}

impl Serialize for Sent<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !is_call(self.item) && !has_picture(self.item) {
            return self.item.serialize(serializer);
        }
        let whole = match self.item {
            Item::Raw { json, .. } => Cow::Borrowed(&**json),
            typed => Cow::Owned(to_raw_value(typed).map_err(S::Error::custom)?),
        };
        match edited(whole.get(), self.wrapper) {
            Some(text) => RawValue::from_string(text).map_err(S::Error::custom)?.serialize(serializer),
            None => whole.serialize(serializer),
        }
    }
}

/// Whether a picture of this item asks for a detail of its own.
pub(super) fn loses_detail(item: &Item<'_>) -> bool {
    let asks = |part: &Part<'_>| matches!(part, Part::InputImage { detail, .. } if detail != "auto");
    match item {
        Item::Raw { json, .. } if has_picture(item) => {
            let members = RawObject::parse(json.get()).unwrap_or_default();
            let detail = |inside: &RawObject<'_>| text(inside, "detail").is_some_and(|detail| detail != "auto");
            is_edited(&members) && pictures(&members).iter().any(|(_, inside)| detail(inside))
        }
        item => parts(item).is_some_and(|parts| parts.iter().any(asks)),
    }
}

fn is_call(item: &Item<'_>) -> bool {
    match item {
        Item::FunctionCall { .. } | Item::CustomToolCall { .. } => true,
        Item::Raw { kind, .. } => matches!(&**kind, "function_call" | "custom_tool_call"),
        _ => false,
    }
}

/// Whether there may be a picture in it.
fn has_picture(item: &Item<'_>) -> bool {
    match item {
        Item::Raw { json, .. } => memchr::memmem::find(json.get().as_bytes(), b"input_image").is_some(),
        item => parts(item).is_some_and(|parts| parts.iter().any(|part| matches!(part, Part::InputImage { .. }))),
    }
}

fn parts<'i, 'a>(item: &'i Item<'a>) -> Option<&'i [Part<'a>]> {
    match item {
        Item::Message { content: parts, .. }
        | Item::FunctionCallOutput { output: Output::Parts(parts), .. }
        | Item::CustomToolCallOutput { output: Output::Parts(parts), .. } => Some(parts),
        _ => None,
    }
}

/// The text of an item with its edits; `None` where there are none.
fn edited(item: &str, wrapper: &str) -> Option<String> {
    let members = RawObject::parse(item).ok()?;
    let mut splice = Splice::new(item);
    if matches!(text(&members, "type").as_deref(), Some("function_call" | "custom_tool_call")) {
        match members.get("namespace") {
            None => splice.add(item, format!(r#""namespace":"{wrapper}""#)),
            Some(null) if null.get() == "null" => splice.replace(null, format!(r#""{wrapper}""#)),
            Some(_) => {}
        }
    } else if is_edited(&members) {
        for (picture, inside) in pictures(&members) {
            splice.remove(picture, &inside, "detail");
        }
    }
    (!splice.is_unchanged()).then(|| splice.text().into_owned())
}

/// Whether an item is one of those whose parts we know.
fn is_edited(members: &RawObject<'_>) -> bool {
    let kind = text(members, "type");
    matches!(kind.as_deref(), Some("message" | "function_call_output" | "custom_tool_call_output"))
}

/// The pictures among the parts of an item: text and members.
fn pictures<'i>(members: &RawObject<'i>) -> Vec<(&'i str, RawObject<'i>)> {
    let parts = ["content", "output"].into_iter().flat_map(|name| list(members, name));
    let read = parts.filter_map(|part| Some((part.get(), RawObject::parse(part.get()).ok()?)));
    read.filter(|(_, inside)| text(inside, "type").as_deref() == Some("input_image")).collect()
}
