//! An input item and the edits that it needs.
//!
//! Edits keep the other bytes of the item. Only messages, reasoning, calls and outputs are edited; of other items, at
//! most a repeated id is removed.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::error::{ProxyError, Refusal};
use crate::protocol::codex::request::{self as codex, Item, Role};
use crate::protocol::json::input_text::JsonText;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::splice::Splice;
use crate::protocol::json::string::Str;
use crate::protocol::json::{from_string, quoted, to_raw};
use crate::protocol::upstream_input::CallKind;
use crate::protocol::upstream_input::replayed::{self, is_output_only, repair_parts};

/// The maximum length of an item id that the backend accepts.
const MAX_ID_CHARS: usize = 64;

/// An item with its type, which isn't a reference.
#[derive(Clone, Debug)]
pub(super) struct InputItem<'a> {
    /// Its `type`; empty if it has none.
    pub(super) kind: Cow<'a, str>,
    /// Its index in `input`, or among the stored items.
    pub(super) index: usize,
    source: ItemSource<'a>,
}

/// Where an item's JSON comes from.
#[derive(Clone, Debug)]
enum ItemSource<'a> {
    /// From the request. Edits are collected and applied when the item is written.
    Request { text: &'a str, members: RawObject<'a>, edits: Splice<'a> },
    /// From the request: a message whose content is a string, which is not copied.
    PlainMessage { role: Role, text: JsonText<'a>, members: RawObject<'a> },
    /// Built by the proxy, or stored by an earlier request.
    Owned(Box<RawValue>),
}

/// An element of `input`.
#[derive(Clone, Debug)]
pub(super) enum InputElement<'a> {
    Item(InputItem<'a>),
    /// The id of an item of an earlier request or response.
    Reference(Cow<'a, str>),
}

/// The kinds of items that the repair of a history distinguishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum InputKind {
    Message,
    Reasoning,
    Call(CallKind),
    Output,
    Other,
}

/// Reads an element of `input`.
pub(super) fn read<'a>(item: &Field<'a, '_>, index: usize) -> Result<InputElement<'a>, ProxyError> {
    let members = item.object()?;
    let text = |name| item.member(&members, name).map(|member| member.text()).transpose();
    let kind = text("type")?;
    let is_bare = kind.is_none() && members.members().iter().all(|(name, _)| name == "id");
    if kind.as_deref() == Some("item_reference") || is_bare {
        return Ok(InputElement::Reference(text("id")?.ok_or_else(|| item.lacks("id"))?));
    }
    let is_untyped_message = kind.is_none() && members.get("role").is_some();
    let kind = if is_untyped_message { Cow::Borrowed("message") } else { kind.unwrap_or_default() };
    let members = members.into_owned();
    let source = if let Some((role, text)) = plain_message(&kind, &members) {
        ItemSource::PlainMessage { role, text, members }
    } else {
        let mut edits = Splice::new(item.json());
        if kind == "message" {
            complete_message(item, &members, &mut edits)?;
        }
        ItemSource::Request { text: item.json(), members, edits }
    };
    Ok(InputElement::Item(InputItem { kind, index, source }))
}

/// The role and text of a message whose content is a string and that needs no edits; `None` for any other item.
fn plain_message<'a>(kind: &str, members: &RawObject<'a>) -> Option<(Role, JsonText<'a>)> {
    let is_plain = |name: &str| matches!(name, "type" | "role" | "content");
    if kind != "message" || !members.members().iter().all(|(name, _)| is_plain(name)) {
        return None;
    }
    let role = match members.get("role")?.get() {
        r#""user""# => Role::User,
        r#""assistant""# => Role::Assistant,
        r#""developer""# => Role::Developer,
        // `system` becomes another role or the instructions, depending on the client.
        _ => return None,
    };
    let text = members.get("content").filter(|content| content.get().starts_with('"'))?;
    Some((role, JsonText::Literal(Cow::Borrowed(text))))
}

/// Adds a missing type to a message, and turns content that is a string into a part.
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

/// The user message for a string as `input`.
pub(super) fn of_text(literal: &str) -> InputItem<'static> {
    let json = format!(r#"{{"type":"message","role":"user","content":[{{"type":"input_text","text":{literal}}}]}}"#);
    InputItem::message(json, 0)
}

