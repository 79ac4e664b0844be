//! The upstream's vocabulary, which is also our intermediate form.
//!
//! [`request`] is what we send (its body written by `classic` or [`lite`]; [`continuation`] makes a frame of a WebSocket of it),
//! [`event`] what comes back, [`item`] and [`usage`] the parts that both name, [`failure`] the many shapes of an error
//! read into one, [`rate_limits`] how much of the quota is used. Facts about the wire come from
//! recordings of the official client and from the Responses API reference.

mod classic;
pub mod continuation;
pub mod event;
pub mod failure;
pub mod item;
pub mod lite;
pub mod rate_limits;
pub mod request;
pub mod usage;

pub use event::{PartList, Place, ResponseObject, UpstreamEvent};
pub use item::OutputItem;
pub use request::{Form, Item, Part, Request, Tool};
pub use usage::Usage;
