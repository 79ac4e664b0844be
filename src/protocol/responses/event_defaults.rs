//! Adds to events and items the members that the public API always has and the backend sometimes leaves out, and
//! removes the padding in `obfuscation`.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::raw_event::{EventMembers, object};
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::splice::Splice;

const ANNOTATIONS: (&str, &str) = ("annotations", "[]");
const LOGPROBS: (&str, &str) = ("logprobs", "[]");

/// Returns an event with these edits. `names` are the names of the called tools as JSON, by output index.
pub(super) fn with_defaults<'a>(event: &EventMembers<'a>, names: &BTreeMap<u64, String>) -> Splice<'a> {
    let mut splice = Splice::new(event.text);
    let mut own: Vec<(&str, &str)> = Vec::new();
    match &*event.kind {
        "response.output_item.added" => complete_item(event.object("item"), r#""in_progress""#, &mut splice),
        "response.output_item.done" => complete_item(event.object("item"), r#""completed""#, &mut splice),
        "response.content_part.added" | "response.content_part.done" => {
            complete_part(event.object("part"), &mut splice);
        }
        "response.output_text.delta" | "response.output_text.done" => own.push(LOGPROBS),
        "response.function_call_arguments.done" => {
            own.extend(event.output_index().and_then(|index| names.get(&index)).map(|name| ("name", name.as_str())));
        }
        _ => {}
    }
    fill(event.text, event.all(), &own, &mut splice);
    if event.get("obfuscation").is_some() {
        splice.remove(event.text, event.all(), "obfuscation");
    }
    splice
}

/// Adds missing members to an output item. `status` is that of a message without one.
fn complete_item<'a>(item: Option<(&'a RawValue, RawObject<'a>)>, status: &str, splice: &mut Splice<'a>) {
    let Some((item, members)) = item else { return };
    match members.text("type").as_deref() {
        Some("message") => {
            fill(item.get(), &members, &[("status", status)], splice);
            for part in members.list("content") {
                complete_part(object(part), splice);
            }
        }
        Some("web_search_call") => {
            fill(item.get(), &members, &[("action", r#"{"type":"search","query":""}"#)], splice);
        }
        _ => {}
    }
}

fn complete_part<'a>(part: Option<(&'a RawValue, RawObject<'a>)>, splice: &mut Splice<'a>) {
    if let Some((part, members)) = part
        && members.text("type").as_deref() == Some("output_text")
    {
        fill(part.get(), &members, &[ANNOTATIONS, LOGPROBS], splice);
    }
}

/// Sets members that are missing or null.
fn fill(object: &str, members: &RawObject<'_>, wanted: &[(&str, &str)], splice: &mut Splice<'_>) {
    let mut missing = Vec::new();
    for (name, value) in wanted {
        match members.get(name) {
            Some(null) if null.get() == "null" => splice.replace(null, (*value).to_owned()),
            Some(_) => {}
            None => missing.push(format!(r#""{name}":{value}"#)),
        }
    }
    if !missing.is_empty() {
        splice.add(object, missing.join(","));
    }
}

/// Returns an item of the `output` list with missing members added.
pub(super) fn completed_item(item: &RawValue) -> String {
    let mut splice = Splice::new(item.get());
    complete_item(object(item), r#""completed""#, &mut splice);
    splice.text().into_owned()
}
