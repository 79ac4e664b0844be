//! Chat Completions.
//!
//! The way back, from upstream events to chunks, is a machine of small parts: [`reply`] decides,
//! `arrive` and `items` know what came, `step` keeps calls in order, `show` and `stop` know what
//! was told, [`chunk`] and `document` know how it looks.

mod arrive;
pub mod chunk;
mod document;
pub mod error;
mod items;
pub mod reply;
mod show;
mod step;
mod stop;
mod usage;

pub use chunk::Chunk;
pub use error::face;
pub use reply::{CallStyle, ChatReply, ReasoningField, Shape};
