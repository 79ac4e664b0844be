//! Checks the input items: types, roles, parts, and the pairing of calls with outputs.
//!
//! Every call needs exactly one output that comes after it, and every output a call before it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{Refusal, missing_or_invalid, short_enough, tools};

/// Types of calls, types of their outputs, and the name of the call in error messages.
const PAIRS: [(&[&str], &[&str], &str); 2] = [
    (&["function_call", "local_shell_call"], &["function_call_output", "local_shell_call_output"], "function call"),
    (&["custom_tool_call"], &["custom_tool_call_output"], "custom tool call"),
];
/// Types of items that need no counterpart. Only messages are checked further.
const SINGLES: [&str; 8] = [
    "message",
    "reasoning",
    "web_search_call",
    "image_generation_call",
    "tool_search_call",
    "tool_search_output",
    "compaction_trigger",
    "configuration_update",
];
/// Types of the parts of user messages, developer messages and tool outputs.
const INPUT_PARTS: [&str; 4] = ["input_text", "input_image", "input_file", "input_audio"];
/// Types of the parts of assistant messages.
const OUTPUT_PARTS: [&str; 2] = ["output_text", "refusal"];

/// Checks each item, then the pairing of calls and outputs.
pub(super) fn check(items: &[Value]) -> Result<(), Refusal> {
    if items.is_empty() {
        return Err(Refusal::bad_request("Input must not be empty"));
    }
    for (index, item) in items.iter().enumerate() {
        check_item(item, &format!("input[{index}]"))?;
    }
    PAIRS.into_iter().try_for_each(|(calls, outputs, named)| check_pairs(items, calls, outputs, named))
}

/// Returns whether the messages contain this lowercase text, ignoring case.
pub(super) fn mentions(items: &[Value], word: &str) -> bool {
    let in_text = |text: &Value| text.as_str().is_some_and(|text| text.to_lowercase().contains(word));
    items.iter().filter(|item| kind(item) == "message").any(|item| match &item["content"] {
        Value::Array(parts) => parts.iter().any(|part| in_text(&part["text"])),
        text => in_text(text),
    })
}

/// Returns the type of an item, which messages may omit.
fn kind(item: &Value) -> &str {
    match item.get("type").and_then(Value::as_str) {
        Some(kind) => kind,
        None if item.get("role").is_some() => "message",
        None => "",
    }
}

fn check_item(item: &Value, at: &str) -> Result<(), Refusal> {
    match kind(item) {
        "message" => check_message(item, at),
        "function_call" => {
            require_name(item, at)?;
            require_text(item, at, "arguments")
        }
        "custom_tool_call" => {
            require_name(item, at)?;
            require_text(item, at, "input")
        }
        "compaction" | "compaction_summary" => require_text(item, at, "encrypted_content"),
        "additional_tools" => tools::check_listed(item, at),
        "function_call_output" | "custom_tool_call_output" => check_output(&item["output"], at),
        kind if SINGLES.contains(&kind) || is_paired(kind) => Ok(()),
        other => {
            let message = format!("Invalid value: '{other}'. It is not the type of an input item.");
            Err(Refusal::invalid(Some("invalid_value"), format!("{at}.type"), message))
        }
    }
}

fn is_paired(kind: &str) -> bool {
    PAIRS.iter().any(|(calls, outputs, _)| calls.contains(&kind) || outputs.contains(&kind))
}

fn check_message(item: &Value, at: &str) -> Result<(), Refusal> {
    let allowed: &[&str] = match item["role"].as_str() {
        Some("user" | "developer") => &INPUT_PARTS,
        Some("assistant") => &OUTPUT_PARTS,
        Some("system") => return Err(Refusal::bad_request("System messages are not allowed")),
        _ => {
            let message = "Invalid role. Supported values are: 'assistant', 'developer', and 'user'.";
            return Err(Refusal::invalid(Some("invalid_value"), format!("{at}.role"), message));
        }
    };
    match &item["content"] {
        Value::String(_) => Ok(()),
        Value::Array(parts) => check_parts(parts, &format!("{at}.content"), allowed),
        _ => Err(missing_or_invalid(&format!("{at}.content"))),
    }
}

