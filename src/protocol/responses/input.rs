//! Translates the `input` of a request.
//!
//! First, items get their type, and references are replaced by the stored items. Then the history is repaired as for
//! the other APIs. The history of a Codex client isn't, except for repeated ids: it is valid, and nothing of it may be
//! lost.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::item::{self, InputElement, InputItem, InputKind, ItemEdits, orphan};
use crate::error::{ProxyError, Refusal};
use crate::protocol::Warnings;
use crate::protocol::codex::request::{COMPACTION_TRIGGER, Item};
use crate::protocol::json::input_text::JsonText;
use crate::protocol::json::path::Field;
use crate::protocol::json::quoted;
use crate::protocol::upstream_input::history::{interrupted_output, orphan_intro};
use crate::protocol::upstream_input::pairing::{self, OutputScope, OutputStatus, Pairing, PairingItem};
use crate::protocol::upstream_input::replayed::SeenIds;
use crate::protocol::upstream_input::{CallKind, cache, instructions, parameters};

/// Reads the elements of `input`, and adds the types that items lack.
///
/// # Errors
/// If it's neither a string nor an array, or an element isn't an object.
pub(super) fn read<'a>(input: &Field<'a, '_>) -> Result<Vec<InputElement<'a>>, ProxyError> {
    if input.is_text() {
        return Ok(vec![InputElement::Item(item::of_text(input.json()))]);
    }
    if !input.is_list() {
        return Err(input.must_be("a string or an array of items"));
    }
    let items = input.list()?;
    items.iter().enumerate().map(|(index, item)| item::read(&input.element(index, item), index)).collect()
}

/// Returns the items of the `earlier` conversation, then those of the request, with references replaced by `known`
/// items.
///
/// # Errors
/// If a referenced item is unknown.
pub(super) fn resolved<'a>(
    elements: Vec<InputElement<'a>>,
    earlier: Vec<Box<RawValue>>,
    known: &BTreeMap<String, Box<RawValue>>,
) -> Result<Vec<InputItem<'a>>, ProxyError> {
    let earlier = earlier.into_iter().enumerate().map(|(index, json)| item::stored(json, index));
    // A stored request for a compaction has already been fulfilled.
    let earlier = earlier.filter(|item| item.kind != COMPACTION_TRIGGER).map(Ok);
    let new = elements.into_iter().enumerate().map(|(index, element)| match element {
        InputElement::Item(item) => Ok(item),
        InputElement::Reference(id) => match known.get(&*id) {
            Some(json) => Ok(item::stored(json.clone(), index)),
            None => Err(item::unknown(&id)),
        },
    });
    earlier.chain(new).collect()
}

/// Removes the leading system messages that consist of text, and returns their text. `None`, and nothing is removed, if
/// there are none or they are the whole conversation.
pub(super) fn take_instructions(items: &mut Vec<InputItem<'_>>) -> Option<String> {
    let is_system = |item: &InputItem<'_>| item.input_kind() == InputKind::Message && item.has("role", "system");
    let leading: Vec<_> = items.iter().take_while(|item| is_system(item)).map_while(all_texts).collect();
    let count = leading.len();
    if count == 0 || count == items.len() {
        return None;
    }
    let joined = instructions::join(leading.into_iter().flatten().map(Cow::Owned)).map(Cow::into_owned);
    items.drain(..count);
    joined
}

