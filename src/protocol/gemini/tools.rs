//! Reads the tools of a request: functions that the client runs, and Google search, which becomes the backend's web
//! search.

use std::borrow::Cow;

use super::request::unsupported;
use super::schema::to_json_schema;
use super::spelling::{elements, fields};
use crate::error::ProxyError;
use crate::protocol::Ignored;
use crate::protocol::codex::request::Tool;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::{constant, to_raw};
use crate::protocol::upstream_input::parameters::{Strict, function_with_parameters};
use crate::protocol::upstream_input::{DeclaredTool, schema};

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
                declared.push(DeclaredTool::WebSearch(Tool::raw(Cow::Borrowed(constant(r#"{"type":"web_search"}"#)))));
            }
            _ => return Err(unsupported(&field, "use 'functionDeclarations' or 'googleSearch'")),
        }
    }
    Ok(declared)
}

fn read_function<'a>(function: &Field<'a, '_>, ignored: &mut Ignored) -> Result<DeclaredTool<'a>, ProxyError> {
    let members = function.object()?;
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
    let (name, tool) = function_with_parameters(function, &members, &parameters, Strict::Never)?;
    Ok(DeclaredTool::Function(name, tool))
}
