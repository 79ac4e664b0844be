//! Conversations, in the store of responses: they share its limits, its lifetime and its file.

use std::sync::Arc;

use super::responses::{Item, MAX_BYTES, ResponseRecord};

/// The prefix of the ids of conversations. No response has it.
const ID_PREFIX: &str = "conv_";

/// The room for the output of a response that continues a conversation.
const OUTPUT_BYTES: usize = 8 * 1024 * 1024;

/// A stored conversation that clients add to.
#[derive(Clone, Debug)]
pub struct Conversation(Arc<ResponseRecord>);

/// Whether an id is that of a conversation.
#[must_use]
pub fn is_conversation(id: &str) -> bool {
    id.starts_with(ID_PREFIX)
}

impl Conversation {
    /// Returns the id for a conversation with this unique suffix.
    #[must_use]
    pub fn id_of(suffix: &str) -> String {
        format!("{ID_PREFIX}{suffix}")
    }

    /// Returns the record of a conversation: with this id (`conv_…`), the conversation object without its items, as
    /// JSON, and its items, the oldest first. An item that has no id in its JSON has one beside it.
    #[must_use]
    pub fn record(id: String, object: String, items: Vec<Item>) -> ResponseRecord {
        let (output, cache_key) = (Vec::new(), id.clone());
        ResponseRecord { id, input: items, output, response: object, cache_key, account: None }
    }

    /// Returns a copy of the record, to change and store.
    #[must_use]
    pub fn to_record(&self) -> ResponseRecord {
        ResponseRecord::clone(&self.0)
    }

    /// Returns the id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Returns the conversation object without its items, as JSON.
    #[must_use]
    pub fn object(&self) -> &str {
        &self.0.response
    }

    /// Returns the items, the oldest first.
    #[must_use]
    pub fn items(&self) -> &[Item] {
        &self.0.input
    }

    /// Returns the id of the account that gave the latest response.
    #[must_use]
    pub fn account(&self) -> Option<&str> {
        self.0.account.as_deref()
    }

    /// Returns the item with this id.
    #[must_use]
    pub fn item(&self, id: &str) -> Option<&Item> {
        self.items().iter().find(|(own, _)| own.as_deref() == Some(id))
    }

    /// Returns the approximate size in memory, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// Whether the conversation can be stored with a request of this size and the response to it.
    #[must_use]
    pub fn can_grow_by(&self, request_bytes: usize) -> bool {
        self.bytes() + request_bytes + OUTPUT_BYTES <= MAX_BYTES
    }

    pub(super) fn of_record(record: Arc<ResponseRecord>) -> Self {
        Self(record)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Conversation, MAX_BYTES, OUTPUT_BYTES};

    #[test]
    fn a_conversation_grows_while_a_response_to_it_can_be_stored() {
        let record = Conversation::record("conv_1".to_owned(), "{}".to_owned(), Vec::new());
        let conversation = Conversation::of_record(Arc::new(record));
        let most = MAX_BYTES - OUTPUT_BYTES - conversation.bytes();
        assert!(conversation.can_grow_by(most) && !conversation.can_grow_by(most + 1));
    }
}
