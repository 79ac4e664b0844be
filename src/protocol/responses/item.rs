//! One item of the input: what it is, and the edits that it needs.
//!
//! Only messages, reasoning, calls and outputs are ever looked into; whatever else a client sends
//! keeps its bytes.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::error::{ProxyError, Refusal};
use crate::protocol::codex::request::{self as codex, Item, Role};
use crate::protocol::json::input_text::JsonText;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::splice::Splice;
use crate::protocol::json::string::Str;
use crate::protocol::upstream_input::replayed::{self, is_output_only, mend_parts};
use crate::protocol::upstream_input::{CallKind, schema};

/// The longest id that the backend takes.
const MAX_ID: usize = 64;

/// An item that is whole: typed, and no reference.
#[derive(Clone, Debug)]
pub(super) struct Entry<'a> {
    /// Its type; empty where it has none.
    pub(super) kind: Cow<'a, str>,
    /// Its place in the request.
    pub(super) index: usize,
    source: Source<'a>,
}

/// Where an item's bytes are.
#[derive(Clone, Debug)]
enum Source<'a> {
    /// In the request: read once, edited when it leaves.
    Request { text: &'a str, members: RawObject<'a>, edits: Splice<'a> },
    /// In the request: a message that is one text and nothing else, however long.
    Said { role: Role, text: JsonText<'a>, members: RawObject<'a> },
    /// Made or kept here.
    Own(Box<RawValue>),
}

/// What the client's list holds.
#[derive(Clone, Debug)]
pub(super) enum Listed<'a> {
    /// An item.
    Whole(Entry<'a>),
    /// The id of an item that was answered or sent before.
    Reference(Cow<'a, str>),
}

/// What an item means for the repair of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Message,
    Reasoning,
    Call(CallKind),
    Output,
    Other,
}

/// Reads an element of `input`.
pub(super) fn read<'a>(item: &Field<'a, '_>, index: usize) -> Result<Listed<'a>, ProxyError> {
    let members = item.object()?;
    let text = |name| item.member(&members, name).map(|member| member.text()).transpose();
    let kind = text("type")?;
    let is_bare = kind.is_none() && members.members().iter().all(|(name, _)| name == "id");
    if kind.as_deref() == Some("item_reference") || is_bare {
        return Ok(Listed::Reference(text("id")?.ok_or_else(|| item.lacks("id"))?));
    }
    let is_untyped_message = kind.is_none() && members.get("role").is_some();
    let kind = if is_untyped_message { Cow::Borrowed("message") } else { kind.unwrap_or_default() };
    let members = members.into_owned();
    let source = if let Some((role, text)) = said(&kind, &members) {
        Source::Said { role, text, members }
    } else {
        let mut edits = Splice::new(item.json());
        if kind == "message" {
            complete_message(item, &members, &mut edits)?;
        }
        Source::Request { text: item.json(), members, edits }
    };
    Ok(Listed::Whole(Entry { kind, index, source }))
}

/// Who says what, in a message that holds nothing else.
fn said<'a>(kind: &str, members: &RawObject<'a>) -> Option<(Role, JsonText<'a>)> {
    let is_plain = |name: &str| matches!(name, "type" | "role" | "content");
    if kind != "message" || !members.members().iter().all(|(name, _)| is_plain(name)) {
        return None;
    }
    let role = match members.get("role")?.get() {
        r#""user""# => Role::User,
        r#""assistant""# => Role::Assistant,
        r#""developer""# => Role::Developer,
        // Some clients have it moved, and some have it left.
        _ => return None,
    };
    let text = members.get("content").filter(|content| content.get().starts_with('"'))?;
    Some((role, JsonText::Literal(Cow::Borrowed(text))))
}

