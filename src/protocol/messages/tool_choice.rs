//! Which tools may be called: `tool_choice`.

use std::borrow::Cow;

use super::content::required;
use super::tools::Toolbox;
use crate::error::{ProxyError, Refusal};
use crate::protocol::codex::request::ToolChoice;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::upstream_input::names;
use crate::protocol::upstream_input::schema::constant;

const PARAM: &str = "tool_choice";

/// A choice as the client made it.
#[derive(Clone, Debug)]
pub(super) enum Choice<'a> {
    Auto,
    None,
    Any,
    Tool(Cow<'a, str>),
}

impl<'a> Choice<'a> {
    pub(super) fn read(choice: &Field<'a, '_>, members: &RawObject<'a>) -> Result<Self, ProxyError> {
        let kind = choice.member(members, "type").ok_or_else(|| choice.lacks("type"))?;
        match &*kind.text()? {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            "any" => Ok(Self::Any),
            "tool" => Ok(Self::Tool(required(choice, members, "name")?)),
            _ => Err(kind.invalid("must be one of 'auto', 'any', 'tool' and 'none'")),
        }
    }

    /// The choice in the backend's form, if these tools allow it.
    pub(super) fn upstream(self, toolbox: &Toolbox<'a>) -> Result<ToolChoice<'a>, ProxyError> {
        match self {
            Self::Auto => Ok(ToolChoice::Auto),
            Self::None => Ok(ToolChoice::None),
            Self::Any if toolbox.tools.is_empty() => {
                Err(Refusal::invalid(PARAM, "tool_choice: 'any' needs tools to choose from"))
            }
            Self::Any => Ok(ToolChoice::Required),
            Self::Tool(name) if toolbox.is_web_search(&name) && toolbox.only_searches() => Ok(ToolChoice::Required),
            Self::Tool(name) if toolbox.is_web_search(&name) => {
                Ok(ToolChoice::Raw(Cow::Borrowed(constant(r#"{"type":"web_search"}"#))))
            }
            Self::Tool(name) if toolbox.has_function(&name) => {
                Ok(ToolChoice::Raw(Cow::Owned(names::choice("function", name))))
            }
            Self::Tool(name) if toolbox.is_left_out(&name) => {
                let message = format!(
                    "tool_choice: the tool '{name}' can't be used here; the model gets all tools without searching for them"
                );
                Err(Refusal::unsupported_value(PARAM, message))
            }
            Self::Tool(name) => {
                Err(Refusal::invalid(PARAM, format!("tool_choice: names '{name}', which is not among the tools")))
            }
        }
    }
}
