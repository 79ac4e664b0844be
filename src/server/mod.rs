//! The HTTP server: connections, access control, routes, and one request handler for all APIs.
//!
//! Connects the lower layers, which don't know each other: token source, upstream client, history and client APIs.
//!
//! A request passes `middleware`, which checks it against the access policy (`access`), and is routed by its canonical
//! path (`paths`, `routes`). `handler` reads its body (`body`), translates it and sends it to the backend;
//! `response_stream` turns the backend's events into the client's. The client's connection pulls the response, so if
//! the client disconnects, the upstream call is dropped. `websocket` uses the same handler for each request on a
//! WebSocket.

mod access;
mod account;
mod active_requests;
mod api_flavor;
mod audio;
mod background;
mod batches;
mod body;
mod concurrency;
mod connections;
mod conversations;
mod cors;
mod count;
mod descriptors;
mod document;
mod file_inputs;
mod files;
mod form_stream;
mod gemini;
mod guarded_body;
mod handler;
mod health;
mod http_response;
mod images;
mod internal_request;
mod item_list;
mod item_replay;
mod listen;
mod metrics;
mod middleware;
mod models;
mod multipart;
mod ollama_models;
mod otlp;
mod pace;
mod page;
mod paths;
mod query;
mod refusals;
mod relay;
mod request_log;
mod response_store;
mod response_stream;
mod responses_api;
mod routes;
mod side_request;
mod state;
#[cfg(unix)]
mod unix_socket;
mod unsupported;
mod usage;
mod websocket;
mod write_timeout;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tokio::sync::watch;

use crate::history::{CacheStats, FileStore, ReplayedItems, Responses, UsageTotals};
use crate::protocol::models::{Models, Rules};
use crate::protocol::{chat, responses};
use crate::token_source::TokenSource;
use crate::upstream::Upstream;

pub use access::{AccessSettings, ClientKey};
pub use active_requests::{RequestStatus, Stage};
pub use batches::{BatchProgress, PauseStatus};
pub use descriptors::raise as raise_open_file_limit;
pub use listen::{BindError, Listen, Server};
pub use otlp::Telemetry;
pub use usage::Snapshot;

/// Server settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where to listen.
    pub listen: Listen,
    /// Maximum number of open connections (`limits.connections`). Reduced at startup if the limit of open files is too
    /// low.
    pub connections: usize,
    /// How long a client may take to send the headers of a request, and how long a connection may be idle between two
    /// requests (`timing.header`).
    pub header_timeout: Duration,
    /// Maximum number of requests handled at the same time (`limits.concurrency`).
    pub concurrency: usize,
    /// Maximum number of requests that wait until another one ends (`limits.queue`).
    pub queue: usize,
    /// Longest wait in the queue (`timing.queue_wait`).
    pub queue_wait: Duration,
    /// Longest time that a write may block because the client reads nothing (`timing.reader_stall`).
    pub reader_stall: Duration,
    /// Largest request body after decoding (`limits.body`).
    pub body_limit_bytes: u64,
    /// Longest pause between two bytes of a request body or WebSocket message (`timing.body_read`). A minimum average
    /// rate applies too.
    pub body_read: Duration,
    /// Idle time after which a stream gets a keepalive, and interval of WebSocket pings (`timing.keepalive`); `None`:
    /// neither.
    pub keepalive: Option<Duration>,
    /// How long a WebSocket may start further requests (`timing.socket_lifetime`).
    pub socket_lifetime: Duration,
    /// How long open responses may continue after a stop signal (`timing.drain`).
    pub drain: Duration,
    /// Maximum number of responses that run in the background at the same time (`responses.background_concurrency`).
    pub background_concurrency: usize,
    /// The backend's model for the Images API (`images.model`).
    pub image_model: String,
    /// Time limit for the head of the response with an image (`images.timeout`).
    pub image_timeout: Duration,
    /// Maximum size of an audio file to transcribe (`audio.max_bytes`).
    pub audio_limit_bytes: u64,
    /// Time limit for the head of the response with a transcription (`audio.timeout`).
    pub audio_timeout: Duration,
    /// Lines of batches run while at most this percentage of each quota window is used (`batch.window_percent`).
    pub batch_window_percent: u8,
}

/// Settings that are reloaded while the server runs. A request uses the values at its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveSettings {
    /// Who may use the proxy.
    pub access: AccessSettings,
    /// Model aliases and routes.
    pub rules: Arc<Rules>,
}

/// Everything that the routes depend on.
#[derive(Clone, Debug)]
pub struct Services {
    /// Client for the backend.
    pub upstream: Arc<Upstream>,
    /// Source of the bearer tokens.
    pub tokens: Arc<dyn TokenSource>,
    /// Items of earlier responses to replay to the backend.
    pub replayed: Arc<ReplayedItems>,
    /// Whether reasoning is among them (`chat.reasoning_replay`).
    pub replays_reasoning: bool,
    /// Stored responses, which clients can continue or retrieve.
    pub history: Arc<Responses>,
    /// Uploaded files and batches.
    pub files: FileStore,
    /// Usage totals.
    pub totals: Arc<UsageTotals>,
    /// Prompt cache statistics of the latest conversations.
    pub conversations: Arc<CacheStats>,
    /// The current reloadable settings.
    pub live: watch::Receiver<Arc<LiveSettings>>,
    /// Settings of the Chat Completions API. Those that aren't specific to it also apply to the other APIs, except the
    /// Responses API.
    pub chat: Arc<chat::Options>,
    /// Settings of the Responses API.
    pub responses: Arc<responses::Options>,
    /// Exports traces, if configured.
    pub telemetry: Option<Arc<Telemetry>>,
    /// The kind of backend: ChatGPT, demo or replay.
    pub backend: Backend,
    /// A random id of this process, on `/health` and in the run file.
    pub instance: String,
}

/// A kind of backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The ChatGPT backend.
    ChatGpt,
    /// The simulated backend. Responses carry `x-proxy-demo`.
    Demo,
    /// Recorded responses. Responses carry `x-proxy-replay`.
    Replay,
}

impl Services {
    /// The model catalog for a request with these headers, and the model rules, as of now.
    fn models(&self, headers: &HeaderMap) -> Models {
        let account_id = account::of_client(headers, self);
        let catalogue = self.upstream.catalogue_of(account_id.as_deref());
        Models { catalogue, rules: Arc::clone(&self.live.borrow().rules) }
    }
}
