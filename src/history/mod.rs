//! What is remembered between requests, since the backend keeps no conversation.
//!
//! [`Responses`] keeps answers for clients that go on by their ids. A Chat client can't carry all that
//! the backend gave it: [`Reasoning`] keeps the one thing that gets lost, if its owner asks for it. Both
//! are bounded, and forgotten when the process ends, unless answers are kept on disk. What was used is
//! added up in [`Totals`], and [`Conversations`] says why little of it came from the cache. A leaf: it
//! knows no protocol, and what it keeps it does not read.

mod cache_stats;
mod file;
mod reasoning;
mod responses;
mod shares;
mod usage;

pub use cache_stats::{Cause, Change, Conversation, Conversations, Fingerprint, Prefix, Subject, Turn};
pub use file::Unusable;
pub use reasoning::{Lead, Reasoning, Scope};
pub use responses::{Item, Owner, Responses, Stored, Undeleted};
pub use usage::{Day, Report, Row, Sum, Tokens, Totals, UsageStore};

/// What is remembered, apart from answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether reasoning is given back to the backend (`chat.reasoning_replay`).
    pub replays_reasoning: bool,
    /// Where totals of what was used are kept (`usage.store`).
    pub usage_store: UsageStore,
    /// For how many days (`usage.keep`).
    pub usage_keep_days: u32,
}
