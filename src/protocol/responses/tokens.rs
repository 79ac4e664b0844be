//! How many tokens a request is, before anybody answers it.
//!
//! Its texts are counted as the models do it; nobody outside knows what the backend writes around
//! them, which is a guess. Of a very long request the rest goes by its length. A picture costs what
//! a middling one does and not its bytes, a file goes by its size, and reasoning, which can't be
//! read, by the length of what stands for it.

use serde_json::Value;

use crate::protocol::codex::Request;
use crate::protocol::tokens;

/// How much text is counted exactly.
const EXACT_BYTES: usize = 512 * 1024;
const BYTES_A_TOKEN: usize = 4;
/// What an item costs beside its texts.
const ITEM_TOKENS: usize = 4;
const PICTURE_TOKENS: usize = 1000;
/// A page of a PDF has some thirty thousand bytes and fifteen hundred tokens.
const FILE_BYTES_A_TOKEN: usize = 20;
/// Members that order the conversation, and are no part of what the model reads.
const ORDERING: [&str; 6] = ["type", "id", "call_id", "role", "status", "phase"];

/// What a request holds, to be counted where that may take its time.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    texts: Vec<String>,
    guessed: usize,
}

/// Reads what there is to count.
#[must_use]
pub fn measure(request: &Request<'_>) -> Measured {
    let mut measured = Measured { texts: vec![request.instructions.clone().into_owned()], guessed: 0 };
    for item in &request.input {
        measured.guessed += ITEM_TOKENS;
        measured.walk("", &serde_json::to_value(item).unwrap_or_default());
    }
    // The model reads a schema with its names and its types.
    let tools = request.tools.iter().map(|tool| serde_json::to_string(tool).unwrap_or_default());
    let format = request.beyond.text.get("format").map(|format| format.get().to_owned());
    measured.texts.extend(tools.chain(format));
    measured
}

impl Measured {
    /// The number of tokens. The vocabulary is loaded if it is not yet.
    #[must_use]
    pub fn tokens(&self) -> usize {
        let mut room = EXACT_BYTES;
        let counted = self.texts.iter().map(|text| {
            if text.len() > room {
                return text.len().div_ceil(BYTES_A_TOKEN);
            }
            room -= text.len();
            tokens::count(text)
        });
        counted.sum::<usize>() + self.guessed
    }

    fn walk(&mut self, name: &str, value: &Value) {
        match value {
            Value::Object(members) => {
                let read = members.iter().filter(|(name, _)| !ORDERING.contains(&name.as_str()));
                read.for_each(|(name, value)| self.walk(name, value));
            }
            Value::Array(elements) => elements.iter().for_each(|element| self.walk(name, element)),
            Value::String(text) => self.text(name, text),
            Value::Number(_) | Value::Bool(_) => self.guessed += 1,
            Value::Null => {}
        }
    }

    fn text(&mut self, name: &str, text: &str) {
        match name {
            "image_url" => self.guessed += PICTURE_TOKENS,
            // Four characters are three bytes.
            "file_data" => self.guessed += (text.len() / 4 * 3).div_ceil(FILE_BYTES_A_TOKEN),
            "encrypted_content" => self.guessed += (text.len() / 4 * 3).div_ceil(BYTES_A_TOKEN),
            _ => self.texts.push(text.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{EXACT_BYTES, Measured, PICTURE_TOKENS};

    fn tokens(value: &serde_json::Value) -> usize {
        let mut measured = Measured::default();
        measured.walk("", value);
        measured.tokens()
    }

    #[test]
    fn texts_are_counted_and_what_can_not_be_read_is_guessed() {
        let message = |part| json!({"type": "message", "role": "user", "content": [part]});
        assert_eq!(tokens(&message(json!({"type": "input_text", "text": "hello world"}))), 2);
        let picture = message(json!({"type": "input_image", "image_url": "data:image/png;base64,".repeat(9000)}));
        assert_eq!(tokens(&picture), PICTURE_TOKENS);
        let file = message(json!({"type": "input_file", "file_data": "A".repeat(40_000)}));
        assert_eq!(tokens(&file), 1500);
    }

    #[test]
    fn a_very_long_text_goes_by_its_length() {
        let long = json!({"content": "word ".repeat(EXACT_BYTES)});
        assert_eq!(tokens(&long), (5 * EXACT_BYTES).div_ceil(4));
    }
}
