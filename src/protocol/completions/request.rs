//! A text completion as it is asked for: one prompt of text.
//!
//! Everything that would make another answer of it than one continuation of one text (several
//! prompts, several choices, a suffix, an echo, log probabilities) is refused with its name.

use std::borrow::Cow;

use crate::error::{ProxyError, Refusal};
use crate::protocol::Ignored;
use crate::protocol::Mode;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::reply::stop;
use crate::protocol::upstream_input::limit::AskedLimits;

/// A decoded request, borrowing from the body.
#[derive(Clone, Debug)]
pub struct CompletionRequest<'a> {
    pub(super) model: Option<Cow<'a, str>>,
    pub(super) prompt: Cow<'a, str>,
    pub(super) mode: Mode,
    pub(super) includes_usage: bool,
    pub(super) stop: Vec<String>,
    pub(super) prompt_cache_key: Option<Cow<'a, str>>,
    pub(super) user: Option<Cow<'a, str>>,
    pub(super) limits: AskedLimits,
    /// Members that are ignored and could have mattered, in order.
    pub(super) ignored: Ignored,
}

/// Reads a body.
///
/// # Errors
/// When it is not a JSON object, a known member has the wrong type or a value that can't be taken,
/// or the request asks for what can't be had.
pub fn decode(body: &[u8]) -> Result<CompletionRequest<'_>, ProxyError> {
    let envelope = RawObject::from_body(body)?;
    let mut request = CompletionRequest {
        model: None,
        prompt: Cow::Borrowed(""),
        mode: Mode::Document,
        includes_usage: false,
        stop: Vec::new(),
        prompt_cache_key: None,
        user: None,
        limits: AskedLimits::default(),
        ignored: Ignored::default(),
    };
    let sent = || envelope.members().iter().filter(|(_, value)| !value.is_null());
    for (name, value) in sent() {
        request.take(name, &Field::from_body(name, value))?;
    }
    if !sent().any(|(name, _)| name == "prompt") {
        return Err(Refusal::missing("prompt"));
    }
    if request.mode == Mode::Document && sent().any(|(name, _)| name == "stream_options") {
        return Err(Refusal::invalid("stream_options", "'stream_options' is only allowed with 'stream': true"));
    }
    Ok(request)
}

impl<'a> CompletionRequest<'a> {
    fn take(&mut self, name: &str, field: &Field<'a, '_>) -> Result<(), ProxyError> {
        match name {
            "model" => self.model = Some(field.text()?),
            "prompt" => self.prompt = prompt(field)?,
            "stream" => self.mode = if field.flag()? { Mode::Stream } else { Mode::Document },
            "stream_options" => {
                let usage = field.member(&*field.object()?, "include_usage").map(|usage| usage.flag());
                self.includes_usage = usage.transpose()?.unwrap_or(false);
            }
            "stop" => self.stop = stop::read(field)?,
            "prompt_cache_key" => self.prompt_cache_key = Some(field.text()?),
            "user" => self.user = Some(field.text()?),
            _ if AskedLimits::has(name) => {
                self.limits.take(name, field)?;
                self.ignored.note(name);
            }
            _ => {
                if is_ignored(name, field)? {
                    self.ignored.note(name);
                }
            }
        }
        Ok(())
    }
}

/// The one prompt. Token ids mean nothing here: the tokenizer that made them is another model's.
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

/// Whether a member without a meaning here has to be named. Refuses what can't be had.
fn is_ignored(name: &str, field: &Field<'_, '_>) -> Result<bool, ProxyError> {
    let unsupported = |message: &str| Refusal::unsupported_parameter(name, message);
    match name {
        "seed" => field.number().map(|_| true),
        "temperature" | "top_p" => field.differs_from(1.0),
        "frequency_penalty" | "presence_penalty" => field.differs_from(0.0),
        "logit_bias" => Ok(!field.object()?.is_empty()),
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
