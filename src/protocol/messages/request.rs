//! A Messages request as it comes in.
//!
//! Beta members come and go, so that what is not known is dropped in silence; a known member has to
//! have its type. A member that is null is a member not sent. What would change the meaning of the
//! answer and can't be had is refused here.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::content;
use super::error::THREAD_NOT_FOUND;
use super::format;
use super::message::Message;
use super::thinking::Thinking;
use super::tool_choice::Choice;
use super::tools::Declared;
use crate::error::{ProxyError, Reason, Refusal};
use crate::protocol::Ignored;
use crate::protocol::Mode;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::models::Effort;
use crate::protocol::tokens::TokenLimit;

/// Claude Code's first system text. It changes with every conversation, which would cost the prompt cache.
const BILLING: &str = "x-anthropic-billing-header:";

/// A decoded request, borrowing from the body.
#[derive(Clone, Debug)]
pub struct MessagesRequest<'a> {
    pub(super) model: Option<Cow<'a, str>>,
    pub(super) messages: Vec<Message<'a>>,
    pub(super) system: Vec<Cow<'a, str>>,
    pub(super) mode: Mode,
    pub(super) stop: Vec<String>,
    pub(super) thinking: Thinking,
    pub(super) effort: Option<Effort>,
    pub(super) format: Option<Box<RawValue>>,
    pub(super) tools: Vec<Declared<'a>>,
    pub(super) tool_choice: Option<Choice<'a>>,
    pub(super) is_parallel: bool,
    pub(super) user_id: Option<Cow<'a, str>>,
    pub(super) is_fast: bool,
    /// Members that are ignored and could have mattered, in order.
    pub(super) ignored: Ignored,
    /// `max_tokens`; the backend takes no limit.
    limit: Option<u64>,
}

/// Reads the body of a request for an answer.
///
/// # Errors
/// When it is not a JSON object, a known member has the wrong type or a value that can't be taken,
/// or the request asks for what can't be had.
pub fn decode(body: &[u8]) -> Result<MessagesRequest<'_>, ProxyError> {
    let request = decode_prompt(body)?;
    if request.limit.is_none() {
        return Err(Refusal::coded("missing_required_parameter", "max_tokens", "max_tokens: Field required"));
    }
    Ok(request)
}

/// Reads a body that may do without the members that are about the answer only.
///
/// # Errors
/// As for [`decode`].
pub fn decode_prompt(body: &[u8]) -> Result<MessagesRequest<'_>, ProxyError> {
    let envelope = RawObject::from_body(body)?;
    let mut request = MessagesRequest::empty();
    for (name, value) in envelope.members() {
        if !value.is_null() {
            request.take(name, &Field::from_body(name, value))?;
        }
    }
    if request.messages.is_empty() {
        return Err(Refusal::invalid("messages", "messages: must be a non-empty array"));
    }
    Ok(request)
}

impl<'a> MessagesRequest<'a> {
    fn empty() -> Self {
        Self {
            model: None,
            messages: Vec::new(),
            system: Vec::new(),
            mode: Mode::Document,
            stop: Vec::new(),
            thinking: Thinking::default(),
            effort: None,
            format: None,
            tools: Vec::new(),
            tool_choice: None,
            is_parallel: true,
            user_id: None,
            is_fast: false,
            ignored: Ignored::default(),
            limit: None,
        }
    }

    /// The limit to enforce. Every request has one, so that it is ignored without a word.
    pub(super) fn token_limit(&self, policy: TokenLimit) -> Result<Option<u64>, ProxyError> {
        match policy {
            TokenLimit::Ignore => Ok(None),
            TokenLimit::Enforce => Ok(self.limit),
            TokenLimit::Reject if self.limit.is_none() => Ok(None),
            TokenLimit::Reject => {
                let message = "max_tokens: not available on this backend, and chat.token_limit is \"reject\"";
                Err(Refusal::unsupported_parameter("max_tokens", message))
            }
        }
    }

