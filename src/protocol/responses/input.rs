//! The conversation: from the client's items to those that the backend takes.
//!
//! First every item is made whole (typed, references replaced), then the history is mended as for
//! the other dialects. The items of a Codex client are only made whole: it keeps its history well,
//! and nothing of it shall be lost.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::item::{self, Changes, Entry, Listed, Part, literal, orphan};
use crate::error::{ProxyError, Refusal};
use crate::protocol::Warnings;
use crate::protocol::codex::request::{Item, TRIGGER};
use crate::protocol::json::input_text::JsonText;
use crate::protocol::json::path::Field;
use crate::protocol::upstream_input::history::{interrupted, orphan_lead};
use crate::protocol::upstream_input::pairing::{self, OutputScope, OutputStatus, Pairing, PairingItem};
use crate::protocol::upstream_input::replayed::SeenIds;
use crate::protocol::upstream_input::{CallKind, cache, instructions, json};

/// The elements of `input`, made whole where they are items.
///
/// # Errors
/// When it is neither a text nor a list, or an element is no object.
pub(super) fn read<'a>(input: &Field<'a, '_>) -> Result<Vec<Listed<'a>>, ProxyError> {
    if input.is_text() {
        return Ok(vec![Listed::Whole(item::of_text(input.json()))]);
    }
    if !input.is_list() {
        return Err(input.must_be("a string or an array of items"));
    }
    let items = input.list()?;
    items.iter().enumerate().map(|(index, item)| item::read(&input.element(index, item), index)).collect()
}

/// The items, with those in the place of references that they refer to, after an earlier conversation.
///
/// # Errors
/// When one refers to what is not known.
pub(super) fn resolved<'a>(
    listed: Vec<Listed<'a>>,
    earlier: Vec<Box<RawValue>>,
    known: &BTreeMap<String, Box<RawValue>>,
) -> Result<Vec<Entry<'a>>, ProxyError> {
    let earlier = earlier.into_iter().enumerate().map(|(index, json)| item::kept(json, index));
    // What asked for a compaction has been answered.
    let earlier = earlier.filter(|entry| entry.kind != TRIGGER).map(Ok);
    let new = listed.into_iter().enumerate().map(|(index, listed)| match listed {
        Listed::Whole(entry) => Ok(entry),
        Listed::Reference(id) => match known.get(&*id) {
            Some(json) => Ok(item::kept(json.clone(), index)),
            None => Err(item::unknown(&id)),
        },
    });
    earlier.chain(new).collect()
}

/// Takes the system text that opens the conversation out of it. Left where it stands when nothing
/// else is there, or it holds more than text.
pub(super) fn hoist(entries: &mut Vec<Entry<'_>>) -> Option<String> {
    let is_system = |entry: &Entry<'_>| entry.part() == Part::Message && entry.says("role", "system");
    let leading: Vec<_> = entries.iter().take_while(|entry| is_system(entry)).map_while(whole_texts).collect();
    let count = leading.len();
    if count == 0 || count == entries.len() {
        return None;
    }
    let joined = instructions::join(leading.into_iter().flatten().map(Cow::Owned)).map(Cow::into_owned);
    entries.drain(..count);
    joined
}

