//! What is remembered between requests, since the backend keeps no conversation.
//!
//! [`Responses`] keeps answers for clients that go on by their ids. A Chat client can't carry all that
//! the backend gave it: [`Reasoning`] keeps the one thing that gets lost, if its owner asks for it. Both
//! are bounded, and forgotten when the process ends, unless answers are kept on disk. A leaf: it knows
//! no protocol, and what it keeps it does not read.

mod file;
mod reasoning;
mod responses;
mod totals;

pub use file::Unusable;
pub use reasoning::{Lead, Reasoning, Scope};
pub use responses::{Item, Owner, Responses, Stored, Undeleted};
pub use totals::{Day, Report, Row, Sum, Tokens, Totals, UsageStore};

/// What is remembered, apart from answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Whether reasoning is given back to the backend (`chat.reasoning_replay`).
    pub replays_reasoning: bool,
}
