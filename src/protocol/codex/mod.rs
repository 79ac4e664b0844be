//! The backend's API, which every other API is translated to and from.
//!
//! [`request`] is what is sent; `classic` and [`lite`] write its body, [`continuation`] its WebSocket frame. [`event`]
//! is what is received, made of [`item`]s and [`usage`]. [`failure`] parses errors, [`rate_limits`] the used share of
//! the quota. The wire format is known from recordings of the official client and from the Responses API reference.

mod classic;
pub mod continuation;
pub mod event;
pub mod failure;
pub mod item;
pub mod lite;
pub mod rate_limits;
pub mod request;
pub mod usage;

pub use event::{ItemPosition, PartList, ResponseObject, UpstreamEvent};
pub use item::OutputItem;
pub use request::{Item, Part, Request, Tool, WireFormat};
pub use usage::Usage;
