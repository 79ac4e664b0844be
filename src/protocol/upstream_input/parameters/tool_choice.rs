//! `tool_choice` in the form of a keyword.

use crate::error::ProxyError;
use crate::protocol::codex::request::ToolChoice;
use crate::protocol::json::path::Field;

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
