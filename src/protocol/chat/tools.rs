//! Reads the tools of a Chat request and converts them to the backend's form.
//!
//! `strict` is always sent for a function: the two APIs have different defaults, and with the backend's the model fills
//! in every optional argument. A schema is changed only where the backend would reject it. Hosted tools (which the
//! backend runs) are forwarded unchanged, except web search; the backend decides whether it supports them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::value::RawValue;

use crate::error::ProxyError;
use crate::protocol::codex::request::Tool;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::to_raw;
use crate::protocol::upstream_input::parameters::{Strict, function_tool, is_web_search, tool_name, web_search_tool};
use crate::protocol::upstream_input::{CallKind, names};

/// A tool that the client declared: its backend form, and its identity for the client.
#[derive(Clone, Debug)]
pub(super) struct DeclaredTool<'a> {
    tool: Tool<'a>,
    identity: ToolIdentity<'a>,
}

/// The kind of a declared tool, and the client's name of it.
#[derive(Clone, Debug)]
enum ToolIdentity<'a> {
    Function(Cow<'a, str>),
    Custom(Cow<'a, str>, CustomForm),
    WebSearch,
    Hosted,
}

/// Where the declaration of a custom tool has its members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CustomForm {
    /// In the object `custom`.
    Nested,
    /// Beside `type`.
    Flat,
}

impl<'a> DeclaredTool<'a> {
    /// Reads an element of `tools`.
    pub(super) fn read(tool: &Field<'a, '_>) -> Result<Self, ProxyError> {
        let members = tool.object()?;
        let kind = tool.required(&members, "type")?.text()?;
        match &*kind {
            "function" => match tool.member(&members, "function") {
                Some(inner) => function(&inner, &*inner.object()?),
                None => function(tool, &members),
            },
            "custom" => match tool.member(&members, "custom") {
                Some(inner) => custom(&inner, &*inner.object()?, CustomForm::Nested),
                None => custom(tool, &members, CustomForm::Flat),
            },
            name if is_web_search(name) => Self::web_search(tool),
            _ => Ok(Self { tool: Tool::raw(Cow::Borrowed(tool.raw())), identity: ToolIdentity::Hosted }),
        }
    }

    /// Reads an element of `functions`.
    pub(super) fn read_function(tool: &Field<'a, '_>) -> Result<Self, ProxyError> {
        function(tool, &*tool.object()?)
    }

    /// Reads a web search tool, or `web_search_options`.
    pub(super) fn web_search(options: &Field<'a, '_>) -> Result<Self, ProxyError> {
        Ok(Self { tool: web_search_tool(options)?, identity: ToolIdentity::WebSearch })
    }
}

#[derive(Serialize)]
struct Custom<'a> {
    r#type: &'static str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Cow<'a, RawValue>>,
}

#[derive(Serialize)]
struct Grammar<'a> {
    r#type: &'static str,
    syntax: &'a RawValue,
    definition: &'a RawValue,
}

fn function<'a>(tool: &Field<'a, '_>, members: &RawObject<'a>) -> Result<DeclaredTool<'a>, ProxyError> {
    let (name, tool) = function_tool(tool, members, "parameters", Strict::AsRequested)?;
    Ok(DeclaredTool { tool, identity: ToolIdentity::Function(name) })
}

fn custom<'a>(tool: &Field<'a, '_>, members: &RawObject<'a>, form: CustomForm) -> Result<DeclaredTool<'a>, ProxyError> {
    let name = tool_name(tool, members)?;
    let custom = Custom {
        r#type: "custom",
        name: &names::tool_name(name.clone()),
        description: tool.optional_text(members, "description")?,
        format: tool.member(members, "format").map(|format| input_format(&format)).transpose()?,
    };
    Ok(DeclaredTool { tool: Tool::raw(Cow::Owned(to_raw(&custom))), identity: ToolIdentity::Custom(name, form) })
}

/// Converts the input format of a custom tool: the backend has the members of a grammar beside `type`.
fn input_format<'a>(format: &Field<'a, '_>) -> Result<Cow<'a, RawValue>, ProxyError> {
    let members = format.object()?;
    let Some(grammar) = format.member(&members, "grammar") else { return Ok(Cow::Borrowed(format.raw())) };
    let inner = grammar.object()?;
    let member = |name| grammar.required(&inner, name).map(|member| member.raw());
    let grammar = Grammar { r#type: "grammar", syntax: member("syntax")?, definition: member("definition")? };
    Ok(Cow::Owned(to_raw(&grammar)))
}

/// All tools of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct ToolSet<'a> {
    /// The tools in the backend's form.
    pub(super) upstream: Vec<Tool<'a>>,
    /// The kinds of functions and custom tools, by the client's name.
    pub(super) kinds: BTreeMap<Cow<'a, str>, CallKind>,
    /// The client's names by the backend's, where they differ.
    pub(super) renamed: BTreeMap<String, String>,
    /// The client's names of custom tools in the flat form.
    pub(super) flat_custom_tools: BTreeSet<String>,
    pub(super) has_web_search: bool,
}

impl<'a> ToolSet<'a> {
    /// Collects the declared tools, and the web search of `web_search_options` unless one is declared.
    pub(super) fn new(declared: Vec<DeclaredTool<'a>>, web_search: Option<DeclaredTool<'a>>) -> Self {
        let mut tools = Self::default();
        for tool in declared {
            tools.add(tool);
        }
        if let Some(tool) = web_search
            && !tools.has_web_search
        {
            tools.add(tool);
        }
        tools
    }

    fn add(&mut self, DeclaredTool { tool, identity }: DeclaredTool<'a>) {
        self.upstream.push(tool);
        let (name, kind) = match identity {
            ToolIdentity::Function(name) => (name, CallKind::Function),
            ToolIdentity::Custom(name, form) => {
                if form == CustomForm::Flat {
                    self.flat_custom_tools.insert(name.clone().into_owned());
                }
                (name, CallKind::Custom)
            }
            ToolIdentity::WebSearch => {
                self.has_web_search = true;
                return;
            }
            ToolIdentity::Hosted => return,
        };
        names::note_renamed(&name, &mut self.renamed);
        self.kinds.insert(name, kind);
    }

    /// Whether the tool with this name is a custom tool.
    pub(super) fn is_custom(&self, name: &str) -> bool {
        self.kinds.get(name) == Some(&CallKind::Custom)
    }
}
