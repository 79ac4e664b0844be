//! Tools of a Chat request: how they are declared, and their form upstream.
//!
//! `strict` is always sent: the two APIs default differently, and leaving it out makes the model
//! fill every optional argument with junk. A schema is touched only where the backend would refuse
//! it. Hosted tools that we don't know are passed unchanged; the backend decides.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::value::RawValue;

use crate::error::ProxyError;
use crate::protocol::codex::request::Tool;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::upstream_input::schema::{self, constant, raw};
use crate::protocol::upstream_input::{CallKind, names};

/// A tool, read and in its form upstream.
#[derive(Clone, Debug)]
pub(super) struct Declared<'a> {
    tool: Tool<'a>,
    identity: Identity<'a>,
}

/// What a declared tool is known by.
#[derive(Clone, Debug)]
enum Identity<'a> {
    Function(Cow<'a, str>),
    Custom(Cow<'a, str>, Form),
    WebSearch,
    Hosted,
}

/// Where the members of a tool stand: in an object of their own, or beside its `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Nested,
    Flat,
}

impl<'a> Declared<'a> {
    /// Reads an element of `tools`.
    pub(super) fn read(tool: &Field<'a, '_>) -> Result<Self, ProxyError> {
        let members = tool.object()?;
        let kind = tool.member(&members, "type").ok_or_else(|| tool.lacks("type"))?.text()?;
        match &*kind {
            "function" => match tool.member(&members, "function") {
                Some(inner) => function(&inner, &*inner.object()?),
                None => function(tool, &members),
            },
            "custom" => match tool.member(&members, "custom") {
                Some(inner) => custom(&inner, &*inner.object()?, Form::Nested),
                None => custom(tool, &members, Form::Flat),
            },
            name if is_web_search(name) => Self::web_search(tool),
            _ => Ok(Self { tool: Tool::raw(Cow::Borrowed(tool.raw())), identity: Identity::Hosted }),
        }
    }

    /// Reads an element of `functions`.
    pub(super) fn read_function(tool: &Field<'a, '_>) -> Result<Self, ProxyError> {
        function(tool, &*tool.object()?)
    }

    /// Reads a web search tool, or `web_search_options`.
    pub(super) fn web_search(options: &Field<'a, '_>) -> Result<Self, ProxyError> {
        let members = options.object()?;
        let wire = WebSearch {
            r#type: "web_search",
            search_context_size: options.member(&members, "search_context_size").map(|size| size.text()).transpose()?,
            filters: options.member(&members, "filters").map(|filters| filters.raw()),
            user_location: options.member(&members, "user_location").map(|place| location(&place)).transpose()?,
        };
        Ok(Self { tool: Tool::raw(Cow::Owned(raw(&wire))), identity: Identity::WebSearch })
    }
}

/// Whether a tool of this type is the web search, under one of its many names.
pub(super) fn is_web_search(kind: &str) -> bool {
    kind.starts_with("web_search")
}

#[derive(Serialize)]
struct WebSearch<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    search_context_size: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filters: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_location: Option<RawObject<'a>>,
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

fn function<'a>(tool: &Field<'a, '_>, members: &RawObject<'a>) -> Result<Declared<'a>, ProxyError> {
    let name = name(tool, members)?;
    let parameters = match tool.member(members, "parameters") {
        Some(parameters) => schema::parameters(parameters.raw(), parameters.object()?.into_owned()),
        None => schema::parameters(constant("{}"), RawObject::default()),
    };
    let description = description(tool, members)?;
    let strict = tool.member(members, "strict").map_or(Ok(false), |strict| strict.flag())?;
    let tool = Tool::function(&names::tool_name(name.clone()), description.as_deref(), &parameters, strict);
    Ok(Declared { tool, identity: Identity::Function(name) })
}

