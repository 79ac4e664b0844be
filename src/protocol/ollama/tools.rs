//! Reads the tools of an Ollama request: functions that the client runs.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::error::{ProxyError, Refusal};
use crate::protocol::codex::request::Tool;
use crate::protocol::json::path::Field;
use crate::protocol::upstream_input::names;
use crate::protocol::upstream_input::parameters::{Strict, function_tool};

/// A declared function: the client's name and the backend's form.
#[derive(Clone, Debug)]
pub(super) struct DeclaredTool<'a> {
    name: Cow<'a, str>,
    tool: Tool<'a>,
}

impl<'a> DeclaredTool<'a> {
    /// Reads an element of `tools`.
    pub(super) fn read(tool: &Field<'a, '_>) -> Result<Self, ProxyError> {
        let members = tool.object()?;
        if let Some(kind) = tool.member(&members, "type").filter(|kind| kind.json() != r#""function""#) {
            let message = format!("{kind}: only tools of type 'function' are supported");
            return Err(Refusal::unsupported_value(kind.to_string(), message));
        }
        let function = tool.required(&members, "function")?;
        let (name, tool) = function_tool(&function, &*function.object()?, "parameters", Strict::Never)?;
        Ok(Self { name, tool })
    }
}

/// Returns the tools in the backend's form, and the client's names by the backend's where they differ.
pub(super) fn collect(declared: Vec<DeclaredTool<'_>>) -> (Vec<Tool<'_>>, BTreeMap<String, String>) {
    let mut renamed = BTreeMap::new();
    for function in &declared {
        names::note_renamed(&function.name, &mut renamed);
    }
    (declared.into_iter().map(|function| function.tool).collect(), renamed)
}
