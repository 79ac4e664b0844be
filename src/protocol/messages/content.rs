//! Reads the content blocks of messages: parts, calls, outputs and reasoning.
//!
//! Thinking is replayed only from signatures that this proxy issued: visible thinking can't be replayed, and the
//! backend can't read the signatures of other services. Web searches that an earlier reply shows are dropped; the
//! assistant's text after them contains what it used.

use std::borrow::Cow;

use super::SIGNATURE;
use super::media;
use crate::error::{ProxyError, Refusal};
use crate::protocol::codex::request::{Output, Part, Role};
use crate::protocol::json::compact;
use crate::protocol::json::input_text::JsonText;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;

/// The start of an output that the client has already marked as an error.
const TOOL_ERROR: &str = "<tool_use_error>";

/// A block of a message.
#[derive(Clone, Debug)]
pub(super) enum Block<'a> {
    /// Text, an image or a file.
    Part(Part<'a>),
    /// A tool call. The arguments are compact JSON.
    Call { id: Cow<'a, str>, name: Cow<'a, str>, arguments: Cow<'a, str> },
    /// The id of a call and its output.
    Output(Cow<'a, str>, Output<'a>),
    /// The backend's encrypted reasoning.
    Reasoning(Cow<'a, str>),
}

impl<'a> Block<'a> {
    pub(super) fn input_text(&self) -> Option<&JsonText<'a>> {
        if let Self::Part(part) = self { part.input_text() } else { None }
    }
}

/// Reads content that must be a string or an array of text blocks.
pub(super) fn texts<'a>(content: &Field<'a, '_>) -> Result<Vec<Cow<'a, str>>, ProxyError> {
    if !content.is_list() {
        return Ok(vec![text_of(content).and_then(|_| content.text())?]);
    }
    content.each(|block| {
        let members = block.object()?;
        let kind = block.required(&members, "type")?;
        if kind.text()? == "text" {
            block.required(&members, "text")?.text()
        } else {
            Err(kind.invalid("must be 'text'"))
        }
    })
}

/// Reads the content of a message.
pub(super) fn blocks<'a>(content: &Field<'a, '_>, role: Role) -> Result<Vec<Block<'a>>, ProxyError> {
    if !content.is_list() {
        return Ok(text_block(role, text_of(content)?).into_iter().collect());
    }
    let mut blocks = Vec::new();
    for (index, value) in content.list()?.iter().enumerate() {
        let block = content.element(index, value);
        let members = block.object()?;
        read(&block, &members, role, &mut blocks)?;
    }
    Ok(blocks)
}

fn text_of<'a>(content: &Field<'a, '_>) -> Result<JsonText<'a>, ProxyError> {
    if content.is_text() { content.json_text() } else { Err(content.must_be("a string or an array of blocks")) }
}

/// The block for a text of this role; `None` if it is empty.
fn text_block(role: Role, text: JsonText<'_>) -> Option<Block<'_>> {
    let part = if role == Role::Assistant { Part::OutputText(text) } else { Part::InputText(text) };
    let is_empty = matches!(&part, Part::OutputText(text) | Part::InputText(text) if text.is_empty());
    (!is_empty).then_some(Block::Part(part))
}

fn read<'a>(
    block: &Field<'a, '_>,
    members: &RawObject<'a>,
    role: Role,
    blocks: &mut Vec<Block<'a>>,
) -> Result<(), ProxyError> {
    let kind = block.required(members, "type")?;
    match &*kind.text()? {
        "text" => blocks.extend(text_block(role, block.required(members, "text")?.json_text()?)),
        "thinking" => blocks.extend(reasoning(block, members, role, "signature")?),
        "redacted_thinking" => blocks.extend(reasoning(block, members, role, "data")?),
        "tool_use" => blocks.push(call(block, members)?),
        "tool_result" => {
            let id = block.required(members, "tool_use_id")?.text()?;
            blocks.push(Block::Output(id, output(block, members)?));
        }
        "server_tool_use" | "web_search_tool_result" => {}
        "image" | "document" | "search_result" => {
            let mut parts = Vec::new();
            media::read(block, members, &mut parts)?;
            // The backend accepts only text from the assistant.
            blocks.extend(parts.into_iter().filter(|_| role == Role::User).map(Block::Part));
        }
        other => return Err(unsupported(&kind, other)),
    }
    Ok(())
}

fn unsupported(kind: &Field<'_, '_>, name: &str) -> ProxyError {
    let message = format!("{kind}: content block type '{name}' is not supported by this proxy");
    Refusal::unsupported_value(kind.to_string(), message)
}

/// Reads the encrypted reasoning in the string `member`: a signature of this proxy. `None` for anything else.
fn reasoning<'a>(
    block: &Field<'a, '_>,
    members: &RawObject<'a>,
    role: Role,
    member: &str,
) -> Result<Option<Block<'a>>, ProxyError> {
    let Some(signature) = block.member(members, member).filter(|_| role == Role::Assistant) else { return Ok(None) };
    let encrypted = match signature.text()? {
        Cow::Borrowed(text) => text.strip_prefix(SIGNATURE).map(Cow::Borrowed),
        Cow::Owned(text) => text.strip_prefix(SIGNATURE).map(|rest| Cow::Owned(rest.to_owned())),
    };
    Ok(encrypted.filter(|encrypted| !encrypted.is_empty()).map(Block::Reasoning))
}

fn call<'a>(block: &Field<'a, '_>, members: &RawObject<'a>) -> Result<Block<'a>, ProxyError> {
    let arguments = block.member(members, "input").map_or(Cow::Borrowed("{}"), |input| compact(input.json()));
    let text = |name| block.required(members, name)?.text();
    Ok(Block::Call { id: text("id")?, name: text("name")?, arguments })
}

fn output<'a>(result: &Field<'a, '_>, members: &RawObject<'a>) -> Result<Output<'a>, ProxyError> {
    let is_error = result.optional_flag(members, "is_error")?;
    let mut parts = match result.member(members, "content") {
        None => Vec::new(),
        Some(content) if content.is_list() => result_parts(&content)?,
        Some(content) => vec![Part::InputText(text_of(&content)?)],
    };
    Ok(match parts.pop() {
        None => Output::Text(mark_error(JsonText::default(), is_error)),
        Some(Part::InputText(text)) if parts.is_empty() => Output::Text(mark_error(text, is_error)),
        Some(last) => {
            parts.push(last);
            if is_error {
                parts.insert(0, Part::InputText("Error:".into()));
            }
            Output::Parts(parts)
        }
    })
}

/// Marks the output of a failed call. The backend has no member for failure, so the text must say it.
fn mark_error(text: JsonText<'_>, is_error: bool) -> JsonText<'_> {
    if !is_error || text.starts_with("error") || text.starts_with(TOOL_ERROR) {
        text
    } else {
        text.with_prefix("Error: ")
    }
}

fn result_parts<'a>(content: &Field<'a, '_>) -> Result<Vec<Part<'a>>, ProxyError> {
    let mut parts = Vec::new();
    for (index, value) in content.list()?.iter().enumerate() {
        let block = content.element(index, value);
        let members = block.object()?;
        let kind = block.required(&members, "type")?;
        match &*kind.text()? {
            "text" => parts.push(Part::InputText(block.required(&members, "text")?.json_text()?)),
            "tool_reference" => {
                let name = block.required(&members, "tool_name")?.text()?;
                parts.push(Part::InputText(format!("[tool reference: {name}]").into()));
            }
            "image" | "document" | "search_result" => media::read(&block, &members, &mut parts)?,
            other => return Err(unsupported(&kind, other)),
        }
    }
    Ok(parts)
}
