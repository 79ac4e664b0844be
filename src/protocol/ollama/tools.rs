//! Tools of a conversation: functions, which the client runs.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::error::{ProxyError, Refusal};
use crate::protocol::codex::request::Tool;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::upstream_input::names;
use crate::protocol::upstream_input::schema::{self, constant};

/// A function under the client's name, and in its form upstream.
#[derive(Clone, Debug)]
pub(super) struct Declared<'a> {
    name: Cow<'a, str>,
    tool: Tool<'a>,
}

impl<'a> Declared<'a> {
    /// Reads an element of `tools`.
    pub(super) fn read(tool: &Field<'a, '_>) -> Result<Self, ProxyError> {
        let members = tool.object()?;
        if let Some(kind) = tool.member(&members, "type").filter(|kind| kind.json() != r#""function""#) {
            let message = format!("{kind}: only tools of type 'function' can be called here");
            return Err(Refusal::unsupported_value(kind.to_string(), message));
        }
        let function = tool.member(&members, "function").ok_or_else(|| tool.lacks("function"))?;
        let members = function.object()?;
        let name = function.member(&members, "name").ok_or_else(|| function.lacks("name"))?.text()?;
        if name.is_empty() {
            return Err(Refusal::invalid(format!("{function}.name"), format!("'{function}.name' must not be empty")));
        }
        let parameters = match function.member(&members, "parameters") {
            Some(parameters) => schema::parameters(parameters.raw(), parameters.object()?.into_owned()),
            None => schema::parameters(constant("{}"), RawObject::default()),
        };
        let description = function.member(&members, "description").map(|description| description.text()).transpose()?;
        let upstream = names::tool_name(name.clone());
        let tool = Tool::function(&upstream, description.as_deref(), &parameters, false);
        Ok(Self { name, tool })
    }
}

/// All tools in the form of the backend, and its names for those that the client calls otherwise.
pub(super) fn gather(declared: Vec<Declared<'_>>) -> (Vec<Tool<'_>>, BTreeMap<String, String>) {
    let mut renamed = BTreeMap::new();
    for function in &declared {
        names::note_renamed(&function.name, &mut renamed);
    }
    (declared.into_iter().map(|function| function.tool).collect(), renamed)
}