impl<'a> InputItem<'a> {
    /// A message that the proxy built, as JSON.
    pub(super) fn message(json: String, index: usize) -> Self {
        Self { kind: Cow::Borrowed("message"), index, source: ItemSource::Owned(from_string(json)) }
    }

    /// Its JSON, with the edits so far.
    pub(super) fn json(&self) -> Cow<'a, RawValue> {
        match &self.source {
            ItemSource::Request { text, edits, .. } => edits.raw().map_or_else(|| unedited(text), Cow::Owned),
            ItemSource::PlainMessage { role, text, .. } => Cow::Owned(to_raw(&text_message(*role, text.clone()))),
            ItemSource::Owned(json) => Cow::Owned(json.clone()),
        }
    }

    /// Calls `read` with its members, without the edits.
    pub(super) fn with_members<T>(&self, read: impl FnOnce(&RawObject<'_>) -> T) -> T {
        match &self.source {
            ItemSource::Request { members, .. } | ItemSource::PlainMessage { members, .. } => read(members),
            ItemSource::Owned(json) => read(&RawObject::parse(json.get()).unwrap_or_default()),
        }
    }

    pub(super) fn input_kind(&self) -> InputKind {
        match &*self.kind {
            "message" => InputKind::Message,
            "reasoning" => InputKind::Reasoning,
            "function_call" => InputKind::Call(CallKind::Function),
            "custom_tool_call" => InputKind::Call(CallKind::Custom),
            "function_call_output" | "custom_tool_call_output" => InputKind::Output,
            _ => InputKind::Other,
        }
    }

    /// Whether a member is a string with this value.
    pub(super) fn has(&self, name: &str, value: &str) -> bool {
        self.with_members(|members| members.get(name).is_some_and(|old| same(old, value)))
    }

    /// Calls `read` with the texts of a message's parts; `None` for a part without text.
    pub(super) fn with_texts<T>(&self, read: impl FnOnce(&[Option<JsonText<'_>>]) -> T) -> T {
        self.with_members(|members| read(&members.get("content").map(texts).unwrap_or_default()))
    }

    /// Whether reasoning can be replayed. It needs its encrypted content, because the backend stores nothing.
    pub(super) fn is_replayable(&self) -> bool {
        self.with_members(|members| {
            members.get("encrypted_content").is_some_and(|content| content.get().len() > 2 && content.get() != "null")
        })
    }
}

/// Edits of an item: new values of members. `None` leaves a member as it is.
#[derive(Clone, Debug, Default)]
pub(super) struct ItemEdits<'c> {
    pub(super) role: Option<&'c str>,
    pub(super) kind: Option<&'c str>,
    pub(super) call_id: Option<&'c str>,
    pub(super) drops_id: bool,
}

impl ItemEdits<'_> {
    /// Adds these edits to a splice, and those that every item of the type `kind` needs.
    fn apply(&self, kind: &str, is_stored: bool, text: &str, members: &RawObject<'_>, edits: &mut Splice<'_>) {
        let mut added = Vec::new();
        let wanted = [("role", self.role), ("type", self.kind), ("call_id", self.call_id)];
        for (name, value) in wanted.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            match members.get(name) {
                Some(old) if same(old, value) => {}
                Some(old) => edits.replace(old, quoted(value)),
                None => added.push(format!(r#""{name}":{}"#, quoted(value))),
            }
        }
        if !added.is_empty() {
            edits.add(text, added.join(","));
        }
        edits.remove_where(text, members, |name, value| {
            (self.drops_id && name == "id") || is_output_only(kind, name, value)
        });
        repair_parts(members, is_stored, edits);
    }
}

impl InputItem<'_> {
    /// Applies edits, and those that every item of its type needs.
    pub(super) fn edited(mut self, changes: &ItemEdits<'_>) -> Self {
        match &mut self.source {
            ItemSource::Request { text, members, edits } => changes.apply(&self.kind, false, text, members, edits),
            // It has no id, and a role that the backend accepts.
            ItemSource::PlainMessage { .. } => {}
            ItemSource::Owned(json) => {
                let mut edits = Splice::new(json.get());
                let members = RawObject::parse(json.get()).unwrap_or_default();
                changes.apply(&self.kind, true, json.get(), &members, &mut edits);
                if let Some(edited) = edits.raw() {
                    *json = edited;
                }
            }
        }
        let kind = changes.kind.map_or(self.kind, |kind| Cow::Owned(kind.to_owned()));
        InputItem { kind, ..self }
    }

    /// Removes the id.
    pub(super) fn without_id(mut self) -> Self {
        match &mut self.source {
            ItemSource::Request { text, members, edits } => edits.remove(text, members, "id"),
            ItemSource::PlainMessage { .. } => {}
            ItemSource::Owned(json) => *json = replayed::without_id(Cow::Borrowed(json)).into_owned(),
        }
        self
    }

    /// Whether the item has an id that can't be the backend's, given the item's type.
    pub(super) fn has_foreign_id(&self) -> bool {
        let prefix = match &*self.kind {
            "message" => "msg_",
            "function_call" => "fc_",
            "custom_tool_call" => "ctc_",
            // Some other items require their id.
            _ => return false,
        };
        let is_valid = |id: &RawValue| {
            let id = Field::root("id", id).text();
            id.is_ok_and(|id| id.starts_with(prefix) && id.chars().count() <= MAX_ID_CHARS)
        };
        self.with_members(|members| members.get("id").is_some_and(|id| !is_valid(id)))
    }
}

