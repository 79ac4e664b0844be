//! Chat Completions.

mod choice;
mod content;
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
