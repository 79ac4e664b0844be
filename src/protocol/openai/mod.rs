//! What the APIs of OpenAI's form have in common.

pub mod error;
