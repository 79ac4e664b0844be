//! Trouble on request: words in a prompt that make the backend fail in one of its ways.

use super::prompt::Prompt;

/// Makes a long conversation too long, until it has been compacted: the summary doesn't hold the word.
pub(super) const OVERFLOW_WORD: &str = "demo:overflow";

/// What makes the simulated backend fail, and how: `(word, meaning)`. Where nothing else is
/// said, the word has to stand in the last user message.
pub const FAULT_WORDS: [(&str, &str); 14] = [
    ("demo:usage-limit", "status 429, usage_limit_reached, with the time of the reset"),
    ("demo:rate-limit", "status 429, rate_limit_exceeded, with retry-after"),
    ("demo:unavailable", "status 503, server_is_overloaded, with retry-after"),
    ("demo:overloaded", "status 200, then response.failed with server_is_overloaded before any output"),
    ("demo:context", "status 200, then response.failed with context_length_exceeded"),
    (
        OVERFLOW_WORD,
        "the same, once two tools have returned, except for a request for a summary; stands in any message",
    ),
    ("demo:error", "response.failed with server_error in the middle of the answer"),
    ("demo:cut", "the connection breaks in the middle of the answer"),
    ("demo:end", "the stream ends in the middle of the answer, as if it were whole"),
    ("demo:length", "response.incomplete with max_output_tokens in the middle of the answer"),
    ("demo:refuse", "the answer is a refusal"),
    ("demo:slow", "three words a second"),
    ("demo:connection-limit", "a WebSocket that has served before says that it has reached its age limit"),
    ("demo:lite", "status 400 that asks for the lite form of the request, unless it has it"),
];

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

/// A way to fail.
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
    /// The first fault word that counts for a prompt.
    pub(super) fn find(prompt: &Prompt<'_>) -> Option<Self> {
        let counts = |word: &str, fault: Self| match fault {
            Self::Overflow => prompt.is_too_long,
            _ => prompt.said.contains(word),
        };
        FAULT_WORDS.iter().zip(FAULTS).find(|((word, _), fault)| counts(word, *fault)).map(|(_, fault)| fault)
    }
}
