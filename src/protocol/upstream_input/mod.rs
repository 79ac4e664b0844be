//! Shared code of the dialects for building the backend's request.
//!
//! [`parameters`] reads the request parameters that several APIs have, [`cache`] chooses the prompt cache key, and
//! [`schema`] repairs the schemas of tools. The other modules convert the conversation. The backend rejects histories
//! with unpaired tool calls, tool names and call ids that other services allow, and empty prompts. Clients can't fix a
//! history after compaction or interruption, so it is repaired here. Everything depends on the request and the settings
//! only: the prompt cache needs the same bytes in every turn.

pub mod base64;
pub mod cache;
pub mod call_matching;
pub mod history;
pub mod instructions;
pub mod names;
pub mod pairing;
pub mod parameters;
pub mod replayed;
pub mod schema;
pub mod tool_set;

pub use history::{CallKind, Conversation, HistoryCall, HistoryEntry};
pub use tool_set::{DeclaredTool, ToolSet};
