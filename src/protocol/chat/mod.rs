//! Chat Completions.

pub mod reply;

pub use reply::{ChatReply, ReasoningField, Shape};

/// The settings of this dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Sent when the client gives no instructions (`default_instructions`).
    pub default_instructions: String,
    /// Where visible reasoning goes (`chat.reasoning_field`).
    pub reasoning: ReasoningField,
}
