//! The daemon: sockets, doors, routes, and the one exchange that serves every dialect.
//!
//! This is the only module that knows the leaves: it introduces the upstream, the token source and
//! the dialects to each other. A request passes the gate (`gate`), finds its path (`routes`), is
//! read (`body`), translated and sent (`exchange`), and its answer is driven to the client
//! (`drive`) by polling alone: when the client hangs up, everything behind it is dropped. A WebSocket
//! (`websocket`) takes the same way for each of its turns.

mod absent;
mod account;
mod body;
mod drive;
mod exchange;
mod gate;
mod keeper;
mod listen;
mod models;
mod nesting;
mod observe;
mod paths;
mod probes;
mod recall;
mod routes;
mod stored;
mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::bearer::TokenSource;
use crate::history::{Reasoning, Responses};
use crate::protocol::model::{Models, Rules};
use crate::protocol::{chat, responses};
use crate::upstream::Upstream;

pub use gate::ClientKey;
pub use listen::{BindError, Server};

/// How clients are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Addresses to listen on; with port 0, all of them get the port that the first was given.
    pub listen: Vec<SocketAddr>,
    /// Client keys; none: no key is asked for.
    pub keys: Vec<ClientKey>,
    /// Host names to answer to, beside loopback and the addresses listened on.
    pub allowed_hosts: Vec<String>,
    /// Origins of web pages that may call, beside our own page.
    pub allowed_origins: Vec<String>,
    /// Largest request body after decoding (`limits.body`).
    pub body_limit_bytes: u64,
    /// Silence after which a stream gets a sign of life (`timing.keepalive`); `None`: never.
    pub keepalive: Option<Duration>,
    /// How long a WebSocket may live (`timing.socket_lifetime`).
    pub socket_lifetime: Duration,
    /// How long open answers may go on after a stop signal (`timing.drain`).
    pub drain: Duration,
}

/// What the routes are served with.
#[derive(Clone, Debug)]
pub struct Services {
    /// The backend.
    pub upstream: Arc<Upstream>,
    /// Where its bearer tokens come from; asked only whether there are any, and for which account.
    pub tokens: Arc<dyn TokenSource>,
    /// Reasoning to give back to the backend; `None`: it is not kept.
    pub reasoning: Option<Arc<Reasoning>>,
    /// Answers that clients go on from.
    pub history: Arc<Responses>,
    /// The owner's model names.
    pub rules: Arc<Rules>,
    /// Settings of the Chat dialect.
    pub chat: Arc<chat::Options>,
    /// Settings of the Responses dialect.
    pub responses: Arc<responses::Options>,
    /// Who answers.
    pub backend: Backend,
}

/// Who answers behind the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The real service.
    ChatGpt,
    /// The embedded simulator; every answer says so.
    Demo,
}

impl Services {
    fn models(&self) -> Models {
        Models { catalogue: self.upstream.catalogue(), rules: Arc::clone(&self.rules) }
    }
}
