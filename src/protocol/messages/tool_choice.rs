//! Reads `tool_choice`, and converts it to the backend's form.

use std::borrow::Cow;

use super::tools::ToolSet;
use crate::error::{ProxyError, Refusal};
use crate::protocol::codex::request::ToolChoice;
use crate::protocol::json::constant;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::upstream_input::names;

const PARAM: &str = "tool_choice";

/// A tool choice under the client's names.
#[derive(Clone, Debug)]
pub(super) enum RequestedChoice<'a> {
    Auto,
    None,
    Any,
    Tool(Cow<'a, str>),
}

impl<'a> RequestedChoice<'a> {
    pub(super) fn read(choice: &Field<'a, '_>, members: &RawObject<'a>) -> Result<Self, ProxyError> {
        let kind = choice.required(members, "type")?;
        match &*kind.text()? {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            "any" => Ok(Self::Any),
            "tool" => Ok(Self::Tool(choice.required(members, "name")?.text()?)),
            _ => Err(kind.invalid("must be one of 'auto', 'any', 'tool' and 'none'")),
        }
    }

    /// Converts the choice to the backend's form.
    ///
    /// # Errors
    /// If the chosen tool isn't declared or not available, or a call is required and no tool is declared.
    pub(super) fn upstream(self, tools: &ToolSet<'a>) -> Result<ToolChoice<'a>, ProxyError> {
        match self {
            Self::Auto => Ok(ToolChoice::Auto),
            Self::None => Ok(ToolChoice::None),
            Self::Any if tools.upstream.is_empty() => {
                Err(Refusal::invalid(PARAM, "tool_choice: 'any' requires at least one tool in 'tools'"))
            }
            Self::Any => Ok(ToolChoice::Required),
            Self::Tool(name) if tools.is_web_search(&name) && tools.has_only_web_search() => Ok(ToolChoice::Required),
            Self::Tool(name) if tools.is_web_search(&name) => {
                Ok(ToolChoice::Raw(Cow::Borrowed(constant(r#"{"type":"web_search"}"#))))
            }
            Self::Tool(name) if tools.has_function(&name) => {
                Ok(ToolChoice::Raw(Cow::Owned(names::choice("function", name))))
            }
            Self::Tool(name) if tools.is_left_out(&name) => {
                let message = format!(
                    "tool_choice: the tool '{name}' can't be chosen; the model gets all tools without searching for them"
                );
                Err(Refusal::unsupported_value(PARAM, message))
            }
            Self::Tool(name) => {
                Err(Refusal::invalid(PARAM, format!("tool_choice: names '{name}', which is not among the tools")))
            }
        }
    }
}
