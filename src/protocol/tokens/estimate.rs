//! How many tokens a request is, before anybody answers it.
//!
//! Texts are counted exactly up to [`EXACT_BYTES`]; whoever asks for more waits for no answer, and
//! the rest is guessed from its length. Pictures cost what a middling one does, files go by their
//! size, and so does reasoning, which can't be read. What the backend puts around them is a guess.

use super::count;
use crate::protocol::codex::request::{Item, Output, Part, Request};

/// How much text is counted exactly.
const EXACT_BYTES: usize = 512 * 1024;
const BYTES_A_TOKEN: usize = 4;
/// What a message costs beside its content.
const ITEM_TOKENS: usize = 4;
const PICTURE_TOKENS: usize = 1000;
/// A page of a PDF has some thirty thousand bytes and fifteen hundred tokens.
const FILE_BYTES_A_TOKEN: usize = 20;
/// The longest word of a body that is read as text; a longer one is a picture or a file.
const WORD_BYTES: usize = 4096;

/// An estimate of a request's input tokens.
#[must_use]
pub fn of_request(request: &Request<'_>) -> u64 {
    let mut tally = Tally::default();
    tally.text(&request.instructions);
    request.input.iter().for_each(|item| tally.item(item));
    for tool in &request.tools {
        tally.text(&serde_json::to_string(tool).expect("strings and raw JSON always serialise"));
    }
    if let Some(format) = request.text.as_ref().and_then(|text| text.format.as_ref()) {
        tally.text(format.get());
    }
    tally.total()
}

/// The same for a body of which no request can be made.
#[must_use]
pub fn of_json(text: &str) -> u64 {
    let mut tally = Tally::default();
    for piece in text.split('"') {
        let is_data = piece.len() > WORD_BYTES && !piece.contains([' ', '\n']);
        if is_data { tally.tokens += PICTURE_TOKENS } else { tally.text(piece) }
    }
    tally.total()
}

#[derive(Default)]
struct Tally {
    tokens: usize,
    counted_bytes: usize,
}

impl Tally {
    fn total(&self) -> u64 {
        u64::try_from(self.tokens).unwrap_or(u64::MAX)
    }

    fn text(&mut self, text: &str) {
        let room = EXACT_BYTES.saturating_sub(self.counted_bytes);
        let (exact, rest) = text.split_at(super::boundary_before(text, room));
        self.counted_bytes += exact.len();
        self.tokens += count(exact) + rest.len().div_ceil(BYTES_A_TOKEN);
    }

    fn item(&mut self, item: &Item<'_>) {
        self.tokens += ITEM_TOKENS;
        match item {
            Item::Message { content, .. } => content.iter().for_each(|part| self.part(part)),
            Item::FunctionCall { name, arguments: payload, .. } | Item::CustomToolCall { name, input: payload, .. } => {
                self.text(name);
                self.text(&payload.read());
            }
            Item::FunctionCallOutput { output, .. } | Item::CustomToolCallOutput { output, .. } => match output {
                Output::Text(text) => self.text(&text.read()),
                Output::Parts(parts) => parts.iter().for_each(|part| self.part(part)),
            },
            Item::Raw { json, .. } => self.tokens += json.get().len() / BYTES_A_TOKEN,
        }
    }

    fn part(&mut self, part: &Part<'_>) {
        match part {
            Part::InputText(text) | Part::OutputText(text) => self.text(&text.read()),
            Part::InputImage { .. } | Part::RemoteFile { .. } => self.tokens += PICTURE_TOKENS,
            // Four characters of a data URL are three bytes.
            Part::InputFile { file_data, .. } => {
                self.tokens += (file_data.written_bytes() / 4 * 3).div_ceil(FILE_BYTES_A_TOKEN);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{EXACT_BYTES, PICTURE_TOKENS, Tally, of_json};

    #[test]
    fn a_text_beyond_what_is_counted_exactly_goes_by_its_length() {
        let mut tally = Tally::default();
        tally.text("hello world");
        assert_eq!(tally.total(), 2);
        tally.counted_bytes = EXACT_BYTES - 1;
        tally.text(&"é".repeat(1000));
        assert_eq!((tally.total(), tally.counted_bytes), (502, EXACT_BYTES - 1), "no character is cut");
    }

    #[test]
    fn a_body_that_is_no_request_is_counted_as_text_without_its_pictures() {
        assert_eq!(of_json(""), 0);
        let picture = format!("{{\"data\":\"{}\"}}", "A".repeat(500_000));
        assert!(of_json(&picture).abs_diff(PICTURE_TOKENS as u64) < 10, "{}", of_json(&picture));
        assert!(of_json("{\"messages\":\"what is this") > 3);
    }
}
