//! The settings of Responses.

/// How Responses requests are translated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The system prompt of a request that brings none (`default_instructions`).
    pub default_instructions: String,
    /// Whether answers are kept for requests that go on from them (`responses.store`).
    pub store: Store,
    /// Whether a stream that ended whole is closed by `[DONE]` (`responses.done_marker`).
    pub done_marker: bool,
    /// What the requests are for. Not a setting: each door has its own.
    pub purpose: Purpose,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// An answer, which is remembered where its client wants that.
    #[default]
    Answer,
    /// An answer on a connection, which remembers it for its own later turns in any case.
    Turn,
    /// The beginning of a conversation on a connection: remembered, and not to be answered yet.
    Warmup,
}

/// Where answers are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Store {
    /// In memory, until the process ends.
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
        Self { default_instructions, store: Store::default(), done_marker: false, purpose: Purpose::default() }
    }
}
