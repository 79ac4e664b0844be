//! A call of a tool that the proxy runs: the request for it, and what the client and the model get of it.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{ProxyTool, web_search};
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::{from_string, quoted};

/// A complete call.
#[derive(Clone, Debug)]
pub struct ProxyCall {
    pub(super) tool: ProxyTool,
    /// Position of its item in the client's response.
    pub(super) output_index: u64,
    call_id: String,
    /// The arguments: JSON text, unless the model made a mistake.
    arguments: String,
    /// The item as the backend sent it.
    item: Box<RawValue>,
}

/// A request to another endpoint of the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SideRequest {
    /// The path below the base URL.
    pub path: &'static str,
    /// The JSON body.
    pub body: Bytes,
}

/// The result of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolOutcome {
    /// The text that a search found.
    Found(String),
    /// Why the call failed, as a sentence.
    Failed(String),
}

/// A call and its output, which the client doesn't see, for a later request that continues the response.
#[derive(Clone, Debug)]
pub struct HiddenItems {
    /// Position of the client's item in the response.
    pub output_index: u64,
    /// Id of the client's item.
    pub item_id: String,
    /// The input items.
    pub items: Vec<Box<RawValue>>,
}

impl ProxyCall {
    /// Reads a completed item; `None` unless it is a call of one of the tools.
    pub(super) fn read(tools: &[ProxyTool], item: &RawValue, output_index: u64) -> Option<Self> {
        let members = RawObject::parse(item.get()).ok()?;
        let tool = tools.iter().find(|tool| tool.is_called_by(&members))?;
        let id = members.text("call_id").filter(|id| !id.is_empty()).or_else(|| members.text("id"));
        Some(Self {
            tool: tool.clone(),
            output_index,
            call_id: id.unwrap_or_default().into_owned(),
            arguments: members.text("arguments").unwrap_or_default().into_owned(),
            item: item.to_owned(),
        })
    }

    /// The request that runs the call.
    ///
    /// # Errors
    /// What is wrong with the call's arguments, as a sentence for the model.
    pub fn request(&self, session: &str, model: &str) -> Result<SideRequest, String> {
        let arguments: &RawValue = serde_json::from_str(&self.arguments).map_err(|_| NO_OBJECT.to_owned())?;
        if RawObject::parse(arguments.get()).is_err() {
            return Err(NO_OBJECT.to_owned());
        }
        match &self.tool {
            ProxyTool::WebSearch(settings) => {
                Ok(SideRequest { path: web_search::PATH, body: settings.body(session, model, arguments) })
            }
        }
    }

    /// Reads the response to the request.
    #[must_use]
    pub fn outcome(&self, response: &[u8]) -> ToolOutcome {
        let found = match &self.tool {
            ProxyTool::WebSearch(_) => web_search::output(response).map(ToolOutcome::Found),
        };
        found.unwrap_or_else(|| ToolOutcome::Failed("the backend's response has no result".to_owned()))
    }

    /// The item of the client that stands for the call, in progress.
    pub(super) fn item_in_progress(tool: &ProxyTool, item_id: &str) -> String {
        match tool {
            ProxyTool::WebSearch(_) => {
                format!(r#"{{"id":{},"type":"web_search_call","status":"in_progress"}}"#, quoted(item_id))
            }
        }
    }

    /// The item of the client that stands for the call, with its result.
    pub(super) fn item_done(&self, item_id: &str, outcome: &ToolOutcome, sources: &[&str]) -> String {
        let status = match outcome {
            ToolOutcome::Found(_) => "completed",
            ToolOutcome::Failed(_) => "failed",
        };
        let arguments = RawObject::parse(&self.arguments).unwrap_or_default();
        let id = quoted(item_id);
        match &self.tool {
            ProxyTool::WebSearch(_) => {
                let action = web_search::action(&arguments, sources);
                format!(r#"{{"id":{id},"type":"web_search_call","status":"{status}","action":{action}}}"#)
            }
        }
    }

    /// The id of the client's item, from the backend's id of the call.
    pub(super) fn item_id(tool: &ProxyTool, call_id: &str, output_index: u64) -> String {
        let prefix = match tool {
            ProxyTool::WebSearch(_) => "ws",
        };
        let id = call_id.strip_prefix("call_").or_else(|| call_id.strip_prefix("fc_")).unwrap_or(call_id);
        if id.is_empty() { format!("{prefix}_{output_index}") } else { format!("{prefix}_{id}") }
    }

    /// The input items of the next request: the output of the call. `note` is added for the model.
    pub(super) fn output_item(&self, outcome: &ToolOutcome, note: &str) -> Box<RawValue> {
        let text = match outcome {
            ToolOutcome::Found(text) => text.clone(),
            ToolOutcome::Failed(reason) => format!("The call failed: {reason}."),
        };
        let text = if note.is_empty() { text } else { format!("{text}\n\n{note}") };
        let (call_id, output) = (quoted(&self.call_id), quoted(&text));
        from_string(format!(r#"{{"type":"function_call_output","call_id":{call_id},"output":{output}}}"#))
    }

    pub(super) fn call_id(&self) -> &str {
        &self.call_id
    }

    /// The item as the backend sent it, for a later request.
    pub(super) fn backend_item(&self) -> &RawValue {
        &self.item
    }
}

const NO_OBJECT: &str = "the arguments are not a JSON object";
