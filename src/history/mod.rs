//! State that outlives a request, since the backend stores no conversations.
//!
//! [`Responses`] stores responses for clients that continue them by id. [`ReplayedItems`] caches items that clients
//! don't send back: reasoning, if this is enabled, and calls that the proxy has run. [`UsageTotals`] counts requests
//! and tokens, and [`CacheStats`] records how much of each conversation came from the backend's cache. [`FileStore`]
//! stores uploaded files and batches. Everything is bounded; only responses, totals and files can be stored on disk.
//! This module knows no protocol and doesn't read the stored data.

mod cache_stats;
mod conversations;
mod file;
mod files;
mod replayed_items;
mod responses;
mod shares;
mod usage;

pub use cache_stats::{
    CacheStats, ChangedPart, ConversationKey, ConversationStats, LowCacheCause, PrefixMatch, RequestFingerprint,
    TurnStats,
};
pub use conversations::{Conversation, is_conversation};
pub use file::DatabaseError;
pub use files::{
    BatchCounts, BatchLock, BatchRecord, BatchStatus, BatchTimes, FileError, FileReader, FileRecord, FileSettings,
    FileStore, InputLine, LineOutcome, LinePosition, LineResult, ListOrder, ListQuery, Listing, NewBatch, NewFile,
    OutputIds, Upload,
};
pub use replayed_items::{PrecedingItems, ReplayScope, ReplayedItems};
pub use responses::{
    ConversationLock, Item, ResponseOwner, ResponseRecord, Responses, RunRecord, StoreError, UnfinishedRuns,
};
pub use usage::{Day, Tokens, UsageReport, UsageRow, UsageStore, UsageSum, UsageTotals};

/// Settings of everything but the response store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether reasoning is sent back to the backend (`chat.reasoning_replay`).
    pub replays_reasoning: bool,
    /// Where usage totals are stored (`usage.store`).
    pub usage_store: UsageStore,
    /// For how many days usage totals are stored (`usage.keep`).
    pub usage_keep_days: u32,
    /// Limits of uploaded files (`files`).
    pub files: FileSettings,
}
