//! Reads a Messages request.
//!
//! Unknown members are dropped without a warning, since beta members change often; a known member must have its type. A
//! null member counts as absent. A member that would change the meaning of the response and that the backend doesn't
//! support is rejected.

use std::borrow::Cow;

use super::content;
use super::error::THREAD_NOT_FOUND;
use super::message::Message;
use super::thinking::Thinking;
use super::tool_choice::RequestedChoice;
use super::tools::DeclaredTool;
use crate::error::{ProxyError, Reason, Refusal};
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::models::Effort;
use crate::protocol::upstream_input::parameters::{self, ResponseFormat};
use crate::protocol::{Ignored, Mode};

/// The start of a system block, or of the first line of a system string, that Claude Code adds. It changes with every
/// conversation, which would defeat the prompt cache, so it is removed.
const BILLING_HEADER: &str = "x-anthropic-billing-header:";

/// A decoded request, borrowing from the body.
#[derive(Clone, Debug, Default)]
pub struct MessagesRequest<'a> {
    pub(super) model: Option<Cow<'a, str>>,
    pub(super) messages: Vec<Message<'a>>,
    pub(super) system: Vec<Cow<'a, str>>,
    pub(super) mode: Mode,
    pub(super) stop: Vec<String>,
    pub(super) thinking: Thinking,
    pub(super) effort: Option<Effort>,
    pub(super) format: Option<ResponseFormat>,
    pub(super) tools: Vec<DeclaredTool<'a>>,
    pub(super) tool_choice: Option<RequestedChoice<'a>>,
    /// False with `tool_choice.disable_parallel_tool_use`.
    pub(super) is_parallel: bool,
    /// `metadata.user_id`.
    pub(super) user_id: Option<Cow<'a, str>>,
    /// `speed` is `fast`.
    pub(super) is_fast: bool,
    /// Never reported as ignored, because every request has to have one.
    pub(super) max_tokens: Option<f64>,
    pub(super) ignored: Ignored,
}

/// Reads the body of a request for a message.
///
/// # Errors
/// If the body is not a JSON object, a known member has the wrong type or an invalid value, or the request needs
/// something that the backend doesn't support.
pub fn decode(body: &[u8]) -> Result<MessagesRequest<'_>, ProxyError> {
    let request = decode_prompt(body)?;
    if request.max_tokens.is_none() {
        return Err(Refusal::coded("missing_required_parameter", "max_tokens", "max_tokens: Field required"));
    }
    Ok(request)
}

/// Reads the body of a request to count tokens, which doesn't need `max_tokens`.
///
/// # Errors
/// As for [`decode`].
pub fn decode_prompt(body: &[u8]) -> Result<MessagesRequest<'_>, ProxyError> {
    let members = RawObject::from_body(body)?;
    let mut request = MessagesRequest { is_parallel: true, ..MessagesRequest::default() };
    for (name, field) in members.fields() {
        request.read(name, &field)?;
    }
    if request.messages.is_empty() {
        return Err(Refusal::invalid("messages", "messages: must be a non-empty array"));
    }
    Ok(request)
}

impl<'a> MessagesRequest<'a> {
    fn read(&mut self, name: &str, field: &Field<'a, '_>) -> Result<(), ProxyError> {
        match name {
            "model" => self.model = Some(field.text()?),
            "messages" => self.messages = field.each(Message::read)?,
            "system" => self.system = system(field)?,
            "stream" => self.mode = parameters::mode(field)?,
            "max_tokens" => self.max_tokens = Some(max_tokens(field)?),
            "stop_sequences" => self.stop = parameters::stop_sequences(field)?,
            "thinking" => self.thinking = Thinking::read(field)?,
            "output_config" => self.read_output_config(field)?,
            "output_format" => self.format = self.format.take().or(ResponseFormat::read_unnamed(field)?),
            "tools" => self.tools = field.each(DeclaredTool::read)?,
            "tool_choice" => self.read_tool_choice(field)?,
            "metadata" => self.user_id = field.optional_text(&*field.object()?, "user_id")?,
            "speed" => self.is_fast = field.text()? == "fast",
            "temperature" | "top_p" if !field.differs_from(1.0)? => {}
            "temperature" | "top_p" | "top_k" => self.ignored.note(name),
            "container" => return Err(unsupported(field)),
            "thread" => reject_continuation(field)?,
            "mcp_servers" if !field.list()?.is_empty() => return Err(unsupported(field)),
            _ => {}
        }
        Ok(())
    }

    fn read_output_config(&mut self, config: &Field<'a, '_>) -> Result<(), ProxyError> {
        let members = config.object()?;
        if let Some(word) = config.optional_text(&members, "effort")? {
            self.effort = Effort::from_client(&word);
            if self.effort.is_none() {
                self.ignored.note("output_config.effort");
            }
        }
        if let Some(format) = config.member(&members, "format") {
            self.format = ResponseFormat::read_unnamed(&format)?;
        }
        Ok(())
    }

    fn read_tool_choice(&mut self, choice: &Field<'a, '_>) -> Result<(), ProxyError> {
        let members = choice.object()?;
        self.tool_choice = Some(RequestedChoice::read(choice, &members)?);
        if let Some(is_single) = choice.member(&members, "disable_parallel_tool_use") {
            self.is_parallel = !is_single.flag()?;
        }
        Ok(())
    }
}

fn unsupported(field: &Field<'_, '_>) -> ProxyError {
    Refusal::unsupported_parameter(field.to_string(), format!("{field}: not supported by this proxy"))
}

/// Rejects a request that continues a stored conversation: clients then send the whole conversation. A request that
/// only wants its conversation stored is accepted.
fn reject_continuation(thread: &Field<'_, '_>) -> Result<(), ProxyError> {
    if thread.optional_text(&*thread.object()?, "type")?.as_deref() != Some("continue") {
        return Ok(());
    }
    Err(ProxyError::Refused(Refusal {
        reason: Reason::NotFound,
        message: "thread: this proxy stores no conversations; send all messages".to_owned(),
        param: Some("thread".to_owned()),
        code: Some(THREAD_NOT_FOUND),
    }))
}

fn max_tokens(field: &Field<'_, '_>) -> Result<f64, ProxyError> {
    if field.whole_number().is_none_or(|limit| limit == 0) {
        return Err(field.must_be("an integer of at least 1"));
    }
    field.number()
}

fn system<'a>(system: &Field<'a, '_>) -> Result<Vec<Cow<'a, str>>, ProxyError> {
    if system.is_list() {
        let texts = content::texts(system)?;
        return Ok(texts.into_iter().filter(|text| !text.starts_with(BILLING_HEADER)).collect());
    }
    let text = system.text()?;
    if !text.starts_with(BILLING_HEADER) {
        return Ok(vec![text]);
    }
    let rest = text.split_once('\n').map(|(_, rest)| Cow::Owned(rest.to_owned()));
    Ok(rest.into_iter().collect())
}
