//! Faults on request: words in a prompt that make the simulated backend fail.

use super::prompt::Prompt;

/// Makes a conversation exceed the context window until the client compacts it, because the summary doesn't contain the
/// word.
pub(super) const OVERFLOW_WORD: &str = "demo:overflow";

/// The fault words and their effects: `(word, effect)`. Unless the effect says otherwise, the word must be in the
/// last user message.
pub const FAULT_WORDS: [(&str, &str); 14] = [
    ("demo:usage-limit", "status 429, usage_limit_reached, with the time of the reset"),
    ("demo:rate-limit", "status 429, rate_limit_exceeded, with retry-after"),
    ("demo:unavailable", "status 503, server_is_overloaded, with retry-after"),
    ("demo:overloaded", "status 200, then response.failed with server_is_overloaded before any output"),
    ("demo:context", "status 200, then response.failed with context_length_exceeded"),
    (OVERFLOW_WORD, "the same after two tool results, except for summary requests; the word may be in any message"),
    ("demo:error", "response.failed with server_error in the middle of the response"),
    ("demo:cut", "the connection breaks in the middle of the response"),
    ("demo:end", "the stream ends in the middle of the response without a terminal event"),
    ("demo:length", "response.incomplete with max_output_tokens in the middle of the response"),
    ("demo:refuse", "the response is a refusal"),
    ("demo:slow", "three words per second"),
    ("demo:connection-limit", "a WebSocket that has been used before reports its age limit"),
    ("demo:lite", "status 400 that requires the lite form, unless the request has it"),
];

/// The faults, in the order of [`FAULT_WORDS`].
const FAULTS: [Fault; 14] = [
    Fault::UsageLimit,
    Fault::RateLimit,
    Fault::Unavailable,
    Fault::Overloaded,
    Fault::Context,
    Fault::Overflow,
    Fault::Error,
    Fault::Cut,
    Fault::End,
    Fault::Length,
    Fault::Refuse,
    Fault::Slow,
    Fault::ConnectionLimit,
    Fault::Lite,
];

/// A fault. [`FAULT_WORDS`] has the effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    UsageLimit,
    RateLimit,
    Unavailable,
    Overloaded,
    Context,
    Overflow,
    Error,
    Cut,
    End,
    Length,
    Refuse,
    Slow,
    ConnectionLimit,
    Lite,
}

impl Fault {
    /// Returns the fault that a prompt causes: if it contains several words, that of the first in [`FAULT_WORDS`].
    pub(super) fn find(prompt: &Prompt<'_>) -> Option<Self> {
        let applies = |word: &str, fault: Self| match fault {
            Self::Overflow => prompt.is_too_long,
            _ => prompt.user_text.contains(word),
        };
        FAULT_WORDS.iter().zip(FAULTS).find(|((word, _), fault)| applies(word, *fault)).map(|(_, fault)| fault)
    }
}
