//! Settings of the Chat Completions dialect.

use super::ReasoningField;
use crate::protocol::CommonOptions;
use crate::protocol::tokens::TokenLimit;

/// The settings that translation needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// System prompt for requests without one (`default_instructions`).
    pub default_instructions: String,
    /// The member of the reply that holds visible reasoning (`chat.reasoning_field`).
    pub reasoning: ReasoningField,
    /// How `max_tokens` and its other names are handled (`chat.token_limit`).
    pub token_limit: TokenLimit,
}

impl Options {
    /// The settings that the other dialects share with Chat.
    #[must_use]
    pub fn common(&self) -> CommonOptions {
        CommonOptions { default_instructions: self.default_instructions.clone(), token_limit: self.token_limit }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            default_instructions: "You are a helpful assistant.".to_owned(),
            reasoning: ReasoningField::default(),
            token_limit: TokenLimit::default(),
        }
    }
}
