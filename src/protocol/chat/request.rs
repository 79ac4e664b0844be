//! A Chat request as it comes in: every member known by name, each of the type it has to have.
//!
//! Members are read in the order of the request, so that what is ignored is named in that order.
//! A member that is null is a member not sent. What would change the meaning of the answer and
//! can't be had is refused here; what can't change it goes in silence.

use std::borrow::Cow;

use super::format::Format;
use super::message::Message;
use super::responses_body::{self, Input};
use super::tool_choice::Choice;
use super::tools::Declared;
use crate::error::{ProxyError, Refusal};
use crate::protocol::Ignored;
use crate::protocol::Mode;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::models::Effort;
use crate::protocol::reply::stop;
use crate::protocol::upstream_input::limit::AskedLimits;

/// A decoded request, borrowing from the body.
#[derive(Clone, Debug)]
pub struct ChatRequest<'a> {
    pub(super) model: Option<Cow<'a, str>>,
    pub(super) messages: Vec<Message<'a>>,
    pub(super) mode: Mode,
    pub(super) stream_options: Option<StreamOptions>,
    pub(super) tools: Vec<Declared<'a>>,
    pub(super) functions: Vec<Declared<'a>>,
    pub(super) web_search: Option<Declared<'a>>,
    pub(super) tool_choice: Option<Choice<'a>>,
    pub(super) function_call: Option<Choice<'a>>,
    pub(super) parallel_tool_calls: Option<bool>,
    pub(super) format: Option<Format>,
    pub(super) effort: Option<Effort>,
    pub(super) reasoning: Reasoning<'a>,
    pub(super) verbosity: Option<Cow<'a, str>>,
    pub(super) service_tier: Option<Tier>,
    pub(super) stop: Vec<String>,
    pub(super) limits: AskedLimits,
    pub(super) prompt_cache_key: Option<Cow<'a, str>>,
    pub(super) user: Option<Cow<'a, str>>,
    /// What came in the Responses shape; `None` for a request in Chat's own.
    pub(super) input: Option<Input<'a>>,
    /// Members that are ignored and could have mattered, in order.
    pub(super) ignored: Ignored,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct StreamOptions {
    pub(super) include_usage: bool,
}

/// The `reasoning` object that routers use.
#[derive(Clone, Debug, Default)]
pub(super) struct Reasoning<'a> {
    pub(super) effort: Option<Effort>,
    pub(super) summary: Option<Cow<'a, str>>,
}

/// What `service_tier` came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tier {
    Priority,
    Standard,
}

/// Reads a body.
///
/// # Errors
/// When it is not a JSON object, a known member has the wrong type or a value that can't be taken,
/// or the request asks for what can't be had.
pub fn decode(body: &[u8]) -> Result<ChatRequest<'_>, ProxyError> {
    let envelope = RawObject::from_body(body)?;
    let mut request = ChatRequest::empty();
    let is_sent = |name| envelope.get(name).is_some_and(|raw| raw.get() != "null");
    request.input = (is_sent("input") && !is_sent("messages")).then(Input::default);
    for (name, value) in envelope.members() {
        if !value.is_null() {
            request.take(name, &Field::from_body(name, value))?;
        }
    }
    request.check()
}

impl<'a> ChatRequest<'a> {
    fn empty() -> Self {
        Self {
            model: None,
            messages: Vec::new(),
            mode: Mode::Document,
            stream_options: None,
            tools: Vec::new(),
            functions: Vec::new(),
            web_search: None,
            tool_choice: None,
            function_call: None,
            parallel_tool_calls: None,
            format: None,
            effort: None,
            reasoning: Reasoning::default(),
            verbosity: None,
            service_tier: None,
            stop: Vec::new(),
            limits: AskedLimits::default(),
            prompt_cache_key: None,
            user: None,
            input: None,
            ignored: Ignored::default(),
        }
    }

