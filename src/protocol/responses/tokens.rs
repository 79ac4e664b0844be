//! How many tokens a request is, roughly: a token is taken for four characters.
//!
//! What stands in data URLs is not counted: a picture costs what its size says, not its bytes.

use crate::protocol::codex;

const CHARACTERS_A_TOKEN: usize = 4;
const DATA_URL: &str = "\"data:";

/// An estimate of a request's input tokens.
#[must_use]
pub fn estimate(request: &codex::Request<'_>) -> usize {
    let format = request.beyond.text.get("format").map(serde_json::value::RawValue::get).unwrap_or_default();
    let input = serde_json::to_string(&request.input).expect("strings and raw JSON always serialise");
    let tools = serde_json::to_string(&request.tools).expect("strings and raw JSON always serialise");
    let characters: usize = [&*request.instructions, &input, &tools, format].into_iter().map(characters).sum();
    characters.div_ceil(CHARACTERS_A_TOKEN)
}

fn characters(text: &str) -> usize {
    let mut pieces = text.split(DATA_URL);
    let first = pieces.next().unwrap_or_default().chars().count();
    let after_urls = pieces.map(|piece| piece.split_once('"').map_or(0, |(_, rest)| rest.chars().count()));
    first + after_urls.sum::<usize>()
}
