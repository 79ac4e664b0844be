//! codex-proxy: a local server that gives OpenAI, Anthropic, Gemini and Ollama clients access to your own ChatGPT
//! subscription.
//!
//! A client sends a request in the API it already speaks. The server translates it to the Responses API of the ChatGPT
//! Codex backend, sends it as a streaming request, and translates the events back into the client's API. For a client
//! that wants a single document, the same events are folded into one.
//!
//! # Layers
//!
//! A module uses only modules of the layers below it; base modules also use each other, and `cli` uses `config`.
//! `tests/layering.rs` enforces that, with a few narrower rules.
//!
//! | layer | modules | purpose |
//! | --- | --- | --- |
//! | base | [`secret`], [`token_source`], [`error`], [`clock`], [`endpoint`], [`excerpt`], [`retry_after`] | shared types |
//! | | [`budget`], [`depth_limit`], [`blocking`] | limits of memory and of the time on the serving thread |
//! | | [`fs`], [`net`], [`proxy`], [`content_encoding`], [`socket_owner`], [`command_hint`] | private files, HTTP client |
//! | core | [`protocol`] | the client APIs, the backend's API, server-sent events; pure: no I/O, clock or randomness |
//! | leaves | [`auth`], [`upstream`], [`history`], [`demo`] | I/O and state; they don't use each other |
//! | server | [`server`] | connects the leaves: routes, request handling, streaming |
//! | program | [`config`], [`cli`] | settings and commands |
//!
//! # The path of a request
//!
//! ```text
//! server::listen      accepts the connection
//! server::middleware  checks host, origin, client key and user (server::access)
//! server::handler     reads the body, waits for a concurrency permit
//! protocol::<api>     decodes and translates the request into a codex::Request
//! auth                supplies the access token, refreshing it if needed
//! upstream            calls the backend; retries while the client has received nothing
//! protocol::<api>     turns backend events into the client's events or document
//! server::response_stream  writes them to the connection
//! ```
//!
//! The client's connection pulls the response, so if it closes, the call to the backend is dropped. A failure before
//! the first byte of the response becomes an HTTP status; after it, an error in the stream.
//!
//! # Rules
//!
//! - Unknown data passes through: events, items, tools and members that this release doesn't know are kept.
//! - A response that was cut never looks complete.
//! - A token is a [`secret::Secret`] from the credential store to the header, and is never logged.

pub mod auth;
pub mod blocking;
pub mod budget;
pub mod cli;
pub mod clock;
pub mod command_hint;
pub mod config;
pub mod content_encoding;
pub mod demo;
pub mod depth_limit;
pub mod endpoint;
pub mod error;
pub mod excerpt;
pub mod fs;
pub mod history;
pub mod net;
pub mod protocol;
pub mod proxy;
pub mod retry_after;
pub mod secret;
pub mod server;
pub mod socket_owner;
pub mod token_source;
pub mod upstream;
