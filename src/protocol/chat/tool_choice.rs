//! Reads `tool_choice` and the older `function_call`, and converts them to the backend's form.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::tools::ToolSet;
use crate::error::{ProxyError, Refusal};
use crate::protocol::codex::request::ToolChoice;
use crate::protocol::json::constant;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::upstream_input::parameters::{allowed_tools, is_web_search, tool_choice_keyword};
use crate::protocol::upstream_input::{CallKind, names};

/// A tool choice and the member it was sent in.
#[derive(Clone, Debug)]
pub(super) struct RequestedChoice<'a> {
    param: &'static str,
    choice: Choice<'a>,
}

#[derive(Clone, Debug)]
enum Choice<'a> {
    Keyword(ToolChoice<'a>),
    Tool(RequestedTool<'a>),
    /// `allowed_tools`: the mode and the tools.
    Allowed(Cow<'a, str>, Vec<RequestedTool<'a>>),
}

#[derive(Clone, Debug)]
enum RequestedTool<'a> {
    /// A function or custom tool, by the client's name.
    Named(Cow<'a, str>),
    WebSearch,
    /// Another tool, forwarded unchanged.
    Hosted(&'a RawValue),
}

impl<'a> RequestedChoice<'a> {
    /// Reads `tool_choice`.
    pub(super) fn read(choice: &Field<'a, '_>) -> Result<Self, ProxyError> {
        let choice = match tool_choice_keyword(choice)? {
            Some(keyword) => Choice::Keyword(keyword),
            None => read_object(choice)?,
        };
        Ok(Self { param: "tool_choice", choice })
    }

    /// Reads `function_call`.
    pub(super) fn read_function_call(choice: &Field<'a, '_>) -> Result<Self, ProxyError> {
        let choice = if choice.is_text() {
            match &*choice.text()? {
                "auto" => Choice::Keyword(ToolChoice::Auto),
                "none" => Choice::Keyword(ToolChoice::None),
                _ => return Err(choice.invalid("must be 'none', 'auto' or an object")),
            }
        } else if choice.is_object() {
            Choice::Tool(RequestedTool::Named(choice.required(&*choice.object()?, "name")?.text()?))
        } else {
            return Err(choice.must_be("a string or an object"));
        };
        Ok(Self { param: "function_call", choice })
    }

    /// Converts the choice to the backend's form.
    ///
    /// # Errors
    /// If a chosen tool isn't declared, or a call is required and no tool is declared.
    pub(super) fn upstream(self, tools: &ToolSet<'a>) -> Result<ToolChoice<'a>, ProxyError> {
        let param = self.param;
        Ok(match self.choice {
            Choice::Keyword(ToolChoice::Required) if tools.upstream.is_empty() => {
                return Err(Refusal::invalid(param, format!("'{param}' must not be 'required' without tools")));
            }
            Choice::Keyword(keyword) => keyword,
            Choice::Tool(tool) => ToolChoice::Raw(tool.upstream(param, tools)?),
            Choice::Allowed(mode, allowed) => {
                let tools = allowed.into_iter().map(|tool| tool.upstream(param, tools)).collect::<Result<_, _>>()?;
                allowed_tools(mode, tools)
            }
        })
    }
}

impl<'a> RequestedTool<'a> {
    fn read(tool: &Field<'a, '_>, members: &RawObject<'a>, kind: &str) -> Result<Self, ProxyError> {
        if is_web_search(kind) {
            return Ok(Self::WebSearch);
        }
        if !matches!(kind, "function" | "custom") {
            return Ok(Self::Hosted(tool.raw()));
        }
        let name = match tool.member(members, kind) {
            Some(inner) => inner.required(&*inner.object()?, "name")?.text()?,
            None => tool.required(members, "name")?.text()?,
        };
        Ok(Self::Named(name))
    }

    fn upstream(self, param: &str, tools: &ToolSet<'a>) -> Result<Cow<'a, RawValue>, ProxyError> {
        let name = match self {
            Self::WebSearch => return Ok(Cow::Borrowed(constant(r#"{"type":"web_search"}"#))),
            Self::Hosted(json) => return Ok(Cow::Borrowed(json)),
            Self::Named(name) => name,
        };
        let kind = match tools.kinds.get(&name) {
            Some(CallKind::Function) => "function",
            Some(CallKind::Custom) => "custom",
            None => return Err(Refusal::invalid(param, format!("'{param}' names '{name}', which is not declared"))),
        };
        Ok(Cow::Owned(names::choice(kind, name)))
    }
}

fn read_object<'a>(choice: &Field<'a, '_>) -> Result<Choice<'a>, ProxyError> {
    let members = choice.object()?;
    let kind = choice.optional_text(&members, "type")?.unwrap_or_default();
    if kind != "allowed_tools" {
        return Ok(Choice::Tool(RequestedTool::read(choice, &members, &kind)?));
    }
    match choice.member(&members, "allowed_tools") {
        Some(inner) => read_allowed(&inner, &*inner.object()?),
        None => read_allowed(choice, &members),
    }
}

fn read_allowed<'a>(choice: &Field<'a, '_>, members: &RawObject<'a>) -> Result<Choice<'a>, ProxyError> {
    let mode = match choice.member(members, "mode") {
        None => Cow::Borrowed("auto"),
        Some(field) => {
            let mode = field.text()?;
            if !matches!(&*mode, "auto" | "required") {
                return Err(field.invalid("must be 'auto' or 'required'"));
            }
            mode
        }
    };
    let tools = choice.required(members, "tools")?.each(|tool| {
        let members = tool.object()?;
        let kind = tool.required(&members, "type")?.text()?;
        RequestedTool::read(tool, &members, &kind)
    })?;
    Ok(Choice::Allowed(mode, tools))
}
