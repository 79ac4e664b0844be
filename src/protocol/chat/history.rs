//! The messages of a Chat request, laid out for the backend.

use std::borrow::Cow;

use super::message::{Message, Origin, ToolCall};
use crate::protocol::codex::request::{Part, Role};
use crate::protocol::upstream_input::call_matching::CallMatcher;
use crate::protocol::upstream_input::{CallKind, HistoryCall, HistoryEntry, cache, instructions};

/// A request's messages in the conversation's own form.
#[derive(Debug, Default)]
pub(super) struct History<'a> {
    /// The leading system text; `None` where there is none.
    pub(super) instructions: Option<Cow<'a, str>>,
    /// Everything after it.
    pub(super) entries: Vec<HistoryEntry<'a>>,
    /// Text of the first user message, for the cache key.
    pub(super) first_user_text: String,
}

/// Lays out messages. Where `instructions` are sent, no system text takes their place. `is_custom`
/// says whether a name is declared as a custom tool: some clients tell calls of custom tools in the envelope of functions.
pub(super) fn lay_out<'a>(
    messages: Vec<Message<'a>>,
    instructions: Option<Cow<'a, str>>,
    is_custom: &dyn Fn(&str) -> bool,
) -> History<'a> {
    let is_lead = |message: &&Message<'_>| instructions.is_none() && matches!(message, Message::System(_));
    let lead = messages.iter().take_while(is_lead).count();
    let mut messages = messages.into_iter();
    let system = messages.by_ref().take(lead).map(|message| match message {
        Message::System(text) => text,
        _ => Cow::Borrowed(""),
    });
    let instructions = instructions.or(instructions::join(system));
    let mut layout =
        Layout { is_custom, legacy: CallMatcher::new("call_legacy_"), entries: Vec::new(), first_user_text: None };
    for (index, message) in messages.enumerate() {
        layout.add(lead + index, message);
    }
    History { instructions, entries: layout.entries, first_user_text: layout.first_user_text.unwrap_or_default() }
}

struct Layout<'a, 'c> {
    is_custom: &'c dyn Fn(&str) -> bool,
    legacy: CallMatcher<'a>,
    entries: Vec<HistoryEntry<'a>>,
    first_user_text: Option<String>,
}

impl<'a> Layout<'a, '_> {
    fn add(&mut self, index: usize, message: Message<'a>) {
        match message {
            Message::System(text) | Message::Developer(text) if text.trim().is_empty() => {}
            Message::System(text) | Message::Developer(text) => {
                self.say(Role::Developer, vec![Part::InputText(text.into())]);
            }
            Message::User(parts) => {
                self.begin_turn();
                self.first_user_text.get_or_insert_with(|| cache::beginning(parts.iter().filter_map(Part::input_text)));
                self.say(Role::User, parts);
            }
            Message::Assistant(parts, calls) => {
                self.begin_turn();
                self.say(Role::Assistant, parts);
                for (number, call) in calls.into_iter().enumerate() {
                    self.call((index, number), call);
                }
            }
            Message::Call(call) => self.call((index, 0), call),
            Message::Carried(kind, json) => self.entries.push(HistoryEntry::Carried(kind, json)),
            Message::Tool(id, output) => self.entries.push(HistoryEntry::Output(id, output)),
            Message::Function(name, output) => {
                let id = self.legacy.answer(Cow::Borrowed(""), &name);
                self.entries.push(HistoryEntry::Output(id, output));
            }
        }
    }

    fn begin_turn(&mut self) {
        self.legacy.forget();
        self.entries.push(HistoryEntry::Turn);
    }

    fn say(&mut self, role: Role, parts: Vec<Part<'a>>) {
        if !parts.is_empty() {
            self.entries.push(HistoryEntry::Message(role, parts));
        }
    }

    fn call(&mut self, place: (usize, usize), call: ToolCall<'a>) {
        let ToolCall { origin, kind, name, payload } = call;
        let id = match origin {
            Origin::ToolCalls(id) => id,
            Origin::FunctionCall => self.legacy.call(Cow::Borrowed(""), name.clone()),
        };
        let kind = if (self.is_custom)(&name) { CallKind::Custom } else { kind };
        self.entries.push(HistoryEntry::Call(HistoryCall { id, place, kind, name, payload }));
    }
}
