//! Reads the contents of a conversation: text, media, function calls, their responses and thoughts.
//!
//! Thoughts are replayed only from signatures that this proxy issued; visible thoughts can't be replayed.

use std::borrow::Cow;

use super::request::unsupported;
use super::spelling::{elements, fields};
use super::{media, signature};
use crate::error::ProxyError;
use crate::protocol::Ignored;
use crate::protocol::codex::request::{Output, Part, Role};
use crate::protocol::json::compact;
use crate::protocol::json::input_text::JsonText;
use crate::protocol::json::path::Field;

/// A part must have at least one of these members.
const CONTENT_MEMBERS: [&str; 6] =
    ["text", "inlineData", "functionCall", "functionResponse", "thought", "thoughtSignature"];

/// A message of the user or the model.
#[derive(Clone, Debug)]
pub(super) struct Content<'a> {
    pub(super) role: Role,
    pub(super) parts: Vec<ContentPart<'a>>,
}

/// A part of a message.
#[derive(Clone, Debug)]
pub(super) enum ContentPart<'a> {
    /// Text, an image or a file.
    Part(Part<'a>),
    /// A function call. The id is empty if the client sent none; the arguments are compact JSON.
    Call { id: Cow<'a, str>, name: Cow<'a, str>, arguments: Cow<'a, str> },
    /// The output of a function. The id and the name of its call are empty if the client sent none.
    Output { id: Cow<'a, str>, name: Cow<'a, str>, output: Output<'a> },
    /// The backend's encrypted reasoning.
    Reasoning(String),
}

impl<'a> ContentPart<'a> {
    pub(super) fn input_text(&self) -> Option<&JsonText<'a>> {
        if let Self::Part(part) = self { part.input_text() } else { None }
    }
}

impl<'a> Content<'a> {
    pub(super) fn read(content: &Field<'a, '_>, ignored: &mut Ignored) -> Result<Self, ProxyError> {
        let members = content.object()?;
        let mut role = Role::User;
        for (name, field) in fields(content, &members) {
            if name == "role" {
                role = read_role(&field)?;
            } else if name != "parts" {
                ignored.note(&name);
            }
        }
        let mut parts = Vec::new();
        for (name, field) in fields(content, &members) {
            if name == "parts" {
                elements(&field, |part| read_part(part, role, &mut parts, ignored))?;
            }
        }
        Ok(Self { role, parts })
    }
}

/// Reads a role. Function responses had one of their own in earlier releases of the API.
fn read_role(role: &Field<'_, '_>) -> Result<Role, ProxyError> {
    match &*role.text()? {
        "" | "user" | "function" => Ok(Role::User),
        "model" => Ok(Role::Assistant),
        _ => Err(role.invalid("must be 'user' or 'model'")),
    }
}

/// Reads the texts of a content that must not have anything else, such as the system instruction.
pub(super) fn texts<'a>(content: &Field<'a, '_>, ignored: &mut Ignored) -> Result<Vec<Cow<'a, str>>, ProxyError> {
    let members = content.object()?;
    let mut texts = Vec::new();
    for (name, field) in fields(content, &members) {
        match &*name {
            "parts" => texts = elements(&field, |part| read_text(part, ignored))?,
            "role" => {}
            name => ignored.note(name),
        }
    }
    Ok(texts)
}

fn read_text<'a>(part: &Field<'a, '_>, ignored: &mut Ignored) -> Result<Cow<'a, str>, ProxyError> {
    let members = part.object()?;
    let text = part.required(&members, "text")?.text()?;
    fields(part, &members).filter(|(name, _)| name != "text").for_each(|(name, _)| ignored.note(&name));
    Ok(text)
}

/// Reads a part and adds what it contains to `parts`.
fn read_part<'a>(
    part: &Field<'a, '_>,
    role: Role,
    parts: &mut Vec<ContentPart<'a>>,
    ignored: &mut Ignored,
) -> Result<(), ProxyError> {
    let members = part.object()?;
    let (mut data, mut reasoning, mut is_thought, mut is_empty) = (None, None, false, true);
    for (name, field) in fields(part, &members) {
        let mut next = None;
        match &*name {
            "text" => next = text_part(role, field.json_text()?),
            "inlineData" if role == Role::User => next = Some(ContentPart::Part(media::read(&field, ignored)?)),
            "functionCall" => next = Some(call(&field, ignored)?),
            "functionResponse" => next = Some(response(&field, ignored)?),
            "thought" => is_thought = field.flag()?,
            "thoughtSignature" => {
                reasoning = signature::decode(&field.text()?).filter(|_| role == Role::Assistant);
            }
            "fileData" => return Err(unsupported(&field, "send the file itself as 'inlineData'")),
            "executableCode" | "codeExecutionResult" | "toolCall" | "toolResponse" => {
                return Err(unsupported(&field, "Google's own tools are not available"));
            }
            // Among them images of the model: the backend accepts only text from it.
            name => ignored.note(name),
        }
        is_empty &= !CONTENT_MEMBERS.contains(&&*name);
        if next.is_some() && std::mem::replace(&mut data, next).is_some() {
            return Err(field.invalid("must be in a part of its own"));
        }
    }
    if is_empty {
        return Err(part.invalid("must have 'text', 'inlineData', 'functionCall' or 'functionResponse'"));
    }
    parts.extend(reasoning.map(ContentPart::Reasoning));
    parts.extend(data.filter(|data| !is_thought || !matches!(data, ContentPart::Part(_))));
    Ok(())
}

