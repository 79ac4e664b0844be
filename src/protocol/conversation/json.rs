//! JSON text as other programs write it: without white space between its tokens.

use std::borrow::Cow;

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
