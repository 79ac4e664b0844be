//! How much text a request holds, for an estimate of what it costs. Pictures and files don't count.

use crate::protocol::codex::request::{Item, Output, Part, Request};

/// Characters of everything in a request that the model reads as text.
#[must_use]
pub fn characters(request: &Request<'_>) -> usize {
    let tools = serde_json::to_string(&request.tools).expect("strings and raw JSON always serialise");
    let input: usize = request.input.iter().map(item).sum();
    count(&request.instructions) + count(&tools) + input
}

fn item(item: &Item<'_>) -> usize {
    match item {
        Item::Message { content, .. } => content.iter().map(part).sum(),
        Item::FunctionCall { name, arguments: payload, .. } | Item::CustomToolCall { name, input: payload, .. } => {
            count(name) + count(&payload.read())
        }
        Item::FunctionCallOutput { output, .. } | Item::CustomToolCallOutput { output, .. } => match output {
            Output::Text(text) => count(&text.read()),
            Output::Parts(parts) => parts.iter().map(part).sum(),
        },
        Item::Raw { .. } => 0,
    }
}

fn part(part: &Part<'_>) -> usize {
    match part {
        Part::InputText(text) | Part::OutputText(text) => count(&text.read()),
        Part::InputImage { .. } | Part::InputFile { .. } | Part::RemoteFile { .. } => 0,
    }
}

fn count(text: &str) -> usize {
    text.chars().count()
}
