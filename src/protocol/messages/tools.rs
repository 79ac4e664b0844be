//! Tools of a Messages request, and their form upstream.
//!
//! Tools that the client runs are functions, also those whose schema only Anthropic's own models
//! are told. Of the tools that a server runs, the backend has the web search; another one is
//! refused, since the model would be promised what nobody does.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::value::RawValue;

use super::content::required;
use crate::error::{ProxyError, Refusal};
use crate::protocol::Warnings;
use crate::protocol::codex::request::Tool;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::upstream_input::names;
use crate::protocol::upstream_input::schema::{self, constant, raw};

/// A tool that the backend is told of.
#[derive(Clone, Debug)]
pub(super) enum Declared<'a> {
    /// A function, under the client's name.
    Function(Cow<'a, str>, Tool<'a>),
    /// The web search, under the client's name, and what of its limits the backend has no word for.
    WebSearch(Cow<'a, str>, Tool<'a>, Vec<&'static str>),
    /// A tool that has no meaning here and is left out, under the client's name.
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

/// Tools whose schema clients leave to the model: the beginning of their type, what they are for, and the schema.
const KNOWN: [(&str, &str, &str); 3] = [
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

impl<'a> Declared<'a> {
    /// Reads an element of `tools`.
    pub(super) fn read(tool: &Field<'a, '_>) -> Result<Self, ProxyError> {
        let members = tool.object()?;
        let kind = tool.member(&members, "type").map_or(Ok(Cow::Borrowed("custom")), |kind| kind.text())?;
        if kind == "custom" {
            return plain(tool, &members);
        }
        if kind.starts_with("web_search_") || kind.starts_with("web_fetch_") {
            return web_search(tool, &members);
        }
        if kind.starts_with("tool_search_tool_") {
            // The model is sent all tools at once, so there is nothing to search.
            let name = tool.member(&members, "name").map(|name| name.text()).transpose()?;
            return Ok(Self::LeftOut(name.unwrap_or(kind)));
        }
        let known = KNOWN.iter().find(|(beginning, ..)| kind.starts_with(beginning));
        let Some((_, description, schema)) = known else { return Err(unsupported(tool, &kind)) };
        let name = name(tool, &members)?;
        Ok(function(name, Some(description), constant(schema), false))
    }
}

fn unsupported(tool: &Field<'_, '_>, kind: &str) -> ProxyError {
    let message = format!("tools: tool type '{kind}' is not supported by this proxy");
    Refusal::unsupported_value(format!("{tool}.type"), message)
}

fn name<'a>(tool: &Field<'a, '_>, members: &RawObject<'a>) -> Result<Cow<'a, str>, ProxyError> {
    let name = required(tool, members, "name")?;
    if name.is_empty() { Err(Refusal::invalid(format!("{tool}.name"), "a tool needs a name")) } else { Ok(name) }
}

fn plain<'a>(tool: &Field<'a, '_>, members: &RawObject<'a>) -> Result<Declared<'a>, ProxyError> {
    let parameters = match tool.member(members, "input_schema") {
        Some(input) => schema::parameters(input.raw(), input.object()?.into_owned()),
        None => schema::parameters(constant("{}"), RawObject::default()),
    };
    let description = tool.member(members, "description").map(|description| description.text()).transpose()?;
    let strict = tool.member(members, "strict").map_or(Ok(false), |strict| strict.flag())?;
    Ok(function(name(tool, members)?, description.as_deref(), &parameters, strict))
}

fn function<'a>(name: Cow<'a, str>, description: Option<&str>, parameters: &RawValue, strict: bool) -> Declared<'a> {
    let upstream = names::tool_name(name.clone());
    Declared::Function(name, Tool::function(&upstream, description, parameters, strict))
}

fn web_search<'a>(tool: &Field<'a, '_>, members: &RawObject<'a>) -> Result<Declared<'a>, ProxyError> {
    let allowed = tool.member(members, "allowed_domains").filter(|list| list.json() != "[]");
    let wire = WebSearch {
        r#type: "web_search",
        filters: allowed.map(|list| Filters { allowed_domains: list.raw() }),
        user_location: tool.member(members, "user_location").map(|place| place.raw()),
    };
    let lost = ["max_uses", "blocked_domains"].into_iter().filter(|name| tool.member(members, name).is_some());
    Ok(Declared::WebSearch(name(tool, members)?, Tool::raw(Cow::Owned(raw(&wire))), lost.collect()))
}

/// All tools of a request, and what has to be known about them.
#[derive(Clone, Debug, Default)]
pub(super) struct Toolbox<'a> {
    /// In the form and order of the backend.
    pub(super) tools: Vec<Tool<'a>>,
    /// Upstream's name to the client's, where they differ.
    pub(super) renamed: BTreeMap<String, String>,
    functions: BTreeSet<Cow<'a, str>>,
    searches: BTreeSet<Cow<'a, str>>,
    left_out: BTreeSet<Cow<'a, str>>,
}

impl<'a> Toolbox<'a> {
    /// Puts tools together. The backend has one web search, whatever the client calls it.
    pub(super) fn new(declared: Vec<Declared<'a>>, warnings: &mut Warnings) -> Self {
        let mut toolbox = Self::default();
        for tool in declared {
            match tool {
                Declared::Function(name, tool) => toolbox.add_function(name, tool),
                Declared::WebSearch(name, tool, lost) => {
                    for member in lost {
                        warnings.ignored(member);
                    }
                    if toolbox.searches.is_empty() {
                        toolbox.tools.push(tool);
                    }
                    toolbox.searches.insert(name);
                }
                Declared::LeftOut(name) => {
                    toolbox.left_out.insert(name);
                }
            }
        }
        toolbox
    }

    fn add_function(&mut self, name: Cow<'a, str>, tool: Tool<'a>) {
        names::note_renamed(&name, &mut self.renamed);
        self.tools.push(tool);
        self.functions.insert(name);
    }

    pub(super) fn has_function(&self, name: &str) -> bool {
        self.functions.contains(name)
    }

    /// Whether the web search goes by that name.
    pub(super) fn is_web_search(&self, name: &str) -> bool {
        self.searches.contains(name)
    }

    /// Whether a tool of that name was declared and left out.
    pub(super) fn is_left_out(&self, name: &str) -> bool {
        self.left_out.contains(name)
    }

    pub(super) fn has_web_search(&self) -> bool {
        !self.searches.is_empty()
    }

    /// Whether there is nothing to call but the web search.
    pub(super) fn only_searches(&self) -> bool {
        self.has_web_search() && self.functions.is_empty()
    }
}
