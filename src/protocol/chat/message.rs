//! Messages of a Chat request, read by role.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::content;
use crate::error::ProxyError;
use crate::protocol::codex::request::{Output, Part};
use crate::protocol::json::input_text::JsonText;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::upstream_input::CallKind;
use crate::protocol::upstream_input::json::compact;

/// One message.
#[derive(Clone, Debug)]
pub(super) enum Message<'a> {
    /// `system` or `developer`: its text.
    System(Cow<'a, str>),
    /// `developer`, where its place counts.
    Developer(Cow<'a, str>),
    /// `user`.
    User(Vec<Part<'a>>),
    /// `assistant`: what it said, and what it called.
    Assistant(Vec<Part<'a>>, Vec<ToolCall<'a>>),
    /// `tool`: the id of the call, and what it returned.
    Tool(Cow<'a, str>, Output<'a>),
    /// `function`: the name of the function, and what it returned.
    Function(Cow<'a, str>, Output<'a>),
    /// A call that stands alone.
    Call(ToolCall<'a>),
    /// An item that is carried as it came: its type, and the whole of it.
    Carried(Cow<'a, str>, Cow<'a, RawValue>),
}

/// A call as the client tells it.
#[derive(Clone, Debug)]
pub(super) struct ToolCall<'a> {
    pub(super) origin: Origin<'a>,
    pub(super) kind: CallKind,
    pub(super) name: Cow<'a, str>,
    /// Arguments or input; empty where the client has none.
    pub(super) payload: JsonText<'a>,
}

/// Where a call stood.
#[derive(Clone, Debug)]
pub(super) enum Origin<'a> {
    /// In `tool_calls`, with its id (empty: none).
    ToolCalls(Cow<'a, str>),
    /// In `function_call`, which has no ids.
    FunctionCall,
}

impl<'a> Message<'a> {
    pub(super) fn read(message: &Field<'a, '_>) -> Result<Self, ProxyError> {
        let members = message.object()?;
        let role = message.member(&members, "role").ok_or_else(|| message.lacks("role"))?;
        let content = message.member(&members, "content");
        let content = content.as_ref();
        match &*role.text()? {
            "system" | "developer" => {
                Ok(Self::System(content.map(content::system_text).transpose()?.unwrap_or_default()))
            }
            "user" => Ok(Self::User(content::user_parts(content.ok_or_else(|| message.lacks("content"))?)?)),
            "assistant" => assistant(message, &members, content),
            "tool" => {
                let id = message.member(&members, "tool_call_id").ok_or_else(|| message.lacks("tool_call_id"))?;
                Ok(Self::Tool(id.text()?, content::output_or_empty(content)?))
            }
            "function" => {
                let name = message.member(&members, "name").ok_or_else(|| message.lacks("name"))?;
                Ok(Self::Function(name.text()?, content::output_or_empty(content)?))
            }
            _ => Err(role.invalid("must be one of 'system', 'developer', 'user', 'assistant', 'tool' and 'function'")),
        }
    }

    /// Reads a message item of the Responses shape, where only system text is moved.
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
        parts.extend(content::spoken(refusal.json_text()?));
    }
    let mut calls = Vec::new();
    if let Some(list) = message.member(members, "tool_calls") {
        for (index, value) in list.list()?.iter().enumerate() {
            calls.push(tool_call(&list.element(index, value))?);
        }
    }
    if let Some(call) = message.member(members, "function_call") {
        calls.push(ToolCall::read(Origin::FunctionCall, CallKind::Function, &call)?);
    }
    Ok(Message::Assistant(parts, calls))
}

fn tool_call<'a>(call: &Field<'a, '_>) -> Result<ToolCall<'a>, ProxyError> {
    let members = call.object()?;
    let id = call.member(&members, "id").map_or(Ok(Cow::Borrowed("")), |id| id.text())?;
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
        CallKind::Function => call.member(&members, "function").ok_or_else(|| call.lacks("function"))?,
        CallKind::Custom => custom.ok_or_else(|| call.lacks("custom"))?,
    };
    ToolCall::read(Origin::ToolCalls(id), kind, &inner)
}

impl<'a> ToolCall<'a> {
    /// Reads name and payload of a call from the object that has them.
    pub(super) fn read(origin: Origin<'a>, kind: CallKind, call: &Field<'a, '_>) -> Result<Self, ProxyError> {
        let members = call.object()?;
        let name = call.member(&members, "name").ok_or_else(|| call.lacks("name"))?.text()?;
        let payload = match kind {
            CallKind::Function => call.member(&members, "arguments"),
            CallKind::Custom => call.member(&members, "input"),
        };
        let payload = match payload {
            None => JsonText::default(),
            Some(object) if object.is_object() => compact(object.json()).into(),
            Some(text) => text.json_text()?,
        };
        Ok(Self { origin, kind, name, payload })
    }
}