/// Gives a message its type, and a text its part.
fn complete_message<'a>(
    item: &Field<'a, '_>,
    members: &RawObject<'a>,
    splice: &mut Splice<'a>,
) -> Result<(), ProxyError> {
    if item.member(members, "type").is_none() {
        match members.get("type") {
            Some(null) => splice.replace(null, r#""message""#),
            None => splice.add(item.json(), r#""type":"message""#),
        }
    }
    if let Some(content) = item.member(members, "content").filter(Field::is_text) {
        let role = item.member(members, "role").map(|role| role.text()).transpose()?;
        let part = if role.as_deref() == Some("assistant") { "output_text" } else { "input_text" };
        let text = content.json();
        splice.replace(content.raw(), format!(r#"[{{"type":"{part}","text":{text}}}]"#));
    }
    Ok(())
}

/// What a whole input that is one text stands for.
pub(super) fn of_text(literal: &str) -> Entry<'static> {
    let json = format!(r#"{{"type":"message","role":"user","content":[{{"type":"input_text","text":{literal}}}]}}"#);
    Entry::made(json, 0)
}

impl<'a> Entry<'a> {
    /// A message of our own.
    pub(super) fn made(json: String, index: usize) -> Self {
        Self { kind: Cow::Borrowed("message"), index, source: Source::Own(raw(json)) }
    }

    /// Its bytes.
    pub(super) fn json(&self) -> Cow<'a, RawValue> {
        match &self.source {
            Source::Request { text, edits, .. } => edits.raw().map_or_else(|| whole(text), Cow::Owned),
            Source::Said { role, text, .. } => Cow::Owned(schema::raw(&message(*role, text.clone()))),
            Source::Own(json) => Cow::Owned(json.clone()),
        }
    }

    /// Looks at its members, as they came.
    pub(super) fn look<T>(&self, at: impl FnOnce(&RawObject<'_>) -> T) -> T {
        match &self.source {
            Source::Request { members, .. } | Source::Said { members, .. } => at(members),
            Source::Own(json) => at(&RawObject::parse(json.get()).unwrap_or_default()),
        }
    }

    pub(super) fn part(&self) -> Part {
        match &*self.kind {
            "message" => Part::Message,
            "reasoning" => Part::Reasoning,
            "function_call" => Part::Call(CallKind::Function),
            "custom_tool_call" => Part::Call(CallKind::Custom),
            "function_call_output" | "custom_tool_call_output" => Part::Output,
            _ => Part::Other,
        }
    }

    /// Whether a member is this text.
    pub(super) fn says(&self, name: &str, value: &str) -> bool {
        self.look(|members| members.get(name).is_some_and(|old| same(old, value)))
    }

    /// Looks at the texts of a message's parts; a part without one has `None`.
    pub(super) fn look_at_texts<T>(&self, at: impl FnOnce(&[Option<JsonText<'_>>]) -> T) -> T {
        self.look(|members| at(&members.get("content").map(texts).unwrap_or_default()))
    }

    /// Whether reasoning can be replayed: the backend keeps nothing that an id alone could name.
    pub(super) fn is_replayable(&self) -> bool {
        self.look(|members| {
            members.get("encrypted_content").is_some_and(|content| content.get().len() > 2 && content.get() != "null")
        })
    }
}

/// What changes about an item on its way to the backend.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes<'c> {
    pub(super) role: Option<&'c str>,
    pub(super) kind: Option<&'c str>,
    pub(super) call_id: Option<&'c str>,
    pub(super) drops_id: bool,
}

impl Changes<'_> {
    /// Notes the edits that they come to, and those that every item needs of a type that is known.
    fn note(&self, kind: &str, is_kept: bool, text: &str, members: &RawObject<'_>, edits: &mut Splice<'_>) {
        let mut added = Vec::new();
        let wanted = [("role", self.role), ("type", self.kind), ("call_id", self.call_id)];
        for (name, value) in wanted.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            match members.get(name) {
                Some(old) if same(old, value) => {}
                Some(old) => edits.replace(old, literal(value)),
                None => added.push(format!(r#""{name}":{}"#, literal(value))),
            }
        }
        if !added.is_empty() {
            edits.add(text, added.join(","));
        }
        edits.remove_where(text, members, |name, value| {
            (self.drops_id && name == "id") || is_output_only(kind, name, value)
        });
        mend_parts(members, is_kept, edits);
    }
}

impl Entry<'_> {
    /// The item with its changes; untouched where there are none.
    pub(super) fn with(mut self, changes: &Changes<'_>) -> Self {
        match &mut self.source {
            Source::Request { text, members, edits } => changes.note(&self.kind, false, text, members, edits),
            // It has neither what could be at fault, nor another role than the backend's.
            Source::Said { .. } => {}
            Source::Own(json) => {
                let mut edits = Splice::new(json.get());
                let members = RawObject::parse(json.get()).unwrap_or_default();
                changes.note(&self.kind, true, json.get(), &members, &mut edits);
                if let Some(edited) = edits.raw() {
                    *json = edited;
                }
            }
        }
        let kind = changes.kind.map_or(self.kind, |kind| Cow::Owned(kind.to_owned()));
        Entry { kind, ..self }
    }

    /// The item without its id, and otherwise as it came.
    pub(super) fn without_id(mut self) -> Self {
        match &mut self.source {
            Source::Request { text, members, edits } => edits.remove(text, members, "id"),
            Source::Said { .. } => {}
            Source::Own(json) => *json = replayed::without_id(Cow::Borrowed(json)).into_owned(),
        }
        self
    }

    /// Whether the id is one that the backend can't have given to such an item.
    pub(super) fn has_foreign_id(&self) -> bool {
        let prefix = match &*self.kind {
            "message" => "msg_",
            "function_call" => "fc_",
            "custom_tool_call" => "ctc_",
            // Several other items need theirs.
            _ => return false,
        };
        let is_own = |id: &RawValue| {
            let id = Field::root("id", id).text();
            id.is_ok_and(|id| id.starts_with(prefix) && id.chars().count() <= MAX_ID)
        };
        self.look(|members| members.get("id").is_some_and(|id| !is_own(id)))
    }
}

impl<'a> From<Entry<'a>> for Item<'a> {
    fn from(entry: Entry<'a>) -> Self {
        let json = match entry.source {
            Source::Request { text, edits, .. } => edits.raw().map_or_else(|| whole(text), Cow::Owned),
            Source::Said { role, text, .. } => return message(role, text),
            Source::Own(json) => Cow::Owned(json),
        };
        Self::Raw { kind: entry.kind, json }
    }
}

/// A message that is one text.
fn message(role: Role, text: JsonText<'_>) -> Item<'_> {
    let part = if role == Role::Assistant { codex::Part::OutputText(text) } else { codex::Part::InputText(text) };
    Item::Message { role, content: vec![part] }
}

/// An item as it came.
fn whole(text: &str) -> Cow<'_, RawValue> {
    Cow::Borrowed(serde_json::from_str(text).expect("it has been read before"))
}

/// The texts of a message's content: of the one that it is, or of each of its parts.
fn texts(content: &RawValue) -> Vec<Option<JsonText<'_>>> {
    if let Some(whole) = JsonText::from_literal(content) {
        return vec![Some(whole)];
    }
    let parts: Vec<RawObject<'_>> = serde_json::from_str(content.get()).unwrap_or_default();
    parts.iter().map(|part| JsonText::from_literal(part.get("text")?)).collect()
}

/// An output without its call, as a user would tell it.
pub(super) fn orphan<'a>(lead: &str, output: Option<&RawValue>, index: usize) -> Entry<'a> {
    let output = output.map_or("\"\"", RawValue::get);
    let parts = if let Some(escaped) = output.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        format!(r#"{{"type":"input_text","text":{}{escaped}"}}"#, literal(lead).trim_end_matches('"'))
    } else {
        let parts: Vec<&RawValue> = serde_json::from_str(output).unwrap_or_default();
        let lead = format!(r#"{{"type":"input_text","text":{}}}"#, literal(lead));
        std::iter::once(lead).chain(parts.iter().map(|part| part.get().to_owned())).collect::<Vec<_>>().join(",")
    };
    let json = format!(r#"{{"type":"message","role":"user","content":[{parts}]}}"#);
    Entry::made(json, index)
}

/// An item that was kept, at a place of the conversation.
pub(super) fn kept(json: Box<RawValue>, index: usize) -> Entry<'static> {
    let kind = RawObject::parse(json.get())
        .ok()
        .and_then(|members| Field::root("type", members.get("type")?).text().ok().map(Cow::into_owned));
    Entry { kind: Cow::Owned(kind.unwrap_or_default()), index, source: Source::Own(json) }
}

/// The refusal of a reference to what is not known here.
pub(super) fn unknown(id: &str) -> ProxyError {
    Refusal::unknown("Item", id, Some("input"))
}

fn same(old: &RawValue, value: &str) -> bool {
    serde_json::from_str::<Str<'_>>(old.get()).is_ok_and(|old| old.as_str() == value)
}

pub(super) fn literal(text: &str) -> String {
    serde_json::to_string(text).expect("a string always serialises")
}

pub(super) fn raw(json: String) -> Box<RawValue> {
    RawValue::from_string(json).expect("edits keep JSON valid")
}
