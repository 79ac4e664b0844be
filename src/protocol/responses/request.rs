//! A Responses request as it comes in: the top level known by name, what is below it unread.
//!
//! The backend refuses a member that it does not know, so the top level is an allow-list: what is
//! not on it, and could have mattered, is named in the warnings. A member that is null is a member
//! not sent. What would change the meaning of the answer and can't be had is refused here.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::input;
use super::item::Listed;
use crate::error::{ProxyError, Refusal};
use crate::protocol::Ignored;
use crate::protocol::Mode;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::models::Effort;
use crate::protocol::stored_refs::{References, ResolvedReferences};

/// A decoded request, borrowing from the body.
#[derive(Clone, Debug, Default)]
pub struct ResponsesRequest<'a> {
    pub(super) model: Option<Cow<'a, str>>,
    pub(super) input: Option<Vec<Listed<'a>>>,
    pub(super) instructions: Option<Cow<'a, str>>,
    pub(super) previous_response_id: Option<Cow<'a, str>>,
    pub(super) streams: bool,
    pub(super) tools: Option<&'a RawValue>,
    pub(super) tool_choice: Option<&'a RawValue>,
    pub(super) parallel_tool_calls: Option<bool>,
    pub(super) reasoning: Reasoning<'a>,
    pub(super) text: Text<'a>,
    pub(super) include: Vec<(Cow<'a, str>, &'a RawValue)>,
    pub(super) service_tier: Option<Tier>,
    pub(super) prompt_cache_key: Option<Cow<'a, str>>,
    pub(super) user: Option<Cow<'a, str>>,
    pub(super) stream_options: RawObject<'a>,
    pub(super) client_metadata: Option<&'a RawValue>,
    /// `store: false`.
    pub(super) keeps_nothing: bool,
    /// What was found of what it refers to.
    pub(super) recalled: ResolvedReferences,
    /// Members that the response repeats, as the client wrote them.
    pub(super) echoed: Vec<(&'static str, &'a RawValue)>,
    /// Members that are ignored and could have mattered, in order.
    pub(super) ignored: Ignored,
}

/// `reasoning`: what we look at, and the rest of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Reasoning<'a> {
    pub(super) effort: Option<Effort>,
    pub(super) summary: Summary<'a>,
    pub(super) rest: RawObject<'a>,
}

/// How much of the reasoning is to be shown.
#[derive(Clone, Debug, Default)]
pub(super) enum Summary<'a> {
    /// The client doesn't say.
    #[default]
    Usual,
    /// Nothing: an explicit null.
    None,
    /// In this form.
    Form(Cow<'a, str>),
}

/// `text`: what we look at, and the rest of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Text<'a> {
    pub(super) is_json_object: bool,
    pub(super) members: RawObject<'a>,
}

/// What `service_tier` came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tier {
    Priority,
    Standard,
}

/// Members that are repeated in the response.
pub(super) const ECHOED: [&str; 10] = [
    "instructions",
    "metadata",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt_cache_key",
    "safety_identifier",
    "store",
    "tool_choice",
    "tools",
    "user",
];

/// Reads a body.
///
/// # Errors
/// When it is not a JSON object, a known member has the wrong type or a value that can't be taken,
/// or the request asks for what can't be had.
pub fn decode(body: &[u8]) -> Result<ResponsesRequest<'_>, ProxyError> {
    let envelope = RawObject::from_body(body)?;
    let mut request = ResponsesRequest::default();
    for (name, value) in envelope.members().iter().filter(|(_, value)| !value.is_null()) {
        request.take(name, &Field::from_body(name, value))?;
    }
    Ok(request)
}

impl<'a> ResponsesRequest<'a> {
    /// What it refers to by id.
    pub(super) fn references(&self) -> References {
        let listed = self.input.iter().flatten();
        let items = listed.filter_map(|listed| match listed {
            Listed::Reference(id) => Some(id.clone().into_owned()),
            Listed::Whole(_) => None,
        });
        let response = self.previous_response_id.as_deref().map(str::to_owned);
        References { response, items: items.collect() }
    }

    /// The same request, with all left out that is about an answer's form.
    pub(super) fn for_compaction(mut self) -> Self {
        if self.previous_response_id.is_some() {
            // The conversation itself is enough.
            self.input.get_or_insert_default();
        }
        self.text.is_json_object = false;
        self.text.members.remove("format");
        self.tool_choice = None;
        (self.streams, self.keeps_nothing) = (false, false);
        self
    }

    /// What the client wants back.
    pub(super) fn mode(&self) -> Mode {
        if self.streams { Mode::Stream } else { Mode::Document }
    }