/// The part for a text of this role; `None` if it is empty.
fn text_part(role: Role, text: JsonText<'_>) -> Option<ContentPart<'_>> {
    let is_empty = text.is_empty();
    let part = if role == Role::Assistant { Part::OutputText(text) } else { Part::InputText(text) };
    (!is_empty).then_some(ContentPart::Part(part))
}

fn call<'a>(call: &Field<'a, '_>, ignored: &mut Ignored) -> Result<ContentPart<'a>, ProxyError> {
    let members = call.object()?;
    let (mut id, mut arguments) = (Cow::default(), Cow::Borrowed("{}"));
    for (name, field) in fields(call, &members) {
        match &*name {
            "id" => id = field.text()?,
            "args" if field.is_object() => arguments = compact(field.json()),
            "args" => return Err(field.must_be("an object")),
            "name" => {}
            name => ignored.note(name),
        }
    }
    Ok(ContentPart::Call { id, name: call.required(&members, "name")?.text()?, arguments })
}

fn response<'a>(response: &Field<'a, '_>, ignored: &mut Ignored) -> Result<ContentPart<'a>, ProxyError> {
    let members = response.object()?;
    let (mut id, mut called) = (Cow::default(), Cow::default());
    let (mut text, mut media) = (JsonText::default(), Vec::new());
    for (name, field) in fields(response, &members) {
        match &*name {
            "id" => id = field.text()?,
            "name" => called = field.text()?,
            "response" => text = output_text(&field)?,
            "parts" => media = elements(&field, |part| response_media(part, ignored))?,
            name => ignored.note(name),
        }
    }
    let output = if media.is_empty() {
        Output::Text(text)
    } else {
        Output::Parts(std::iter::once(Part::InputText(text)).chain(media).collect())
    };
    Ok(ContentPart::Output { id, name: called, output })
}

/// The text of a function's response: by the API's convention, the only member `output` or `error`, else the whole
/// object.
fn output_text<'a>(response: &Field<'a, '_>) -> Result<JsonText<'a>, ProxyError> {
    let members = response.object()?;
    let whole = || JsonText::from(compact(response.json()));
    let [(name, _)] = members.members() else { return Ok(whole()) };
    let Some(value) = response.member(&members, name) else { return Ok(whole()) };
    let text = || if value.is_text() { value.json_text() } else { Ok(compact(value.json()).into()) };
    match &**name {
        "output" => text(),
        "error" => Ok(text()?.with_prefix("Error: ")),
        _ => Ok(whole()),
    }
}

/// Reads a part of a function's response, which must be an image or a file.
fn response_media<'a>(part: &Field<'a, '_>, ignored: &mut Ignored) -> Result<Part<'a>, ProxyError> {
    let members = part.object()?;
    let mut media = None;
    for (name, field) in fields(part, &members) {
        match &*name {
            "inlineData" => media = Some(media::read(&field, ignored)?),
            "fileData" => return Err(unsupported(&field, "send the file itself as 'inlineData'")),
            name => ignored.note(name),
        }
    }
    media.ok_or_else(|| part.lacks("inlineData"))
}