/// The text of the first user message, from which the prompt cache key is derived.
pub(super) fn first_user_text(items: &[InputItem<'_>]) -> String {
    let first = items.iter().find(|item| item.has("role", "user"));
    first.map(|item| item.with_texts(|texts| cache::text_prefix(texts.iter().flatten()))).unwrap_or_default()
}

/// The texts of a message; `None` if it has other parts.
fn all_texts(item: &InputItem<'_>) -> Option<Vec<String>> {
    item.with_texts(|texts| texts.iter().map(|text| Some(text.as_ref()?.read().into_owned())).collect())
}

/// Adds a message that requests JSON, unless a message mentions JSON. The backend requires that for the format
/// `json_object`.
pub(super) fn request_json(items: &mut Vec<InputItem<'_>>) {
    let has_json_text = |item: &InputItem<'_>| {
        let mentions_json =
            |texts: &[Option<JsonText<'_>>]| texts.iter().flatten().any(|text| parameters::mentions_json(&text.read()));
        item.input_kind() == InputKind::Message && item.with_texts(mentions_json)
    };
    if !items.iter().any(has_json_text) {
        let text = quoted(parameters::ASK_FOR_JSON);
        let message =
            format!(r#"{{"type":"message","role":"developer","content":[{{"type":"input_text","text":{text}}}]}}"#);
        items.insert(0, InputItem::message(message, 0));
    }
}

/// Returns the items unchanged, except that a repeated id is removed.
pub(super) fn verbatim(items: Vec<InputItem<'_>>) -> Vec<Item<'_>> {
    let mut seen = SeenIds::default();
    let items = items.into_iter().map(|item| {
        let is_repeated = item.with_members(|members| seen.has_seen(members));
        Item::from(if is_repeated { item.without_id() } else { item })
    });
    items.collect()
}

/// Repairs the history as the backend requires, with a warning for each kind of repair.
///
/// # Errors
/// If the `call_id` of a call or an output isn't a string.
pub(super) fn repaired<'a>(
    mut items: Vec<InputItem<'a>>,
    warnings: &mut Warnings,
) -> Result<Vec<Item<'a>>, ProxyError> {
    let count = items.len();
    items.retain(|item| item.input_kind() != InputKind::Reasoning || item.is_replayable());
    if items.len() < count {
        warnings.note("repaired:dropped_reasoning");
    }
    let ids = items.iter().map(call_id).collect::<Result<Vec<_>, _>>()?;
    let pairing_items = items.iter().zip(&ids).map(|(item, id)| match item.input_kind() {
        InputKind::Message => PairingItem::Turn,
        InputKind::Call(_) => PairingItem::Call(id, (item.index, 0)),
        InputKind::Output => PairingItem::Output(id),
        InputKind::Reasoning | InputKind::Other => PairingItem::Other,
    });
    let pairings = pairing::pair(pairing_items, OutputScope::Conversation, warnings);
    let kinds: Vec<InputKind> = items.iter().map(InputItem::input_kind).collect();
    let (mut seen, mut added_outputs) = (SeenIds::default(), Vec::new());
    let mut input = Vec::with_capacity(items.len());
    for ((item, id), (pairing, kind)) in items.into_iter().zip(&ids).zip(pairings.iter().zip(&kinds)) {
        if !matches!(kind, InputKind::Call(_)) {
            input.append(&mut added_outputs);
        }
        // An id that isn't sent doesn't count as seen.
        let is_sent = !matches!((pairing, kind), (Pairing::Orphan | Pairing::Repeated, _) | (_, InputKind::Reasoning));
        let drops_id = item.has_foreign_id() || (is_sent && item.with_members(|members| seen.has_seen(members)));
        match (pairing, kind) {
            (Pairing::Call(call_id, output_status), InputKind::Call(kind)) => {
                if *output_status == OutputStatus::Missing {
                    warnings.note("repaired:missing_tool_output");
                    added_outputs.push(interrupted_output(*kind, call_id.clone()));
                }
                input.push(Item::from(item.edited(&ItemEdits {
                    call_id: Some(call_id),
                    drops_id,
                    ..ItemEdits::default()
                })));
            }
            (Pairing::Output(call), _) => {
                if let (Pairing::Call(call_id, _), InputKind::Call(kind)) = (&pairings[*call], &kinds[*call]) {
                    let kind = Some(output_of(*kind));
                    let edits = ItemEdits { kind, call_id: Some(call_id), drops_id, ..ItemEdits::default() };
                    input.push(Item::from(item.edited(&edits)));
                }
            }
            (Pairing::Orphan, _) => {
                let intro = orphan_intro(id);
                input.push(Item::from(item.with_members(|members| orphan(&intro, members.get("output"), item.index))));
            }
            (Pairing::Repeated, _) => {}
            (_, InputKind::Message) => input.push(Item::from(message(item, drops_id))),
            (_, InputKind::Reasoning) => {
                input.push(Item::from(item.edited(&ItemEdits { drops_id: true, ..ItemEdits::default() })));
            }
            _ => input.push(Item::from(if drops_id { item.without_id() } else { item })),
        }
    }
    input.append(&mut added_outputs);
    Ok(input)
}

/// The id that links a call to its output; empty for other items.
fn call_id(item: &InputItem<'_>) -> Result<String, ProxyError> {
    if !matches!(item.input_kind(), InputKind::Call(_) | InputKind::Output) {
        return Ok(String::new());
    }
    item.with_members(|members| {
        let Some(id) = members.get("call_id").filter(|id| id.get() != "null") else { return Ok(String::new()) };
        Field::root("call_id", id).text().map(Cow::into_owned).map_err(|_| {
            let at = format!("input[{}].call_id", item.index);
            Refusal::wrong_type(&at, format!("'{at}' must be a string"))
        })
    })
}

fn output_of(kind: CallKind) -> &'static str {
    match kind {
        CallKind::Function => "function_call_output",
        CallKind::Custom => "custom_tool_call_output",
    }
}

/// Changes the role `system`, which the backend rejects, to `developer`, and applies the edits that every message
/// needs.
fn message(item: InputItem<'_>, drops_id: bool) -> InputItem<'_> {
    let role = item.has("role", "system").then_some("developer");
    item.edited(&ItemEdits { role, drops_id, ..ItemEdits::default() })
}
