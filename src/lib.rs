//! codex-proxy: your own ChatGPT subscription, as an API on your own machine.
//!
//! A client speaks one of its own dialects to the server; the server makes one streaming call to
//! the ChatGPT Codex backend and translates the stream back exactly. Data flows one way, and each
//! floor of modules knows only those below it:
//!
//! | floor | modules | what they are |
//! | --- | --- | --- |
//! | 0 | [`secret`], [`token_source`], [`blocking`], [`error`], [`clock`], [`fs`], [`endpoint`], [`proxy`], [`socket_owner`], [`net`], [`retry_after`], [`command_hint`], [`excerpt`] | the words everybody uses |
//! | 1 | [`protocol`] | the pure core: dialects, the upstream's vocabulary, server-sent events |
//! | 2 | [`auth`], [`upstream`], [`history`], [`demo`] | leaves that do I/O or remember, and don't know each other |
//! | 3 | [`server`] | introduces them: doors, routes, the exchange, the drive |
//! | 4 | [`config`], [`cli`] | settings and the command line |
//!
//! Where to look: the path of a request is [`server`]; the translation of a dialect is its folder
//! in [`protocol`]; second tries are in [`upstream`]; everything about tokens is in [`auth`]. Three
//! rules hold throughout: what we do not understand is carried unread, a cut answer never looks
//! like a whole one, and a token is a [`secret::Secret`] from the file to the header.

pub mod auth;
pub mod blocking;
pub mod cli;
pub mod clock;
pub mod command_hint;
pub mod config;
pub mod demo;
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
