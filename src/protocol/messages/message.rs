//! Reads the messages of a request and converts them to a conversation.

use std::borrow::Cow;

use super::content::{self, Block};
use crate::error::ProxyError;
use crate::protocol::codex::request::{Part, Role};
use crate::protocol::json::path::Field;
use crate::protocol::upstream_input::{CallKind, Conversation, HistoryCall, HistoryEntry, instructions};

/// A message, by role.
#[derive(Clone, Debug)]
pub(super) enum Message<'a> {
    /// `system`, which may occur anywhere in the conversation.
    System(Cow<'a, str>),
    /// `user` or `assistant`.
    Blocks(Role, Vec<Block<'a>>),
}

impl<'a> Message<'a> {
    pub(super) fn read(message: &Field<'a, '_>) -> Result<Self, ProxyError> {
        let members = message.object()?;
        let role = message.required(&members, "role")?;
        let content = message.required(&members, "content")?;
        match &*role.text()? {
            "system" => Ok(Self::System(instructions::join(content::texts(&content)?).unwrap_or_default())),
            "user" => Ok(Self::Blocks(Role::User, content::blocks(&content, Role::User)?)),
            "assistant" => Ok(Self::Blocks(Role::Assistant, content::blocks(&content, Role::Assistant)?)),
            _ => Err(role.invalid("must be one of 'user', 'assistant' and 'system'")),
        }
    }
}

/// Converts messages. Within a message, adjacent parts become one message of the backend; calls, outputs and reasoning
/// become items between them.
pub(super) fn convert(messages: Vec<Message<'_>>) -> Conversation<'_> {
    let mut conversation = Conversation::new(None);
    for (index, message) in messages.into_iter().enumerate() {
        match message {
            Message::System(text) if text.is_empty() => {}
            Message::System(text) => conversation.add_message(Role::Developer, vec![Part::InputText(text.into())]),
            Message::Blocks(role, blocks) => {
                if role == Role::User {
                    conversation.note_user_text(blocks.iter().filter_map(Block::input_text));
                }
                conversation.entries.push(HistoryEntry::Turn);
                add_blocks(&mut conversation, index, role, blocks);
            }
        }
    }
    conversation
}

fn add_blocks<'a>(conversation: &mut Conversation<'a>, index: usize, role: Role, blocks: Vec<Block<'a>>) {
    let mut parts = Vec::new();
    for (number, block) in blocks.into_iter().enumerate() {
        let entry = match block {
            Block::Part(part) => {
                parts.push(part);
                continue;
            }
            Block::Call { id, name, arguments } => {
                let (position, kind) = ((index, number), CallKind::Function);
                HistoryEntry::Call(HistoryCall { id, position, kind, name, payload: arguments.into() })
            }
            Block::Output(id, output) => HistoryEntry::Output(id, output),
            Block::Reasoning(encrypted) => HistoryEntry::reasoning(&encrypted),
        };
        conversation.add_message(role, std::mem::take(&mut parts));
        conversation.entries.push(entry);
    }
    conversation.add_message(role, parts);
}
