//! Reads the messages of a request and converts them to a conversation.
//!
//! Many clients send calls and outputs without ids. A tool output refers to its call by id, by tool name, or only by
//! its position.

use std::borrow::Cow;

use super::media;
use crate::error::ProxyError;
use crate::protocol::codex::request::{Output, Part, Role};
use crate::protocol::json::compact;
use crate::protocol::json::input_text::JsonText;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::upstream_input::call_matching::CallMatcher;
use crate::protocol::upstream_input::{CallKind, Conversation, HistoryCall, HistoryEntry, instructions};

/// The prefix of ids generated for calls without one.
const ID_PREFIX: &str = "call_ollama_";

/// A message, by role.
#[derive(Clone, Debug)]
pub(super) enum Message<'a> {
    System(Cow<'a, str>),
    User(Vec<Part<'a>>),
    /// The text and the calls.
    Assistant(JsonText<'a>, Vec<ToolCall<'a>>),
    Tool(ToolOutput<'a>),
}

#[derive(Clone, Debug)]
pub(super) struct ToolCall<'a> {
    id: Cow<'a, str>,
    name: Cow<'a, str>,
    /// Compact JSON.
    arguments: JsonText<'a>,
}

/// A tool output. The id and the name of its call are empty if the client sent none.
#[derive(Clone, Debug)]
pub(super) struct ToolOutput<'a> {
    id: Cow<'a, str>,
    name: Cow<'a, str>,
    output: Output<'a>,
}

impl<'a> Message<'a> {
    pub(super) fn read(message: &Field<'a, '_>) -> Result<Self, ProxyError> {
        let members = message.object()?;
        let role = message.required(&members, "role")?;
        let content = || text_or_empty(message, &members, "content");
        match role.text()?.to_ascii_lowercase().as_str() {
            "system" => Ok(Self::System(message.optional_text(&members, "content")?.unwrap_or_default())),
            "user" => Ok(Self::User(text_and_images(content()?, images(message, &members)?))),
            // Thinking can't be replayed, and the backend accepts no images from the assistant.
            "assistant" => Ok(Self::Assistant(content()?, calls(message, &members)?)),
            "tool" => Ok(Self::Tool(tool_output(message, &members, content()?)?)),
            _ => Err(role.invalid("must be one of 'system', 'user', 'assistant' and 'tool'")),
        }
    }
}

/// The parts of a text with images. An empty text is dropped if there are images.
pub(super) fn text_and_images<'a>(text: JsonText<'a>, images: Vec<Part<'a>>) -> Vec<Part<'a>> {
    let text = (!text.is_empty() || images.is_empty()).then_some(Part::InputText(text));
    text.into_iter().chain(images).collect()
}

fn text_or_empty<'a>(object: &Field<'a, '_>, members: &RawObject<'a>, name: &str) -> Result<JsonText<'a>, ProxyError> {
    object.member(members, name).map_or(Ok(JsonText::default()), |text| text.json_text())
}

fn images<'a>(message: &Field<'a, '_>, members: &RawObject<'a>) -> Result<Vec<Part<'a>>, ProxyError> {
    message.member(members, "images").map_or(Ok(Vec::new()), |images| images.each(media::read))
}

fn calls<'a>(message: &Field<'a, '_>, members: &RawObject<'a>) -> Result<Vec<ToolCall<'a>>, ProxyError> {
    message.member(members, "tool_calls").map_or(Ok(Vec::new()), |calls| calls.each(ToolCall::read))
}

fn tool_output<'a>(
    message: &Field<'a, '_>,
    members: &RawObject<'a>,
    returned: JsonText<'a>,
) -> Result<ToolOutput<'a>, ProxyError> {
    let text = |name| message.optional_text(members, name).map(Option::unwrap_or_default);
    let (id, name) = (text("tool_call_id")?, text("tool_name")?);
    // Older clients send `name`.
    let name = if name.is_empty() { text("name")? } else { name };
    let images = images(message, members)?;
    let output =
        if images.is_empty() { Output::Text(returned) } else { Output::Parts(text_and_images(returned, images)) };
    Ok(ToolOutput { id, name, output })
}

impl<'a> ToolCall<'a> {
    fn read(call: &Field<'a, '_>) -> Result<Self, ProxyError> {
        let members = call.object()?;
        let id = call.optional_text(&members, "id")?.unwrap_or_default();
        let function = call.required(&members, "function")?;
        let members = function.object()?;
        let name = function.required(&members, "name")?.text()?;
        let arguments = match function.member(&members, "arguments") {
            None => "{}".into(),
            Some(object) if object.is_object() => compact(object.json()).into(),
            Some(text) => text.json_text().map_err(|_| text.must_be("an object"))?,
        };
        Ok(Self { id, name, arguments })
    }
}

/// Converts messages. Leading system messages become the instructions; later ones keep their position.
pub(super) fn convert(messages: Vec<Message<'_>>) -> Conversation<'_> {
    let leading = messages.iter().take_while(|message| matches!(message, Message::System(_))).count();
    let mut messages = messages.into_iter();
    let system = messages.by_ref().take(leading).map(|message| match message {
        Message::System(text) => text,
        _ => Cow::Borrowed(""),
    });
    let conversation = Conversation::new(instructions::join(system));
    let mut converter = Converter { calls: CallMatcher::new(ID_PREFIX), conversation };
    for (index, message) in messages.enumerate() {
        converter.add(leading + index, message);
    }
    converter.conversation
}

struct Converter<'a> {
    calls: CallMatcher<'a>,
    conversation: Conversation<'a>,
}

impl<'a> Converter<'a> {
    fn add(&mut self, index: usize, message: Message<'a>) {
        match message {
            Message::System(text) => self.add_text(Role::Developer, Part::InputText(text.into())),
            Message::User(parts) => {
                self.begin_turn();
                self.conversation.note_user_text(parts.iter().filter_map(Part::input_text));
                self.conversation.entries.push(HistoryEntry::Message(Role::User, parts));
            }
            Message::Assistant(text, calls) => {
                self.begin_turn();
                self.add_text(Role::Assistant, Part::OutputText(text));
                for (number, ToolCall { id, name, arguments: payload }) in calls.into_iter().enumerate() {
                    let id = self.calls.add_call(id, name.clone());
                    let (position, kind) = ((index, number), CallKind::Function);
                    let call = HistoryCall { id, position, kind, name, payload };
                    self.conversation.entries.push(HistoryEntry::Call(call));
                }
            }
            Message::Tool(ToolOutput { id, name, output }) => {
                let id = self.calls.match_output(id, &name);
                self.conversation.entries.push(HistoryEntry::Output(id, output));
            }
        }
    }

    fn begin_turn(&mut self) {
        self.calls.begin_turn();
        self.conversation.entries.push(HistoryEntry::Turn);
    }

    /// Adds a message unless its text is blank.
    fn add_text(&mut self, role: Role, part: Part<'a>) {
        let is_blank = matches!(&part, Part::InputText(text) | Part::OutputText(text) if text.is_blank());
        self.conversation.add_message(role, if is_blank { Vec::new() } else { vec![part] });
    }
}
