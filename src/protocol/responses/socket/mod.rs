//! Responses over a WebSocket: the same requests and events, in frames of JSON text.
//!
//! [`frame`] reads what a client says and makes of it what HTTP would have brought: a body and headers.
//! [`Frames`] is the sink of its events. What HTTP says outside of the events is said by frames of
//! our own: a refusal is [`refused`], the backend's headers are [`notices`], and a request that only
//! prepares the next one is answered by [`warmup`].

pub mod frame;
mod frames;
mod synthetic_frames;

pub use frame::{Create, Frame, FrameError};
pub use frames::{Frames, Notice};
pub use synthetic_frames::{notices, refused, warmup};
