//! The members that name an answer in OpenAI's dialects.
//!
//! All of them come from the backend: an id or a time of our own would make the same answer look
//! like another one when it is translated again.

use std::fmt::Write as _;

use super::items::Items;
use crate::protocol::codex::ResponseObject;
use crate::protocol::json::string::Str;

/// What is the same in every chunk of an answer.
#[derive(Clone, Debug)]
pub(in crate::protocol) struct Identity {
    pub(in crate::protocol) id: String,
    pub(in crate::protocol) created: u64,
    pub(in crate::protocol) model: String,
    /// Shown where the client asked for a tier.
    pub(in crate::protocol) service_tier: Option<String>,
}

impl Identity {
    /// The identity of the answer that begins with this response; `prefix` is the dialect's.
    pub(in crate::protocol) fn new(prefix: &str, model: &str, response: &ResponseObject<'_>, items: &Items) -> Self {
        let id = bare_id(response, items);
        Self {
            id: format!("{prefix}-{id}"),
            created: response.created_at.unwrap_or(0),
            model: model.to_owned(),
            service_tier: None,
        }
    }

    /// The members `id` to `service_tier`, each followed by a comma.
    pub(in crate::protocol) fn members(&self, object: &str, service_tier: Option<&str>) -> String {
        let (id, model) = (quoted(&self.id), quoted(&self.model));
        let created = self.created;
        let mut members = format!(r#""id":{id},"object":"{object}","created":{created},"model":{model},"#);
        if let Some(tier) = service_tier {
            write!(members, r#""service_tier":{},"#, quoted(tier)).expect("a buffer grows as it is written to");
        }
        members
    }
}

/// The backend's id of an answer, without its prefix.
pub(in crate::protocol) fn bare_id<'i>(response: &'i ResponseObject<'_>, items: &'i Items) -> &'i str {
    let id = response.id.as_ref().map(Str::as_str);
    // Without `created`, the id of an item serves: also the backend's, also the same each time.
    let id = id.or(items.first_id()).unwrap_or("unknown");
    id.split_once('_').map_or(id, |(_, rest)| rest)
}

/// A JSON string literal.
pub(in crate::protocol) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
