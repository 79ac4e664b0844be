//! The messages of a conversation, read by role and laid out for the backend.
//!
//! Ollama's tools have no ids, or ids that clients lose: a tool's output says which call it answers
//! by an id, by the tool's name, or by nothing but its place.

use std::borrow::Cow;

use super::media;
use crate::error::ProxyError;
use crate::protocol::codex::request::{Output, Part, Role};
use crate::protocol::json::input_text::JsonText;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::upstream_input::call_matching::CallMatcher;
use crate::protocol::upstream_input::json::compact;
use crate::protocol::upstream_input::{CallKind, HistoryCall, HistoryEntry, cache, instructions};

/// What ids begin with that are made up for calls without one.
const MADE_UP_ID: &str = "call_ollama_";

/// One message.
#[derive(Clone, Debug)]
pub(super) enum Message<'a> {
    System(Cow<'a, str>),
    User(Vec<Part<'a>>),
    /// What it said, and what it called.
    Assistant(JsonText<'a>, Vec<ToolCall<'a>>),
    Tool(Answer<'a>),
}

/// A call as the client tells it.
#[derive(Clone, Debug)]
pub(super) struct ToolCall<'a> {
    id: Cow<'a, str>,
    name: Cow<'a, str>,
    /// Compact JSON.
    arguments: JsonText<'a>,
}

/// What a tool returned, and what is said of the call; empty for nothing.
#[derive(Clone, Debug)]
pub(super) struct Answer<'a> {
    id: Cow<'a, str>,
    name: Cow<'a, str>,
    output: Output<'a>,
}

/// A request's messages in the conversation's own form.
#[derive(Debug)]
pub(super) struct History<'a> {
    /// The leading system text; `None` where there is none.
    pub(super) instructions: Option<Cow<'a, str>>,
    /// Everything after it.
    pub(super) entries: Vec<HistoryEntry<'a>>,
    /// Text of the first user message, for the cache key.
    pub(super) first_user_text: String,
}

impl<'a> Message<'a> {
    pub(super) fn read(message: &Field<'a, '_>) -> Result<Self, ProxyError> {
        let members = message.object()?;
        let role = message.member(&members, "role").ok_or_else(|| message.lacks("role"))?;
        let content = || words(message, &members, "content");
        match role.text()?.to_ascii_lowercase().as_str() {
            "system" => Ok(Self::System(text(message, &members, "content")?)),
            "user" => Ok(Self::User(said(content()?, images(message, &members)?))),
            // Its thinking can't be replayed, and pictures are not taken from it.
            "assistant" => Ok(Self::Assistant(content()?, calls(message, &members)?)),
            "tool" => Ok(Self::Tool(answer(message, &members, content()?)?)),
            _ => Err(role.invalid("must be one of 'system', 'user', 'assistant' and 'tool'")),
        }
    }
}

/// A text and pictures, as a user says them.
pub(super) fn said<'a>(text: JsonText<'a>, images: Vec<Part<'a>>) -> Vec<Part<'a>> {
    let text = (!text.is_empty() || images.is_empty()).then_some(Part::InputText(text));
    text.into_iter().chain(images).collect()
}

/// A text member, empty where it is missing.
fn text<'a>(object: &Field<'a, '_>, members: &RawObject<'a>, name: &str) -> Result<Cow<'a, str>, ProxyError> {
    object.member(members, name).map_or(Ok(Cow::Borrowed("")), |text| text.text())
}

/// The same to pass on.
fn words<'a>(object: &Field<'a, '_>, members: &RawObject<'a>, name: &str) -> Result<JsonText<'a>, ProxyError> {
    object.member(members, name).map_or(Ok(JsonText::default()), |text| text.json_text())
}

fn images<'a>(message: &Field<'a, '_>, members: &RawObject<'a>) -> Result<Vec<Part<'a>>, ProxyError> {
    message.member(members, "images").map_or(Ok(Vec::new()), |images| images.each(media::read))
}

