//! Settings of the Responses API.

use crate::protocol::stored_refs::ResponseIdentity;

/// How Responses requests are translated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The system prompt of requests without one (`default_instructions`).
    pub default_instructions: String,
    /// Where responses are stored for later requests (`responses.store`).
    pub store: Store,
    /// Whether a complete stream ends with `[DONE]` (`responses.done_marker`).
    pub done_marker: bool,
    /// The purpose of the request. Set by the server, not by the user.
    pub purpose: Purpose,
    /// Whether requests may run in the background. Set by the server, not by the user.
    pub background: BackgroundSupport,
    /// The id and the creation time of the response, if it runs in the background. Set by the server, not by the user.
    pub identity: Option<ResponseIdentity>,
}

/// Whether requests may run in the background.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackgroundSupport {
    /// They may.
    #[default]
    Available,
    /// They may not: requests are sent with the login of their client, which isn't kept.
    NoLogin,
}

/// The purpose of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// A response over HTTP, stored unless the client or the settings disable it.
    #[default]
    Http,
    /// A response on a WebSocket connection. If it isn't stored like one over HTTP, it is kept until the connection
    /// ends.
    WebSocket,
    /// The start of a conversation on a WebSocket connection: kept like a response, but without output or a backend
    /// call.
    Warmup,
}

/// Where responses are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Store {
    /// In memory; lost when the process ends.
    #[default]
    Memory,
    /// In a file.
    Disk,
    /// Nowhere.
    Off,
}

impl Default for Options {
    fn default() -> Self {
        let default_instructions = "You are a helpful assistant.".to_owned();
        Self {
            default_instructions,
            store: Store::default(),
            done_marker: false,
            purpose: Purpose::default(),
            background: BackgroundSupport::default(),
            identity: None,
        }
    }
}
