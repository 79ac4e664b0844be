//! Conversations, in the store of responses: they share its limits, its lifetime and its file.

use serde_json::value::RawValue;

use super::responses::{Item, ResponseRecord};

/// The prefix of the ids of conversations. No response has it.
const ID_PREFIX: &str = "conv_";

/// A conversation that clients add to.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// The id, `conv_…`.
    pub id: String,
    /// The conversation object without its items, as JSON. This module doesn't read it.
    pub object: String,
    /// The items, oldest first. An item that has no id in its JSON has one here.
    pub items: Vec<Item>,
    /// Id of the account that gave the latest response.
    pub account: Option<String>,
}

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

    /// Returns the item with this id.
    #[must_use]
    pub fn item(&self, id: &str) -> Option<&RawValue> {
        self.items.iter().find(|(own, _)| own.as_deref() == Some(id)).map(|(_, item)| &**item)
    }

    pub(super) fn into_record(self) -> ResponseRecord {
        let Self { id, object, items, account } = self;
        ResponseRecord { cache_key: id.clone(), id, input: items, output: Vec::new(), response: object, account }
    }

    pub(super) fn of_record(record: &ResponseRecord) -> Self {
        let (id, object) = (record.id.clone(), record.response.clone());
        Self { id, object, items: record.input.clone(), account: record.account.clone() }
    }
}
