//! Chat Completions.
//!
//! The way in: [`request`] reads a body, [`translate`] turns it into the backend's request. Parts
//! of a request have files of their own: `message` and `content`, `history`, `tools`, `choice`,
//! `format`.

mod choice;
mod content;
mod extent;
mod format;
mod history;
mod message;
mod options;
pub mod reply;
pub mod request;
mod tools;
pub mod translate;

pub use options::Options;
pub use reply::{ChatReply, ReasoningField, Shape};
pub use request::ChatRequest;
pub use translate::Translation;
