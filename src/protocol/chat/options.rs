//! The settings of Chat Completions.

use super::ReasoningField;
use crate::protocol::tokens::TokenLimit;

/// How Chat requests are translated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The system prompt of a request that brings none (`default_instructions`).
    pub default_instructions: String,
    /// Where visible reasoning goes (`chat.reasoning_field`).
    pub reasoning: ReasoningField,
    /// What becomes of `max_tokens` and its newer names (`chat.token_limit`).
    pub token_limit: TokenLimit,
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
