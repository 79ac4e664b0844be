//! Web search as a tool of a request.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::error::ProxyError;
use crate::protocol::codex::request::Tool;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::to_raw;

#[derive(Serialize)]
struct WebSearch<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    search_context_size: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filters: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_location: Option<RawObject<'a>>,
}

/// Whether a tool type is one of the names of web search, such as `web_search_preview`.
#[must_use]
pub fn is_web_search(kind: &str) -> bool {
    kind.starts_with("web_search")
}

/// Reads a web search tool, or an object with its options, and converts it to the backend's form.
///
/// # Errors
/// If the value is not an object, or an option has the wrong type.
pub fn web_search_tool<'a>(options: &Field<'a, '_>) -> Result<Tool<'a>, ProxyError> {
    let members = options.object()?;
    let tool = WebSearch {
        r#type: "web_search",
        search_context_size: options.optional_text(&members, "search_context_size")?,
        filters: options.member(&members, "filters").map(|filters| filters.raw()),
        user_location: options.member(&members, "user_location").map(|place| location(&place)).transpose()?,
    };
    Ok(Tool::raw(Cow::Owned(to_raw(&tool))))
}

/// Converts a user location: the backend has the members of `approximate` one level higher.
fn location<'a>(place: &Field<'a, '_>) -> Result<RawObject<'a>, ProxyError> {
    let members = place.object()?;
    let inner = place.member(&members, "approximate").map(|inner| inner.object().map(Cow::into_owned)).transpose()?;
    let mut members = members.into_owned();
    if let Some(inner) = inner {
        members.remove("approximate");
        members.append(inner);
    }
    Ok(members)
}
