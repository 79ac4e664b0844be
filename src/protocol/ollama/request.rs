//! A request as it comes in, in either form: every member known by name, each of the type it has to have.
//!
//! What would change the meaning of the answer and can't be had is refused with its name; what only
//! says how a model is to be run on one's own machine goes in silence. A member that is null, and a
//! text that is empty, are not sent: clients in Go send every member they know.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::Form;
use super::event::DoneReason;
use super::media;
use super::message::Message;
use super::options::Sampling;
use super::think::Think;
use super::tools::Declared;
use crate::error::{ProxyError, Refusal};
use crate::protocol::Ignored;
use crate::protocol::Mode;
use crate::protocol::codex::request::Part;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;

/// A decoded request, borrowing from the body.
#[derive(Clone, Debug)]
pub struct OllamaRequest<'a> {
    pub(super) form: Form,
    pub(super) model: Option<Cow<'a, str>>,
    pub(super) messages: Vec<Message<'a>>,
    pub(super) mode: Mode,
    pub(super) think: Think,
    pub(super) format: Option<Format<'a>>,
    pub(super) tools: Vec<Declared<'a>>,
    pub(super) sampling: Sampling,
    /// Whether the model may be unloaded at once, which is all that a request for nothing asks then.
    is_leaving: bool,
    prompt: Cow<'a, str>,
    system: Cow<'a, str>,
    images: Vec<Part<'a>>,
    /// Members that are ignored and could have mattered, in order.
    pub(super) ignored: Ignored,
}

/// A format other than plain text.
#[derive(Clone, Copy, Debug)]
pub(super) enum Format<'a> {
    /// Any JSON.
    Json,
    /// What a schema describes.
    Schema(&'a RawValue),
}

/// Reads a body in this form.
///
/// # Errors
/// When it is not a JSON object, a known member has the wrong type or a value that can't be taken,
/// or the request asks for what can't be had.
pub fn decode(body: &[u8], form: Form) -> Result<OllamaRequest<'_>, ProxyError> {
    let envelope = RawObject::from_body(body)?;
    let mut request = OllamaRequest {
        form,
        model: None,
        messages: Vec::new(),
        mode: Mode::Stream,
        think: Think::default(),
        format: None,
        tools: Vec::new(),
        sampling: Sampling::default(),
        is_leaving: false,
        prompt: Cow::Borrowed(""),
        system: Cow::Borrowed(""),
        images: Vec::new(),
        ignored: Ignored::default(),
    };
    for (name, value) in envelope.members() {
        if !value.is_null() {
            request.take(name, &Field::from_body(name, value))?;
        }
    }
    request.lay_out_prompt();
    Ok(request)
}

impl<'a> OllamaRequest<'a> {
    /// What a client is told that asks for nothing: that its model is ready, or let go.
    pub(super) fn unasked(&self) -> Option<DoneReason> {
        let reason = if self.is_leaving { DoneReason::Unload } else { DoneReason::Load };
        self.messages.is_empty().then_some(reason)
    }

    /// The member that holds the conversation.
    pub(super) fn prompt_name(&self) -> &'static str {
        match self.form {
            Form::Chat => "messages",
            Form::Generate => "prompt",
        }
    }

    fn take(&mut self, name: &str, field: &Field<'a, '_>) -> Result<(), ProxyError> {
        let is_taken = match self.form {
            Form::Chat => self.take_of_chat(name, field)?,
            Form::Generate => self.take_of_generate(name, field)?,
        };
        if is_taken {
            return Ok(());
        }
        match name {
            "model" => self.model = Some(field.text()?),
            "stream" => self.mode = if field.flag()? { Mode::Stream } else { Mode::Document },
            "think" => self.think = Think::read(field)?,
            "format" => self.format = Format::read(field)?,
            "options" => self.sampling = Sampling::read(field, &mut self.ignored)?,
            "keep_alive" => self.is_leaving = is_zero(field.json()),
            "logprobs" if field.flag()? => return Err(no_probabilities(name)),
            "top_logprobs" if field.number()? > 0.0 => return Err(no_probabilities(name)),
            "logprobs" | "top_logprobs" => {}
            _ => self.ignored.note(name),
        }
        Ok(())
    }

    /// Takes a member that a conversation alone has; says whether it was one.
    fn take_of_chat(&mut self, name: &str, field: &Field<'a, '_>) -> Result<bool, ProxyError> {
        match name {
            "messages" => self.messages = field.each(Message::read)?,
            "tools" => self.tools = field.each(Declared::read)?,
            // A conversation that is too long is refused, whatever is said about cutting it.
            "truncate" | "shift" => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The same for a single prompt.
    fn take_of_generate(&mut self, name: &str, field: &Field<'a, '_>) -> Result<bool, ProxyError> {
        let unsupported = |message: &str| Err(Refusal::unsupported_parameter(name, message));
        match name {
            "prompt" => self.prompt = field.text()?,
            "system" => self.system = field.text()?,
            "images" => self.images = field.each(media::read)?,
            "suffix" if !field.text()?.is_empty() => {
                return unsupported("suffix: text can't be inserted before a suffix on this backend");
            }
            "template" if !field.text()?.is_empty() => {
                return unsupported("template: the backend has its own; say it in 'system' or 'prompt'");
            }
            "raw" if field.flag()? => {
                return unsupported("raw: the backend takes no prompt that is formatted already; send plain text");
            }
            "context" if !field.list()?.is_empty() => {
                return unsupported("context: no conversation is kept in tokens here; send its messages to /api/chat");
            }
            "suffix" | "template" | "raw" | "context" | "truncate" | "shift" => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// A single prompt is a conversation of one message, under the system prompt that comes with it.
    fn lay_out_prompt(&mut self) {
        if self.prompt.is_empty() && self.images.is_empty() {
            return;
        }
        let system = std::mem::take(&mut self.system);
        self.messages.push(Message::System(system));
        let (prompt, images) = (std::mem::take(&mut self.prompt), std::mem::take(&mut self.images));
        self.messages.push(Message::User(super::message::said(prompt.into(), images)));
    }
}

impl<'a> Format<'a> {
    fn read(format: &Field<'a, '_>) -> Result<Option<Self>, ProxyError> {
        if format.is_object() {
            // A schema that says nothing.
            let is_empty = format.object()?.is_empty();
            return Ok(Some(if is_empty { Self::Json } else { Self::Schema(format.raw()) }));
        }
        if !format.is_text() {
            return Err(format.must_be("'json' or a JSON schema"));
        }
        match &*format.text()? {
            "" => Ok(None),
            "json" => Ok(Some(Self::Json)),
            _ => Err(format.invalid("must be 'json' or a JSON schema")),
        }
    }
}

fn no_probabilities(name: &str) -> ProxyError {
    Refusal::unsupported_parameter(name, format!("{name}: log probabilities are not available on this backend"))
}

/// Whether a duration is zero: a number of seconds, or a number with a unit.
fn is_zero(duration: &str) -> bool {
    let digits = duration.trim_matches('"').trim_end_matches(|c: char| c.is_ascii_alphabetic());
    !digits.is_empty() && digits.chars().all(|c| matches!(c, '0' | '.'))
}
