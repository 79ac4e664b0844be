//! References between requests: what a request refers to by id, what was found, and what is stored with a response.
//!
//! This module stores nothing: the server does. A dialect returns the [`References`] of a request and receives the
//! [`ResolvedReferences`]. A [`ConversationContext`] accompanies the request; once its reply is complete, it becomes
//! part of the [`StoredResponse`] for later requests.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// The ids that a request refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// The id of the previous response.
    pub response: Option<String>,
    /// The id of the conversation that the request continues.
    pub conversation: Option<String>,
    /// The ids of items of earlier requests or responses.
    pub items: Vec<String>,
}

/// The stored responses and items that the [`References`] of a request identify. Ids that were not found are missing.
#[derive(Clone, Debug, Default)]
pub struct ResolvedReferences {
    /// The previous response.
    pub response: Option<PreviousResponse>,
    /// The conversation.
    pub conversation: Option<PreviousResponse>,
    /// Items by id.
    pub items: BTreeMap<String, Box<RawValue>>,
}

/// The parts of a previous response or of a conversation that a request continues from.
#[derive(Clone, Debug, Default)]
pub struct PreviousResponse {
    /// The conversation, including the output items of the response.
    pub items: Vec<Box<RawValue>>,
    /// The prompt cache key of the conversation.
    pub cache_key: String,
}

/// The request's part of its [`StoredResponse`]. A request without one isn't stored.
#[derive(Clone, Debug, Default)]
pub struct ConversationContext {
    /// The conversation before the response.
    pub input: Vec<Box<RawValue>>,
    /// How many of the last input items the request itself has.
    pub new_count: usize,
    /// The prompt cache key of the conversation.
    pub cache_key: String,
    /// Which requests may refer to the response.
    pub scope: StoreScope,
}

/// A response that later requests may refer to.
#[derive(Clone, Debug)]
pub struct StoredResponse {
    /// The id of the response.
    pub id: String,
    /// The conversation before the response.
    pub input: Vec<Box<RawValue>>,
    /// How many of the last input items the request itself had.
    pub new_count: usize,
    /// The output items of the response.
    pub output: Vec<Box<RawValue>>,
    /// The JSON of the response object, as the client received it.
    pub response: String,
    /// The prompt cache key of the conversation.
    pub cache_key: String,
    /// Which requests may refer to the response.
    pub scope: StoreScope,
}

/// The id and the creation time of a response that the proxy has created before the backend responds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseIdentity {
    /// The id, `resp_…`.
    pub id: String,
    /// When the response was created, in Unix seconds.
    pub created_at: u64,
}

/// Which requests may refer to a stored response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreScope {
    /// Later requests with the same client key.
    #[default]
    Key,
    /// Later requests on the same connection.
    Connection,
    /// None: the response isn't stored, but its items become part of its conversation.
    Conversation,
}

impl References {
    /// Whether the request refers to nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.response.is_none() && self.conversation.is_none() && self.items.is_empty()
    }
}
