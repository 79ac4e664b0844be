//! Reads a request to generate content or to count its tokens.
//!
//! A null member counts as absent. A member that would change the meaning of the response and that the backend doesn't
//! support is rejected; other unsupported and unknown members are ignored with a warning. The path names the model.

use std::borrow::Cow;

use super::Form;
use super::content::{self, Content};
use super::generation::GenerationConfig;
use super::spelling::{camel_case, elements};
use super::tool_choice::RequestedChoice;
use super::tools;
use crate::error::{ProxyError, Refusal};
use crate::protocol::Ignored;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::upstream_input::DeclaredTool;
use crate::protocol::upstream_input::parameters::RequestedTier;

/// A decoded request, borrowing from the body.
#[derive(Clone, Debug, Default)]
pub struct GeminiRequest<'a> {
    pub(super) form: Form,
    pub(super) contents: Vec<Content<'a>>,
    pub(super) system: Vec<Cow<'a, str>>,
    pub(super) tools: Vec<DeclaredTool<'a>>,
    pub(super) tool_choice: RequestedChoice<'a>,
    pub(super) generation: GenerationConfig,
    pub(super) service_tier: Option<RequestedTier>,
    pub(super) ignored: Ignored,
}

/// Reads the body of a request to generate content.
///
/// # Errors
/// If the body is not a JSON object, a known member has the wrong type or an invalid value, or the request needs
/// something that the backend doesn't support.
pub fn decode(body: &[u8], form: Form) -> Result<GeminiRequest<'_>, ProxyError> {
    read_members(&RawObject::from_body(body)?, form)
}

/// Reads the body of a request to count tokens: `contents`, or a whole request in `generateContentRequest`.
///
/// # Errors
/// As for [`decode`].
pub fn decode_count(body: &[u8]) -> Result<GeminiRequest<'_>, ProxyError> {
    let members = RawObject::from_body(body)?;
    let whole = members.fields().find(|(name, _)| camel_case(name) == "generateContentRequest");
    match whole {
        Some((_, request)) => read_members(&*request.object()?, Form::Document),
        None => read_members(&members, Form::Document),
    }
}

fn read_members<'a>(members: &RawObject<'a>, form: Form) -> Result<GeminiRequest<'a>, ProxyError> {
    let mut request = GeminiRequest { form, ..GeminiRequest::default() };
    for (name, field) in members.fields() {
        request.read(&camel_case(name), &field)?;
    }
    Ok(request)
}

impl<'a> GeminiRequest<'a> {
    fn read(&mut self, name: &str, field: &Field<'a, '_>) -> Result<(), ProxyError> {
        let ignored = &mut self.ignored;
        match name {
            "contents" => self.contents = elements(field, |content| Content::read(content, ignored))?,
            "systemInstruction" => self.system = content::texts(field, ignored)?,
            "tools" => self.tools = elements(field, |tool| tools::read(tool, ignored))?.concat(),
            "toolConfig" => self.tool_choice = RequestedChoice::read(field, ignored)?,
            "generationConfig" => self.generation = GenerationConfig::read(field, ignored)?,
            "serviceTier" => self.service_tier = service_tier(field, ignored)?,
            "cachedContent" => return Err(unsupported(field, "send the whole conversation in 'contents'")),
            // The path names the model.
            "model" => {}
            "store" if !field.flag()? => {}
            "safetySettings" if field.json() == "[]" => {}
            _ => ignored.note(name),
        }
        Ok(())
    }
}

fn service_tier(tier: &Field<'_, '_>, ignored: &mut Ignored) -> Result<Option<RequestedTier>, ProxyError> {
    match tier.text()?.to_ascii_lowercase().as_str() {
        "priority" => return Ok(Some(RequestedTier::Priority)),
        "standard" | "unspecified" => {}
        _ => ignored.note("serviceTier"),
    }
    Ok(Some(RequestedTier::Standard))
}

/// The error for a member that the backend doesn't support.
pub(super) fn unsupported(field: &Field<'_, '_>, instead: &str) -> ProxyError {
    Refusal::unsupported_parameter(field.to_string(), format!("{field}: not supported by this proxy; {instead}"))
}
