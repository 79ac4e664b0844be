//! The classic body: every member where the public Responses API has it.
//!
//! The members and their order are those that the official client sends to models that are not
//! "lite". Nothing is decided here but the form.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::request::{Form, Omissions, Reasoning, Request, Text};
use crate::protocol::json::raw_object::RawObject;

const ENCRYPTED_REASONING: &str = "reasoning.encrypted_content";

/// A request in its classic form, without the members in `omitted`.
pub(super) struct Classic<'r> {
    pub(super) request: &'r Request<'r>,
    pub(super) omitted: &'r Omissions,
}

impl Serialize for Classic<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let request = self.request;
        let beyond = &request.beyond;
        let is_own = request.form == Form::OwnLite;
        let mut body = Members::new(serializer.serialize_map(None)?, self.omitted);
        body.put("model", &request.model)?;
        if !(is_own && request.instructions.is_empty()) {
            body.put("instructions", &request.instructions)?;
        }
        body.put("input", &request.input)?;
        if !(is_own && request.tools.is_empty()) {
            body.put("tools", &request.tools)?;
        }
        body.put("tool_choice", &request.tool_choice)?;
        body.put("parallel_tool_calls", &request.parallel_tool_calls)?;
        body.put("reasoning", &ReasoningMembers(&request.reasoning, &beyond.reasoning))?;
        body.put("store", &false)?;
        body.put("stream", &true)?;
        body.put_rest(request)?;
        body.end()
    }
}

/// The members of a body, less those that are left out.
pub(super) struct Members<'r, M> {
    map: M,
    omitted: &'r Omissions,
}

impl<'r, M: SerializeMap> Members<'r, M> {
    pub(super) fn new(map: M, omitted: &'r Omissions) -> Self {
        Self { map, omitted }
    }

    pub(super) fn end(self) -> Result<M::Ok, M::Error> {
        self.map.end()
    }

    /// What is the same in every form.
    pub(super) fn put_rest(&mut self, request: &Request<'_>) -> Result<(), M::Error> {
        let beyond = &request.beyond;
        self.put("include", &Include(&beyond.include))?;
        self.put("prompt_cache_key", &request.prompt_cache_key)?;
        if request.text.is_some() || !beyond.text.is_empty() {
            self.put("text", &TextMembers(request.text.as_ref(), &beyond.text))?;
        }
        if let Some(tier) = &request.service_tier {
            self.put("service_tier", tier)?;
        }
        if !beyond.stream_options.is_empty() {
            self.put("stream_options", &beyond.stream_options)?;
        }
        if let Some(metadata) = beyond.client_metadata {
            self.put("client_metadata", metadata)?;
        }
        Ok(())
    }

    pub(super) fn put(&mut self, name: &'static str, value: &(impl Serialize + ?Sized)) -> Result<(), M::Error> {
        if self.omitted.contains(name) {
            return Ok(());
        }
        self.map.serialize_entry(name, value)
    }
}

struct ReasoningMembers<'r>(&'r Reasoning<'r>, &'r RawObject<'r>);

impl Serialize for ReasoningMembers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        put_some(&mut map, "effort", self.0.effort.as_ref())?;
        put_some(&mut map, "summary", self.0.summary.as_ref())?;
        put_all(&mut map, self.1)?;
        map.end()
    }
}

struct TextMembers<'r>(Option<&'r Text<'r>>, &'r RawObject<'r>);

impl Serialize for TextMembers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        put_some(&mut map, "verbosity", self.0.and_then(|text| text.verbosity.as_ref()))?;
        put_some(&mut map, "format", self.0.and_then(|text| text.format.as_ref()))?;
        put_all(&mut map, self.1)?;
        map.end()
    }
}

/// The forced value first, and each other one once.
struct Include<'r>(&'r [&'r RawValue]);

impl Serialize for Include<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq as _;
        let mut list = serializer.serialize_seq(None)?;
        list.serialize_element(ENCRYPTED_REASONING)?;
        self.0.iter().try_for_each(|value| list.serialize_element(value))?;
        list.end()
    }
}

pub(super) fn put_some<M: SerializeMap>(
    map: &mut M,
    name: &str,
    value: Option<&impl Serialize>,
) -> Result<(), M::Error> {
    value.map_or(Ok(()), |value| map.serialize_entry(name, value))
}

fn put_all<M: SerializeMap>(map: &mut M, members: &RawObject<'_>) -> Result<(), M::Error> {
    members.members().iter().try_for_each(|(name, value)| map.serialize_entry(name, value))
}
