//! Converts a conversation history to the backend's input, and repairs it where the backend would reject it.
//!
//! A dialect converts its messages to [`HistoryEntry`]s. [`items`] pairs tool calls with outputs, makes call ids
//! unique, adds missing outputs, rewrites outputs without a call as user messages, and drops repeated outputs. It never
//! rejects a history. The Responses API has an implementation of its own, which keeps the bytes of items.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::pairing::{self, OutputScope, OutputStatus, Pairing, PairingItem};
use super::replayed::{self, SeenIds};
use super::{cache, names};
use crate::protocol::Warnings;
use crate::protocol::codex::request::{Item, Output, Part, Role};
use crate::protocol::json::input_text::JsonText;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::to_raw;

/// The text of the output added for a call without one.
const INTERRUPTED: &str = "[no output: the tool call was interrupted]";

/// A conversation, converted from the messages of an API.
#[derive(Debug)]
pub struct Conversation<'a> {
    /// The system prompt; `None` if the client sent none, or the dialect handles it separately.
    pub instructions: Option<Cow<'a, str>>,
    /// The messages, calls and outputs after the system prompt.
    pub entries: Vec<HistoryEntry<'a>>,
    first_user_text: Option<String>,
}

/// An entry of a conversation.
#[derive(Clone, Debug)]
pub enum HistoryEntry<'a> {
    /// The start of a user or assistant message, which may consist only of calls.
    Turn,
    /// Text, images and files of one role.
    Message(Role, Vec<Part<'a>>),
    /// A tool call of the assistant.
    Call(HistoryCall<'a>),
    /// A tool output, with the call id as the client sent it; empty if it sent none.
    Output(Cow<'a, str>, Output<'a>),
    /// An item to forward unchanged: its type and its JSON.
    Raw(Cow<'a, str>, Cow<'a, RawValue>),
}

/// The backend's item for reasoning of an earlier response.
#[derive(Serialize)]
struct ReasoningItem<'a> {
    r#type: &'static str,
    summary: [&'static str; 0],
    encrypted_content: &'a str,
}

impl HistoryEntry<'_> {
    /// The backend's encrypted reasoning, which the client got with an earlier response.
    #[must_use]
    pub fn reasoning(encrypted_content: &str) -> Self {
        let item = ReasoningItem { r#type: "reasoning", summary: [], encrypted_content };
        Self::Raw(Cow::Borrowed("reasoning"), Cow::Owned(to_raw(&item)))
    }
}

/// A tool call in a history.
#[derive(Clone, Debug)]
pub struct HistoryCall<'a> {
    /// The id as the client sent it; empty if it sent none.
    pub id: Cow<'a, str>,
    /// The index of the message, and of the call in it, from which the id of a call without one is derived.
    pub position: (usize, usize),
    /// The kind of the tool.
    pub kind: CallKind,
    /// The client's name of the tool.
    pub name: Cow<'a, str>,
    /// The JSON arguments of a function, or the input of a custom tool.
    pub payload: JsonText<'a>,
}

/// The kind of a tool that the client runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// A function with JSON arguments.
    Function,
    /// A custom tool with free text as input.
    Custom,
}

impl<'a> Conversation<'a> {
    /// Creates a conversation without messages.
    #[must_use]
    pub fn new(instructions: Option<Cow<'a, str>>) -> Self {
        Self { instructions, entries: Vec::new(), first_user_text: None }
    }

    /// Adds a message, unless it has no parts: an empty message would separate a call from its output.
    pub fn add_message(&mut self, role: Role, parts: Vec<Part<'a>>) {
        if !parts.is_empty() {
            self.entries.push(HistoryEntry::Message(role, parts));
        }
    }

    /// Remembers the texts of a user message if it is the first one.
    pub fn note_user_text<'w>(&mut self, texts: impl IntoIterator<Item = &'w JsonText<'w>>) {
        self.first_user_text.get_or_insert_with(|| cache::text_prefix(texts));
    }

    /// The beginning of the first user message, for the prompt cache key.
    #[must_use]
    pub fn first_user_text(&self) -> &str {
        self.first_user_text.as_deref().unwrap_or_default()
    }
}

/// Converts a history to the backend's input. `scope` says how far a call may be from its output. Notes repairs as
/// warnings.
pub fn items<'a>(entries: Vec<HistoryEntry<'a>>, scope: OutputScope, warnings: &mut Warnings) -> Vec<Item<'a>> {
    let pairings = pairing::pair(entries.iter().map(pairing_item), scope, warnings);
    let kinds: Vec<Option<CallKind>> = entries.iter().map(kind).collect();
    let mut input = Vec::with_capacity(entries.len());
    let mut added_outputs = Vec::new();
    let mut seen = SeenIds::default();
    for (entry, pairing) in entries.into_iter().zip(&pairings) {
        if !matches!(entry, HistoryEntry::Call(_)) {
            input.append(&mut added_outputs);
        }
        match (entry, pairing) {
            (HistoryEntry::Message(role, content), _) => input.push(Item::Message { role, content }),
            (HistoryEntry::Call(call), Pairing::Call(id, output_status)) => {
                if *output_status == OutputStatus::Missing {
                    warnings.note("repaired:missing_tool_output");
                    added_outputs.push(interrupted_output(call.kind, id.clone()));
                }
                input.push(call_item(call, id.clone()));
            }
            (HistoryEntry::Output(_, output), Pairing::Output(call)) => {
                if let (Some(kind), Pairing::Call(id, _)) = (kinds[*call], &pairings[*call]) {
                    input.push(output_item(kind, id.clone(), output));
                }
            }
            (HistoryEntry::Raw(kind, json), _) => {
                let is_repeated = RawObject::parse(json.get()).is_ok_and(|members| seen.has_seen(&members));
                let json = if is_repeated { replayed::without_id(json) } else { json };
                input.push(Item::Raw { kind, json });
            }
            (HistoryEntry::Output(id, output), Pairing::Orphan) => input.push(orphan_message(&id, output)),
            _ => {}
        }
    }
    input.append(&mut added_outputs);
    input
}

