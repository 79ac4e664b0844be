//! Reads a Responses request: its top-level members by name; most nested values stay raw JSON.
//!
//! The backend rejects unknown members, so only known ones are sent. A member that is left out and could have changed
//! the response is named in the warnings; if the meaning of the request would change without it, the request is
//! rejected. A `null` member counts as absent.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::input;
use super::item::InputElement;
use crate::error::{ProxyError, Refusal};
use crate::protocol::Ignored;
use crate::protocol::Mode;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::models::Effort;
use crate::protocol::stored_refs::{References, ResolvedReferences};
use crate::protocol::upstream_input::parameters::{self, RequestedTier};

/// A decoded request, borrowing from the body.
#[derive(Clone, Debug, Default)]
pub struct ResponsesRequest<'a> {
    pub(super) model: Option<Cow<'a, str>>,
    pub(super) input: Option<Vec<InputElement<'a>>>,
    pub(super) instructions: Option<Cow<'a, str>>,
    pub(super) previous_response_id: Option<Cow<'a, str>>,
    /// The id of the conversation that the request continues.
    pub(super) conversation: Option<Cow<'a, str>>,
    /// `background` is true.
    pub(super) is_background: bool,
    pub(super) mode: Mode,
    pub(super) tools: Option<&'a RawValue>,
    pub(super) tool_choice: Option<&'a RawValue>,
    pub(super) parallel_tool_calls: Option<bool>,
    pub(super) reasoning: Reasoning<'a>,
    pub(super) text: Text<'a>,
    pub(super) include: Vec<(Cow<'a, str>, &'a RawValue)>,
    pub(super) service_tier: Option<RequestedTier>,
    pub(super) prompt_cache_key: Option<Cow<'a, str>>,
    pub(super) user: Option<Cow<'a, str>>,
    pub(super) stream_options: RawObject<'a>,
    pub(super) client_metadata: Option<&'a RawValue>,
    /// `store` is false.
    pub(super) is_unstored: bool,
    /// The stored responses and items that the request refers to. Empty until the server adds them.
    pub(super) resolved: ResolvedReferences,
    /// The members in [`ECHOED_MEMBERS`], as the client wrote them.
    pub(super) echoed: Vec<(&'static str, &'a RawValue)>,
    /// Members to name in the warnings, in order.
    pub(super) ignored: Ignored,
}

/// `reasoning`: the interpreted members, and the rest.
#[derive(Clone, Debug, Default)]
pub(super) struct Reasoning<'a> {
    pub(super) effort: Option<Effort>,
    pub(super) summary: SummaryOption<'a>,
    /// The other members, and an effort that is a number.
    pub(super) rest: RawObject<'a>,
}

/// `reasoning.summary`.
#[derive(Clone, Debug, Default)]
pub(super) enum SummaryOption<'a> {
    /// Absent.
    #[default]
    Default,
    /// `null`.
    Off,
    /// A string, such as `detailed`.
    Value(Cow<'a, str>),
}

/// `text`: all members, and one interpreted value.
#[derive(Clone, Debug, Default)]
pub(super) struct Text<'a> {
    /// `format.type` is `json_object`.
    pub(super) is_json_object: bool,
    pub(super) members: RawObject<'a>,
}

/// Members whose values the response object repeats.
pub(super) const ECHOED_MEMBERS: [&str; 10] = [
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

/// Reads a request body.
///
/// # Errors
/// If it isn't a JSON object, a known member has an invalid type or value, or the request needs an unavailable
/// feature.
pub fn decode(body: &[u8]) -> Result<ResponsesRequest<'_>, ProxyError> {
    let members = RawObject::from_body(body)?;
    let mut request = ResponsesRequest::default();
    for (name, field) in members.fields() {
        request.set(name, &field)?;
    }
    Ok(request)
}

impl<'a> ResponsesRequest<'a> {
    /// The ids of stored responses and items that the request refers to.
    pub(super) fn references(&self) -> References {
        let elements = self.input.iter().flatten();
        let items = elements.filter_map(|element| match element {
            InputElement::Reference(id) => Some(id.clone().into_owned()),
            InputElement::Item(_) => None,
        });
        let response = self.previous_response_id.as_deref().map(str::to_owned);
        let conversation = self.conversation.as_deref().map(str::to_owned);
        References { response, conversation, items: items.collect() }
    }

    /// The same request, without the members that shape a reply.
    ///
    /// # Errors
    /// If it names a conversation, which this endpoint doesn't change.
    pub(super) fn for_compaction(mut self) -> Result<Self, ProxyError> {
        if self.conversation.is_some() {
            let message = "a conversation can't be compacted; send its items as 'input'";
            return Err(Refusal::unsupported_parameter("conversation", message));
        }
        if self.previous_response_id.is_some() {
            // The stored conversation can be compacted without further input.
            self.input.get_or_insert_default();
        }
        self.text.is_json_object = false;
        self.text.members.remove("format");
        self.tool_choice = None;
        (self.mode, self.is_unstored, self.is_background) = (Mode::Document, false, false);
        Ok(self)
    }

