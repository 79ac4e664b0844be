//! Rejects invalid requests with the error messages of the real backend.
//!
//! Like the real backend, it accepts only listed members. A request that passes can be answered, unless a fault word in
//! the prompt prevents that.

mod input;
mod lite;
mod tools;

use serde_json::{Map, Value};

use super::catalogue;
use crate::demo::json_response::Refusal;
use crate::protocol::codex::WireFormat;

/// The members that a body may have.
const MEMBERS: [&str; 15] = [
    "model",
    "instructions",
    "input",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning",
    "store",
    "stream",
    "stream_options",
    "include",
    "service_tier",
    "prompt_cache_key",
    "text",
    "client_metadata",
];
const EFFORTS: [&str; 7] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];
const SUMMARIES: [&str; 3] = ["auto", "concise", "detailed"];
const VERBOSITIES: [&str; 3] = ["low", "medium", "high"];
/// Maximum length of call ids and of `prompt_cache_key`.
const MAX_KEY_CHARACTERS: usize = 64;

/// Checks a request body by the rules for this form. Returns its members.
pub(super) fn check(body: &Value, format: WireFormat) -> Result<&Map<String, Value>, Refusal> {
    let body = body.as_object().ok_or_else(|| Refusal::bad_request("Request body must be a JSON object"))?;
    if let Some(name) = body.keys().find(|name| !MEMBERS.contains(&name.as_str())) {
        return Err(Refusal::bad_request(format!("Unsupported parameter: {name}")));
    }
    check_forced(body, format)?;
    let effort = check_reasoning(body)?;
    check_model(body, effort)?;
    check_options(body)?;
    tools::check(body)?;
    let input =
        body.get("input").and_then(Value::as_array).ok_or_else(|| Refusal::bad_request("Input must be a list"))?;
    input::check(input)?;
    if format != WireFormat::Classic {
        lite::check(body, input)?;
    }
    check_text(body, input)?;
    Ok(body)
}

/// Checks the members that must have one certain value.
fn check_forced(body: &Map<String, Value>, format: WireFormat) -> Result<(), Refusal> {
    if format == WireFormat::Classic && !body.get("instructions").is_some_and(Value::is_string) {
        return Err(Refusal::bad_request("Instructions are required"));
    }
    if body.get("store") != Some(&Value::Bool(false)) {
        return Err(Refusal::bad_request("Store must be set to false"));
    }
    if body.get("stream") != Some(&Value::Bool(true)) {
        return Err(Refusal::bad_request("Stream must be set to true"));
    }
    Ok(())
}

/// Checks `reasoning`, and returns the effort if it is a name.
fn check_reasoning(body: &Map<String, Value>) -> Result<Option<&str>, Refusal> {
    let Some(reasoning) = present(body, "reasoning") else { return Ok(None) };
    let members = reasoning.as_object().ok_or_else(|| wrong_type("reasoning", "an object"))?;
    if let Some(name) = members.keys().find(|name| !["effort", "summary", "context"].contains(&name.as_str())) {
        return Err(unknown(format!("reasoning.{name}")));
    }
    one_of(members, "summary", "reasoning.summary", &SUMMARIES)?;
    match present(members, "effort") {
        None | Some(Value::Number(_)) => Ok(None),
        Some(_) => one_of(members, "effort", "reasoning.effort", &EFFORTS),
    }
}

fn check_model(body: &Map<String, Value>, effort: Option<&str>) -> Result<(), Refusal> {
    let Some(model) = body.get("model").and_then(Value::as_str) else {
        return Err(Refusal::bad_request("Model is required"));
    };
    let Some(efforts) = catalogue::efforts(model) else {
        // A model newer than the catalog: accepted, as the real backend may know it.
        if model.starts_with("gpt-") {
            return Ok(());
        }
        let message = format!("The '{model}' model is not supported when using Codex with a ChatGPT account.");
        return Err(Refusal::bad_request(message));
    };
    match effort {
        Some(effort) if !efforts.contains(&effort) => Err(unsupported_effort(model, effort, &efforts)),
        _ => Ok(()),
    }
}

fn unsupported_effort(model: &str, effort: &str, efforts: &[&str]) -> Refusal {
    let message = format!(
        "Unsupported value: '{effort}' is not supported with the '{model}' model. Supported values are: {}.",
        quoted(efforts)
    );
    Refusal::invalid(Some("unsupported_value"), "reasoning.effort", message)
}