fn pairing_item<'m>(entry: &'m HistoryEntry<'_>) -> PairingItem<'m> {
    match entry {
        HistoryEntry::Turn => PairingItem::Turn,
        HistoryEntry::Message(..) | HistoryEntry::Raw(..) => PairingItem::Other,
        HistoryEntry::Call(call) => PairingItem::Call(&call.id, call.position),
        HistoryEntry::Output(id, _) => PairingItem::Output(id),
    }
}

fn kind(entry: &HistoryEntry<'_>) -> Option<CallKind> {
    if let HistoryEntry::Call(call) = entry { Some(call.kind) } else { None }
}

fn call_item(call: HistoryCall<'_>, id: String) -> Item<'_> {
    let (call_id, name) = (Cow::Owned(id), names::tool_name(call.name));
    match call.kind {
        // Some clients send an empty string for no arguments; the backend expects JSON.
        CallKind::Function if call.payload.is_blank() => Item::FunctionCall { call_id, name, arguments: "{}".into() },
        CallKind::Function => Item::FunctionCall { call_id, name, arguments: call.payload },
        CallKind::Custom => Item::CustomToolCall { call_id, name, input: call.payload },
    }
}

fn output_item(kind: CallKind, id: String, output: Output<'_>) -> Item<'_> {
    let call_id = Cow::Owned(id);
    match kind {
        CallKind::Function => Item::FunctionCallOutput { call_id, output },
        CallKind::Custom => Item::CustomToolCallOutput { call_id, output },
    }
}

/// The output item added for a call without an output.
#[must_use]
pub fn interrupted_output(kind: CallKind, id: String) -> Item<'static> {
    output_item(kind, id, Output::Text(INTERRUPTED.into()))
}

/// The text before an output whose call is missing, in the user message that replaces it.
#[must_use]
pub fn orphan_intro(id: &str) -> String {
    let id = if id.is_empty() { "unknown" } else { id };
    format!("[Output of tool call {id}, whose call is not in this conversation]\n")
}

/// Replaces an output without its call by a user message: the backend rejects such an output.
fn orphan_message<'a>(id: &str, output: Output<'a>) -> Item<'a> {
    let intro = orphan_intro(id);
    let content = match output {
        Output::Text(text) => vec![Part::InputText(text.with_prefix(&intro))],
        Output::Parts(parts) => std::iter::once(Part::InputText(intro.into())).chain(parts).collect(),
    };
    Item::Message { role: Role::User, content }
}

#[cfg(test)]
mod tests {
    use super::{CallKind, HistoryCall, HistoryEntry, items};
    use crate::protocol::Warnings;
    use crate::protocol::codex::request::{Item, Output, Part, Role};
    use crate::protocol::upstream_input::pairing::OutputScope;

    fn call(id: &'static str, kind: CallKind) -> HistoryEntry<'static> {
        HistoryEntry::Call(HistoryCall {
            id: id.into(),
            position: (1, 0),
            kind,
            name: "t".into(),
            payload: "{}".into(),
        })
    }

    fn summarize(entries: Vec<HistoryEntry<'static>>) -> Vec<String> {
        let mut warnings = Warnings::default();
        items(entries, OutputScope::Turn, &mut warnings)
            .iter()
            .map(|item| match item {
                Item::Message { role, .. } => format!("{role:?}"),
                Item::FunctionCall { call_id, .. } => format!("call {call_id}"),
                Item::CustomToolCall { call_id, .. } => format!("custom {call_id}"),
                Item::FunctionCallOutput { call_id, output: Output::Text(text) } => {
                    format!("out {call_id} {:.4}", text.read())
                }
                Item::CustomToolCallOutput { call_id, .. } => format!("custom out {call_id}"),
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn missing_outputs_are_added_after_their_group() {
        let entries = vec![
            HistoryEntry::Turn,
            call("a", CallKind::Function),
            call("b", CallKind::Custom),
            call("c", CallKind::Function),
            HistoryEntry::Output("c".into(), Output::Text("done".into())),
            HistoryEntry::Turn,
            HistoryEntry::Message(Role::User, vec![Part::InputText("hi".into())]),
            call("d", CallKind::Function),
        ];
        let expected = [
            "call a",
            "custom b",
            "call c",
            "out a [no ",
            "custom out b",
            "out c done",
            "User",
            "call d",
            "out d [no ",
        ];
        assert_eq!(summarize(entries), expected);
    }

    #[test]
    fn calls_of_two_messages_form_two_groups() {
        let entries =
            vec![HistoryEntry::Turn, call("a", CallKind::Function), HistoryEntry::Turn, call("b", CallKind::Function)];
        assert_eq!(summarize(entries), ["call a", "out a [no ", "call b", "out b [no "]);
    }

    #[test]
    fn an_orphaned_output_becomes_a_user_message() {
        let mut warnings = Warnings::default();
        let image = Part::InputImage { image_url: "data:image/png;base64,".into(), detail: "auto".into() };
        let entries = vec![HistoryEntry::Output("".into(), Output::Parts(vec![image.clone()]))];
        let input = items(entries, OutputScope::Turn, &mut warnings);
        let [Item::Message { role: Role::User, content }] = input.as_slice() else { panic!("{input:?}") };
        let intro = "[Output of tool call unknown, whose call is not in this conversation]\n";
        assert_eq!(*content, [Part::InputText(intro.into()), image]);
    }
}
