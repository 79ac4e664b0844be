//! A string that is never printed.
//!
//! Tokens are [`Secret`] from the time they are read until they are written to a header or a file. There is no
//! `Display`, `Serialize` or comparison, so that a secret doesn't get into a log, an error message or a response by
//! accident. Only [`Secret::expose`] returns the text.

use std::fmt;

/// A token or key whose text never appears in logs, errors or debug output.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text. Call this only to write it to a header, a form or the store.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn debug_output_hides_the_text() {
        assert_eq!(format!("{:?}", Secret::new("rt_private")), "Secret(..)");
    }
}
