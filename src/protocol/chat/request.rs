//! Reads a Chat Completions request.
//!
//! Members are read in the order of the request, so that ignored members are reported in that order. A null member
//! counts as absent. A member that would change the meaning of the response and that the backend doesn't support is
//! rejected; one that can't change it is dropped without a warning.

use std::borrow::Cow;

use super::message::Message;
use super::responses_body::{self, ResponsesBody};
use super::tool_choice::RequestedChoice;
use super::tools::DeclaredTool;
use crate::error::{ProxyError, Refusal};
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::models::Effort;
use crate::protocol::upstream_input::parameters::{self, RequestedTier, ResponseFormat, TokenLimits};
use crate::protocol::{Ignored, Mode};

/// A decoded request, borrowing from the body.
#[derive(Clone, Debug, Default)]
pub struct ChatRequest<'a> {
    pub(super) model: Option<Cow<'a, str>>,
    pub(super) messages: Vec<Message<'a>>,
    pub(super) mode: Mode,
    /// `stream_options.include_usage`; `None` if there are no stream options.
    pub(super) includes_usage: Option<bool>,
    pub(super) tools: Vec<DeclaredTool<'a>>,
    /// `functions`; empty if the request has `tools`.
    pub(super) functions: Vec<DeclaredTool<'a>>,
    /// `web_search_options`.
    pub(super) web_search: Option<DeclaredTool<'a>>,
    pub(super) tool_choice: Option<RequestedChoice<'a>>,
    pub(super) function_call: Option<RequestedChoice<'a>>,
    pub(super) parallel_tool_calls: Option<bool>,
    pub(super) format: Option<ResponseFormat>,
    /// `reasoning_effort`.
    pub(super) effort: Option<Effort>,
    pub(super) reasoning: Reasoning<'a>,
    pub(super) verbosity: Option<Cow<'a, str>>,
    pub(super) service_tier: Option<RequestedTier>,
    pub(super) stop: Vec<String>,
    pub(super) token_limits: TokenLimits,
    pub(super) prompt_cache_key: Option<Cow<'a, str>>,
    pub(super) user: Option<Cow<'a, str>>,
    /// The members that only a Responses body has; `None` for a Chat body.
    pub(super) responses_body: Option<ResponsesBody<'a>>,
    pub(super) ignored: Ignored,
}

/// The `reasoning` object of routers such as `OpenRouter`.
#[derive(Clone, Debug, Default)]
pub(super) struct Reasoning<'a> {
    pub(super) effort: Option<Effort>,
    pub(super) summary: Option<Cow<'a, str>>,
}

/// Reads a request body.
///
/// # Errors
/// If the body is not a JSON object, a known member has the wrong type or an invalid value, or the request needs
/// something that the backend doesn't support.
pub fn decode(body: &[u8]) -> Result<ChatRequest<'_>, ProxyError> {
    let members = RawObject::from_body(body)?;
    let mut request = ChatRequest::default();
    let is_sent = |name| members.get(name).is_some_and(|raw| raw.get() != "null");
    request.responses_body = (is_sent("input") && !is_sent("messages")).then(ResponsesBody::default);
    for (name, field) in members.fields() {
        request.read(name, &field)?;
    }
    request.check()
}

impl<'a> ChatRequest<'a> {
    fn read(&mut self, name: &str, field: &Field<'a, '_>) -> Result<(), ProxyError> {
        if self.read_responses_member(name, field)? {
            return Ok(());
        }
        match name {
            "model" => self.model = Some(field.text()?),
            "messages" => self.messages = messages(field)?,
            "stream" => self.mode = parameters::mode(field)?,
            "stream_options" => self.includes_usage = Some(parameters::includes_usage(field)?),
            "tools" => self.tools = field.each(DeclaredTool::read)?,
            "functions" => self.functions = field.each(DeclaredTool::read_function)?,
            "web_search_options" => self.web_search = Some(DeclaredTool::web_search(field)?),
            "tool_choice" => self.tool_choice = Some(RequestedChoice::read(field)?),
            "function_call" => self.function_call = Some(RequestedChoice::read_function_call(field)?),
            "parallel_tool_calls" => self.parallel_tool_calls = Some(field.flag()?),
            "response_format" => self.format = ResponseFormat::read_nested(field)?,
            "reasoning_effort" => self.effort = Some(parameters::effort(field)?),
            "reasoning" => self.reasoning = Reasoning::read(field)?,
            "verbosity" => self.verbosity = Some(parameters::verbosity(field)?),
            "stop" => self.stop = parameters::stop(field)?,
            "prompt_cache_key" => self.prompt_cache_key = Some(field.text()?),
            "user" => self.user = Some(field.text()?),
            "service_tier" => self.service_tier = Some(RequestedTier::read(name, field, &mut self.ignored)?),
            _ => {
                if !self.token_limits.read(name, field, &mut self.ignored)? && is_ignored(name, field)? {
                    self.ignored.note(name);
                }
            }
        }
        Ok(())
    }

