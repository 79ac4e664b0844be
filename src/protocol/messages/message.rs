//! The messages of a request, laid out for the backend.

use std::borrow::Cow;

use serde::Serialize;

use super::content::{self, Block};
use crate::error::ProxyError;
use crate::protocol::codex::request::{Part, Role};
use crate::protocol::json::path::Field;
use crate::protocol::upstream_input::schema::raw;
use crate::protocol::upstream_input::{CallKind, HistoryCall, HistoryEntry, cache, instructions};

/// One message.
#[derive(Clone, Debug)]
pub(super) enum Message<'a> {
    /// `system` in the middle of a conversation: its text.
    System(Cow<'a, str>),
    /// What the user or the assistant said, called or returned.
    Said(Role, Vec<Block<'a>>),
}

/// A request's messages in the conversation's own form.
#[derive(Debug, Default)]
pub(super) struct History<'a> {
    pub(super) entries: Vec<HistoryEntry<'a>>,
    /// Text of the first user message, for the cache key.
    pub(super) first_user_text: String,
}

/// Reasoning of an earlier answer.
#[derive(Serialize)]
struct Reasoning<'a> {
    r#type: &'static str,
    summary: [&'static str; 0],
    encrypted_content: &'a str,
}

impl<'a> Message<'a> {
    pub(super) fn read(message: &Field<'a, '_>) -> Result<Self, ProxyError> {
        let members = message.object()?;
        let role = message.member(&members, "role").ok_or_else(|| message.lacks("role"))?;
        let content = message.member(&members, "content").ok_or_else(|| message.lacks("content"))?;
        match &*role.text()? {
            "system" => Ok(Self::System(instructions::join(content::texts(&content)?).unwrap_or_default())),
            "user" => Ok(Self::Said(Role::User, content::blocks(&content, Role::User)?)),
            "assistant" => Ok(Self::Said(Role::Assistant, content::blocks(&content, Role::Assistant)?)),
            _ => Err(role.invalid("must be one of 'user', 'assistant' and 'system'")),
        }
    }
}

/// Lays out messages: what stands between calls, outputs and reasoning becomes one message.
pub(super) fn lay_out(messages: Vec<Message<'_>>) -> History<'_> {
    let mut history = History::default();
    let mut has_user = false;
    for (index, message) in messages.into_iter().enumerate() {
        match message {
            Message::System(text) if text.is_empty() => {}
            Message::System(text) => {
                history.entries.push(HistoryEntry::Message(Role::Developer, vec![Part::InputText(text.into())]));
            }
            Message::Said(role, blocks) => {
                if role == Role::User && !std::mem::replace(&mut has_user, true) {
                    history.first_user_text = beginning(&blocks);
                }
                history.entries.push(HistoryEntry::Turn);
                history.add(index, role, blocks);
            }
        }
    }
    history
}

impl<'a> History<'a> {
    fn add(&mut self, index: usize, role: Role, blocks: Vec<Block<'a>>) {
        let mut parts = Vec::new();
        for (number, block) in blocks.into_iter().enumerate() {
            let entry = match block {
                Block::Part(part) => {
                    parts.push(part);
                    continue;
                }
                Block::Call { id, name, arguments } => {
                    let (place, kind) = ((index, number), CallKind::Function);
                    HistoryEntry::Call(HistoryCall { id, place, kind, name, payload: arguments.into() })
                }
                Block::Output(id, output) => HistoryEntry::Output(id, output),
                Block::Reasoning(encrypted_content) => {
                    let item = Reasoning { r#type: "reasoning", summary: [], encrypted_content: &encrypted_content };
                    HistoryEntry::Carried(Cow::Borrowed("reasoning"), Cow::Owned(raw(&item)))
                }
            };
            self.say(role, std::mem::take(&mut parts));
            self.entries.push(entry);
        }
        self.say(role, parts);
    }

    fn say(&mut self, role: Role, parts: Vec<Part<'a>>) {
        if !parts.is_empty() {
            self.entries.push(HistoryEntry::Message(role, parts));
        }
    }
}

fn beginning(blocks: &[Block<'_>]) -> String {
    let texts = blocks.iter().filter_map(|block| match block {
        Block::Part(part) => part.input_text(),
        _ => None,
    });
    cache::beginning(texts)
}
