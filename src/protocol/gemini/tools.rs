//! Reads the tools of a request: functions that the client runs, and Google search, which becomes the backend's web
//! search.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::request::unsupported;
use super::schema::to_json_schema;
use super::spelling::{elements, fields};
use crate::error::ProxyError;
use crate::protocol::Ignored;
use crate::protocol::codex::request::Tool;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::{constant, to_raw};
use crate::protocol::upstream_input::parameters::tool_name;
use crate::protocol::upstream_input::{names, schema};

/// A declared tool.
#[derive(Clone, Debug)]
pub(super) enum DeclaredTool<'a> {
    /// A function, with the client's name, in the backend's form.
    Function(Cow<'a, str>, Tool<'a>),
    WebSearch,
}

/// Reads an element of `tools`, which may declare several tools.
pub(super) fn read<'a>(tool: &Field<'a, '_>, ignored: &mut Ignored) -> Result<Vec<DeclaredTool<'a>>, ProxyError> {
    let members = tool.object()?;
    let mut declared = Vec::new();
    for (name, field) in fields(tool, &members) {
        match &*name {
            "functionDeclarations" => declared.extend(elements(&field, |function| read_function(function, ignored))?),
            "googleSearch" | "googleSearchRetrieval" => {
                let options = field.object()?;
                fields(&field, &options).for_each(|(option, _)| ignored.note(&format!("{name}.{option}")));
                declared.push(DeclaredTool::WebSearch);
            }
            _ => return Err(unsupported(&field, "use 'functionDeclarations' or 'googleSearch'")),
        }
    }
    Ok(declared)
}

fn read_function<'a>(function: &Field<'a, '_>, ignored: &mut Ignored) -> Result<DeclaredTool<'a>, ProxyError> {
    let members = function.object()?;
    let name = tool_name(function, &members)?;
    let mut parameters = None;
    for (member, field) in fields(function, &members) {
        match &*member {
            "parameters" if parameters.is_none() => {
                field.object()?;
                parameters = Some(to_json_schema(field.raw()));
            }
            "parametersJsonSchema" => {
                field.object()?;
                parameters = Some(field.raw().to_owned());
            }
            // The description of the output doesn't change the calls.
            "name" | "description" | "parameters" | "response" | "responseJsonSchema" => {}
            member => ignored.note(member),
        }
    }
    let parameters = parameters.unwrap_or_else(|| to_raw(&RawObject::default()));
    let parameters = schema::parameters(&parameters, RawObject::parse(parameters.get()).unwrap_or_default());
    let description = function.optional_text(&members, "description")?;
    let tool = Tool::function(&names::tool_name(name.clone()), description.as_deref(), &parameters, false);
    Ok(DeclaredTool::Function(name, tool))
}

/// All tools of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct ToolSet<'a> {
    /// The tools in the backend's form.
    pub(super) upstream: Vec<Tool<'a>>,
    /// The client's names by the backend's, where they differ.
    pub(super) renamed: BTreeMap<String, String>,
    pub(super) has_web_search: bool,
    /// The client's names of the functions.
    functions: BTreeSet<Cow<'a, str>>,
}

impl<'a> ToolSet<'a> {
    /// Collects the declared tools. Several web searches become one.
    pub(super) fn new(declared: Vec<DeclaredTool<'a>>) -> Self {
        let mut tools = Self::default();
        for tool in declared {
            match tool {
                DeclaredTool::Function(name, tool) => {
                    names::note_renamed(&name, &mut tools.renamed);
                    tools.upstream.push(tool);
                    tools.functions.insert(name);
                }
                DeclaredTool::WebSearch if !tools.has_web_search => {
                    tools.has_web_search = true;
                    tools.upstream.push(Tool::raw(Cow::Borrowed(constant(r#"{"type":"web_search"}"#))));
                }
                DeclaredTool::WebSearch => {}
            }
        }
        tools
    }

    pub(super) fn has_function(&self, name: &str) -> bool {
        self.functions.contains(name)
    }
}
