//! Reads a text completion request.
//!
//! The backend answers one prompt with one text. A request that needs more (several prompts, several choices, a suffix,
//! an echo, log probabilities) is rejected.

use std::borrow::Cow;

use crate::error::{ProxyError, Refusal};
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::upstream_input::parameters::{self, TokenLimits};
use crate::protocol::{Ignored, Mode};

/// A decoded request, borrowing from the body.
#[derive(Clone, Debug, Default)]
pub struct CompletionRequest<'a> {
    pub(super) model: Option<Cow<'a, str>>,
    pub(super) prompt: Cow<'a, str>,
    pub(super) mode: Mode,
    /// `stream_options.include_usage`; `None` if there are no stream options.
    pub(super) includes_usage: Option<bool>,
    pub(super) stop: Vec<String>,
    pub(super) prompt_cache_key: Option<Cow<'a, str>>,
    pub(super) user: Option<Cow<'a, str>>,
    pub(super) token_limits: TokenLimits,
    pub(super) ignored: Ignored,
}

/// Reads a request body.
///
/// # Errors
/// If the body is not a JSON object, a known member has the wrong type or an invalid value, or the request needs
/// something that the backend doesn't support.
pub fn decode(body: &[u8]) -> Result<CompletionRequest<'_>, ProxyError> {
    let members = RawObject::from_body(body)?;
    let mut request = CompletionRequest::default();
    for (name, field) in members.fields() {
        request.read(name, &field)?;
    }
    // An empty `prompt` member was rejected when it was read, so here the member is missing.
    if request.prompt.is_empty() {
        return Err(Refusal::missing("prompt"));
    }
    if request.includes_usage.is_some() && request.mode == Mode::Document {
        return Err(parameters::stream_options_without_stream());
    }
    Ok(request)
}

impl<'a> CompletionRequest<'a> {
    fn read(&mut self, name: &str, field: &Field<'a, '_>) -> Result<(), ProxyError> {
        match name {
            "model" => self.model = Some(field.text()?),
            "prompt" => self.prompt = prompt(field)?,
            "stream" => self.mode = parameters::mode(field)?,
            "stream_options" => self.includes_usage = Some(parameters::includes_usage(field)?),
            "stop" => self.stop = parameters::stop(field)?,
            "prompt_cache_key" => self.prompt_cache_key = Some(field.text()?),
            "user" => self.user = Some(field.text()?),
            _ => {
                if !self.token_limits.read(name, field, &mut self.ignored)? && is_ignored(name, field)? {
                    self.ignored.note(name);
                }
            }
        }
        Ok(())
    }
}

/// Reads the prompt: a string or an array of one string. Token ids are rejected: they belong to another model's
/// tokenizer.
fn prompt<'a>(prompt: &Field<'a, '_>) -> Result<Cow<'a, str>, ProxyError> {
    let text = if prompt.is_list() {
        let list = prompt.list()?;
        let is_tokens = list.iter().any(|element| element.text().starts_with(|c: char| c == '[' || c.is_ascii_digit()));
        if is_tokens {
            return Err(Refusal::unsupported_value(
                prompt.to_string(),
                "token ids are not supported by this backend; send the prompt as text",
            ));
        }
        if list.len() > 1 {
            return Err(Refusal::unsupported_value(
                prompt.to_string(),
                "only one prompt is supported by this backend; send a request for each",
            ));
        }
        prompt.texts()?.pop().unwrap_or_default()
    } else if prompt.is_text() {
        prompt.text()?
    } else {
        return Err(prompt.must_be("a string or an array of one string"));
    };
    if text.is_empty() { Err(prompt.invalid("must not be empty")) } else { Ok(text) }
}

/// Whether a member that isn't used is reported as ignored: not if it can't change the response. Rejects a member whose
/// meaning the backend would have to support.
fn is_ignored(name: &str, field: &Field<'_, '_>) -> Result<bool, ProxyError> {
    if let Some(is_changed) = parameters::is_sampling_changed(name, field)? {
        return Ok(is_changed);
    }
    let unsupported = |message: &str| Refusal::unsupported_parameter(name, message);
    match name {
        "n" | "best_of" if field.differs_from(1.0)? => {
            Err(Refusal::unsupported_value(name, format!("only one choice ({name} = 1) is supported by this backend")))
        }
        "echo" if field.flag()? => Err(unsupported("the prompt can't be echoed on this backend")),
        "logprobs" if field.json() != "false" => {
            Err(unsupported("log probabilities are not available on this backend"))
        }
        "suffix" if !field.text()?.is_empty() => {
            Err(unsupported("text can't be inserted before a suffix on this backend; put it into the prompt"))
        }
        "n" | "best_of" | "echo" | "logprobs" | "suffix" | "metadata" | "safety_identifier" => Ok(false),
        _ => Ok(true),
    }
}
