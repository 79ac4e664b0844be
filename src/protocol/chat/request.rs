//! A Chat request as it comes in: every member known by name, each of the type it has to have.
//!
//! Members are read in the order of the request, so that what is ignored is named in that order.
//! A member that is null is a member not sent. What would change the meaning of the answer and
//! can't be had is refused here; what can't change it goes in silence.

use std::borrow::Cow;

use super::choice::Choice;
use super::format::Format;
use super::message::Message;
use super::tools::Declared;
use crate::error::{ProxyError, Refusal};
use crate::protocol::Mode;
use crate::protocol::field::{self, Field};
use crate::protocol::model::Effort;

const MAX_STOPS: usize = 4;

/// Names of ignored members that are kept: they go into a header, and a hostile body has millions.
const MAX_IGNORED: usize = 64;

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
    pub(super) prompt_cache_key: Option<Cow<'a, str>>,
    pub(super) user: Option<Cow<'a, str>>,
    /// Members that are ignored and could have mattered, in order.
    pub(super) ignored: Vec<String>,
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
    let envelope = field::members_of(body)?;
    let mut request = ChatRequest::empty();
    for (name, raw) in envelope.members() {
        if raw.get() != "null" {
            request.take(name, &Field::root(name, raw))?;
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
            prompt_cache_key: None,
            user: None,
            ignored: Vec::new(),
        }
    }

    fn take(&mut self, name: &str, field: &Field<'a, '_>) -> Result<(), ProxyError> {
        match name {
            "model" => self.model = Some(field.text()?),
            "messages" => self.messages = messages(field)?,
            "stream" => self.mode = if field.flag()? { Mode::Stream } else { Mode::Document },
            "stream_options" => self.stream_options = Some(StreamOptions::read(field)?),
            "tools" => self.tools = each(field, Declared::read)?,
            "functions" => self.functions = each(field, Declared::read_function)?,
            "web_search_options" => self.web_search = Some(Declared::web_search(field)?),
            "tool_choice" => self.tool_choice = Some(Choice::read(field)?),
            "function_call" => self.function_call = Some(Choice::read_function_call(field)?),
            "parallel_tool_calls" => self.parallel_tool_calls = Some(field.flag()?),
            "response_format" => self.format = Format::read(field)?,
            "reasoning_effort" => self.effort = Some(effort(field)?),
            "reasoning" => self.reasoning = Reasoning::read(field)?,
            "verbosity" => self.verbosity = Some(verbosity(field)?),
            "stop" => self.stop = stops(field)?,
            "prompt_cache_key" => self.prompt_cache_key = Some(field.text()?),
            "user" => self.user = Some(field.text()?),
            "service_tier" => self.take_tier(name, field)?,
            _ => {
                if is_ignored(name, field)? {
                    self.ignore(name);
                }
            }
        }
        Ok(())
    }

    fn take_tier(&mut self, name: &str, field: &Field<'_, '_>) -> Result<(), ProxyError> {
        self.service_tier = Some(match &*field.text()? {
            "priority" | "fast" => Tier::Priority,
            "auto" | "default" => Tier::Standard,
            _ => {
                self.ignore(name);
                Tier::Standard
            }
        });
        Ok(())
    }

    fn ignore(&mut self, name: &str) {
        if self.ignored.len() < MAX_IGNORED {
            self.ignored.push(name.to_owned());
        }
    }

    /// What only the whole request can tell.
    fn check(mut self) -> Result<Self, ProxyError> {
        if self.messages.is_empty() {
            return Err(Refusal::invalid("messages", "'messages' must be a non-empty array"));
        }
        if self.stream_options.is_some() && self.mode == Mode::Document {
            return Err(Refusal::invalid("stream_options", "'stream_options' is only allowed with 'stream': true"));
        }
        if !self.tools.is_empty() {
            if !std::mem::take(&mut self.functions).is_empty() {
                self.ignore("functions");
            }
            if self.function_call.take().is_some() {
                self.ignore("function_call");
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
        "max_tokens" | "max_completion_tokens" | "seed" => field.number().map(|_| true),
        "temperature" | "top_p" => Ok(differs(field.number()?, 1.0)),
        "frequency_penalty" | "presence_penalty" => Ok(differs(field.number()?, 0.0)),
        "logit_bias" => Ok(!field.object()?.is_empty()),
        "store" => field.flag(),
        "n" if differs(field.number()?, 1.0) => {
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

fn differs(number: f64, usual: f64) -> bool {
    (number - usual).abs() > f64::EPSILON
}

fn has_audio(modalities: &Field<'_, '_>) -> Result<bool, ProxyError> {
    let names = texts(modalities)?;
    Ok(names.iter().any(|name| name == "audio"))
}

fn each<'a, T>(
    list: &Field<'a, '_>,
    read: impl Fn(&Field<'a, '_>) -> Result<T, ProxyError>,
) -> Result<Vec<T>, ProxyError> {
    let elements = list.list()?;
    elements.into_iter().enumerate().map(|(index, raw)| read(&list.element(index, raw))).collect()
}

fn texts<'a>(list: &Field<'a, '_>) -> Result<Vec<Cow<'a, str>>, ProxyError> {
    let elements = list.list()?;
    elements.into_iter().enumerate().map(|(index, raw)| list.element(index, raw).text()).collect()
}

fn messages<'a>(list: &Field<'a, '_>) -> Result<Vec<Message<'a>>, ProxyError> {
    if list.is_list() { each(list, Message::read) } else { Err(list.invalid("must be a non-empty array")) }
}

fn effort(word: &Field<'_, '_>) -> Result<Effort, ProxyError> {
    let complaint = || word.invalid("must be one of 'none', 'minimal', 'low', 'medium', 'high', 'xhigh' and 'max'");
    Effort::asked(&word.text()?).ok_or_else(complaint)
}

fn verbosity<'a>(field: &Field<'a, '_>) -> Result<Cow<'a, str>, ProxyError> {
    let word = field.text()?;
    if matches!(&*word, "low" | "medium" | "high") {
        Ok(word)
    } else {
        Err(field.invalid("must be one of 'low', 'medium' and 'high'"))
    }
}

fn stops(field: &Field<'_, '_>) -> Result<Vec<String>, ProxyError> {
    let words = if field.is_text() {
        vec![field.text()?]
    } else if field.is_list() {
        if field.list()?.len() > MAX_STOPS {
            let message = format!("'{field}' must have at most {MAX_STOPS} elements");
            return Err(Refusal::coded("array_above_max_length", field.to_string(), message));
        }
        texts(field)?
    } else {
        return Err(field.must_be("a string or an array of strings"));
    };
    Ok(words.into_iter().filter(|word| !word.is_empty()).map(Cow::into_owned).collect())
}
