//! codex-proxy: your own ChatGPT subscription, as an API on your own machine.

pub mod auth;
pub mod bearer;
pub mod cli;
pub mod clock;
pub mod config;
pub mod error;
pub mod net;
pub mod protocol;
pub mod secret;
pub mod server;
pub mod upstream;
