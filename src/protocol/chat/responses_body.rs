//! The Responses shape of a Chat request: `input` in place of `messages`.
//!
//! Some clients post Responses bodies to the chat path and want a Chat answer. Items are read into
//! the same messages as those of Chat, calls and outputs standing alone. Ids of items are dropped:
//! the backend has stored nothing that they could name. Reasoning that can be replayed, and items
//! that we don't know, are carried as they came.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::content;
use super::format::Format;
use super::message::{Message, Origin, ToolCall};
use super::request::verbosity;
use crate::error::{ProxyError, Refusal};
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::upstream_input::CallKind;
use crate::protocol::upstream_input::replayed::is_output_only;
use crate::protocol::upstream_input::schema::raw;

/// What only the Responses shape has.
#[derive(Clone, Debug, Default)]
pub(super) struct Input<'a> {
    /// `instructions`: where they are sent, no system text takes their place.
    pub(super) instructions: Option<Cow<'a, str>>,
    /// Whether reasoning was left out that can't be replayed.
    pub(super) has_lost_reasoning: bool,
    /// `text.format`; `response_format` wins over it.
    pub(super) format: Option<Format>,
    /// `text.verbosity`; `verbosity` wins over it.
    pub(super) verbosity: Option<Cow<'a, str>>,
}

impl<'a> Input<'a> {
    /// Reads the items of `input`, or its one text.
    pub(super) fn read(&mut self, input: &Field<'a, '_>) -> Result<Vec<Message<'a>>, ProxyError> {
        if input.is_text() {
            return Ok(vec![Message::User(content::user_parts(input)?)]);
        }
        if !input.is_list() {
            return Err(input.must_be("a string or an array of items"));
        }
        let mut messages = Vec::new();
        for (index, value) in input.list()?.iter().enumerate() {
            messages.extend(self.item(&input.element(index, value))?);
        }
        Ok(messages)
    }

    /// Reads `text`.
    pub(super) fn take_text(&mut self, text: &Field<'a, '_>) -> Result<(), ProxyError> {
        let members = text.object()?;
        if let Some(format) = text.member(&members, "format") {
            self.format = Format::read_flat(&format)?;
        }
        self.verbosity = text.member(&members, "verbosity").map(|word| verbosity(&word)).transpose()?;
        Ok(())
    }

    fn item(&mut self, item: &Field<'a, '_>) -> Result<Option<Message<'a>>, ProxyError> {
        let members = item.object()?;
        let kind = item.member(&members, "type").map(|kind| kind.text()).transpose()?;
        let has_role = item.member(&members, "role").is_some();
        Ok(Some(match kind.as_deref() {
            Some("message") => Message::read_item(item)?,
            None if has_role => Message::read_item(item)?,
            Some("function_call") => Message::Call(call(item, &members, CallKind::Function)?),
            Some("custom_tool_call") => Message::Call(call(item, &members, CallKind::Custom)?),
            Some("function_call_output" | "custom_tool_call_output") => {
                let output = item.member(&members, "output");
                Message::Tool(call_id(item, &members)?, content::output_or_empty(output.as_ref())?)
            }
            Some("reasoning") => {
                let Some(json) = reasoning(item, members.into_owned()) else {
                    self.has_lost_reasoning = true;
                    return Ok(None);
                };
                Message::Carried(Cow::Borrowed("reasoning"), json)
            }
            None | Some("item_reference") => return Err(reference(item)),
            Some(_) => Message::Carried(kind.unwrap_or_default(), Cow::Borrowed(item.raw())),
        }))
    }
}

fn call<'a>(item: &Field<'a, '_>, members: &RawObject<'a>, kind: CallKind) -> Result<ToolCall<'a>, ProxyError> {
    ToolCall::read(Origin::ToolCalls(call_id(item, members)?), kind, item)
}

fn call_id<'a>(item: &Field<'a, '_>, members: &RawObject<'a>) -> Result<Cow<'a, str>, ProxyError> {
    item.member(members, "call_id").map_or(Ok(Cow::Borrowed("")), |id| id.text())
}

/// Reasoning without its id and what only answers have; `None` where the id is all there is to it.
fn reasoning<'a>(item: &Field<'a, '_>, mut members: RawObject<'a>) -> Option<Cow<'a, RawValue>> {
    item.member(&members, "encrypted_content")?;
    let is_changed = members.remove_where(|name, value| name == "id" || is_output_only("reasoning", name, value));
    Some(if is_changed { Cow::Owned(raw(&members)) } else { Cow::Borrowed(item.raw()) })
}

fn reference(item: &Field<'_, '_>) -> ProxyError {
    let message = "items can't be referred to on this path, where none are stored; send the item itself";
    Refusal::unsupported_value(item.to_string(), message)
}

/// Whether a member of the Responses shape has to be named. Refuses what can't be had; `None` where
/// the member means the same as in Chat's own shape.
pub(super) fn is_ignored(name: &str, field: &Field<'_, '_>) -> Result<Option<bool>, ProxyError> {
    let unsupported = |message: &str| Err(Refusal::unsupported_parameter(name, message));
    match name {
        "previous_response_id" => {
            let message = "no responses are stored on this path; send the whole conversation";
            Err(Refusal::coded("previous_response_not_found", name, message))
        }
        "background" if field.flag()? => {
            Err(Refusal::unsupported_value(name, "answers in the background are not supported by this backend"))
        }
        "conversation" => unsupported("stored conversations are not available on this backend"),
        "prompt" => unsupported("stored prompts are not available on this backend"),
        "truncation" => Ok(Some(field.text()? != "disabled")),
        "background" | "client_metadata" | "include" => Ok(Some(false)),
        _ => Ok(None),
    }
}
