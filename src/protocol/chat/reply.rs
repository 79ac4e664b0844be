//! The machine that turns upstream events into Chat chunks.

use std::collections::{BTreeMap, BTreeSet};

/// What the request decides about the form of the answer.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// The model as the client named it: echoed in every chunk.
    pub model: String,
    /// `stream_options.include_usage`.
    pub includes_usage: bool,
    /// The client sent `service_tier`, so that it is shown.
    pub shows_service_tier: bool,
    /// How calls are told.
    pub calls: CallStyle,
    /// Tool names that were changed for the backend: upstream's name to the client's.
    pub names: BTreeMap<String, String>,
    /// Custom tools that were declared in the flat form: their calls come back in the function envelope.
    pub flat_custom_tools: BTreeSet<String>,
    /// Where visible reasoning goes.
    pub reasoning: ReasoningField,
    /// Stop sequences, none empty, at most four.
    pub stop: Vec<String>,
    /// Characters of the request, for the estimate of usage that a stop sequence makes necessary.
    pub prompt_characters: usize,
}

/// How calls are told to the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallStyle {
    /// `tool_calls`.
    #[default]
    Tools,
    /// `function_call`, for a request with `functions`.
    Legacy,
}

/// Where visible reasoning goes (`chat.reasoning_field`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReasoningField {
    /// `reasoning_content`, which most clients read.
    #[default]
    ReasoningContent,
    /// `reasoning`.
    Reasoning,
    /// Both members.
    Both,
    /// Into the text, between `<think>` and `</think>`.
    ThinkTags,
    /// Nowhere.
    None,
}

/// The state of one answer.
#[derive(Debug)]
pub struct ChatReply {
    shape: Shape,
}

impl ChatReply {
    /// A machine for an answer of this shape.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        Self { shape }
    }
}
