//! The WebSocket transport of the Responses API: the same requests and events as JSON text frames.
//!
//! [`frame`] converts a client's frame to the body and headers of an HTTP request. [`FrameQueue`] is the sink of the
//! response. Other functions create frames for what HTTP expresses outside of events: [`error_frame`] for an error
//! response, [`header_events`] for the backend's headers. [`warmup_events`] are the response to a request that only
//! starts a conversation. [`ControlFrame`] is a frame for the running response.

mod control;
pub mod frame;
mod frames;
mod synthetic_frames;

pub use control::{ControlFrame, ControlRefusal};
pub use frame::{ClientFrame, CreateRequest, FrameError};
pub use frames::{FrameQueue, HeaderEvent};
pub use synthetic_frames::{error_frame, header_events, warmup_events};