    fn set(&mut self, name: &str, field: &Field<'a, '_>) -> Result<(), ProxyError> {
        if let Some(name) = ECHOED_MEMBERS.into_iter().find(|echoed| *echoed == name) {
            self.echoed.retain(|(own, _)| *own != name);
            self.echoed.push((name, field.raw()));
        }
        match name {
            "model" => self.model = Some(field.text()?),
            "input" => self.input = Some(input::read(field)?),
            "instructions" => self.instructions = Some(field.text()?).filter(|text| !text.trim().is_empty()),
            "previous_response_id" => self.previous_response_id = Some(field.text()?),
            "conversation" => self.conversation = Some(conversation(field)?),
            "background" => self.is_background = field.flag()?,
            "stream" => self.mode = parameters::mode(field)?,
            "tools" => self.tools = Some(field.raw()),
            "tool_choice" => self.tool_choice = Some(field.raw()),
            "parallel_tool_calls" => self.parallel_tool_calls = Some(field.flag()?),
            "reasoning" => self.reasoning = Reasoning::read(field)?,
            "text" => self.text = Text::read(field)?,
            "include" => self.include = include(field)?,
            "prompt_cache_key" => self.prompt_cache_key = Some(field.text()?),
            "user" => self.user = Some(field.text()?),
            "store" => self.is_unstored = !field.flag()?,
            "stream_options" => self.stream_options = stream_options(field)?,
            "client_metadata" => self.client_metadata = Some(field.raw()),
            "service_tier" => self.service_tier = Some(RequestedTier::read(name, field, &mut self.ignored)?),
            _ => {
                if is_ignored(name, field)? {
                    self.ignored.note(name);
                }
            }
        }
        Ok(())
    }
}

impl<'a> Reasoning<'a> {
    fn read(reasoning: &Field<'a, '_>) -> Result<Self, ProxyError> {
        let members = reasoning.object()?;
        let effort = reasoning.member(&members, "effort");
        // The backend accepts numbers too: they are sent as they are.
        let is_number = effort.is_some_and(|effort| effort.number().is_ok());
        let effort = effort.filter(|_| !is_number).map(|effort| parameters::effort(&effort)).transpose()?;
        let summary = match members.get("summary").map(RawValue::get) {
            Some("null") => SummaryOption::Off,
            _ => ["summary", "generate_summary"]
                .iter()
                .find_map(|name| reasoning.member(&members, name))
                .map_or(Ok(SummaryOption::Default), |summary| summary.text().map(SummaryOption::Value))?,
        };
        let mut rest = members.into_owned();
        for read in ["summary", "generate_summary"] {
            rest.remove(read);
        }
        if !is_number {
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

/// The id in `conversation`, which is a string or an object.
fn conversation<'a>(field: &Field<'a, '_>) -> Result<Cow<'a, str>, ProxyError> {
    if field.is_text() {
        return field.text();
    }
    let members = field.object()?;
    let id = field.member(&members, "id");
    id.ok_or_else(|| Refusal::missing("conversation.id"))?.text()
}

fn include<'a>(list: &Field<'a, '_>) -> Result<Vec<(Cow<'a, str>, &'a RawValue)>, ProxyError> {
    list.each(|name| Ok((name.text()?, name.raw())))
}

/// Returns the only option that the backend accepts, if the client sent it.
fn stream_options<'a>(field: &Field<'a, '_>) -> Result<RawObject<'a>, ProxyError> {
    const DELIVERY: &str = "reasoning_summary_delivery";
    let mut options = RawObject::default();
    if let Some(delivery) = field.object()?.get(DELIVERY) {
        options.push(DELIVERY, delivery);
    }
    Ok(options)
}

/// Whether a member that is left out is reported as ignored: not if it can't change the response.
///
/// # Errors
/// If the request needs an unavailable feature.
fn is_ignored(name: &str, field: &Field<'_, '_>) -> Result<bool, ProxyError> {
    let unsupported = |what: &str| Refusal::unsupported_parameter(name, format!("{what} on this backend"));
    match name {
        "prompt" => Err(unsupported("stored prompts are not available")),
        "moderation" => Err(unsupported("moderation is not available")),
        "max_output_tokens" | "max_tool_calls" | "seed" => field.number().map(|_| true),
        "temperature" | "top_p" | "n" => field.differs_from(1.0),
        "frequency_penalty" | "presence_penalty" | "top_logprobs" => field.differs_from(0.0),
        "truncation" => Ok(field.text()? != "disabled"),
        "metadata" | "safety_identifier" | "prompt_cache_retention" | "prompt_cache_options" => Ok(false),
        _ => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn duplicate_members_are_listed_once() {
        let member = r#","service_tier":"odd","user":"u","top_k":1"#;
        let body = format!(r#"{{"model":"m","input":"hi"{}}}"#, member.repeat(1000));
        let request = decode(body.as_bytes()).unwrap();
        assert_eq!(request.ignored.names().collect::<Vec<_>>(), ["service_tier", "top_k"]);
        assert_eq!(request.echoed.len(), 1);
    }
}
