//! Checks `tools` and `tool_choice`.
//!
//! Names must match the backend's pattern, schemas must describe objects, and a choice must name a listed tool.

use serde_json::{Map, Value};

use super::{Refusal, missing_or_invalid, present, wrong_type};

const MAX_NAME_CHARACTERS: usize = 64;
/// Types of the tools that the backend runs, or the client (`tool_search` with `execution: client`).
const HOSTED: [&str; 5] = ["web_search", "image_generation", "tool_search", "local_shell", "shell"];

/// Checks `tools` and `tool_choice`.
pub(super) fn check(body: &Map<String, Value>) -> Result<(), Refusal> {
    let tools = match present(body, "tools") {
        None => &[],
        Some(Value::Array(tools)) => tools.as_slice(),
        Some(_) => return Err(wrong_type("tools", "an array of objects")),
    };
    for (index, tool) in tools.iter().enumerate() {
        check_tool(tool, &format!("tools[{index}]"))?;
    }
    present(body, "tool_choice").map_or(Ok(()), |choice| check_choice(choice, tools))
}

/// Returns whether the backend runs a tool: it has a type of its own, and doesn't say that the client runs it.
pub(super) fn is_hosted(tool: &Value) -> bool {
    tool["type"].as_str().is_some_and(|kind| HOSTED.contains(&kind)) && tool["execution"] != "client"
}

/// Checks the tools in an `additional_tools` item.
pub(super) fn check_listed(item: &Value, at: &str) -> Result<(), Refusal> {
    let Some(tools) = item["tools"].as_array() else { return Err(missing_or_invalid(&format!("{at}.tools"))) };
    tools.iter().enumerate().try_for_each(|(index, tool)| check_tool(tool, &format!("{at}.tools[{index}]")))
}

/// Returns whether text is a valid name of a tool or a format.
pub(super) fn is_name(text: &str) -> bool {
    let fits = |character: char| character.is_ascii_alphanumeric() || character == '_' || character == '-';
    !text.is_empty() && text.len() <= MAX_NAME_CHARACTERS && text.chars().all(fits)
}

/// The error for an invalid name.
pub(super) fn bad_name(param: &str) -> Refusal {
    let message = format!(
        "Invalid '{param}': expected 1 to {MAX_NAME_CHARACTERS} characters that match the pattern '^[a-zA-Z0-9_-]+$'."
    );
    Refusal::invalid(Some("invalid_value"), param, message)
}

fn check_tool(tool: &Value, at: &str) -> Result<(), Refusal> {
    match tool["type"].as_str().unwrap_or_default() {
        "function" => {
            check_name(tool, at)?;
            check_parameters(tool, at)
        }
        "custom" => check_name(tool, at),
        "namespace" => {
            check_name(tool, at)?;
            let Some(inner) = tool["tools"].as_array() else { return Err(missing_or_invalid(&format!("{at}.tools"))) };
            let mut inner = inner.iter().enumerate();
            inner.try_for_each(|(index, tool)| check_tool(tool, &format!("{at}.tools[{index}]")))
        }
        kind if HOSTED.contains(&kind) => Ok(()),
        kind => {
            let message = format!("Unsupported tool type: '{kind}'.");
            Err(Refusal::invalid(Some("invalid_value"), format!("{at}.type"), message))
        }
    }
}

fn check_name(tool: &Value, at: &str) -> Result<(), Refusal> {
    let param = format!("{at}.name");
    match tool["name"].as_str() {
        None => Err(missing_or_invalid(&param)),
        Some(name) if is_name(name) => Ok(()),
        Some(_) => Err(bad_name(&param)),
    }
}

fn check_parameters(tool: &Value, at: &str) -> Result<(), Refusal> {
    let schema = match tool.get("parameters") {
        None | Some(Value::Null) => return Ok(()),
        Some(schema) => schema,
    };
    let kind = schema.get("type").cloned().unwrap_or(Value::Null);
    // A composed schema may have its type in its parts.
    let is_composed = ["anyOf", "oneOf", "allOf", "$ref"].iter().any(|word| schema.get(word).is_some());
    if kind == "object" || (kind.is_null() && is_composed) {
        return Ok(());
    }
    let name = tool["name"].as_str().unwrap_or_default();
    let found = kind.as_str().unwrap_or("None");
    let message = format!(
        "Invalid schema for function '{name}': schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{found}\"'."
    );
    Err(Refusal::invalid(Some("invalid_function_parameters"), format!("{at}.parameters"), message))
}

fn check_choice(choice: &Value, tools: &[Value]) -> Result<(), Refusal> {
    match choice {
        Value::String(mode) if mode == "auto" || mode == "none" => Ok(()),
        Value::String(mode) if mode == "required" && tools.is_empty() => Err(Refusal::invalid(
            None,
            "tool_choice",
            "Tool choice 'required' must be specified with 'tools' parameter.",
        )),
        Value::String(mode) if mode == "required" => Ok(()),
        Value::Object(_) if choice["type"] == "allowed_tools" => {
            let chosen = choice["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
            chosen.iter().try_for_each(|chosen| check_chosen(chosen, tools))
        }
        Value::Object(_) => check_chosen(choice, tools),
        _ => {
            let message = format!("Invalid value: {choice}. Supported values are: 'none', 'auto', and 'required'.");
            Err(Refusal::invalid(Some("invalid_value"), "tool_choice", message))
        }
    }
}

fn check_chosen(chosen: &Value, tools: &[Value]) -> Result<(), Refusal> {
    let is_it =
        |tool: &Value| tool["type"] == chosen["type"] && (chosen["name"].is_null() || tool["name"] == chosen["name"]);
    let found =
        tools.iter().any(|tool| is_it(tool) || tool["tools"].as_array().is_some_and(|inner| inner.iter().any(is_it)));
    if found {
        return Ok(());
    }
    let name = chosen["name"].as_str().or(chosen["type"].as_str()).unwrap_or_default();
    let message = format!("Tool choice '{name}' not found in 'tools' parameter.");
    Err(Refusal::invalid(None, "tool_choice", message))
}