    fn take(&mut self, name: &str, field: &Field<'a, '_>) -> Result<(), ProxyError> {
        if self.take_of_input(name, field)? {
            return Ok(());
        }
        match name {
            "model" => self.model = Some(field.text()?),
            "messages" => self.messages = messages(field)?,
            "stream" => self.mode = if field.flag()? { Mode::Stream } else { Mode::Document },
            "stream_options" => self.stream_options = Some(StreamOptions::read(field)?),
            "tools" => self.tools = field.each(Declared::read)?,
            "functions" => self.functions = field.each(Declared::read_function)?,
            "web_search_options" => self.web_search = Some(Declared::web_search(field)?),
            "tool_choice" => self.tool_choice = Some(Choice::read(field)?),
            "function_call" => self.function_call = Some(Choice::read_function_call(field)?),
            "parallel_tool_calls" => self.parallel_tool_calls = Some(field.flag()?),
            "response_format" => self.format = Format::read(field)?,
            "reasoning_effort" => self.effort = Some(effort(field)?),
            "reasoning" => self.reasoning = Reasoning::read(field)?,
            "verbosity" => self.verbosity = Some(verbosity(field)?),
            "stop" => self.stop = stop::read(field)?,
            "prompt_cache_key" => self.prompt_cache_key = Some(field.text()?),
            "user" => self.user = Some(field.text()?),
            "service_tier" => self.take_tier(name, field)?,
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

    /// Takes a member that has a meaning in the Responses shape alone; says whether it was one.
    fn take_of_input(&mut self, name: &str, field: &Field<'a, '_>) -> Result<bool, ProxyError> {
        let Some(input) = &mut self.input else { return Ok(false) };
        match name {
            "input" => self.messages = input.read(field)?,
            "instructions" => input.instructions = Some(field.text()?).filter(|text| !text.trim().is_empty()),
            "text" => input.take_text(field)?,
            _ => {
                let ignored = responses_body::is_ignored(name, field)?;
                if ignored == Some(true) {
                    self.ignored.note(name);
                }
                return Ok(ignored.is_some());
            }
        }
        Ok(true)
    }

    /// The member that holds the conversation.
    pub(super) fn prompt_name(&self) -> &'static str {
        if self.input.is_some() { "input" } else { "messages" }
    }

    fn take_tier(&mut self, name: &str, field: &Field<'_, '_>) -> Result<(), ProxyError> {
        self.service_tier = Some(match &*field.text()? {
            "priority" | "fast" => Tier::Priority,
            "auto" | "default" => Tier::Standard,
            _ => {
                self.ignored.note(name);
                Tier::Standard
            }
        });
        Ok(())
    }

    /// What only the whole request can tell.
    fn check(mut self) -> Result<Self, ProxyError> {
        if self.messages.is_empty() {
            let name = self.prompt_name();
            return Err(Refusal::invalid(name, format!("'{name}' must be a non-empty array")));
        }
        if let Some(input) = &mut self.input {
            self.format = self.format.take().or(input.format.take());
            self.verbosity = self.verbosity.take().or(input.verbosity.take());
        }
        if self.stream_options.is_some() && self.mode == Mode::Document {
            return Err(Refusal::invalid("stream_options", "'stream_options' is only allowed with 'stream': true"));
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

impl StreamOptions {
    fn read(options: &Field<'_, '_>) -> Result<Self, ProxyError> {
        let members = options.object()?;
        let include_usage = options.member(&members, "include_usage").map_or(Ok(false), |usage| usage.flag())?;
        Ok(Self { include_usage })
    }
}

impl<'a> Reasoning<'a> {
    fn read(reasoning: &Field<'a, '_>) -> Result<Self, ProxyError> {
        let members = reasoning.object()?;
        let summary = reasoning.member(&members, "summary").map(|summary| summary.text()).transpose()?;
        Ok(Self {
            effort: reasoning.member(&members, "effort").map(|word| effort(&word)).transpose()?,
            summary: summary.filter(|summary| matches!(&**summary, "auto" | "concise" | "detailed")),
        })
    }
}

/// Whether a member without a meaning here has to be named. Refuses what can't be had.
fn is_ignored(name: &str, field: &Field<'_, '_>) -> Result<bool, ProxyError> {
    let unsupported = |message: &str| Refusal::unsupported_parameter(name, message);
    match name {
        "seed" => field.number().map(|_| true),
        "temperature" | "top_p" => field.differs_from(1.0),
        "frequency_penalty" | "presence_penalty" => field.differs_from(0.0),
        "logit_bias" => Ok(!field.object()?.is_empty()),
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

fn effort(word: &Field<'_, '_>) -> Result<Effort, ProxyError> {
    let complaint = || word.invalid("must be one of 'none', 'minimal', 'low', 'medium', 'high', 'xhigh' and 'max'");
    Effort::asked(&word.text()?).ok_or_else(complaint)
}

pub(super) fn verbosity<'a>(field: &Field<'a, '_>) -> Result<Cow<'a, str>, ProxyError> {
    let word = field.text()?;
    if matches!(&*word, "low" | "medium" | "high") {
        Ok(word)
    } else {
        Err(field.invalid("must be one of 'low', 'medium' and 'high'"))
    }
}
