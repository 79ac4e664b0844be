//! Reads a request of either Ollama endpoint.
//!
//! A member that would change the meaning of the response and that the backend doesn't support is rejected. Members
//! about running a model locally are dropped without a warning, and unknown ones with a warning. A null member and an
//! empty string count as absent: clients in Go send every member they know.

use std::borrow::Cow;

use super::Form;
use super::event::DoneReason;
use super::media;
use super::message::{self, Message};
use super::options::ModelOptions;
use super::think::Think;
use super::tools;
use crate::error::{ProxyError, Refusal};
use crate::protocol::codex::request::Part;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::upstream_input::DeclaredTool;
use crate::protocol::upstream_input::parameters::{self, ResponseFormat};
use crate::protocol::{Ignored, Mode};

/// A decoded request, borrowing from the body.
#[derive(Clone, Debug, Default)]
pub struct OllamaRequest<'a> {
    pub(super) form: Form,
    pub(super) model: Option<Cow<'a, str>>,
    pub(super) messages: Vec<Message<'a>>,
    pub(super) mode: Mode,
    pub(super) think: Think,
    pub(super) format: Option<ResponseFormat>,
    pub(super) tools: Vec<DeclaredTool<'a>>,
    pub(super) model_options: ModelOptions,
    /// `keep_alive` is 0: if there is no prompt, the request is to unload the model.
    unloads: bool,
    prompt: Cow<'a, str>,
    system: Cow<'a, str>,
    images: Vec<Part<'a>>,
    pub(super) ignored: Ignored,
}

/// Reads a request body.
///
/// # Errors
/// If the body is not a JSON object, a known member has the wrong type or an invalid value, or the request needs
/// something that the backend doesn't support.
pub fn decode(body: &[u8], form: Form) -> Result<OllamaRequest<'_>, ProxyError> {
    let members = RawObject::from_body(body)?;
    let mut request = OllamaRequest { form, mode: Mode::Stream, ..OllamaRequest::default() };
    for (name, field) in members.fields() {
        request.read(name, &field)?;
    }
    request.add_prompt();
    Ok(request)
}

impl<'a> OllamaRequest<'a> {
    /// The done reason of the reply to a request without a prompt; `None` if the request has one.
    pub(super) fn reason_without_prompt(&self) -> Option<DoneReason> {
        let reason = if self.unloads { DoneReason::Unload } else { DoneReason::Load };
        self.messages.is_empty().then_some(reason)
    }

    /// The name of the member that holds the conversation.
    pub(super) fn prompt_name(&self) -> &'static str {
        match self.form {
            Form::Chat => "messages",
            Form::Generate => "prompt",
        }
    }

    fn read(&mut self, name: &str, field: &Field<'a, '_>) -> Result<(), ProxyError> {
        let is_read = match self.form {
            Form::Chat => self.read_chat_member(name, field)?,
            Form::Generate => self.read_generate_member(name, field)?,
        };
        if is_read {
            return Ok(());
        }
        match name {
            "model" => self.model = Some(field.text()?),
            "stream" => self.mode = parameters::mode(field)?,
            "think" => self.think = Think::read(field)?,
            "format" => self.format = ResponseFormat::read_ollama(field)?,
            "options" => self.model_options = ModelOptions::read(field, &mut self.ignored)?,
            "keep_alive" => self.unloads = is_zero(field.json()),
            "logprobs" if field.flag()? => return Err(no_log_probabilities(name)),
            "top_logprobs" if field.number()? > 0.0 => return Err(no_log_probabilities(name)),
            "logprobs" | "top_logprobs" => {}
            _ => self.ignored.note(name),
        }
        Ok(())
    }

    /// Reads a member that only `/api/chat` has. Returns whether it was one.
    fn read_chat_member(&mut self, name: &str, field: &Field<'a, '_>) -> Result<bool, ProxyError> {
        match name {
            "messages" => self.messages = field.each(Message::read)?,
            "tools" => self.tools = field.each(tools::read)?,
            // The backend rejects a conversation that is too long; it never truncates one.
            "truncate" | "shift" => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Reads a member that only `/api/generate` has. Returns whether it was one.
    fn read_generate_member(&mut self, name: &str, field: &Field<'a, '_>) -> Result<bool, ProxyError> {
        let unsupported = |message: &str| Err(Refusal::unsupported_parameter(name, message));
        match name {
            "prompt" => self.prompt = field.text()?,
            "system" => self.system = field.text()?,
            "images" => self.images = field.each(media::read)?,
            "suffix" if !field.text()?.is_empty() => {
                return unsupported("suffix: text can't be inserted before a suffix on this backend");
            }
            "template" if !field.text()?.is_empty() => {
                return unsupported("template: the backend has its own; use 'system' or 'prompt' instead");
            }
            "raw" if field.flag()? => {
                return unsupported("raw: the backend formats the prompt itself; send plain text");
            }
            "context" if !field.list()?.is_empty() => {
                return unsupported("context: this proxy stores no conversations; send the messages to /api/chat");
            }
            "suffix" | "template" | "raw" | "context" | "truncate" | "shift" => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Converts the prompt of `/api/generate` to a conversation: a system message and a user message.
    fn add_prompt(&mut self) {
        if self.prompt.is_empty() && self.images.is_empty() {
            return;
        }
        let system = std::mem::take(&mut self.system);
        self.messages.push(Message::System(system));
        let (prompt, images) = (std::mem::take(&mut self.prompt), std::mem::take(&mut self.images));
        self.messages.push(Message::User(message::text_and_images(prompt.into(), images)));
    }
}

fn no_log_probabilities(name: &str) -> ProxyError {
    Refusal::unsupported_parameter(name, format!("{name}: log probabilities are not available on this backend"))
}

/// Whether the JSON of a duration means zero. It is a number of seconds, or a string of a number and a unit.
fn is_zero(duration: &str) -> bool {
    let digits = duration.trim_matches('"').trim_end_matches(|c: char| c.is_ascii_alphabetic());
    !digits.is_empty() && digits.chars().all(|c| matches!(c, '0' | '.'))
}
