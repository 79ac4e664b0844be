//! Removal of the white space between the tokens of a JSON document.

use std::borrow::Cow;

/// Returns a JSON document without the white space between its tokens. Members keep their order and numbers their
/// digits. The document must be valid JSON.
#[must_use]
pub fn compact(json: &str) -> Cow<'_, str> {
    if !json.contains([' ', '\n', '\r', '\t']) {
        return Cow::Borrowed(json);
    }
    let mut state = ScanState::BetweenTokens;
    let kept = json.chars().filter(|&c| {
        let before = state;
        state = state.after(c);
        before != ScanState::BetweenTokens || !c.is_ascii_whitespace()
    });
    Cow::Owned(kept.collect())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ScanState {
    BetweenTokens,
    InString,
    AfterBackslash,
}

impl ScanState {
    fn after(self, c: char) -> Self {
        match (self, c) {
            (Self::BetweenTokens, '"') | (Self::AfterBackslash, _) => Self::InString,
            (Self::InString, '"') => Self::BetweenTokens,
            (Self::InString, '\\') => Self::AfterBackslash,
            (same, _) => same,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::compact;

    #[test]
    fn only_white_space_between_tokens_is_removed() {
        let json = "{ \"a b\" : [ 1.0e2 ,\n\t\"x \\\" y\\\\\" ] }";
        assert_eq!(compact(json), r#"{"a b":[1.0e2,"x \" y\\"]}"#);
        assert!(matches!(compact("{}"), std::borrow::Cow::Borrowed("{}")));
    }
}
