//! A history in no dialect, and its way into the backend's input, mended where it is damaged.
//!
//! A dialect lays out its messages as [`HistoryEntry`]s; [`items`] pairs calls with outputs and adds,
//! rewords or drops what the backend would refuse. Nothing here refuses a history.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::names;
use super::pairing::{self, OutputScope, OutputStatus, Pairing, PairingItem};
use super::replayed::{self, SeenIds};
use crate::protocol::Warnings;
use crate::protocol::codex::request::{Item, Output, Part, Role};
use crate::protocol::json::input_text::JsonText;
use crate::protocol::json::raw_object::RawObject;

const INTERRUPTED: &str = "[no output: the tool call was interrupted]";

/// A piece of a conversation.
#[derive(Clone, Debug)]
pub enum HistoryEntry<'a> {
    /// A message of the user or the assistant begins; it may turn out to hold only calls.
    Turn,
    /// What somebody said.
    Message(Role, Vec<Part<'a>>),
    /// A call of the assistant.
    Call(HistoryCall<'a>),
    /// What a tool returned: the id of the call as the client sent it, empty for none.
    Output(Cow<'a, str>, Output<'a>),
    /// An item that is carried as it came: its type, and the whole of it.
    Carried(Cow<'a, str>, Cow<'a, RawValue>),
}

/// A tool call of the history.
#[derive(Clone, Debug)]
pub struct HistoryCall<'a> {
    /// The id as the client sent it; empty: none.
    pub id: Cow<'a, str>,
    /// Number of its message, and its number within: names a call that has no id.
    pub place: (usize, usize),
    /// Which of the two kinds it is.
    pub kind: CallKind,
    /// Name of the tool, as the client knows it.
    pub name: Cow<'a, str>,
    /// JSON arguments of a function, or input of a custom tool.
    pub payload: JsonText<'a>,
}

/// The two kinds of tool that a client runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// JSON arguments.
    Function,
    /// Free text.
    Custom,
}

/// The backend's input for a history. What was mended is noted.
pub fn items<'a>(entries: Vec<HistoryEntry<'a>>, reach: OutputScope, warnings: &mut Warnings) -> Vec<Item<'a>> {
    let pairings = pairing::pair(entries.iter().map(mark), reach, warnings);
    let kinds: Vec<Option<CallKind>> = entries.iter().map(kind).collect();
    let mut input = Vec::with_capacity(entries.len());
    let mut unanswered = Vec::new();
    let mut seen = SeenIds::default();
    for (entry, pairing) in entries.into_iter().zip(&pairings) {
        if !matches!(entry, HistoryEntry::Call(_)) {
            input.append(&mut unanswered);
        }
        match (entry, pairing) {
            (HistoryEntry::Message(role, content), _) => input.push(Item::Message { role, content }),
            (HistoryEntry::Call(call), Pairing::Call(id, answered)) => {
                if *answered == OutputStatus::Missing {
                    warnings.note("repaired:missing_tool_output");
                    unanswered.push(interrupted(call.kind, id.clone()));
                }
                input.push(call_item(call, id.clone()));
            }
            (HistoryEntry::Output(_, output), Pairing::Answers(call)) => {
                if let (Some(kind), Pairing::Call(id, _)) = (kinds[*call], &pairings[*call]) {
                    input.push(output_item(kind, id.clone(), output));
                }
            }
            (HistoryEntry::Carried(kind, json), _) => {
                let is_repeated = RawObject::parse(json.get()).is_ok_and(|members| seen.has_seen(&members));
                let json = if is_repeated { replayed::without_id(json) } else { json };
                input.push(Item::Raw { kind, json });
            }
            (HistoryEntry::Output(id, output), Pairing::Orphan) => input.push(orphan(&id, output)),
            _ => {}
        }
    }
    input.append(&mut unanswered);
    input
}

fn mark<'m>(entry: &'m HistoryEntry<'_>) -> PairingItem<'m> {
    match entry {
        HistoryEntry::Turn => PairingItem::Turn,
        HistoryEntry::Message(..) | HistoryEntry::Carried(..) => PairingItem::Other,
        HistoryEntry::Call(call) => PairingItem::Call(&call.id, call.place),
        HistoryEntry::Output(id, _) => PairingItem::Output(id),
    }
}

fn kind(entry: &HistoryEntry<'_>) -> Option<CallKind> {
    if let HistoryEntry::Call(call) = entry { Some(call.kind) } else { None }
}

fn call_item(call: HistoryCall<'_>, id: String) -> Item<'_> {
    let (call_id, name) = (Cow::Owned(id), names::tool_name(call.name));
    match call.kind {
        // Some clients send nothing for the arguments of a call that has none, and JSON is expected.
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

/// The output of a call that has none.
#[must_use]
pub fn interrupted(kind: CallKind, id: String) -> Item<'static> {
    output_item(kind, id, Output::Text(INTERRUPTED.into()))
}

/// What precedes an output whose call is missing, where it is told as a user would.
#[must_use]
pub fn orphan_lead(id: &str) -> String {
    let id = if id.is_empty() { "unknown" } else { id };
    format!("[Output of tool call {id}, whose call is not in this conversation]\n")
}

/// An output without its call: said as a user would, since the backend refuses it as an output.
fn orphan<'a>(id: &str, output: Output<'a>) -> Item<'a> {
    let lead = orphan_lead(id);
    let content = match output {
        Output::Text(text) => vec![Part::InputText(text.after(&lead))],
        Output::Parts(parts) => std::iter::once(Part::InputText(lead.into())).chain(parts).collect(),
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
        HistoryEntry::Call(HistoryCall { id: id.into(), place: (1, 0), kind, name: "t".into(), payload: "{}".into() })
    }

    fn told(entries: Vec<HistoryEntry<'static>>) -> Vec<String> {
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
    fn missing_outputs_stand_right_after_their_group() {
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
        assert_eq!(told(entries), expected);
    }

    #[test]
    fn the_groups_of_two_messages_stay_apart() {
        let entries =
            vec![HistoryEntry::Turn, call("a", CallKind::Function), HistoryEntry::Turn, call("b", CallKind::Function)];
        assert_eq!(told(entries), ["call a", "out a [no ", "call b", "out b [no "]);
    }

    #[test]
    fn an_orphan_becomes_what_a_user_says() {
        let mut warnings = Warnings::default();
        let picture = Part::InputImage { image_url: "data:image/png;base64,".into(), detail: "auto".into() };
        let entries = vec![HistoryEntry::Output("".into(), Output::Parts(vec![picture.clone()]))];
        let input = items(entries, OutputScope::Turn, &mut warnings);
        let [Item::Message { role: Role::User, content }] = input.as_slice() else { panic!("{input:?}") };
        let lead = "[Output of tool call unknown, whose call is not in this conversation]\n";
        assert_eq!(*content, [Part::InputText(lead.into()), picture]);
    }
}
