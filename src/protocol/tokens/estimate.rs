//! Estimates the input tokens of a request.
//!
//! The first [`MAX_TOKENIZED_BYTES`] of text are tokenized, so that an estimate takes bounded time; the rest counts by
//! length. Every image counts as a medium-sized one; files and encrypted reasoning count by size. What the backend adds
//! around the texts is not public: it is estimated as a constant, [`TOKENS_PER_ITEM`].

use super::count;
use crate::protocol::codex::request::{Content, Request};
use crate::protocol::json::raw_object::{RawObject, Value};
use crate::protocol::json::string::RawText;

/// Maximum length of the text that is tokenized, per request.
const MAX_TOKENIZED_BYTES: usize = 512 * 1024;
/// For the text after that, and for decoded encrypted reasoning.
const BYTES_PER_TOKEN: usize = 4;
const TOKENS_PER_ITEM: usize = 4;
const TOKENS_PER_IMAGE: usize = 1000;
/// For decoded files. A PDF page has about 30,000 bytes and 1,500 tokens.
const FILE_BYTES_PER_TOKEN: usize = 20;
/// In a body that can't be translated, a longer string without spaces and line breaks counts as an image.
const MAX_WORD_BYTES: usize = 4096;
/// Members of an item that the model doesn't read.
const UNREAD_MEMBERS: [&str; 6] = ["type", "id", "call_id", "role", "status", "phase"];
/// Values that are nested deeper count as text.
const MAX_DEPTH: usize = 256;

/// Estimates the input tokens of a request. Loads the vocabulary on first use.
#[must_use]
pub fn of_request(request: &Request<'_>) -> u64 {
    let mut estimate = Estimate::default();
    request.visit(&mut |content| estimate.add(content));
    estimate.total()
}

/// Estimates the input tokens of a body that can't be translated.
#[must_use]
pub fn of_json(text: &str) -> u64 {
    let mut estimate = Estimate::default();
    for piece in text.split('"') {
        let is_data = piece.len() > MAX_WORD_BYTES && !piece.contains([' ', '\n']);
        if is_data { estimate.tokens += TOKENS_PER_IMAGE } else { estimate.text(piece) }
    }
    estimate.total()
}

#[derive(Default)]
struct Estimate {
    tokens: usize,
    /// Length of the text that was tokenized so far.
    tokenized_bytes: usize,
}

impl Estimate {
    fn total(&self) -> u64 {
        u64::try_from(self.tokens).unwrap_or(u64::MAX)
    }

    fn add(&mut self, content: Content<'_>) {
        match content {
            Content::Item => self.tokens += TOKENS_PER_ITEM,
            Content::Instructions(text) | Content::CallName(text) => self.text(text),
            Content::Text(text) => self.text(&text.read()),
            Content::Image(_) | Content::FileUrl(_) => self.tokens += TOKENS_PER_IMAGE,
            Content::File(data) => self.file(data.written_bytes()),
            Content::RawItem(json) => match Value::opened(json.get(), MAX_DEPTH) {
                Some(item) => self.value("", &item),
                None => self.text(json.get()),
            },
            // The model reads a schema with its member names.
            Content::Tool(json) | Content::Format(json) => self.text(json.get()),
        }
    }

    fn text(&mut self, text: &str) {
        let left = MAX_TOKENIZED_BYTES.saturating_sub(self.tokenized_bytes);
        let (tokenized, rest) = text.split_at(super::boundary_before(text, left));
        self.tokenized_bytes += tokenized.len();
        self.tokens += count(tokenized) + rest.len().div_ceil(BYTES_PER_TOKEN);
    }

    /// Adds the value of a member called `name`.
    fn value(&mut self, name: &str, value: &Value<'_>) {
        match value {
            Value::Open(open) => {
                let members = open.object().map(RawObject::members).unwrap_or_default();
                for (name, value) in members.iter().filter(|(name, _)| !UNREAD_MEMBERS.contains(&&**name)) {
                    self.value(name, value);
                }
                open.list().unwrap_or_default().iter().for_each(|element| self.value(name, element));
            }
            Value::Raw(raw) => match RawText::from_raw(raw) {
                Some(text) => self.member(name, text),
                None if raw.get().starts_with(['[', '{']) => self.text(raw.get()),
                None => self.tokens += usize::from(!value.is_null()),
            },
        }
    }

    fn member(&mut self, name: &str, text: RawText<'_>) {
        match name {
            "image_url" => self.tokens += TOKENS_PER_IMAGE,
            "file_data" => self.file(text.escaped().len()),
            "encrypted_content" => self.tokens += decoded_bytes(text.escaped().len()).div_ceil(BYTES_PER_TOKEN),
            _ => self.text(&text.decode()),
        }
    }

    fn file(&mut self, base64_bytes: usize) {
        self.tokens += decoded_bytes(base64_bytes).div_ceil(FILE_BYTES_PER_TOKEN);
    }
}

/// Size of base64 data when decoded.
fn decoded_bytes(base64_bytes: usize) -> usize {
    base64_bytes / 4 * 3
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use serde_json::value::RawValue;

    use super::{Estimate, MAX_TOKENIZED_BYTES, TOKENS_PER_IMAGE, of_json};
    use crate::protocol::codex::request::Content;

    #[test]
    fn text_after_the_tokenized_bytes_counts_by_length() {
        let mut estimate = Estimate::default();
        estimate.text("hello world");
        assert_eq!(estimate.total(), 2);
        estimate.tokenized_bytes = MAX_TOKENIZED_BYTES - 1;
        estimate.text(&"é".repeat(1000));
        assert_eq!(
            (estimate.total(), estimate.tokenized_bytes),
            (502, MAX_TOKENIZED_BYTES - 1),
            "characters stay whole"
        );
    }

    #[test]
    fn a_body_that_is_no_request_counts_as_text_without_its_images() {
        assert_eq!(of_json(""), 0);
        let image = format!("{{\"data\":\"{}\"}}", "A".repeat(500_000));
        assert!(of_json(&image).abs_diff(TOKENS_PER_IMAGE as u64) < 10, "{}", of_json(&image));
        assert!(of_json("{\"messages\":\"what is this") > 3);
    }

    #[test]
    fn raw_items_count_their_texts_images_and_files() {
        let tokens = |part: serde_json::Value| {
            let item = json!({"type": "message", "role": "user", "id": "msg_1", "content": [part]}).to_string();
            let mut estimate = Estimate::default();
            estimate.add(Content::RawItem(&RawValue::from_string(item).unwrap()));
            estimate.tokens
        };
        assert_eq!(tokens(json!({"type": "input_text", "text": "hello world"})), 2);
        assert_eq!(tokens(json!({"type": "input_image", "image_url": "data:,".repeat(9000)})), TOKENS_PER_IMAGE);
        assert_eq!(tokens(json!({"type": "input_file", "file_data": "A".repeat(40_000)})), 1500);
        assert_eq!(tokens(json!({"encrypted_content": "A".repeat(400), "x": [true, 1, null, [], {}]})), 75 + 2);
    }
}