fn custom<'a>(tool: &Field<'a, '_>, members: &RawObject<'a>, form: Form) -> Result<Declared<'a>, ProxyError> {
    let name = name(tool, members)?;
    let wire = Custom {
        r#type: "custom",
        name: &names::tool_name(name.clone()),
        description: description(tool, members)?,
        format: tool.member(members, "format").map(|format| input_format(&format)).transpose()?,
    };
    Ok(Declared { tool: Tool::raw(Cow::Owned(raw(&wire))), identity: Identity::Custom(name, form) })
}

fn name<'a>(tool: &Field<'a, '_>, members: &RawObject<'a>) -> Result<Cow<'a, str>, ProxyError> {
    let field = tool.member(members, "name").ok_or_else(|| tool.lacks("name"))?;
    let name = field.text()?;
    if name.is_empty() { Err(field.invalid("must not be empty")) } else { Ok(name) }
}

fn description<'a>(tool: &Field<'a, '_>, members: &RawObject<'a>) -> Result<Option<Cow<'a, str>>, ProxyError> {
    tool.member(members, "description").map(|description| description.text()).transpose()
}

/// A grammar stands beside its `type` upstream.
fn input_format<'a>(format: &Field<'a, '_>) -> Result<Cow<'a, RawValue>, ProxyError> {
    let members = format.object()?;
    let Some(grammar) = format.member(&members, "grammar") else { return Ok(Cow::Borrowed(format.raw())) };
    let inner = grammar.object()?;
    let part = |name| grammar.member(&inner, name).map(|part| part.raw()).ok_or_else(|| grammar.lacks(name));
    let wire = Grammar { r#type: "grammar", syntax: part("syntax")?, definition: part("definition")? };
    Ok(Cow::Owned(raw(&wire)))
}

/// Chat wraps a location once more than the backend.
fn location<'a>(place: &Field<'a, '_>) -> Result<RawObject<'a>, ProxyError> {
    let members = place.object()?;
    let inner = place.member(&members, "approximate").map(|inner| inner.object().map(Cow::into_owned)).transpose()?;
    let mut members = members.into_owned();
    if let Some(inner) = inner {
        members.remove("approximate");
        members.append(inner);
    }
    Ok(members)
}

/// All tools of a request, and what has to be known about them.
#[derive(Clone, Debug, Default)]
pub(super) struct Toolbox<'a> {
    /// In the form and order of the backend.
    pub(super) tools: Vec<Tool<'a>>,
    /// The declared names, as the client knows them.
    pub(super) kinds: BTreeMap<Cow<'a, str>, CallKind>,
    /// Upstream's name to the client's, where they differ.
    pub(super) renamed: BTreeMap<String, String>,
    /// Custom tools that were declared in the flat form, by the client's name.
    pub(super) flat_custom_tools: BTreeSet<String>,
    /// Whether the web search is among them.
    pub(super) has_web_search: bool,
}

impl<'a> Toolbox<'a> {
    /// Puts tools together; the options of the web search add one where there is none yet.
    pub(super) fn new(declared: Vec<Declared<'a>>, web_search: Option<Declared<'a>>) -> Self {
        let mut toolbox = Self::default();
        for tool in declared {
            toolbox.add(tool);
        }
        if let Some(tool) = web_search
            && !toolbox.has_web_search
        {
            toolbox.add(tool);
        }
        toolbox
    }

    fn add(&mut self, Declared { tool, identity }: Declared<'a>) {
        self.tools.push(tool);
        let (name, kind) = match identity {
            Identity::Function(name) => (name, CallKind::Function),
            Identity::Custom(name, form) => {
                if form == Form::Flat {
                    self.flat_custom_tools.insert(name.clone().into_owned());
                }
                (name, CallKind::Custom)
            }
            Identity::WebSearch => {
                self.has_web_search = true;
                return;
            }
            Identity::Hosted => return,
        };
        names::note_renamed(&name, &mut self.renamed);
        self.kinds.insert(name, kind);
    }

    /// Whether calls of that name are those of a custom tool.
    pub(super) fn is_custom(&self, name: &str) -> bool {
        self.kinds.get(name) == Some(&CallKind::Custom)
    }
}
