//! References between requests: what a request refers to by id, what was found, and what is stored with a response.
//!
//! The protocol stores nothing itself. A dialect returns the [`References`] of a request, gets the
//! [`ResolvedReferences`], and returns a [`StoredResponse`] for later requests.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// The ids that a request refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// The previous response.
    pub response: Option<String>,
    /// Items of earlier responses.
    pub items: Vec<String>,
}

/// The stored responses and items that were found for [`References`].
#[derive(Clone, Debug, Default)]
pub struct ResolvedReferences {
    /// The previous response.
    pub response: Option<PreviousResponse>,
    /// Items by id.
    pub items: BTreeMap<String, Box<RawValue>>,
}

/// The parts of a previous response that a request continues from.
#[derive(Clone, Debug, Default)]
pub struct PreviousResponse {
    /// The conversation, including the output items of the response.
    pub items: Vec<Box<RawValue>>,
    /// The prompt cache key of the conversation.
    pub cache_key: String,
}

/// What is stored with a response besides the response itself.
#[derive(Clone, Debug, Default)]
pub struct ConversationContext {
    /// The conversation before the response.
    pub input: Vec<Box<RawValue>>,
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
    /// The output items of the response.
    pub output: Vec<Box<RawValue>>,
    /// The response object as the client got it.
    pub response: String,
    /// The prompt cache key of the conversation.
    pub cache_key: String,
    /// Which requests may refer to the response.
    pub scope: StoreScope,
}

/// Which requests may refer to a stored response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreScope {
    /// Later requests with the same client key.
    #[default]
    Key,
    /// Later requests on the same connection.
    Connection,
}

impl References {
    /// Whether the request refers to nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.response.is_none() && self.items.is_empty()
    }
}
