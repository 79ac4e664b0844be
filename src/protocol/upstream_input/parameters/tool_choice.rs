//! `tool_choice` in the form of a keyword or of a list of allowed tools.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::error::ProxyError;
use crate::protocol::codex::request::ToolChoice;
use crate::protocol::json::path::Field;
use crate::protocol::json::to_raw;

/// Reads a tool choice of OpenAI's APIs if it is a keyword; `None` if it is an object.
///
/// # Errors
/// If the value is neither an object nor a known keyword.
pub fn tool_choice_keyword(choice: &Field<'_, '_>) -> Result<Option<ToolChoice<'static>>, ProxyError> {
    if choice.is_object() {
        return Ok(None);
    }
    if !choice.is_text() {
        return Err(choice.must_be("a string or an object"));
    }
    match &*choice.text()? {
        "auto" => Ok(Some(ToolChoice::Auto)),
        "none" => Ok(Some(ToolChoice::None)),
        "required" | "any" => Ok(Some(ToolChoice::Required)),
        _ => Err(choice.invalid("must be 'none', 'auto', 'required' or an object")),
    }
}

#[derive(Serialize)]
struct Allowed<'a> {
    r#type: &'static str,
    mode: Cow<'a, str>,
    tools: Vec<Cow<'a, RawValue>>,
}

/// The backend's tool choice that limits the calls to some tools. `mode` is `auto` or `required`; the tools are choices
/// in the backend's form.
#[must_use]
pub fn allowed_tools<'a>(mode: Cow<'a, str>, tools: Vec<Cow<'a, RawValue>>) -> ToolChoice<'static> {
    ToolChoice::Raw(Cow::Owned(to_raw(&Allowed { r#type: "allowed_tools", mode, tools })))
}
