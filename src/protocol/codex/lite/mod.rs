//! The lite body: tools and system prompt are items of the input.
//!
//! Newer models are called so by the official client, and one day may take nothing else. Nothing of
//! an item or a tool is written anew: they are spliced in as they came, but for the namespace of a
//! call and the detail of a picture. What the form has no words for is named in [`Terms::losses`]:
//!
//! | classic | lite |
//! | --- | --- |
//! | `instructions` | a developer message before the conversation |
//! | `tools` | the item `additional_tools` before it: functions and custom tools in one namespace |
//! | tools that the backend runs itself | not there |
//! | `tool_choice` | no tool: none on offer; some: only those on offer. Nothing can be forced |
//! | `parallel_tool_calls` | `false` |
//! | `detail` of a picture | not there |
//! | `reasoning.context` | `all_turns` |
//!
//! The namespace is ours alone: [`Wrapping`] takes it out of what comes back. `marker` knows how such a
//! body is announced.

mod item;
mod marker;
mod namespace;
#[cfg(test)]
mod tests;
mod tools;

use std::borrow::Cow;

use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};
use serde_json::value::RawValue;

use super::classic::{Members, put_some};
use super::request::{Form, Omissions, Part, Reasoning, Request, Role};
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::string::Str;
use crate::protocol::upstream_input::cache;
pub use marker::{HEADER, is_marked, marked};
pub use namespace::Wrapping;
use tools::Offer;

/// Members that the classic form has and this one has not.
pub const LACKS: [&str; 2] = ["instructions", "tools"];
/// How much reasoning is taken into account. The backend refuses the form with any other value.
const ALL_TURNS: &str = "all_turns";

/// What a request in the lite form comes to beside its body.
#[derive(Clone, Debug)]
pub struct Terms {
    /// How names of the answer become the client's own again.
    pub wrapping: Wrapping,
    /// What was asked for and can't be said, as warnings.
    pub losses: Vec<String>,
}

impl Request<'_> {
    /// The terms of this request; `None` unless it is written in the lite form by us.
    #[must_use]
    pub fn lite_terms(&self) -> Option<Terms> {
        if self.form != Form::Lite {
            return None;
        }
        let Offer { wrapper, mut losses, .. } = Offer::of(self);
        if self.input.iter().any(item::loses_detail) {
            losses.push("ignored:detail".to_owned());
        }
        if text(&self.beyond.reasoning, "context").is_some_and(|context| context != ALL_TURNS) {
            losses.push("clamped:reasoning.context".to_owned());
        }
        Some(Terms { wrapping: Wrapping::new(wrapper), losses })
    }
}

/// A request in its lite form, without the members in `omitted`.
pub(super) struct Lite<'r> {
    request: &'r Request<'r>,
    omitted: &'r Omissions,
    wrapper: Cow<'static, str>,
    /// The list of tools, where any is on offer.
    tools: Option<Box<RawValue>>,
}

impl<'r> Lite<'r> {
    pub(super) fn new(request: &'r Request<'r>, omitted: &'r Omissions) -> Self {
        let offer = Offer::of(request);
        Self { request, omitted, tools: offer.list(), wrapper: offer.wrapper }
    }
}

impl Serialize for Lite<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let request = self.request;
        let mut body = Members::new(serializer.serialize_map(None)?, self.omitted);
        body.put("model", &request.model)?;
        body.put("stream", &true)?;
        body.put("input", &Input(self))?;
        body.put("tool_choice", "auto")?;
        body.put("parallel_tool_calls", &false)?;
        body.put("reasoning", &AllTurns(&request.reasoning, &request.beyond.reasoning))?;
        body.put("store", &false)?;
        body.put_rest(request)?;
        body.end()
    }
}

/// Tools, system prompt, conversation.
struct Input<'l>(&'l Lite<'l>);

impl Serialize for Input<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Lite { request, wrapper, tools, .. } = self.0;
        let mut input = serializer.serialize_seq(None)?;
        if let Some(tools) = tools {
            // Derived, since the beginning of a conversation has to stay the same for its cache.
            let id = cache::derive(&[request.prompt_cache_key.as_bytes(), tools.get().as_bytes()]);
            let id = format!("at_{id}");
            input.serialize_element(&AdditionalTools { r#type: "additional_tools", id, role: "developer", tools })?;
        }
        let content = [Part::InputText(request.instructions.as_ref().into())];
        input.serialize_element(&Prompt { r#type: "message", role: Role::Developer, content })?;
        for item in &request.input {
            input.serialize_element(&item::Sent { item, wrapper })?;
        }
        input.end()
    }
}

#[derive(Serialize)]
struct AdditionalTools<'r> {
    r#type: &'static str,
    id: String,
    role: &'static str,
    tools: &'r RawValue,
}

#[derive(Serialize)]
struct Prompt<'r> {
    r#type: &'static str,
    role: Role,
    content: [Part<'r>; 1],
}

/// The reasoning member, with the one context that the form can have.
struct AllTurns<'r>(&'r Reasoning<'r>, &'r RawObject<'r>);

impl Serialize for AllTurns<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        put_some(&mut map, "effort", self.0.effort.as_ref())?;
        put_some(&mut map, "summary", self.0.summary.as_ref())?;
        for (name, value) in self.1.members().iter().filter(|(name, _)| name != "context") {
            map.serialize_entry(name, value)?;
        }
        map.serialize_entry("context", ALL_TURNS)?;
        map.end()
    }
}

/// A member that is a text.
fn text<'a>(members: &RawObject<'a>, name: &str) -> Option<Cow<'a, str>> {
    serde_json::from_str::<Str<'a>>(members.get(name)?.get()).ok().map(Str::into_cow)
}

/// The elements of a member that is a list.
fn list<'a>(members: &RawObject<'a>, name: &str) -> Vec<&'a RawValue> {
    members.get(name).and_then(|list| serde_json::from_str(list.get()).ok()).unwrap_or_default()
}