fn calls<'a>(message: &Field<'a, '_>, members: &RawObject<'a>) -> Result<Vec<ToolCall<'a>>, ProxyError> {
    message.member(members, "tool_calls").map_or(Ok(Vec::new()), |calls| calls.each(ToolCall::read))
}

fn answer<'a>(
    message: &Field<'a, '_>,
    members: &RawObject<'a>,
    returned: JsonText<'a>,
) -> Result<Answer<'a>, ProxyError> {
    let id = text(message, members, "tool_call_id")?;
    let name = text(message, members, "tool_name")?;
    // What the member was called before.
    let name = if name.is_empty() { text(message, members, "name")? } else { name };
    let images = images(message, members)?;
    let output = if images.is_empty() { Output::Text(returned) } else { Output::Parts(said(returned, images)) };
    Ok(Answer { id, name, output })
}

impl<'a> ToolCall<'a> {
    fn read(call: &Field<'a, '_>) -> Result<Self, ProxyError> {
        let members = call.object()?;
        let id = text(call, &members, "id")?;
        let function = call.member(&members, "function").ok_or_else(|| call.lacks("function"))?;
        let members = function.object()?;
        let name = function.member(&members, "name").ok_or_else(|| function.lacks("name"))?.text()?;
        let arguments = match function.member(&members, "arguments") {
            None => "{}".into(),
            Some(object) if object.is_object() => compact(object.json()).into(),
            Some(text) => text.json_text().map_err(|_| text.must_be("an object"))?,
        };
        Ok(Self { id, name, arguments })
    }
}

/// Lays out messages: leading system texts become the instructions, later ones stay in their place.
pub(super) fn lay_out(messages: Vec<Message<'_>>) -> History<'_> {
    let lead = messages.iter().take_while(|message| matches!(message, Message::System(_))).count();
    let mut messages = messages.into_iter();
    let system = messages.by_ref().take(lead).map(|message| match message {
        Message::System(text) => text,
        _ => Cow::Borrowed(""),
    });
    let instructions = instructions::join(system);
    let mut layout = Layout { calls: CallMatcher::new(MADE_UP_ID), entries: Vec::new(), first_user_text: None };
    for (index, message) in messages.enumerate() {
        layout.add(lead + index, message);
    }
    History { instructions, entries: layout.entries, first_user_text: layout.first_user_text.unwrap_or_default() }
}

struct Layout<'a> {
    calls: CallMatcher<'a>,
    entries: Vec<HistoryEntry<'a>>,
    first_user_text: Option<String>,
}

impl<'a> Layout<'a> {
    fn add(&mut self, index: usize, message: Message<'a>) {
        match message {
            Message::System(text) => self.say(Role::Developer, Part::InputText(text.into())),
            Message::User(parts) => {
                self.begin_turn();
                self.first_user_text.get_or_insert_with(|| cache::beginning(parts.iter().filter_map(Part::input_text)));
                self.entries.push(HistoryEntry::Message(Role::User, parts));
            }
            Message::Assistant(text, calls) => {
                self.begin_turn();
                self.say(Role::Assistant, Part::OutputText(text));
                for (number, ToolCall { id, name, arguments: payload }) in calls.into_iter().enumerate() {
                    let id = self.calls.call(id, name.clone());
                    let (place, kind) = ((index, number), CallKind::Function);
                    self.entries.push(HistoryEntry::Call(HistoryCall { id, place, kind, name, payload }));
                }
            }
            Message::Tool(Answer { id, name, output }) => {
                let id = self.calls.answer(id, &name);
                self.entries.push(HistoryEntry::Output(id, output));
            }
        }
    }

    fn begin_turn(&mut self) {
        self.calls.forget();
        self.entries.push(HistoryEntry::Turn);
    }

    /// Empty texts are left out: an empty item breaks the pairing of calls.
    fn say(&mut self, role: Role, part: Part<'a>) {
        let is_blank = matches!(&part, Part::InputText(text) | Part::OutputText(text) if text.is_blank());
        if !is_blank {
            self.entries.push(HistoryEntry::Message(role, vec![part]));
        }
    }
}
