//! Shortens text that a client or the backend chose, for logs, metrics and lists.
//!
//! Such text can be as long as a request. Only its beginning is of use to a reader.

/// Longest name of a model, a client or the like.
pub const NAME_CHARACTERS: usize = 100;
/// Longest message.
pub const MESSAGE_CHARACTERS: usize = 500;

/// The first characters of a text.
#[must_use]
pub fn excerpt(text: &str, max_characters: usize) -> &str {
    text.char_indices().nth(max_characters).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::excerpt;

    #[test]
    fn a_text_is_cut_between_characters() {
        for (text, shortened) in [("", ""), ("äöü", "äöü"), ("äöüß", "äöü"), ("abcdef", "abc")] {
            assert_eq!(excerpt(text, 3), shortened);
        }
    }
}
