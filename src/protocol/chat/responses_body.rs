//! Chat requests with a Responses body: `input` in place of `messages`.
//!
//! Some clients post a Responses body to the chat path and expect a Chat reply. Items are read into the same messages
//! as those of Chat; calls and outputs become messages of their own. The ids of these items are dropped, since the
//! backend stores nothing that they could refer to. Reasoning is forwarded if it can be replayed, without its id and
//! output-only members; unknown items are forwarded unchanged.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::content;
use super::message::{CallSource, Message, ToolCall};
use crate::error::{ProxyError, Refusal};
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::to_raw;
use crate::protocol::upstream_input::CallKind;
use crate::protocol::upstream_input::parameters::{self, ResponseFormat};
use crate::protocol::upstream_input::replayed::is_output_only;

/// The members that only a Responses body has.
#[derive(Clone, Debug, Default)]
pub(super) struct ResponsesBody<'a> {
    /// `instructions`. If present, system messages stay in the conversation.
    pub(super) instructions: Option<Cow<'a, str>>,
    /// Whether reasoning was dropped because it can't be replayed.
    pub(super) has_lost_reasoning: bool,
    /// `text.format`, which is used if there is no `response_format`.
    pub(super) format: Option<ResponseFormat>,
    /// `text.verbosity`, which is used if there is no `verbosity`.
    pub(super) verbosity: Option<Cow<'a, str>>,
}

impl<'a> ResponsesBody<'a> {
    /// Reads `input`: a string or an array of items.
    pub(super) fn read_input(&mut self, input: &Field<'a, '_>) -> Result<Vec<Message<'a>>, ProxyError> {
        if input.is_text() {
            return Ok(vec![Message::User(content::user_parts(input)?)]);
        }
        if !input.is_list() {
            return Err(input.must_be("a string or an array of items"));
        }
        let mut messages = Vec::new();
        for (index, value) in input.list()?.iter().enumerate() {
            messages.extend(self.read_item(&input.element(index, value))?);
        }
        Ok(messages)
    }

    /// Reads `text`.
    pub(super) fn read_text(&mut self, text: &Field<'a, '_>) -> Result<(), ProxyError> {
        let members = text.object()?;
        if let Some(format) = text.member(&members, "format") {
            self.format = ResponseFormat::read_flat(&format)?;
        }
        self.verbosity = text.member(&members, "verbosity").map(|word| parameters::verbosity(&word)).transpose()?;
        Ok(())
    }

    fn read_item(&mut self, item: &Field<'a, '_>) -> Result<Option<Message<'a>>, ProxyError> {
        let members = item.object()?;
        let kind = item.optional_text(&members, "type")?;
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
                Message::Raw(Cow::Borrowed("reasoning"), json)
            }
            None | Some("item_reference") => return Err(unsupported_reference(item)),
            Some(_) => Message::Raw(kind.unwrap_or_default(), Cow::Borrowed(item.raw())),
        }))
    }
}

fn call<'a>(item: &Field<'a, '_>, members: &RawObject<'a>, kind: CallKind) -> Result<ToolCall<'a>, ProxyError> {
    ToolCall::read(CallSource::ToolCalls(call_id(item, members)?), kind, item)
}

fn call_id<'a>(item: &Field<'a, '_>, members: &RawObject<'a>) -> Result<Cow<'a, str>, ProxyError> {
    item.optional_text(members, "call_id").map(Option::unwrap_or_default)
}

/// Removes the id and output-only members of a reasoning item. `None` if it has no encrypted content to replay.
fn reasoning<'a>(item: &Field<'a, '_>, mut members: RawObject<'a>) -> Option<Cow<'a, RawValue>> {
    item.member(&members, "encrypted_content")?;
    let is_changed = members.remove_where(|name, value| name == "id" || is_output_only("reasoning", name, value));
    Some(if is_changed { Cow::Owned(to_raw(&members)) } else { Cow::Borrowed(item.raw()) })
}

fn unsupported_reference(item: &Field<'_, '_>) -> ProxyError {
    let message = "this path stores no items, so an item can't be referenced; send the item itself";
    Refusal::unsupported_value(item.to_string(), message)
}

/// Whether a member that isn't used is reported as ignored. `None` if the member means the same as in a Chat body,
/// whose rules then apply. Rejects a member whose meaning the backend would have to support.
pub(super) fn is_ignored(name: &str, field: &Field<'_, '_>) -> Result<Option<bool>, ProxyError> {
    let unsupported = |message: &str| Err(Refusal::unsupported_parameter(name, message));
    match name {
        "previous_response_id" => {
            let message = "this path stores no responses; send the whole conversation";
            Err(Refusal::coded("previous_response_not_found", name, message))
        }
        "background" if field.flag()? => {
            Err(Refusal::unsupported_value(name, "background responses are not available on this backend"))
        }
        "conversation" => unsupported("stored conversations are not available on this backend"),
        "prompt" => unsupported("stored prompts are not available on this backend"),
        "truncation" => Ok(Some(field.text()? != "disabled")),
        "background" | "client_metadata" | "include" => Ok(Some(false)),
        _ => Ok(None),
    }
}