    fn take(&mut self, name: &str, field: &Field<'a, '_>) -> Result<(), ProxyError> {
        match name {
            "model" => self.model = Some(field.text()?),
            "messages" => self.messages = field.each(Message::read)?,
            "system" => self.system = system(field)?,
            "stream" => self.mode = if field.flag()? { Mode::Stream } else { Mode::Document },
            "max_tokens" => self.limit = Some(limit(field)?),
            "stop_sequences" => {
                let words = field.texts()?.into_iter().filter(|word| !word.is_empty());
                self.stop = words.map(Cow::into_owned).collect();
            }
            "thinking" => self.thinking = Thinking::read(field)?,
            "output_config" => self.take_output(field)?,
            "output_format" => self.format = self.format.take().or(format::read(field)?),
            "tools" => self.tools = field.each(Declared::read)?,
            "tool_choice" => self.take_choice(field)?,
            "metadata" => self.user_id = field.member(&*field.object()?, "user_id").map(|id| id.text()).transpose()?,
            "speed" => self.is_fast = field.text()? == "fast",
            "temperature" if field.differs_from(1.0)? => self.ignored.note("temperature"),
            "top_p" if field.differs_from(1.0)? => self.ignored.note("top_p"),
            "top_k" => self.ignored.note("top_k"),
            "container" => return Err(unsupported(field)),
            "thread" => refuse_continuation(field)?,
            "mcp_servers" if !field.list()?.is_empty() => return Err(unsupported(field)),
            _ => {}
        }
        Ok(())
    }

    fn take_output(&mut self, output: &Field<'a, '_>) -> Result<(), ProxyError> {
        let members = output.object()?;
        if let Some(word) = output.member(&members, "effort") {
            self.effort = Effort::asked(&word.text()?);
            if self.effort.is_none() {
                self.ignored.note("output_config.effort");
            }
        }
        if let Some(format) = output.member(&members, "format") {
            self.format = format::read(&format)?;
        }
        Ok(())
    }

    fn take_choice(&mut self, choice: &Field<'a, '_>) -> Result<(), ProxyError> {
        let members = choice.object()?;
        self.tool_choice = Some(Choice::read(choice, &members)?);
        if let Some(is_single) = choice.member(&members, "disable_parallel_tool_use") {
            self.is_parallel = !is_single.flag()?;
        }
        Ok(())
    }
}

fn unsupported(field: &Field<'_, '_>) -> ProxyError {
    Refusal::unsupported_parameter(field.to_string(), format!("{field}: not supported by this proxy"))
}

/// No conversation is held here. A client that is told so sends the whole of it; one that wants it
/// held is not in the way.
fn refuse_continuation(thread: &Field<'_, '_>) -> Result<(), ProxyError> {
    let members = thread.object()?;
    let kind = thread.member(&members, "type").map(|kind| kind.text()).transpose()?;
    if kind.as_deref() != Some("continue") {
        return Ok(());
    }
    Err(ProxyError::Refused(Refusal {
        reason: Reason::NotFound,
        message: "thread: no conversation is held by this proxy; send all of its messages".to_owned(),
        param: Some("thread".to_owned()),
        code: Some(THREAD_NOT_FOUND),
    }))
}

fn limit(field: &Field<'_, '_>) -> Result<u64, ProxyError> {
    let limit = field.whole_number().filter(|limit| *limit >= 1);
    limit.ok_or_else(|| field.must_be("an integer of at least 1"))
}

fn system<'a>(system: &Field<'a, '_>) -> Result<Vec<Cow<'a, str>>, ProxyError> {
    if system.is_list() {
        let texts = content::texts(system)?;
        return Ok(texts.into_iter().filter(|text| !text.starts_with(BILLING)).collect());
    }
    let text = system.text()?;
    if !text.starts_with(BILLING) {
        return Ok(vec![text]);
    }
    let rest = text.split_once('\n').map(|(_, rest)| Cow::Owned(rest.to_owned()));
    Ok(rest.into_iter().collect())
}
