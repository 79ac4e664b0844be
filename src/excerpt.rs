//! Shortens text from a client or the backend for logs, metrics and lists: it can be as long as a request.

/// Maximum length of a name, such as that of a model or a client.
pub const NAME_CHARACTERS: usize = 100;
/// Maximum length of a message.
pub const MESSAGE_CHARACTERS: usize = 500;

/// Returns the first characters of a text.
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
