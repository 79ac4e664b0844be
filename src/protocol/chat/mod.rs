//! Chat Completions.

pub mod error;
pub mod reply;

pub use error::face;
pub use reply::{ChatReply, Shape};
