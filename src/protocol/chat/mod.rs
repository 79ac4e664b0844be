//! Chat Completions.

pub mod reply;

pub use reply::{ChatReply, Shape};
