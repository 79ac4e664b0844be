//! Converts the contents of a request to a conversation of the backend.
//!
//! Many clients send calls and responses without ids. A response refers to its call by id, or by the name of the
//! function and its position.

use super::content::{Content, ContentPart};
use crate::protocol::codex::request::Role;
use crate::protocol::upstream_input::call_matching::CallMatcher;
use crate::protocol::upstream_input::{CallKind, Conversation, HistoryCall, HistoryEntry};

/// The prefix of ids generated for calls without one.
const ID_PREFIX: &str = "call_gemini_";

/// Converts contents. Within a content, adjacent parts become one message of the backend; calls, outputs and reasoning
/// become items between them. Consecutive contents of one role belong to one turn: some clients send each chunk of a
/// stream back as a content of its own.
pub(super) fn convert(contents: Vec<Content<'_>>) -> Conversation<'_> {
    let mut conversation = Conversation::new(None);
    let mut calls = CallMatcher::new(ID_PREFIX);
    let mut turn = None;
    for (index, Content { role, parts }) in contents.into_iter().enumerate() {
        if turn.replace(role) != Some(role) {
            conversation.entries.push(HistoryEntry::Turn);
            if role == Role::Assistant {
                calls.begin_turn();
            }
        }
        if role == Role::User {
            conversation.note_user_text(parts.iter().filter_map(ContentPart::input_text));
        }
        add_parts(&mut conversation, &mut calls, index, role, parts);
    }
    conversation
}

fn add_parts<'a>(
    conversation: &mut Conversation<'a>,
    calls: &mut CallMatcher<'a>,
    index: usize,
    role: Role,
    parts: Vec<ContentPart<'a>>,
) {
    let mut adjacent = Vec::new();
    for (number, part) in parts.into_iter().enumerate() {
        let entry = match part {
            ContentPart::Part(part) => {
                adjacent.push(part);
                continue;
            }
            ContentPart::Call { id, name, arguments } => {
                let (id, position) = (calls.add_call(id, name.clone()), (index, number));
                let (kind, payload) = (CallKind::Function, arguments.into());
                HistoryEntry::Call(HistoryCall { id, position, kind, name, payload })
            }
            ContentPart::Output { id, name, output } => HistoryEntry::Output(calls.match_output(id, &name), output),
            ContentPart::Reasoning(encrypted) => HistoryEntry::reasoning(&encrypted),
        };
        conversation.add_message(role, std::mem::take(&mut adjacent));
        conversation.entries.push(entry);
    }
    conversation.add_message(role, adjacent);
}
