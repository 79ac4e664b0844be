//! Reads the tools of an Ollama request: functions that the client runs, and web search, which Ollama itself doesn't
//! have as a tool (`{"type":"web_search"}`).

use crate::error::{ProxyError, Refusal};
use crate::protocol::json::path::Field;
use crate::protocol::upstream_input::DeclaredTool;
use crate::protocol::upstream_input::parameters::{Strict, function_tool, is_web_search, web_search_tool};

/// Reads an element of `tools`.
pub(super) fn read<'a>(tool: &Field<'a, '_>) -> Result<DeclaredTool<'a>, ProxyError> {
    let members = tool.object()?;
    if let Some(kind) = tool.member(&members, "type").filter(|kind| kind.json() != r#""function""#) {
        if is_web_search(&kind.text()?) {
            return web_search_tool(tool).map(DeclaredTool::WebSearch);
        }
        let message = format!("{kind}: only tools of type 'function' and 'web_search' are supported");
        return Err(Refusal::unsupported_value(kind.to_string(), message));
    }
    let function = tool.required(&members, "function")?;
    let (name, tool) = function_tool(&function, &*function.object()?, "parameters", Strict::Never)?;
    Ok(DeclaredTool::Function(name, tool))
}
