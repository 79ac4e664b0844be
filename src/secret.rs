//! A string that must not be seen.
//!
//! Tokens are [`Secret`] from the moment they are read to the moment they leave in a header or a
//! file. There is no `Display`, no `Serialize` and no comparison, so that a secret can't reach a
//! log, an error message or an answer by accident; the one door is [`Secret::expose`].

use std::fmt;

/// A token or key whose text never appears in logs, errors or debug output.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text that must not be shown.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Call it only where the bytes leave: a header, a form, the store.
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
