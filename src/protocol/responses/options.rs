//! The settings of Responses.

/// How Responses requests are translated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The system prompt of a request that brings none (`default_instructions`).
    pub default_instructions: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { default_instructions: "You are a helpful assistant.".to_owned() }
    }
}
