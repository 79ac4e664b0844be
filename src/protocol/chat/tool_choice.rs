//! Which tools may be called: `tool_choice`, and `function_call` of the old form.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::tools::{Toolbox, is_web_search};
use crate::error::{ProxyError, Refusal};
use crate::protocol::codex::request::ToolChoice;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::upstream_input::schema::raw;
use crate::protocol::upstream_input::{CallKind, names};

/// A choice as the client made it, and the field it made it in.
#[derive(Clone, Debug)]
pub(super) struct Choice<'a> {
    param: &'static str,
    wish: Wish<'a>,
}

#[derive(Clone, Debug)]
enum Wish<'a> {
    Auto,
    None,
    Required,
    One(Selected<'a>),
    Allowed(Cow<'a, str>, Vec<Selected<'a>>),
}

/// A tool that is singled out.
#[derive(Clone, Debug)]
enum Selected<'a> {
    Named(Cow<'a, str>),
    WebSearch,
    Hosted(&'a RawValue),
}

impl<'a> Choice<'a> {
    /// Reads `tool_choice`.
    pub(super) fn read(choice: &Field<'a, '_>) -> Result<Self, ProxyError> {
        let wish = if choice.is_text() {
            match &*choice.text()? {
                "auto" => Wish::Auto,
                "none" => Wish::None,
                "required" | "any" => Wish::Required,
                _ => return Err(choice.invalid("must be 'none', 'auto', 'required' or an object")),
            }
        } else if choice.is_object() {
            object(choice)?
        } else {
            return Err(choice.must_be("a string or an object"));
        };
        Ok(Self { param: "tool_choice", wish })
    }

    /// Reads `function_call`.
    pub(super) fn read_function_call(choice: &Field<'a, '_>) -> Result<Self, ProxyError> {
        let wish = if choice.is_text() {
            match &*choice.text()? {
                "auto" => Wish::Auto,
                "none" => Wish::None,
                _ => return Err(choice.invalid("must be 'none', 'auto' or an object")),
            }
        } else if choice.is_object() {
            let name = choice.member(&*choice.object()?, "name").ok_or_else(|| choice.lacks("name"))?.text()?;
            Wish::One(Selected::Named(name))
        } else {
            return Err(choice.must_be("a string or an object"));
        };
        Ok(Self { param: "function_call", wish })
    }

    /// The choice in the backend's form, if these tools allow it.
    pub(super) fn upstream(self, toolbox: &Toolbox<'a>) -> Result<ToolChoice<'a>, ProxyError> {
        let param = self.param;
        Ok(match self.wish {
            Wish::Auto => ToolChoice::Auto,
            Wish::None => ToolChoice::None,
            Wish::Required if toolbox.tools.is_empty() => {
                return Err(Refusal::invalid(param, format!("'{param}' must not be 'required' without tools")));
            }
            Wish::Required => ToolChoice::Required,
            Wish::One(selected) => ToolChoice::Raw(selected.upstream(param, toolbox)?),
            Wish::Allowed(mode, selected) => {
                let tools = selected.into_iter().map(|one| one.upstream(param, toolbox)).collect::<Result<_, _>>()?;
                ToolChoice::Raw(Cow::Owned(raw(&Allowed { r#type: "allowed_tools", mode, tools })))
            }
        })
    }
}

#[derive(Serialize)]
struct Allowed<'a> {
    r#type: &'static str,
    mode: Cow<'a, str>,
    tools: Vec<Cow<'a, RawValue>>,
}

#[derive(Serialize)]
struct Typed {
    r#type: &'static str,
}

impl<'a> Selected<'a> {
    fn read(tool: &Field<'a, '_>, members: &RawObject<'a>, kind: &str) -> Result<Self, ProxyError> {
        if is_web_search(kind) {
            return Ok(Self::WebSearch);
        }
        if !matches!(kind, "function" | "custom") {
            return Ok(Self::Hosted(tool.raw()));
        }
        let name = match tool.member(members, kind) {
            Some(inner) => inner.member(&*inner.object()?, "name").ok_or_else(|| inner.lacks("name"))?.text()?,
            None => tool.member(members, "name").ok_or_else(|| tool.lacks("name"))?.text()?,
        };
        Ok(Self::Named(name))
    }

    fn upstream(self, param: &str, toolbox: &Toolbox<'a>) -> Result<Cow<'a, RawValue>, ProxyError> {
        let name = match self {
            Self::WebSearch => return Ok(Cow::Owned(raw(&Typed { r#type: "web_search" }))),
            Self::Hosted(json) => return Ok(Cow::Borrowed(json)),
            Self::Named(name) => name,
        };
        let kind = match toolbox.kinds.get(&name) {
            Some(CallKind::Function) => "function",
            Some(CallKind::Custom) => "custom",
            None => return Err(Refusal::invalid(param, format!("'{param}' names '{name}', which is not declared"))),
        };
        Ok(Cow::Owned(names::choice(kind, name)))
    }
}

fn object<'a>(choice: &Field<'a, '_>) -> Result<Wish<'a>, ProxyError> {
    let members = choice.object()?;
    let kind = choice.member(&members, "type").map_or(Ok(Cow::Borrowed("")), |kind| kind.text())?;
    if kind != "allowed_tools" {
        return Ok(Wish::One(Selected::read(choice, &members, &kind)?));
    }
    match choice.member(&members, "allowed_tools") {
        Some(inner) => allowed(&inner, &*inner.object()?),
        None => allowed(choice, &members),
    }
}

fn allowed<'a>(choice: &Field<'a, '_>, members: &RawObject<'a>) -> Result<Wish<'a>, ProxyError> {
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
    let list = choice.member(members, "tools").ok_or_else(|| choice.lacks("tools"))?;
    let mut tools = Vec::new();
    for (index, value) in list.list()?.iter().enumerate() {
        let tool = list.element(index, value);
        let members = tool.object()?;
        let kind = tool.member(&members, "type").ok_or_else(|| tool.lacks("type"))?.text()?;
        tools.push(Selected::read(&tool, &members, &kind)?);
    }
    Ok(Wish::Allowed(mode, tools))
}
