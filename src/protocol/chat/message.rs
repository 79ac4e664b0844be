//! Reads the messages of a Chat request.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::content;
use crate::error::ProxyError;
use crate::protocol::codex::request::{Output, Part};
use crate::protocol::json::compact;
use crate::protocol::json::input_text::JsonText;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::upstream_input::CallKind;

/// A message, by role.
#[derive(Clone, Debug)]
pub(super) enum Message<'a> {
    /// `system` or `developer`; the instructions if it is at the start.
    System(Cow<'a, str>),
    /// `developer` in a Responses body, where it keeps its position.
    Developer(Cow<'a, str>),
    User(Vec<Part<'a>>),
    /// `assistant`: its text and its calls.
    Assistant(Vec<Part<'a>>, Vec<ToolCall<'a>>),
    /// `tool`: the id of the call and the output.
    Tool(Cow<'a, str>, Output<'a>),
    /// `function`: the name of the function and the output.
    Function(Cow<'a, str>, Output<'a>),
    /// A call item of a Responses body.
    Call(ToolCall<'a>),
    /// An item to forward unchanged: its type and its JSON.
    Raw(Cow<'a, str>, Cow<'a, RawValue>),
}

#[derive(Clone, Debug)]
pub(super) struct ToolCall<'a> {
    pub(super) source: CallSource<'a>,
    pub(super) kind: CallKind,
    pub(super) name: Cow<'a, str>,
    /// The arguments or the input; empty if the client sent none.
    pub(super) payload: JsonText<'a>,
}

/// The member that a call was sent in.
#[derive(Clone, Debug)]
pub(super) enum CallSource<'a> {
    /// `tool_calls`, with the call's id, which may be empty.
    ToolCalls(Cow<'a, str>),
    /// `function_call`, which has no ids.
    FunctionCall,
}

impl<'a> Message<'a> {
    pub(super) fn read(message: &Field<'a, '_>) -> Result<Self, ProxyError> {
        let members = message.object()?;
        let role = message.required(&members, "role")?;
        let content = message.member(&members, "content");
        let content = content.as_ref();
        match &*role.text()? {
            "system" | "developer" => {
                Ok(Self::System(content.map(content::system_text).transpose()?.unwrap_or_default()))
            }
            "user" => Ok(Self::User(content::user_parts(content.ok_or_else(|| message.lacks("content"))?)?)),
            "assistant" => assistant(message, &members, content),
            "tool" => {
                let id = message.required(&members, "tool_call_id")?;
                Ok(Self::Tool(id.text()?, content::output_or_empty(content)?))
            }
            "function" => {
                let name = message.required(&members, "name")?;
                Ok(Self::Function(name.text()?, content::output_or_empty(content)?))
            }
            _ => Err(role.invalid("must be one of 'system', 'developer', 'user', 'assistant', 'tool' and 'function'")),
        }
    }

    /// Reads a message item of a Responses body. Unlike in Chat, its developer messages don't become instructions.
    pub(super) fn read_item(item: &Field<'a, '_>) -> Result<Self, ProxyError> {
        let members = item.object()?;
        let is_developer = item.member(&members, "role").is_some_and(|role| role.json() == r#""developer""#);
        Ok(match Self::read(item)? {
            Self::System(text) if is_developer => Self::Developer(text),
            other => other,
        })
    }
}

fn assistant<'a>(
    message: &Field<'a, '_>,
    members: &RawObject<'a>,
    content: Option<&Field<'a, '_>>,
) -> Result<Message<'a>, ProxyError> {
    let mut parts = content.map(content::assistant_parts).transpose()?.unwrap_or_default();
    if let Some(refusal) = message.member(members, "refusal") {
        parts.extend(content::output_text(refusal.json_text()?));
    }
    let list = message.member(members, "tool_calls");
    let mut calls = list.map_or(Ok(Vec::new()), |list| list.each(tool_call))?;
    if let Some(call) = message.member(members, "function_call") {
        calls.push(ToolCall::read(CallSource::FunctionCall, CallKind::Function, &call)?);
    }
    Ok(Message::Assistant(parts, calls))
}

fn tool_call<'a>(call: &Field<'a, '_>) -> Result<ToolCall<'a>, ProxyError> {
    let members = call.object()?;
    let id = call.optional_text(&members, "id")?.unwrap_or_default();
    let custom = call.member(&members, "custom");
    let kind = match call.member(&members, "type") {
        None if custom.is_some() => CallKind::Custom,
        None => CallKind::Function,
        Some(kind) => match &*kind.text()? {
            "function" => CallKind::Function,
            "custom" => CallKind::Custom,
            _ => return Err(kind.invalid("must be 'function' or 'custom'")),
        },
    };
    let inner = match kind {
        CallKind::Function => call.required(&members, "function")?,
        CallKind::Custom => custom.ok_or_else(|| call.lacks("custom"))?,
    };
    ToolCall::read(CallSource::ToolCalls(id), kind, &inner)
}

impl<'a> ToolCall<'a> {
    /// Reads a call from the object with its name and payload.
    pub(super) fn read(source: CallSource<'a>, kind: CallKind, call: &Field<'a, '_>) -> Result<Self, ProxyError> {
        let members = call.object()?;
        let name = call.required(&members, "name")?.text()?;
        let payload = match kind {
            CallKind::Function => call.member(&members, "arguments"),
            CallKind::Custom => call.member(&members, "input"),
        };
        let payload = match payload {
            None => JsonText::default(),
            Some(object) if object.is_object() => compact(object.json()).into(),
            Some(text) => text.json_text()?,
        };
        Ok(Self { source, kind, name, payload })
    }
}
