//! Trouble on request: words in a prompt that make the backend fail in one of its ways.

/// What makes the simulated backend fail, and how: `(word, meaning)`. The word has to stand in the last user message.
pub const FAULT_WORDS: [(&str, &str); 12] = [
    ("demo:usage-limit", "status 429, usage_limit_reached, with the time of the reset"),
    ("demo:rate-limit", "status 429, rate_limit_exceeded, with retry-after"),
    ("demo:unavailable", "status 503, server_is_overloaded, with retry-after"),
    ("demo:overloaded", "status 200, then response.failed with server_is_overloaded before any output"),
    ("demo:context", "status 200, then response.failed with context_length_exceeded"),
    ("demo:error", "response.failed with server_error in the middle of the answer"),
    ("demo:cut", "the connection breaks in the middle of the answer"),
    ("demo:end", "the stream ends in the middle of the answer, as if it were whole"),
    ("demo:length", "response.incomplete with max_output_tokens in the middle of the answer"),
    ("demo:refuse", "the answer is a refusal"),
    ("demo:slow", "three words a second"),
    ("demo:lite", "status 400 that asks for the lite form of the request, unless it has it"),
];

const FAULTS: [Fault; 12] = [
    Fault::UsageLimit,
    Fault::RateLimit,
    Fault::Unavailable,
    Fault::Overloaded,
    Fault::Context,
    Fault::Error,
    Fault::Cut,
    Fault::End,
    Fault::Length,
    Fault::Refuse,
    Fault::Slow,
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
    Error,
    Cut,
    End,
    Length,
    Refuse,
    Slow,
    Lite,
}

impl Fault {
    /// The first fault word that stands in a text.
    pub(super) fn find(text: &str) -> Option<Self> {
        let mut pairs = FAULT_WORDS.iter().zip(FAULTS);
        pairs.find(|((word, _), _)| text.contains(word)).map(|(_, fault)| fault)
    }
}
