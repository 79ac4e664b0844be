//! How much text a request holds, for an estimate of what it costs. Pictures and files don't count.

use crate::protocol::codex::request::{Item, Output, Part, Request};
use crate::protocol::json::input_text::JsonText;

/// The longest text that is read to be counted.
const READ_BYTES: usize = 64 * 1024;

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
            count(name) + count_of(payload)
        }
        Item::FunctionCallOutput { output, .. } | Item::CustomToolCallOutput { output, .. } => match output {
            Output::Text(text) => count_of(text),
            Output::Parts(parts) => parts.iter().map(part).sum(),
        },
        Item::Raw { .. } => 0,
    }
}

fn part(part: &Part<'_>) -> usize {
    match part {
        Part::InputText(text) | Part::OutputText(text) => count_of(text),
        Part::InputImage { .. } | Part::InputFile { .. } | Part::RemoteFile { .. } => 0,
    }
}

/// A long text is not read for an estimate: its escapes count as they are written.
fn count_of(words: &JsonText<'_>) -> usize {
    match words.escaped() {
        Some(escaped) if escaped.len() > READ_BYTES => count(escaped),
        _ => count(&words.read()),
    }
}

fn count(text: &str) -> usize {
    text.chars().count()
}