    /// Reads a member that only Responses bodies have. Returns whether it was one.
    fn read_responses_member(&mut self, name: &str, field: &Field<'a, '_>) -> Result<bool, ProxyError> {
        let Some(body) = &mut self.responses_body else { return Ok(false) };
        match name {
            "input" => self.messages = body.read_input(field)?,
            "instructions" => body.instructions = Some(field.text()?).filter(|text| !text.trim().is_empty()),
            "text" => body.read_text(field)?,
            _ => {
                let is_ignored = responses_body::is_ignored(name, field)?;
                if is_ignored == Some(true) {
                    self.ignored.note(name);
                }
                return Ok(is_ignored.is_some());
            }
        }
        Ok(true)
    }

    /// The name of the member that holds the conversation.
    pub(super) fn prompt_name(&self) -> &'static str {
        if self.responses_body.is_some() { "input" } else { "messages" }
    }

    /// Checks what depends on several members. Of two members with the same meaning, keeps the newer one of Chat.
    fn check(mut self) -> Result<Self, ProxyError> {
        if self.messages.is_empty() {
            let name = self.prompt_name();
            return Err(Refusal::invalid(name, format!("'{name}' must be a non-empty array")));
        }
        if let Some(body) = &mut self.responses_body {
            self.format = self.format.take().or(body.format.take());
            self.verbosity = self.verbosity.take().or(body.verbosity.take());
        }
        if self.includes_usage.is_some() && self.mode == Mode::Document {
            return Err(parameters::stream_options_without_stream());
        }
        if !self.tools.is_empty() {
            if !std::mem::take(&mut self.functions).is_empty() {
                self.ignored.note("functions");
            }
            if self.function_call.take().is_some() {
                self.ignored.note("function_call");
            }
        }
        Ok(self)
    }
}

impl<'a> Reasoning<'a> {
    fn read(reasoning: &Field<'a, '_>) -> Result<Self, ProxyError> {
        let members = reasoning.object()?;
        let summary = reasoning.optional_text(&members, "summary")?;
        Ok(Self {
            effort: reasoning.member(&members, "effort").map(|word| parameters::effort(&word)).transpose()?,
            summary: summary.filter(|summary| matches!(&**summary, "auto" | "concise" | "detailed")),
        })
    }
}

/// Whether a member that isn't used is reported as ignored: not if it can't change the response. Rejects a member whose
/// meaning the backend would have to support.
fn is_ignored(name: &str, field: &Field<'_, '_>) -> Result<bool, ProxyError> {
    if let Some(is_changed) = parameters::is_sampling_changed(name, field)? {
        return Ok(is_changed);
    }
    let unsupported = |message: &str| Refusal::unsupported_parameter(name, message);
    match name {
        "store" => field.flag(),
        "n" if field.differs_from(1.0)? => {
            Err(Refusal::unsupported_value(name, "only one choice (n = 1) is supported by this backend"))
        }
        "logprobs" if field.flag()? => Err(unsupported("log probabilities are not available on this backend")),
        "top_logprobs" if field.number()? > 0.0 => {
            Err(unsupported("log probabilities are not available on this backend"))
        }
        "modalities" if has_audio(field)? => {
            Err(Refusal::unsupported_value(name, "audio output is not supported by this backend"))
        }
        "moderation" => Err(unsupported("moderation is not available on this backend")),
        "n"
        | "logprobs"
        | "top_logprobs"
        | "modalities"
        | "audio"
        | "prediction"
        | "metadata"
        | "safety_identifier"
        | "prompt_cache_retention"
        | "prompt_cache_options" => Ok(false),
        _ => Ok(true),
    }
}

fn has_audio(modalities: &Field<'_, '_>) -> Result<bool, ProxyError> {
    Ok(modalities.texts()?.iter().any(|name| name == "audio"))
}

fn messages<'a>(list: &Field<'a, '_>) -> Result<Vec<Message<'a>>, ProxyError> {
    if list.is_list() { list.each(Message::read) } else { Err(list.invalid("must be a non-empty array")) }
}
