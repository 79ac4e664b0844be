//! The daemon: sockets, access, routes, and the one exchange that serves every dialect.
//!
//! This is the only module that knows the leaves: it introduces the upstream, the token source and
//! the dialects to each other. A request passes the gate (`gate`), finds its path (`routes`), is
//! read (`body`), translated and sent (`exchange`), and its answer is driven to the client
//! (`drive`) by polling alone: when the client hangs up, everything behind it is dropped. A WebSocket
//! (`websocket`) takes the same way for each of its turns.

mod access;
mod account;
mod active_requests;
mod api_flavor;
mod body;
mod budget;
mod concurrency;
mod connections;
mod cors;
mod count;
mod depth_limit;
mod descriptors;
mod document;
mod handler;
mod health;
mod http_response;
mod listen;
mod metrics;
mod middleware;
mod models;
mod ollama_models;
mod otlp;
mod pace;
mod page;
mod paths;
mod reasoning_replay;
mod refusals;
mod request_log;
mod response_store;
mod response_stream;
mod responses_api;
mod routes;
#[cfg(unix)]
mod unix_socket;
mod unsupported;
mod usage;
mod websocket;
mod write_timeout;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::history::{Conversations, Reasoning, Responses, Totals};
use crate::protocol::models::{Models, Rules};
use crate::protocol::{chat, responses};
use crate::token_source::TokenSource;
use crate::upstream::Upstream;

pub use access::{AccessSettings, ClientKey};
pub use active_requests::{RequestStatus, Stage};
pub use descriptors::raise as raise_open_file_limit;
pub use listen::{BindError, Listen, Server};
pub use otlp::Telemetry;
pub use usage::Snapshot;

/// How clients are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where to listen.
    pub listen: Listen,
    /// How many connections may be open at a time (`limits.connections`); fewer if the process may not open enough files.
    pub connections: usize,
    /// How long the headers of a request may take, and an idle connection is kept (`timing.header`).
    pub header_timeout: Duration,
    /// How many requests are answered at a time (`limits.concurrency`).
    pub concurrency: usize,
    /// How many may wait for their turn (`limits.queue`), and for how long (`timing.queue_wait`).
    pub queue: usize,
    /// See [`Self::queue`].
    pub queue_wait: Duration,
    /// How long a client may take nothing of what it is sent (`timing.reader_stall`).
    pub reader_stall: Duration,
    /// Largest request body after decoding (`limits.body`).
    pub body_limit_bytes: u64,
    /// Most memory for everything that is buffered for requests (`limits.memory`).
    pub memory_limit_bytes: usize,
    /// Longest silence while a request body or a WebSocket message arrives (`timing.body_read`).
    pub body_read: Duration,
    /// Silence after which a stream gets a sign of life (`timing.keepalive`); `None`: never.
    pub keepalive: Option<Duration>,
    /// How long a WebSocket may live (`timing.socket_lifetime`).
    pub socket_lifetime: Duration,
    /// How long open answers may go on after a stop signal (`timing.drain`).
    pub drain: Duration,
}

/// What may change while the daemon runs, as one value: a request goes by what holds when it comes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveSettings {
    /// Who is let in.
    pub access: AccessSettings,
    /// The owner's model names.
    pub rules: Arc<Rules>,
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
    /// What was used.
    pub totals: Arc<Totals>,
    /// How much of the latest conversations came from the cache.
    pub conversations: Arc<Conversations>,
    /// What holds at the moment.
    pub live: watch::Receiver<Arc<LiveSettings>>,
    /// Settings of the Chat dialect.
    pub chat: Arc<chat::Options>,
    /// Settings of the Responses dialect.
    pub responses: Arc<responses::Options>,
    /// Where traces go, if anywhere.
    pub telemetry: Option<Arc<Telemetry>>,
    /// Who answers.
    pub backend: Backend,
    /// A random id of this process, on `/health` and in the run file.
    pub instance: String,
}

/// Who answers behind the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The real service.
    ChatGpt,
    /// The embedded simulator; every answer says so.
    Demo,
    /// What was recorded; every answer says so.
    Replay,
}

impl Services {
    fn models(&self) -> Models {
        Models { catalogue: self.upstream.catalogue(), rules: Arc::clone(&self.live.borrow().rules) }
    }
}
