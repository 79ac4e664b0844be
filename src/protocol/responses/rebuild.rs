//! Completes output items that no event completed, with the texts that were received of them.

use crate::protocol::json::quoted;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::splice::Splice;
use crate::protocol::reply::Citation;
use crate::protocol::reply::item::{AssembledItem, ItemKind};
use crate::protocol::reply::progress::{ItemPart, PartKind};

/// Builds the JSON of an item as it would be if it were complete. `added` is the JSON of the item in its
/// `response.output_item.added` event, `status` that of the response. `None` if the item is done, or if no text of it
/// was received, except that a function call in a completed response may have no arguments.
pub(super) fn rebuilt_item(item: &AssembledItem, added: Option<&str>, status: &str) -> Option<String> {
    if item.is_done() {
        return None;
    }
    let parts = |list: &[PartKind]| {
        let mut parts: Vec<&ItemPart> = item.parts.iter().filter(|part| list.contains(&part.kind)).collect();
        parts.sort_by_key(|part| part.index);
        let parts: Vec<String> = parts.into_iter().filter_map(part_json).collect();
        (!parts.is_empty()).then(|| format!("[{}]", parts.join(",")))
    };
    let texts = match item.kind {
        ItemKind::Message => vec![("content", parts(&[PartKind::Text, PartKind::Refusal]))],
        ItemKind::Reasoning => {
            vec![("summary", parts(&[PartKind::Summary])), ("content", parts(&[PartKind::ReasoningText]))]
        }
        ItemKind::Function if status == "completed" => {
            vec![("arguments", Some(call_text(item).unwrap_or_else(|| r#""""#.to_owned())))]
        }
        ItemKind::Function => vec![("arguments", call_text(item))],
        ItemKind::Custom => vec![("input", call_text(item))],
        ItemKind::Image | ItemKind::Search | ItemKind::Other => Vec::new(),
    };
    let mut set: Vec<(&str, String)> = texts.into_iter().filter_map(|(name, text)| Some((name, text?))).collect();
    if set.is_empty() {
        return None;
    }
    set.push(("status", quoted(status)));
    let start = start_of(item);
    // Without an `added` event, the name of a call is unknown.
    let added = added.or(start.as_deref())?;
    Some(with_members(added, &set))
}

/// The JSON of a part with its text and citations; `None` without text.
fn part_json(part: &ItemPart) -> Option<String> {
    let text = part.held();
    if text.is_empty() {
        return None;
    }
    Some(match part.kind {
        PartKind::Text => {
            let citations: Vec<String> = part.held_citations().iter().map(annotation).collect();
            let citations = citations.join(",");
            format!(r#"{{"type":"output_text","text":"{text}","annotations":[{citations}],"logprobs":[]}}"#)
        }
        PartKind::Refusal => format!(r#"{{"type":"refusal","refusal":"{text}"}}"#),
        PartKind::Summary => format!(r#"{{"type":"summary_text","text":"{text}"}}"#),
        PartKind::ReasoningText => format!(r#"{{"type":"reasoning_text","text":"{text}"}}"#),
        PartKind::Other => return None,
    })
}

fn annotation(citation: &Citation<'_>) -> String {
    let Citation { start_index, end_index, url, title } = citation;
    format!(
        r#"{{"type":"url_citation","start_index":{start_index},"end_index":{end_index},"url":"{url}","title":"{title}"}}"#
    )
}

fn call_text(item: &AssembledItem) -> Option<String> {
    let text = item.kept_call_text();
    (!text.is_empty()).then(|| format!(r#""{text}""#))
}

/// The item without texts, for an item without an `added` event.
fn start_of(item: &AssembledItem) -> Option<String> {
    let kind = match item.kind {
        ItemKind::Message => r#""type":"message","role":"assistant","content":[]"#,
        ItemKind::Reasoning => r#""type":"reasoning","summary":[]"#,
        _ => return None,
    };
    let id = item.id.as_deref().map(|id| format!(r#""id":{},"#, quoted(id))).unwrap_or_default();
    Some(format!("{{{id}{kind}}}"))
}

/// Replaces or adds members of an object.
fn with_members(object: &str, set: &[(&str, String)]) -> String {
    let members = RawObject::parse(object).unwrap_or_default();
    let mut splice = Splice::new(object);
    let mut added = Vec::new();
    for (name, value) in set {
        match members.get(name) {
            Some(old) => splice.replace(old, value.as_str()),
            None => added.push(format!(r#""{name}":{value}"#)),
        }
    }
    if !added.is_empty() {
        splice.add(object, added.join(","));
    }
    splice.text().into_owned()
}
