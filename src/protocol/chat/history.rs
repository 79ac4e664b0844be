//! Converts the messages of a Chat request to a conversation.

use std::borrow::Cow;

use super::message::{CallSource, Message, ToolCall};
use crate::protocol::codex::request::{Part, Role};
use crate::protocol::upstream_input::call_matching::CallMatcher;
use crate::protocol::upstream_input::{CallKind, Conversation, HistoryCall, HistoryEntry, instructions};

/// Converts messages. Leading system messages become the instructions, unless the request has `instructions` (a member
/// of Responses bodies); other system messages become developer messages. `is_custom` returns whether a tool is
/// declared as a custom tool: some clients send calls of custom tools as function calls.
pub(super) fn convert<'a>(
    messages: Vec<Message<'a>>,
    instructions: Option<Cow<'a, str>>,
    is_custom: &dyn Fn(&str) -> bool,
) -> Conversation<'a> {
    let is_leading = |message: &&Message<'_>| instructions.is_none() && matches!(message, Message::System(_));
    let leading = messages.iter().take_while(is_leading).count();
    let mut messages = messages.into_iter();
    let system = messages.by_ref().take(leading).map(|message| match message {
        Message::System(text) => text,
        _ => Cow::Borrowed(""),
    });
    let instructions = instructions.or(instructions::join(system));
    let conversation = Conversation::new(instructions);
    let mut converter = Converter { is_custom, legacy_calls: CallMatcher::new("call_legacy_"), conversation };
    for (index, message) in messages.enumerate() {
        converter.add(leading + index, message);
    }
    converter.conversation
}

struct Converter<'a, 'c> {
    is_custom: &'c dyn Fn(&str) -> bool,
    /// Calls in `function_call`, which has no ids.
    legacy_calls: CallMatcher<'a>,
    conversation: Conversation<'a>,
}

impl<'a> Converter<'a, '_> {
    fn add(&mut self, index: usize, message: Message<'a>) {
        match message {
            Message::System(text) | Message::Developer(text) if text.trim().is_empty() => {}
            Message::System(text) | Message::Developer(text) => {
                self.conversation.add_message(Role::Developer, vec![Part::InputText(text.into())]);
            }
            Message::User(parts) => {
                self.begin_turn();
                self.conversation.note_user_text(parts.iter().filter_map(Part::input_text));
                self.conversation.add_message(Role::User, parts);
            }
            Message::Assistant(parts, calls) => {
                self.begin_turn();
                self.conversation.add_message(Role::Assistant, parts);
                for (number, call) in calls.into_iter().enumerate() {
                    self.add_call((index, number), call);
                }
            }
            Message::Call(call) => self.add_call((index, 0), call),
            Message::Raw(kind, json) => self.conversation.entries.push(HistoryEntry::Raw(kind, json)),
            Message::Tool(id, output) => self.conversation.entries.push(HistoryEntry::Output(id, output)),
            Message::Function(name, output) => {
                let id = self.legacy_calls.match_output(Cow::Borrowed(""), &name);
                self.conversation.entries.push(HistoryEntry::Output(id, output));
            }
        }
    }

    fn begin_turn(&mut self) {
        self.legacy_calls.begin_turn();
        self.conversation.entries.push(HistoryEntry::Turn);
    }

    fn add_call(&mut self, position: (usize, usize), call: ToolCall<'a>) {
        let ToolCall { source, kind, name, payload } = call;
        let id = match source {
            CallSource::ToolCalls(id) => id,
            CallSource::FunctionCall => self.legacy_calls.add_call(Cow::Borrowed(""), name.clone()),
        };
        let kind = if (self.is_custom)(&name) { CallKind::Custom } else { kind };
        self.conversation.entries.push(HistoryEntry::Call(HistoryCall { id, position, kind, name, payload }));
    }
}
