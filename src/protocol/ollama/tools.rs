//! Reads the tools of an Ollama request: functions that the client runs, and web search, which Ollama itself doesn't
//! have as a tool (`{"type":"web_search"}`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::error::{ProxyError, Refusal};
use crate::protocol::codex::request::Tool;
use crate::protocol::json::path::Field;
use crate::protocol::upstream_input::names;
use crate::protocol::upstream_input::parameters::{Strict, function_tool, is_web_search, web_search_tool};

/// A declared tool in the backend's form.
#[derive(Clone, Debug)]
pub(super) enum DeclaredTool<'a> {
    /// A function, with the client's name.
    Function(Cow<'a, str>, Tool<'a>),
    WebSearch(Tool<'a>),
}

/// All tools of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct ToolSet<'a> {
    /// The tools in the backend's form.
    pub(super) upstream: Vec<Tool<'a>>,
    /// The client's names by the backend's, where they differ.
    pub(super) renamed: BTreeMap<String, String>,
    pub(super) has_web_search: bool,
}

impl<'a> DeclaredTool<'a> {
    /// Reads an element of `tools`.
    pub(super) fn read(tool: &Field<'a, '_>) -> Result<Self, ProxyError> {
        let members = tool.object()?;
        if let Some(kind) = tool.member(&members, "type").filter(|kind| kind.json() != r#""function""#) {
            if is_web_search(&kind.text()?) {
                return web_search_tool(tool).map(Self::WebSearch);
            }
            let message = format!("{kind}: only tools of type 'function' and 'web_search' are supported");
            return Err(Refusal::unsupported_value(kind.to_string(), message));
        }
        let function = tool.required(&members, "function")?;
        let (name, tool) = function_tool(&function, &*function.object()?, "parameters", Strict::Never)?;
        Ok(Self::Function(name, tool))
    }
}

impl<'a> ToolSet<'a> {
    /// Collects the declared tools. Several web searches become one: the first declaration counts.
    pub(super) fn new(declared: Vec<DeclaredTool<'a>>) -> Self {
        let mut tools = Self::default();
        for tool in declared {
            match tool {
                DeclaredTool::Function(name, tool) => {
                    names::note_renamed(&name, &mut tools.renamed);
                    tools.upstream.push(tool);
                }
                DeclaredTool::WebSearch(tool) if !tools.has_web_search => {
                    tools.has_web_search = true;
                    tools.upstream.push(tool);
                }
                DeclaredTool::WebSearch(_) => {}
            }
        }
        tools
    }
}
