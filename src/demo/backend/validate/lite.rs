//! Checks the rules of the lite form.
//!
//! The real backend is known to require `reasoning.context`. The other rules are assumptions: they reject what the
//! official client never sends in this form.

use serde_json::{Map, Value};

use super::{Refusal, tools};

/// Checks a request in the lite form; `input` has been checked already.
pub(super) fn check(body: &Map<String, Value>, input: &[Value]) -> Result<(), Refusal> {
    let context = body.get("reasoning").map_or(&Value::Null, |reasoning| &reasoning["context"]);
    if context != "all_turns" {
        let message = format!("Unsupported value: {context} is not supported here. Supported values are: 'all_turns'.");
        return Err(Refusal::invalid(Some("unsupported_value"), "reasoning.context", message));
    }
    for member in ["tools", "instructions"] {
        if body.contains_key(member) {
            return Err(Refusal::bad_request(format!("Unsupported parameter: {member}")));
        }
    }
    if body.get("parallel_tool_calls").is_some_and(|value| value != false) {
        return Err(unsupported("parallel_tool_calls"));
    }
    if body.get("tool_choice").is_some_and(|choice| choice != "auto") {
        return Err(unsupported("tool_choice"));
    }
    let listed = input.iter().enumerate().flat_map(|(index, item)| {
        let tools = item["tools"].as_array().filter(|_| item["type"] == "additional_tools");
        tools.into_iter().flatten().map(move |tool| (index, tool))
    });
    for (index, tool) in listed {
        if tools::is_hosted(tool) {
            return Err(unsupported(&format!("input[{index}].tools")));
        }
    }
    Ok(())
}

fn unsupported(param: &str) -> Refusal {
    let message = format!("Unsupported value: '{param}' has a value that this form of request does not accept.");
    Refusal::invalid(Some("unsupported_value"), param, message)
}