fn check_options(body: &Map<String, Value>) -> Result<(), Refusal> {
    if present(body, "service_tier").is_some_and(|tier| tier != "priority") {
        return Err(Refusal::bad_request("Unsupported parameter: service_tier"));
    }
    if let Some(options) = body.get("stream_options").and_then(Value::as_object)
        && let Some(name) = options.keys().find(|name| *name != "reasoning_summary_delivery")
    {
        return Err(Refusal::bad_request(format!("Unsupported parameter: stream_options.{name}")));
    }
    if present(body, "parallel_tool_calls").is_some_and(|value| !value.is_boolean()) {
        return Err(wrong_type("parallel_tool_calls", "a boolean"));
    }
    if present(body, "include").is_some_and(|value| !value.is_array()) {
        return Err(wrong_type("include", "an array of strings"));
    }
    match present(body, "prompt_cache_key").map(Value::as_str) {
        None => Ok(()),
        Some(Some(key)) => short_enough(key, "prompt_cache_key"),
        Some(None) => Err(wrong_type("prompt_cache_key", "a string")),
    }
}

fn check_text(body: &Map<String, Value>, input: &[Value]) -> Result<(), Refusal> {
    let Some(text) = present(body, "text") else { return Ok(()) };
    let text = text.as_object().ok_or_else(|| wrong_type("text", "an object"))?;
    if let Some(name) = text.keys().find(|name| !["verbosity", "format"].contains(&name.as_str())) {
        return Err(unknown(format!("text.{name}")));
    }
    one_of(text, "verbosity", "text.verbosity", &VERBOSITIES)?;
    let Some(format) = present(text, "format") else { return Ok(()) };
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(()),
        Some("json_object") if input::mentions(input, "json") => Ok(()),
        Some("json_object") => Err(Refusal::invalid(
            None,
            "input",
            "Response input messages must contain the word 'json' in some form to use 'text.format' of type 'json_object'.",
        )),
        Some("json_schema") => check_schema_format(format),
        _ => Err(Refusal::invalid(
            Some("invalid_value"),
            "text.format.type",
            "Invalid value. Supported values are: 'json_object', 'json_schema', and 'text'.",
        )),
    }
}

fn check_schema_format(format: &Value) -> Result<(), Refusal> {
    if !format.get("name").and_then(Value::as_str).is_some_and(tools::is_name) {
        return Err(missing_or_invalid("text.format.name"));
    }
    if !format.get("schema").is_some_and(Value::is_object) {
        return Err(missing_or_invalid("text.format.schema"));
    }
    Ok(())
}

/// Returns a member that is present and not null.
fn present<'v>(members: &'v Map<String, Value>, name: &str) -> Option<&'v Value> {
    members.get(name).filter(|value| !value.is_null())
}

/// Returns a member that must be one of the allowed texts, if it is present.
fn one_of<'v>(
    members: &'v Map<String, Value>,
    name: &str,
    param: &str,
    allowed: &[&str],
) -> Result<Option<&'v str>, Refusal> {
    let Some(value) = present(members, name) else { return Ok(None) };
    match value.as_str() {
        Some(text) if allowed.contains(&text) => Ok(Some(text)),
        _ => {
            let message = format!("Invalid value: {value}. Supported values are: {}.", quoted(allowed));
            Err(Refusal::invalid(Some("invalid_value"), param, message))
        }
    }
}

fn short_enough(text: &str, param: &str) -> Result<(), Refusal> {
    let length = text.chars().count();
    if length <= MAX_KEY_CHARACTERS {
        return Ok(());
    }
    let message = format!(
        "Invalid '{param}': string too long. Expected a string with maximum length {MAX_KEY_CHARACTERS}, but got a string with length {length} instead."
    );
    Err(Refusal::invalid(Some("string_above_max_length"), param, message))
}

fn wrong_type(param: &str, wanted: &str) -> Refusal {
    Refusal::invalid(Some("invalid_type"), param, format!("Invalid type for '{param}': expected {wanted}."))
}

fn missing_or_invalid(param: &str) -> Refusal {
    Refusal::invalid(Some("missing_required_parameter"), param, format!("Missing or invalid parameter: '{param}'."))
}

fn unknown(param: String) -> Refusal {
    let message = format!("Unknown parameter: '{param}'.");
    Refusal::invalid(Some("unknown_parameter"), param, message)
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
