//! The lite body format: tools and system prompt are items of the input.
//!
//! The official client uses it for newer models. Items and tools keep their bytes, except for the namespace of a call
//! and the detail of an image. [`LiteEffects::warnings`] reports what the format can't express, except parallel calls:
//!
//! | classic | lite |
//! | --- | --- |
//! | `instructions` | a developer message before the conversation |
//! | `tools` | an `additional_tools` item before it, with functions and custom tools in one namespace |
//! | tools that the backend runs | a namespace that the proxy runs ([`proxy_tools`](super::proxy_tools)), or left out |
//! | `tool_choice` | `auto`; reduces the list of tools (`none`: to nothing); a call can't be forced |
//! | `parallel_tool_calls` | `false` |
//! | `detail` of an image | left out |
//! | `web_search_call` items | left out; the caller has replaced those whose calls it knows |
//! | `reasoning.context` | `all_turns` |
//!
//! The client never sees the added namespace: [`ToolNamespace`] removes it from the response.

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
use super::proxy_tools::ProxyTool;
use super::request::{Omissions, Part, Reasoning, Request, Role, WireFormat};
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::upstream_input::cache;
pub use marker::{HEADER, is_marked};
pub use namespace::ToolNamespace;
use tools::LiteTools;

/// Members of the classic format that the lite form moves into the input.
pub const MOVED_MEMBERS: [&str; 2] = ["instructions", "tools"];
/// The type of the input item that lists the tools.
pub(super) const ADDITIONAL_TOOLS: &str = "additional_tools";
/// The only value of `reasoning.context` that the backend accepts in this format.
const ALL_TURNS: &str = "all_turns";

/// Effects of the lite form on a request and its response.
#[derive(Clone, Debug)]
pub struct LiteEffects {
    /// The namespace to remove from the response.
    pub namespace: ToolNamespace,
    /// The tools that the proxy has to run.
    pub proxy_tools: Vec<ProxyTool>,
    /// Warnings about parts of the request that the format can't express.
    pub warnings: Vec<String>,
}

/// The id of the item that lists these tools, given as a JSON array. Derived from the request, because the prompt cache
/// needs an unchanged start of the conversation.
pub(super) fn tools_id(prompt_cache_key: &str, tools: &str) -> String {
    format!("at_{}", cache::derive(&[prompt_cache_key.as_bytes(), tools.as_bytes()]))
}

impl Request<'_> {
    /// The effects of the lite form on this request; `None` unless the proxy writes it in that format.
    #[must_use]
    pub fn lite_effects(&self) -> Option<LiteEffects> {
        if self.format != WireFormat::Lite {
            return None;
        }
        let LiteTools { namespace, proxy_tools, mut warnings, .. } = LiteTools::of(self);
        if self.input.iter().any(item::loses_detail) {
            warnings.push("ignored:detail".to_owned());
        }
        if self.input.iter().any(item::is_search) {
            warnings.push("repaired:dropped_web_search".to_owned());
        }
        if self.extra.reasoning.text("context").is_some_and(|context| context != ALL_TURNS) {
            warnings.push("clamped:reasoning.context".to_owned());
        }
        Some(LiteEffects { namespace: ToolNamespace::new(namespace), proxy_tools, warnings })
    }
}

/// Serializes a request in the lite form, without the members in `omitted`.
pub(super) struct LiteBody<'r> {
    request: &'r Request<'r>,
    omitted: &'r Omissions,
    namespace: Cow<'static, str>,
    /// `None` if the request offers no tools.
    tools: Option<Box<RawValue>>,
}

impl<'r> LiteBody<'r> {
    pub(super) fn new(request: &'r Request<'r>, omitted: &'r Omissions) -> Self {
        let tools = LiteTools::of(request);
        Self { request, omitted, tools: tools.list(), namespace: tools.namespace }
    }
}

impl Serialize for LiteBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let request = self.request;
        let mut body = Members::new(serializer.serialize_map(None)?, self.omitted);
        body.put("model", &request.model)?;
        body.put("stream", &true)?;
        body.put("input", &Input(self))?;
        body.put("tool_choice", "auto")?;
        body.put("parallel_tool_calls", &false)?;
        body.put("reasoning", &LiteReasoning(&request.reasoning, &request.extra.reasoning))?;
        body.put("store", &false)?;
        body.put_rest(request)?;
        body.end()
    }
}

/// The `input` member: tools, system prompt, conversation.
struct Input<'l>(&'l LiteBody<'l>);

impl Serialize for Input<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let LiteBody { request, namespace, tools, .. } = self.0;
        let mut input = serializer.serialize_seq(None)?;
        if let Some(tools) = tools {
            let id = tools_id(&request.prompt_cache_key, tools.get());
            input.serialize_element(&AdditionalTools { r#type: ADDITIONAL_TOOLS, id, role: "developer", tools })?;
        }
        let content = [Part::InputText(request.instructions.as_ref().into())];
        input.serialize_element(&SystemPrompt { r#type: "message", role: Role::Developer, content })?;
        for item in request.input.iter().filter(|item| !item::is_search(item)) {
            input.serialize_element(&item::LiteItem { item, namespace })?;
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
struct SystemPrompt<'r> {
    r#type: &'static str,
    role: Role,
    content: [Part<'r>; 1],
}

/// The `reasoning` member, with the only `context` that the format has.
struct LiteReasoning<'r>(&'r Reasoning<'r>, &'r RawObject<'r>);

impl Serialize for LiteReasoning<'_> {
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
