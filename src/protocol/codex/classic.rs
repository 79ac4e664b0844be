//! Writes the classic body format: every member where the public Responses API has it.
//!
//! The members and their order are those of the official client. Values are decided elsewhere, except for `store`,
//! `stream` and the first value of `include`. Also writes the body of a client that sent the lite form itself
//! ([`WireFormat::ClientLite`]), which has neither `instructions` nor `tools`.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::request::{Omissions, Reasoning, Request, Text, WireFormat};
use crate::protocol::json::raw_object::RawObject;

/// The value of `include` that every request has: without it, reasoning couldn't be replayed.
const ENCRYPTED_REASONING: &str = "reasoning.encrypted_content";

/// Serializes a request in the classic format, without the members in `omitted`.
pub(super) struct ClassicBody<'r> {
    pub(super) request: &'r Request<'r>,
    pub(super) omitted: &'r Omissions,
}

impl Serialize for ClassicBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let request = self.request;
        let extra = &request.extra;
        let is_client_lite = request.format == WireFormat::ClientLite;
        let mut body = Members::new(serializer.serialize_map(None)?, self.omitted);
        body.put("model", &request.model)?;
        if !(is_client_lite && request.instructions.is_empty()) {
            body.put("instructions", &request.instructions)?;
        }
        body.put("input", &request.input)?;
        if !(is_client_lite && request.tools.is_empty()) {
            body.put("tools", &request.tools)?;
        }
        body.put("tool_choice", &request.tool_choice)?;
        body.put("parallel_tool_calls", &request.parallel_tool_calls)?;
        body.put("reasoning", &ReasoningMembers(&request.reasoning, &extra.reasoning))?;
        body.put("store", &false)?;
        body.put("stream", &true)?;
        body.put_rest(request)?;
        body.end()
    }
}

/// Writes the members of a body, except the omitted ones.
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

    /// Writes the last members, from `include` on, which are the same in every format.
    pub(super) fn put_rest(&mut self, request: &Request<'_>) -> Result<(), M::Error> {
        let extra = &request.extra;
        self.put("include", &Include(&extra.include))?;
        self.put("prompt_cache_key", &request.prompt_cache_key)?;
        if request.text.is_some() || !extra.text.is_empty() {
            self.put("text", &TextMembers(request.text.as_ref(), &extra.text))?;
        }
        if let Some(tier) = &request.service_tier {
            self.put("service_tier", tier)?;
        }
        if !extra.stream_options.is_empty() {
            self.put("stream_options", &extra.stream_options)?;
        }
        if let Some(metadata) = extra.client_metadata {
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

/// `include`: [`ENCRYPTED_REASONING`], then the client's values.
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
