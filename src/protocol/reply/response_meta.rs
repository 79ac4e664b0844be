//! The members that identify a reply.
//!
//! They all come from the backend's events, so that the same events always produce the same reply.

use std::fmt::Write as _;

use super::items::ItemTable;
use crate::protocol::codex::ResponseObject;
use crate::protocol::json::quoted;
use crate::protocol::json::string::Str;

/// Id, times and service tier of a response.
#[derive(Clone, Debug, Default)]
pub struct ResponseMeta {
    /// The backend's id without its prefix (`resp_`).
    pub id: String,
    /// When the response began, in Unix seconds.
    pub created_at: Option<u64>,
    /// How long the response took. `None` before the terminal event.
    pub duration_seconds: Option<u64>,
    /// The tier in the latest event that names one.
    pub service_tier: Option<String>,
}

impl ResponseMeta {
    /// The members of a response as it begins.
    pub(super) fn new(response: &ResponseObject<'_>, items: &ItemTable) -> Self {
        let id = response.id.as_ref().map(Str::as_str);
        // Without `response.created`, use the id of an item: it is the backend's too.
        let id = id.or(items.first_id()).unwrap_or("unknown");
        Self {
            id: id.split_once('_').map_or(id, |(_, rest)| rest).to_owned(),
            created_at: response.created_at,
            duration_seconds: None,
            service_tier: tier(response),
        }
    }

    /// Adds duration and service tier from the terminal event.
    pub(super) fn complete(&mut self, response: &ResponseObject<'_>) {
        let began = self.created_at.or(response.created_at);
        self.duration_seconds = response.completed_at.zip(began).map(|(end, start)| end.saturating_sub(start));
        self.service_tier = tier(response).or(self.service_tier.take());
    }

    /// The JSON members `id` to `service_tier` of OpenAI's objects, each followed by a comma. `prefix` is that of the
    /// id.
    pub(in crate::protocol) fn members(
        &self,
        prefix: &str,
        object: &str,
        model: &str,
        service_tier: Option<&str>,
    ) -> String {
        let (id, model) = (quoted(&format!("{prefix}-{}", self.id)), quoted(model));
        let created = self.created_at.unwrap_or(0);
        let mut members = format!(r#""id":{id},"object":"{object}","created":{created},"model":{model},"#);
        if let Some(tier) = service_tier {
            write!(members, r#""service_tier":{},"#, quoted(tier)).expect("writing to a string can't fail");
        }
        members
    }
}

fn tier(response: &ResponseObject<'_>) -> Option<String> {
    response.service_tier.as_ref().map(|tier| tier.as_str().to_owned())
}
