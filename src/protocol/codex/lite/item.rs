//! Input items in the lite form.
//!
//! An item is sent as it is, with two edits: a call without a namespace names the one that contains functions and
//! custom tools, and images lose their `detail`.

use std::borrow::Cow;

use serde::Serialize;
use serde::ser::{Error, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use crate::protocol::codex::request::{Item, Output, Part};
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::splice::Splice;

/// Serializes an item in the lite form. `namespace` is the name of the added namespace.
pub(super) struct LiteItem<'r> {
    pub(super) item: &'r Item<'r>,
    pub(super) namespace: &'r str,
}

impl Serialize for LiteItem<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !is_call(self.item) && !may_have_image(self.item) {
            return self.item.serialize(serializer);
        }
        let json = match self.item {
            Item::Raw { json, .. } => Cow::Borrowed(&**json),
            typed => Cow::Owned(to_raw_value(typed).map_err(S::Error::custom)?),
        };
        match edited(json.get(), self.namespace) {
            Some(text) => RawValue::from_string(text).map_err(S::Error::custom)?.serialize(serializer),
            None => json.serialize(serializer),
        }
    }
}

/// Whether the lite form removes from this item a `detail` other than `auto`, the default.
pub(super) fn loses_detail(item: &Item<'_>) -> bool {
    let has_detail = |part: &Part<'_>| matches!(part, Part::InputImage { detail, .. } if detail != "auto");
    match item {
        Item::Raw { json, .. } if may_have_image(item) => {
            let members = RawObject::parse(json.get()).unwrap_or_default();
            let has_detail = |image: &RawObject<'_>| image.text("detail").is_some_and(|detail| detail != "auto");
            has_known_parts(&members) && images(&members).iter().any(|(_, image)| has_detail(image))
        }
        item => parts(item).is_some_and(|parts| parts.iter().any(has_detail)),
    }
}

/// Whether an item is a search that the backend has run. The lite form has none.
pub(super) fn is_search(item: &Item<'_>) -> bool {
    matches!(item, Item::Raw { kind, .. } if kind == "web_search_call")
}

fn is_call(item: &Item<'_>) -> bool {
    match item {
        Item::FunctionCall { .. } | Item::CustomToolCall { .. } => true,
        Item::Raw { kind, .. } => matches!(&**kind, "function_call" | "custom_tool_call"),
        _ => false,
    }
}

fn may_have_image(item: &Item<'_>) -> bool {
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

/// The edited text of an item; `None` if nothing changes.
fn edited(item: &str, namespace: &str) -> Option<String> {
    let members = RawObject::parse(item).ok()?;
    let mut splice = Splice::new(item);
    if matches!(members.text("type").as_deref(), Some("function_call" | "custom_tool_call")) {
        match members.get("namespace") {
            None => splice.add(item, format!(r#""namespace":"{namespace}""#)),
            Some(null) if null.get() == "null" => splice.replace(null, format!(r#""{namespace}""#)),
            Some(_) => {}
        }
    } else if has_known_parts(&members) {
        for (image, members) in images(&members) {
            splice.remove(image, &members, "detail");
        }
    }
    (!splice.is_unchanged()).then(|| splice.text().into_owned())
}

/// Whether the item's type is one whose parts may be edited.
fn has_known_parts(members: &RawObject<'_>) -> bool {
    let kind = members.text("type");
    matches!(kind.as_deref(), Some("message" | "function_call_output" | "custom_tool_call_output"))
}

/// The image parts of an item, each with its JSON and members.
fn images<'i>(members: &RawObject<'i>) -> Vec<(&'i str, RawObject<'i>)> {
    let parts = ["content", "output"].into_iter().flat_map(|name| members.list(name));
    let read = parts.filter_map(|part| Some((part.get(), RawObject::parse(part.get()).ok()?)));
    read.filter(|(_, members)| members.text("type").as_deref() == Some("input_image")).collect()
}
