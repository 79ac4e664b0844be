//! What Chat, Messages and Ollama share: the rules between a client's history and the backend's input.
//!
//! The backend refuses a history whose calls and outputs don't pair up, tool names and call ids of
//! a form that other services allow, and a prompt that is empty. Clients can't mend what
//! compaction and interruption did to their history, so it is mended here. Everything is a pure
//! function of the request: anything else would cost the prompt cache on every turn.

pub mod base64;
pub mod cache;
pub mod call_matching;
pub mod format;
pub mod history;
pub mod instructions;
pub mod json;
pub mod limit;
pub mod names;
pub mod pairing;
pub mod replayed;
pub mod schema;

pub use history::{CallKind, HistoryCall, HistoryEntry};
