//! JSON text as other programs write it, without white space between its tokens; and how JSON is
//! asked for.

use std::borrow::Cow;

/// What asks for JSON where the conversation doesn't: in JSON mode the backend insists on the word,
/// and looks for it in the input, not in the instructions (case `chat/09-json-object`).
pub const PLEA: &str = "Respond with a single valid JSON object.";

/// Whether a text has the word that the backend looks for in JSON mode.
#[must_use]
pub fn is_asked_for(text: &str) -> bool {
    text.as_bytes().windows(4).any(|word| word.eq_ignore_ascii_case(b"json"))
}

/// A JSON text without the white space between its tokens. Members keep their order and numbers
/// their digits. The text has to be valid JSON.
#[must_use]
pub fn compact(json: &str) -> Cow<'_, str> {
    if !json.contains([' ', '\n', '\r', '\t']) {
        return Cow::Borrowed(json);
    }
    let mut place = Place::Between;
    let kept = json.chars().filter(|&c| {
        let before = place;
        place = place.after(c);
        before != Place::Between || !c.is_ascii_whitespace()
    });
    Cow::Owned(kept.collect())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Between,
    InString,
    AfterBackslash,
}

impl Place {
    fn after(self, c: char) -> Self {
        match (self, c) {
            (Self::Between, '"') | (Self::AfterBackslash, _) => Self::InString,
            (Self::InString, '"') => Self::Between,
            (Self::InString, '\\') => Self::AfterBackslash,
            (same, _) => same,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::compact;

    #[test]
    fn only_white_space_between_tokens_goes() {
        let json = "{ \"a b\" : [ 1.0e2 ,\n\t\"x \\\" y\\\\\" ] }";
        assert_eq!(compact(json), r#"{"a b":[1.0e2,"x \" y\\"]}"#);
        assert!(matches!(compact("{}"), std::borrow::Cow::Borrowed("{}")));
    }
}
