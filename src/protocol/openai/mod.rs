//! What OpenAI's APIs have in common.

pub mod error;
