//! The API of the Codex backend, which every client API is translated to and from.
//!
//! [`request`] defines a request; `classic` and [`lite`] write its body, [`continuation`] its WebSocket frame.
//! [`control`] lists the frames that may follow it while the response arrives. [`proxy_tools`] runs tools that the
//! backend doesn't run in the lite form. [`event`] decodes the events of a response, with their [`item`]s and
//! [`usage`]. [`failure`] parses errors, [`rate_limits`] the reports of the used quota. The wire format is known from
//! captured traffic of the official client and from the Responses API reference.

mod classic;
pub mod continuation;
pub mod control;
pub mod event;
pub mod failure;
pub mod item;
pub mod lite;
pub mod proxy_tools;
pub mod rate_limits;
pub mod request;
pub mod usage;
mod usage_sum;

pub use event::{ItemPosition, PartList, ResponseObject, UpstreamEvent};
pub use item::OutputItem;
pub use request::{Item, Part, Request, Tool, WireFormat};
pub use usage::Usage;
pub use usage_sum::JsonUsageSum;
