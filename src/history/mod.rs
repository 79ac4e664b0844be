//! What is remembered between requests: nothing, unless its owner asks for it.
//!
//! The backend keeps no conversation, and a Chat client can't carry all that the backend gave it.
//! [`Reasoning`] keeps the one thing that gets lost. It is in memory only, bounded, and forgotten
//! when the process ends. A leaf: it knows no protocol, and what it keeps it does not read.

mod reasoning;

pub use reasoning::{Lead, Reasoning, Scope};

/// What is remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Whether reasoning is given back to the backend (`chat.reasoning_replay`).
    pub replays_reasoning: bool,
}