impl<'a> From<InputItem<'a>> for Item<'a> {
    fn from(item: InputItem<'a>) -> Self {
        let json = match item.source {
            ItemSource::Request { text, edits, .. } => edits.raw().map_or_else(|| unedited(text), Cow::Owned),
            ItemSource::PlainMessage { role, text, .. } => return text_message(role, text),
            ItemSource::Owned(json) => Cow::Owned(json),
        };
        Self::Raw { kind: item.kind, json }
    }
}

/// A message with one text.
fn text_message(role: Role, text: JsonText<'_>) -> Item<'_> {
    let part = if role == Role::Assistant { codex::Part::OutputText(text) } else { codex::Part::InputText(text) };
    Item::Message { role, content: vec![part] }
}

/// An item without edits.
fn unedited(text: &str) -> Cow<'_, RawValue> {
    Cow::Borrowed(serde_json::from_str(text).expect("it was parsed before"))
}

/// The texts of a message's content, which is a string or a list of parts.
fn texts(content: &RawValue) -> Vec<Option<JsonText<'_>>> {
    if let Some(text) = JsonText::from_literal(content) {
        return vec![Some(text)];
    }
    let parts: Vec<RawObject<'_>> = serde_json::from_str(content.get()).unwrap_or_default();
    parts.iter().map(|part| JsonText::from_literal(part.get("text")?)).collect()
}

/// The user message that replaces an output whose call is missing: the text `lead`, then the output.
pub(super) fn orphan<'a>(lead: &str, output: Option<&RawValue>, index: usize) -> InputItem<'a> {
    let output = output.map_or("\"\"", RawValue::get);
    let parts = if let Some(escaped) = output.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        format!(r#"{{"type":"input_text","text":{}{escaped}"}}"#, quoted(lead).trim_end_matches('"'))
    } else {
        let parts: Vec<&RawValue> = serde_json::from_str(output).unwrap_or_default();
        let lead = format!(r#"{{"type":"input_text","text":{}}}"#, quoted(lead));
        std::iter::once(lead).chain(parts.iter().map(|part| part.get().to_owned())).collect::<Vec<_>>().join(",")
    };
    let json = format!(r#"{{"type":"message","role":"user","content":[{parts}]}}"#);
    InputItem::message(json, index)
}

/// An item that was stored by an earlier request.
pub(super) fn stored(json: Box<RawValue>, index: usize) -> InputItem<'static> {
    let kind = RawObject::parse(json.get())
        .ok()
        .and_then(|members| Field::root("type", members.get("type")?).text().ok().map(Cow::into_owned));
    InputItem { kind: Cow::Owned(kind.unwrap_or_default()), index, source: ItemSource::Owned(json) }
}

/// The error for a reference to an unknown item.
pub(super) fn unknown(id: &str) -> ProxyError {
    Refusal::unknown("Item", id, Some("input"))
}

fn same(old: &RawValue, value: &str) -> bool {
    serde_json::from_str::<Str<'_>>(old.get()).is_ok_and(|old| old.as_str() == value)
}
