//! What only holds for the lite form.
//!
//! The real one is known to insist on the context of its reasoning. The rest is what the official client
//! never sends in this form, so that it is refused here rather than found out there.

use serde_json::{Map, Value};

use super::{Refusal, tools};

/// The namespaces that a lite request offers, and whatever else its items list.
pub(super) fn check(body: &Map<String, Value>, input: &[Value]) -> Result<(), Refusal> {
    let context = body.get("reasoning").map_or(&Value::Null, |reasoning| &reasoning["context"]);
    if context != "all_turns" {
        let message = format!("Unsupported value: {context} is not supported here. Supported values are: 'all_turns'.");
        return Err(Refusal::invalid(Some("unsupported_value"), "reasoning.context", message));
    }
    for member in ["tools", "instructions"] {
        if body.contains_key(member) {
            return Err(Refusal::rule(format!("Unsupported parameter: {member}")));
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
    let message = format!("Unsupported value: '{param}' has a value that this form of request does not take.");
    Refusal::invalid(Some("unsupported_value"), param, message)
}
