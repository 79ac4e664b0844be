//! Reads the tools of a Messages request and converts them to the backend's form.
//!
//! Tools that the client runs become functions, including those whose schema only Anthropic's models know. Of
//! Anthropic's server tools, web search and web fetch become the backend's web search, and tool search is left out,
//! since the model gets all tools at once. The others are rejected: neither the backend nor the proxy can run them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::value::RawValue;

use crate::error::{ProxyError, Refusal};
use crate::protocol::Warnings;
use crate::protocol::codex::request::Tool;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::{constant, to_raw};
use crate::protocol::upstream_input::names;
use crate::protocol::upstream_input::parameters::{Strict, function_tool, tool_name};

/// A declared tool: the client's name and the backend's form.
#[derive(Clone, Debug)]
pub(super) enum DeclaredTool<'a> {
    Function(Cow<'a, str>, Tool<'a>),
    /// Web search. The last field names the members of the declaration that the backend doesn't support.
    WebSearch(Cow<'a, str>, Tool<'a>, Vec<&'static str>),
    /// A tool that has no equivalent and is not needed.
    LeftOut(Cow<'a, str>),
}

#[derive(Serialize)]
struct WebSearch<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    filters: Option<Filters<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_location: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Filters<'a> {
    allowed_domains: &'a RawValue,
}

/// Client tools that are declared without a schema: the prefix of their type, the description and the schema to send.
const ANTHROPIC_TOOLS: [(&str, &str, &str); 3] = [
    (
        "bash_",
        "Run a command in a bash session that stays open between calls.",
        r#"{"type":"object","properties":{"command":{"type":"string","description":"The command to run."},"restart":{"type":"boolean","description":"Restart the session instead of running a command."}}}"#,
    ),
    (
        "text_editor_",
        "View, create and edit text files.",
        r#"{"type":"object","properties":{"command":{"type":"string","enum":["view","create","str_replace","insert"]},"path":{"type":"string"},"view_range":{"type":"array","items":{"type":"integer"},"description":"First and last line to view."},"file_text":{"type":"string","description":"Content of the file to create."},"old_str":{"type":"string","description":"Text to replace; it has to occur once."},"new_str":{"type":"string","description":"What to put in its place."},"insert_line":{"type":"integer","description":"Line after which to insert."},"insert_text":{"type":"string"}},"required":["command","path"]}"#,
    ),
    (
        "memory_",
        "View, create and edit the files of a memory that lasts beyond the conversation.",
        r#"{"type":"object","properties":{"command":{"type":"string","enum":["view","create","str_replace","insert","delete","rename"]},"path":{"type":"string"},"view_range":{"type":"array","items":{"type":"integer"}},"file_text":{"type":"string"},"old_str":{"type":"string"},"new_str":{"type":"string"},"insert_line":{"type":"integer"},"insert_text":{"type":"string"},"old_path":{"type":"string","description":"File to rename."},"new_path":{"type":"string","description":"Its new name."}},"required":["command"]}"#,
    ),
];

impl<'a> DeclaredTool<'a> {
    /// Reads an element of `tools`.
    pub(super) fn read(tool: &Field<'a, '_>) -> Result<Self, ProxyError> {
        let members = tool.object()?;
        let kind = tool.optional_text(&members, "type")?.unwrap_or(Cow::Borrowed("custom"));
        if kind == "custom" {
            let (name, tool) = function_tool(tool, &members, "input_schema", Strict::AsRequested)?;
            return Ok(Self::Function(name, tool));
        }
        if kind.starts_with("web_search_") || kind.starts_with("web_fetch_") {
            return web_search(tool, &members);
        }
        if kind.starts_with("tool_search_tool_") {
            // The model gets all tools at once, so there is nothing to search.
            return Ok(Self::LeftOut(tool.optional_text(&members, "name")?.unwrap_or(kind)));
        }
        let known = ANTHROPIC_TOOLS.iter().find(|(prefix, ..)| kind.starts_with(prefix));
        let Some((_, description, schema)) = known else { return Err(unsupported(tool, &kind)) };
        let name = tool_name(tool, &members)?;
        let tool = Tool::function(&names::tool_name(name.clone()), Some(description), constant(schema), false);
        Ok(Self::Function(name, tool))
    }
}

fn unsupported(tool: &Field<'_, '_>, kind: &str) -> ProxyError {
    let message = format!("tools: tool type '{kind}' is not supported by this proxy");
    Refusal::unsupported_value(format!("{tool}.type"), message)
}

fn web_search<'a>(tool: &Field<'a, '_>, members: &RawObject<'a>) -> Result<DeclaredTool<'a>, ProxyError> {
    let allowed = tool.member(members, "allowed_domains").filter(|list| list.json() != "[]");
    let search = WebSearch {
        r#type: "web_search",
        filters: allowed.map(|list| Filters { allowed_domains: list.raw() }),
        user_location: tool.member(members, "user_location").map(|place| place.raw()),
    };
    let unsupported = ["max_uses", "blocked_domains"].into_iter().filter(|name| tool.member(members, name).is_some());
    Ok(DeclaredTool::WebSearch(
        tool_name(tool, members)?,
        Tool::raw(Cow::Owned(to_raw(&search))),
        unsupported.collect(),
    ))
}

/// All tools of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct ToolSet<'a> {
    /// The tools in the backend's form.
    pub(super) upstream: Vec<Tool<'a>>,
    /// The client's names by the backend's, where they differ.
    pub(super) renamed: BTreeMap<String, String>,
    /// The client's names of the tools, by kind.
    functions: BTreeSet<Cow<'a, str>>,
    searches: BTreeSet<Cow<'a, str>>,
    left_out: BTreeSet<Cow<'a, str>>,
}

impl<'a> ToolSet<'a> {
    /// Collects the declared tools. Several web searches become one: the first declaration counts.
    pub(super) fn new(declared: Vec<DeclaredTool<'a>>, warnings: &mut Warnings) -> Self {
        let mut tools = Self::default();
        for tool in declared {
            match tool {
                DeclaredTool::Function(name, tool) => tools.add_function(name, tool),
                DeclaredTool::WebSearch(name, tool, unsupported) => {
                    for member in unsupported {
                        warnings.ignored(member);
                    }
                    if tools.searches.is_empty() {
                        tools.upstream.push(tool);
                    }
                    tools.searches.insert(name);
                }
                DeclaredTool::LeftOut(name) => {
                    tools.left_out.insert(name);
                }
            }
        }
        tools
    }

    fn add_function(&mut self, name: Cow<'a, str>, tool: Tool<'a>) {
        names::note_renamed(&name, &mut self.renamed);
        self.upstream.push(tool);
        self.functions.insert(name);
    }

    pub(super) fn has_function(&self, name: &str) -> bool {
        self.functions.contains(name)
    }

    /// Whether this is a name of the web search.
    pub(super) fn is_web_search(&self, name: &str) -> bool {
        self.searches.contains(name)
    }

    /// Whether the tool with this name was declared but has no equivalent.
    pub(super) fn is_left_out(&self, name: &str) -> bool {
        self.left_out.contains(name)
    }

    pub(super) fn has_web_search(&self) -> bool {
        !self.searches.is_empty()
    }

    /// Whether web search is the only tool.
    pub(super) fn has_only_web_search(&self) -> bool {
        self.has_web_search() && self.functions.is_empty()
    }
}