    fn take(&mut self, name: &str, field: &Field<'a, '_>) -> Result<(), ProxyError> {
        if let Some(name) = ECHOED.into_iter().find(|echoed| *echoed == name) {
            self.echoed.retain(|(own, _)| *own != name);
            self.echoed.push((name, field.raw()));
        }
        match name {
            "model" => self.model = Some(field.text()?),
            "input" => self.input = Some(input::read(field)?),
            "instructions" => self.instructions = Some(field.text()?).filter(|text| !text.trim().is_empty()),
            "previous_response_id" => self.previous_response_id = Some(field.text()?),
            "stream" => self.streams = field.flag()?,
            "tools" => self.tools = Some(field.raw()),
            "tool_choice" => self.tool_choice = Some(field.raw()),
            "parallel_tool_calls" => self.parallel_tool_calls = Some(field.flag()?),
            "reasoning" => self.reasoning = Reasoning::read(field)?,
            "text" => self.text = Text::read(field)?,
            "include" => self.include = include(field)?,
            "prompt_cache_key" => self.prompt_cache_key = Some(field.text()?),
            "user" => self.user = Some(field.text()?),
            "store" => self.keeps_nothing = !field.flag()?,
            "stream_options" => self.stream_options = stream_options(field)?,
            "client_metadata" => self.client_metadata = Some(field.raw()),
            "service_tier" => self.take_tier(name, field)?,
            _ => {
                if is_ignored(name, field)? {
                    self.ignored.note(name);
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
                self.ignored.note(name);
                Tier::Standard
            }
        });
        Ok(())
    }
}

impl<'a> Reasoning<'a> {
    fn read(reasoning: &Field<'a, '_>) -> Result<Self, ProxyError> {
        let members = reasoning.object()?;
        let word = reasoning.member(&members, "effort");
        // A number is a level of its own that the backend knows.
        let is_level = word.is_some_and(|word| word.number().is_ok());
        let effort = word.filter(|_| !is_level).map(|word| read_effort(&word)).transpose()?;
        let summary = match members.get("summary").map(RawValue::get) {
            Some("null") => Summary::None,
            _ => ["summary", "generate_summary"]
                .iter()
                .find_map(|name| reasoning.member(&members, name))
                .map_or(Ok(Summary::Usual), |summary| summary.text().map(Summary::Form))?,
        };
        let mut rest = members.into_owned();
        for read in ["summary", "generate_summary"] {
            rest.remove(read);
        }
        if !is_level {
            rest.remove("effort");
        }
        Ok(Self { effort, summary, rest })
    }
}

impl<'a> Text<'a> {
    fn read(text: &Field<'a, '_>) -> Result<Self, ProxyError> {
        let members = text.object()?;
        let format = text.member(&members, "format");
        let format = format.as_ref().map(Field::object).transpose()?;
        let kind = format.and_then(|format| format.get("type"));
        let is_json_object = kind.is_some_and(|kind| kind.get() == r#""json_object""#);
        Ok(Self { is_json_object, members: members.into_owned() })
    }
}

fn read_effort(word: &Field<'_, '_>) -> Result<Effort, ProxyError> {
    let complaint = || word.invalid("must be one of 'none', 'minimal', 'low', 'medium', 'high', 'xhigh' and 'max'");
    Effort::asked(&word.text()?).ok_or_else(complaint)
}

fn include<'a>(list: &Field<'a, '_>) -> Result<Vec<(Cow<'a, str>, &'a RawValue)>, ProxyError> {
    list.each(|name| Ok((name.text()?, name.raw())))
}

/// The one option that the backend knows.
fn stream_options<'a>(options: &Field<'a, '_>) -> Result<RawObject<'a>, ProxyError> {
    const KEPT: &str = "reasoning_summary_delivery";
    let mut kept = RawObject::default();
    if let Some(delivery) = options.object()?.get(KEPT) {
        kept.push(KEPT, delivery);
    }
    Ok(kept)
}

/// Whether a member without a meaning here has to be named. Refuses what can't be had.
fn is_ignored(name: &str, field: &Field<'_, '_>) -> Result<bool, ProxyError> {
    let unsupported = |what: &str| Refusal::unsupported_parameter(name, format!("{what} on this backend"));
    match name {
        "background" if field.flag()? => {
            Err(Refusal::unsupported_value(name, "background responses are not available on this backend"))
        }
        "conversation" => Err(unsupported("stored conversations are not available")),
        "prompt" => Err(unsupported("stored prompts are not available")),
        "moderation" => Err(unsupported("moderation is not available")),
        "max_output_tokens" | "max_tool_calls" | "seed" => field.number().map(|_| true),
        "temperature" | "top_p" | "n" => Ok(differs(field.number()?, 1.0)),
        "frequency_penalty" | "presence_penalty" | "top_logprobs" => Ok(differs(field.number()?, 0.0)),
        "truncation" => Ok(field.text()? != "disabled"),
        "background" | "metadata" | "safety_identifier" | "prompt_cache_retention" | "prompt_cache_options" => {
            Ok(false)
        }
        _ => Ok(true),
    }
}

fn differs(number: f64, usual: f64) -> bool {
    (number - usual).abs() > f64::EPSILON
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn duplicate_members_grow_no_list() {
        let member = r#","service_tier":"odd","user":"u","top_k":1"#;
        let body = format!(r#"{{"model":"m","input":"hi"{}}}"#, member.repeat(1000));
        let request = decode(body.as_bytes()).unwrap();
        assert_eq!(request.ignored.names().collect::<Vec<_>>(), ["service_tier", "top_k"]);
        assert_eq!(request.echoed.len(), 1);
    }
}
