//! Content blocks, read into what the backend takes.
//!
//! Thinking comes back only in our own signatures: text that was shown can't be replayed, and what
//! other services signed means nothing here. What a server tool of Anthropic's found is not
//! replayed either; the assistant's text that follows carries it.

use std::borrow::Cow;

use super::SIGNATURE;
use super::media;
use crate::error::{ProxyError, Refusal};
use crate::protocol::codex::request::{Output, Part, Role};
use crate::protocol::json::input_text::JsonText;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::upstream_input::json::compact;

const TOOL_ERROR: &str = "<tool_use_error>";

/// A block of a message.
#[derive(Clone, Debug)]
pub(super) enum Block<'a> {
    /// Text, a picture or a file.
    Part(Part<'a>),
    /// A call, with compact JSON for its arguments.
    Call { id: Cow<'a, str>, name: Cow<'a, str>, arguments: Cow<'a, str> },
    /// The id of a call, and what it returned.
    Output(Cow<'a, str>, Output<'a>),
    /// Reasoning in the backend's own form.
    Reasoning(Cow<'a, str>),
}

/// The texts of a string, or of a list of text blocks.
pub(super) fn texts<'a>(content: &Field<'a, '_>) -> Result<Vec<Cow<'a, str>>, ProxyError> {
    if !content.is_list() {
        return Ok(vec![words_of(content).and_then(|_| content.text())?]);
    }
    content.each(|block| {
        let members = block.object()?;
        let kind = kind(block, &members)?;
        if kind.text()? == "text" { required(block, &members, "text") } else { Err(kind.invalid("must be 'text'")) }
    })
}

/// The blocks of a message.
pub(super) fn blocks<'a>(content: &Field<'a, '_>, role: Role) -> Result<Vec<Block<'a>>, ProxyError> {
    if !content.is_list() {
        return Ok(said(role, words_of(content)?).into_iter().collect());
    }
    let mut blocks = Vec::new();
    for (index, value) in content.list()?.iter().enumerate() {
        let block = content.element(index, value);
        let members = block.object()?;
        read(&block, &members, role, &mut blocks)?;
    }
    Ok(blocks)
}

fn words_of<'a>(content: &Field<'a, '_>) -> Result<JsonText<'a>, ProxyError> {
    if content.is_text() { content.json_text() } else { Err(content.must_be("a string or an array of blocks")) }
}

/// A text in the words of its speaker; none where it is empty.
fn said(role: Role, text: JsonText<'_>) -> Option<Block<'_>> {
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
    let kind = kind(block, members)?;
    match &*kind.text()? {
        "text" => blocks.extend(said(role, words(block, members, "text")?)),
        "thinking" => blocks.extend(reasoning(block, members, role, "signature")?),
        "redacted_thinking" => blocks.extend(reasoning(block, members, role, "data")?),
        "tool_use" => blocks.push(call(block, members)?),
        "tool_result" => {
            let id = required(block, members, "tool_use_id")?;
            blocks.push(Block::Output(id, output(block, members)?));
        }
        "server_tool_use" | "web_search_tool_result" => {}
        "image" | "document" | "search_result" => {
            let mut parts = Vec::new();
            media::read(block, members, &mut parts)?;
            // The backend takes nothing but texts from the assistant.
            blocks.extend(parts.into_iter().filter(|_| role == Role::User).map(Block::Part));
        }
        other => return Err(unsupported(&kind, other)),
    }
    Ok(())
}

fn kind<'a, 'c>(block: &'c Field<'a, '_>, members: &'c RawObject<'a>) -> Result<Field<'a, 'c>, ProxyError> {
    block.member(members, "type").ok_or_else(|| block.lacks("type"))
}

/// A text member that a block has to have.
pub(super) fn required<'a>(
    block: &Field<'a, '_>,
    members: &RawObject<'a>,
    name: &str,
) -> Result<Cow<'a, str>, ProxyError> {
    block.member(members, name).ok_or_else(|| block.lacks(name))?.text()
}

/// The same to pass on.
pub(super) fn words<'a>(
    block: &Field<'a, '_>,
    members: &RawObject<'a>,
    name: &str,
) -> Result<JsonText<'a>, ProxyError> {
    block.member(members, name).ok_or_else(|| block.lacks(name))?.json_text()
}

/// The refusal of a kind of block that can't be served.
pub(super) fn unsupported(kind: &Field<'_, '_>, name: &str) -> ProxyError {
    let message = format!("{kind}: content block type '{name}' is not supported by this proxy");
    Refusal::unsupported_value(kind.to_string(), message)
}

fn reasoning<'a>(
    block: &Field<'a, '_>,
    members: &RawObject<'a>,
    role: Role,
    member: &str,
) -> Result<Option<Block<'a>>, ProxyError> {
    let Some(signature) = block.member(members, member).filter(|_| role == Role::Assistant) else { return Ok(None) };
    let ours = match signature.text()? {
        Cow::Borrowed(text) => text.strip_prefix(SIGNATURE).map(Cow::Borrowed),
        Cow::Owned(text) => text.strip_prefix(SIGNATURE).map(|rest| Cow::Owned(rest.to_owned())),
    };
    Ok(ours.filter(|encrypted| !encrypted.is_empty()).map(Block::Reasoning))
}

fn call<'a>(block: &Field<'a, '_>, members: &RawObject<'a>) -> Result<Block<'a>, ProxyError> {
    let arguments = block.member(members, "input").map_or(Cow::Borrowed("{}"), |input| compact(input.json()));
    Ok(Block::Call { id: required(block, members, "id")?, name: required(block, members, "name")?, arguments })
}

fn output<'a>(result: &Field<'a, '_>, members: &RawObject<'a>) -> Result<Output<'a>, ProxyError> {
    let is_error = result.member(members, "is_error").map_or(Ok(false), |flag| flag.flag())?;
    let mut parts = match result.member(members, "content") {
        None => Vec::new(),
        Some(content) if content.is_list() => result_parts(&content)?,
        Some(content) => vec![Part::InputText(words_of(&content)?)],
    };
    Ok(match parts.pop() {
        None => Output::Text(marked(JsonText::default(), is_error)),
        Some(Part::InputText(text)) if parts.is_empty() => Output::Text(marked(text, is_error)),
        Some(last) => {
            parts.push(last);
            if is_error {
                parts.insert(0, Part::InputText("Error:".into()));
            }
            Output::Parts(parts)
        }
    })
}

/// The backend has no mark for a failure but its words.
fn marked(text: JsonText<'_>, is_error: bool) -> JsonText<'_> {
    if !is_error || text.starts_with("error") || text.starts_with(TOOL_ERROR) { text } else { text.after("Error: ") }
}

fn result_parts<'a>(content: &Field<'a, '_>) -> Result<Vec<Part<'a>>, ProxyError> {
    let mut parts = Vec::new();
    for (index, value) in content.list()?.iter().enumerate() {
        let block = content.element(index, value);
        let members = block.object()?;
        let kind = kind(&block, &members)?;
        match &*kind.text()? {
            "text" => parts.push(Part::InputText(words(&block, &members, "text")?)),
            "tool_reference" => {
                let name = required(&block, &members, "tool_name")?;
                parts.push(Part::InputText(format!("[tool reference: {name}]").into()));
            }
            "image" | "document" | "search_result" => media::read(&block, &members, &mut parts)?,
            other => return Err(unsupported(&kind, other)),
        }
    }
    Ok(parts)
}
