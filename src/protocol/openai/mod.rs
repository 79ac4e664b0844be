//! Error responses in OpenAI's format, which Chat Completions, text completions and Responses share.

pub mod error;
