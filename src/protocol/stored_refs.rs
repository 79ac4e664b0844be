//! What one request has to do with another: references by id, what was found, what is to be kept.
//!
//! The core remembers nothing itself. A dialect says what its request refers to, is handed what the
//! server's memory has of it, and says at the end what later requests may refer to.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// What a request refers to by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// The answer that it goes on from.
    pub response: Option<String>,
    /// Items of earlier answers.
    pub items: Vec<String>,
}

/// What was found of it.
#[derive(Clone, Debug, Default)]
pub struct ResolvedReferences {
    /// The answer that it goes on from.
    pub response: Option<PreviousResponse>,
    /// Items by their id.
    pub items: BTreeMap<String, Box<RawValue>>,
}

/// An earlier answer, as far as a request goes on from it.
#[derive(Clone, Debug, Default)]
pub struct PreviousResponse {
    /// The conversation, the answer's own items last.
    pub items: Vec<Box<RawValue>>,
    /// The prompt cache key of the conversation.
    pub cache_key: String,
}

/// What is kept with an answer beside itself.
#[derive(Clone, Debug, Default)]
pub struct ConversationContext {
    /// The conversation before it.
    pub input: Vec<Box<RawValue>>,
    /// The prompt cache key of the conversation.
    pub cache_key: String,
    /// Who may go on from it.
    pub audience: StoreScope,
}

/// An answer that later requests may refer to.
#[derive(Clone, Debug)]
pub struct StoredResponse {
    /// Its id.
    pub id: String,
    /// The conversation before it.
    pub input: Vec<Box<RawValue>>,
    /// Its items.
    pub output: Vec<Box<RawValue>>,
    /// The response object as the client got it.
    pub response: String,
    /// The prompt cache key of the conversation.
    pub cache_key: String,
    /// Which requests those are.
    pub audience: StoreScope,
}

/// Who may refer to an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreScope {
    /// Every later request of the same client key.
    #[default]
    Key,
    /// Only what comes later on the same connection.
    Connection,
}

impl References {
    /// Whether it refers to nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.response.is_none() && self.items.is_empty()
    }
}