/// The text that the prompt cache key is derived from.
pub(super) fn first_user_text(entries: &[Entry<'_>]) -> String {
    let first = entries.iter().find(|entry| entry.says("role", "user"));
    first.map(|entry| entry.look_at_texts(|texts| cache::beginning(texts.iter().flatten()))).unwrap_or_default()
}

/// The texts of a message; `None` where it holds anything else.
fn whole_texts(entry: &Entry<'_>) -> Option<Vec<String>> {
    entry.look_at_texts(|texts| texts.iter().map(|text| Some(text.as_ref()?.read().into_owned())).collect())
}

/// Asks for JSON where no message does.
pub(super) fn ask_for_json(entries: &mut Vec<Entry<'_>>) {
    let is_asked = |entry: &Entry<'_>| {
        let says_so =
            |texts: &[Option<JsonText<'_>>]| texts.iter().flatten().any(|text| json::is_asked_for(&text.read()));
        entry.part() == Part::Message && entry.look_at_texts(says_so)
    };
    if !entries.iter().any(is_asked) {
        let plea = literal(json::PLEA);
        let message =
            format!(r#"{{"type":"message","role":"developer","content":[{{"type":"input_text","text":{plea}}}]}}"#);
        entries.insert(0, Entry::made(message, 0));
    }
}

/// The items as they are, but for ids that are repeated.
pub(super) fn untouched(entries: Vec<Entry<'_>>) -> Vec<Item<'_>> {
    let mut seen = SeenIds::default();
    let kept = entries.into_iter().map(|entry| {
        let is_repeated = entry.look(|members| seen.has_seen(members));
        Item::from(if is_repeated { entry.without_id() } else { entry })
    });
    kept.collect()
}

/// The items as the backend takes them. What was mended is noted.
///
/// # Errors
/// When a call or an output has an id that is no text.
pub(super) fn mended<'a>(mut entries: Vec<Entry<'a>>, warnings: &mut Warnings) -> Result<Vec<Item<'a>>, ProxyError> {
    let count = entries.len();
    entries.retain(|entry| entry.part() != Part::Reasoning || entry.is_replayable());
    if entries.len() < count {
        warnings.note("repaired:dropped_reasoning");
    }
    let ids = entries.iter().map(call_id).collect::<Result<Vec<_>, _>>()?;
    let marks = entries.iter().zip(&ids).map(|(entry, id)| match entry.part() {
        Part::Message => PairingItem::Turn,
        Part::Call(_) => PairingItem::Call(id, (entry.index, 0)),
        Part::Output => PairingItem::Output(id),
        Part::Reasoning | Part::Other => PairingItem::Other,
    });
    let pairings = pairing::pair(marks, OutputScope::Conversation, warnings);
    let kinds: Vec<Part> = entries.iter().map(Entry::part).collect();
    let (mut seen, mut unanswered) = (SeenIds::default(), Vec::new());
    let mut input = Vec::with_capacity(entries.len());
    for ((entry, id), (pairing, kind)) in entries.into_iter().zip(&ids).zip(pairings.iter().zip(&kinds)) {
        if !matches!(kind, Part::Call(_)) {
            input.append(&mut unanswered);
        }
        // An id that isn't sent repeats none.
        let is_sent = !matches!((pairing, kind), (Pairing::Orphan | Pairing::Repeated, _) | (_, Part::Reasoning));
        let drops_id = entry.has_foreign_id() || (is_sent && entry.look(|members| seen.has_seen(members)));
        match (pairing, kind) {
            (Pairing::Call(call_id, answered), Part::Call(kind)) => {
                if *answered == OutputStatus::Missing {
                    warnings.note("repaired:missing_tool_output");
                    unanswered.push(interrupted(*kind, call_id.clone()));
                }
                input.push(Item::from(entry.with(&Changes { call_id: Some(call_id), drops_id, ..Changes::default() })));
            }
            (Pairing::Answers(call), _) => {
                if let (Pairing::Call(call_id, _), Part::Call(kind)) = (&pairings[*call], &kinds[*call]) {
                    let kind = Some(output_of(*kind));
                    let changes = Changes { kind, call_id: Some(call_id), drops_id, ..Changes::default() };
                    input.push(Item::from(entry.with(&changes)));
                }
            }
            (Pairing::Orphan, _) => {
                let lead = orphan_lead(id);
                input.push(Item::from(entry.look(|members| orphan(&lead, members.get("output"), entry.index))));
            }
            (Pairing::Repeated, _) => {}
            (_, Part::Message) => input.push(Item::from(message(entry, drops_id))),
            (_, Part::Reasoning) => {
                input.push(Item::from(entry.with(&Changes { drops_id: true, ..Changes::default() })));
            }
            _ => input.push(Item::from(if drops_id { entry.without_id() } else { entry })),
        }
    }
    input.append(&mut unanswered);
    Ok(input)
}

/// The id that pairs a call with its output; empty where there is none.
fn call_id(entry: &Entry<'_>) -> Result<String, ProxyError> {
    if !matches!(entry.part(), Part::Call(_) | Part::Output) {
        return Ok(String::new());
    }
    entry.look(|members| {
        let Some(id) = members.get("call_id").filter(|id| id.get() != "null") else { return Ok(String::new()) };
        Field::root("call_id", id).text().map(Cow::into_owned).map_err(|_| {
            let at = format!("input[{}].call_id", entry.index);
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

/// The backend refuses messages of the system, wherever they stand.
fn message(entry: Entry<'_>, drops_id: bool) -> Entry<'_> {
    let role = entry.says("role", "system").then_some("developer");
    entry.with(&Changes { role, drops_id, ..Changes::default() })
}