fn check_parts(parts: &[Value], at: &str, allowed: &[&str]) -> Result<(), Refusal> {
    for (index, part) in parts.iter().enumerate() {
        let at = format!("{at}[{index}]");
        let kind = part["type"].as_str().unwrap_or_default();
        if !allowed.contains(&kind) {
            let message = format!("Invalid value: '{kind}'. Supported values are: {}.", super::quoted(allowed));
            return Err(Refusal::invalid(Some("invalid_value"), format!("{at}.type"), message));
        }
        match kind {
            "input_text" | "output_text" => require_text(part, &at, "text")?,
            "refusal" => require_text(part, &at, "refusal")?,
            "input_image" if part["file_id"].is_null() => check_image(&part["image_url"], &format!("{at}.image_url"))?,
            "input_file" if part["file_data"].is_null() && part["file_url"].is_null() && part["file_id"].is_null() => {
                return Err(missing_or_invalid(&format!("{at}.file_data")));
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_image(address: &Value, at: &str) -> Result<(), Refusal> {
    let address = address.as_str().unwrap_or_default();
    let scheme = address.split("://").next().unwrap_or_default();
    if scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http") {
        return Ok(());
    }
    let data = address.strip_prefix("data:image/").and_then(|rest| rest.split_once(";base64,"));
    match data {
        Some((_, data)) if !data.is_empty() && STANDARD.decode(data).is_ok() => Ok(()),
        Some(_) => Err(Refusal::invalid(
            Some("invalid_value"),
            at,
            "The image data you provided does not represent a valid image.",
        )),
        None => {
            let message = format!("Invalid '{at}'. Expected a valid URL, but got a value with an invalid format.");
            Err(Refusal::invalid(Some("invalid_value"), at, message))
        }
    }
}

fn check_output(output: &Value, at: &str) -> Result<(), Refusal> {
    match output {
        Value::String(_) => Ok(()),
        Value::Array(parts) => check_parts(parts, &format!("{at}.output"), &INPUT_PARTS),
        _ => Err(missing_or_invalid(&format!("{at}.output"))),
    }
}

fn check_pairs(items: &[Value], calls: &[&str], outputs: &[&str], named: &str) -> Result<(), Refusal> {
    let mut open: Vec<&str> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let kind = kind(item);
        let is_call = calls.contains(&kind);
        if !is_call && !outputs.contains(&kind) {
            continue;
        }
        let at = format!("input[{index}].call_id");
        let call_id = item["call_id"].as_str().filter(|id| !id.is_empty()).ok_or_else(|| missing_or_invalid(&at))?;
        short_enough(call_id, &at)?;
        if is_call {
            open.push(call_id);
        } else if let Some(place) = open.iter().position(|id| *id == call_id) {
            open.remove(place);
        } else {
            let message = format!("No tool call found for {named} output with call_id {call_id}.");
            return Err(Refusal::invalid(None, "input", message));
        }
    }
    match open.first() {
        None => Ok(()),
        Some(call_id) => Err(Refusal::invalid(None, "input", format!("No tool output found for {named} {call_id}."))),
    }
}

fn require_name(item: &Value, at: &str) -> Result<(), Refusal> {
    require_text(item, at, "name")?;
    let name = item["name"].as_str().unwrap_or_default();
    if tools::is_name(name) { Ok(()) } else { Err(tools::bad_name(&format!("{at}.name"))) }
}

fn require_text(members: &Value, at: &str, name: &str) -> Result<(), Refusal> {
    if members.get(name).is_some_and(Value::is_string) {
        return Ok(());
    }
    Err(missing_or_invalid(&format!("{at}.{name}")))
}
