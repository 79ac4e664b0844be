//! A call of a tool that the proxy runs: its request, its item for the client and its output for the model.

use std::fmt;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::image_generation::{self, GeneratedImage};
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
    /// The function in the tool's namespace.
    function: String,
    /// The arguments as the model wrote them, which may be invalid JSON.
    arguments: String,
    /// The item as the backend sent it.
    item: Box<RawValue>,
}

/// A request to the endpoint of the backend that runs a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolRequest {
    /// The path below the base URL.
    pub path: &'static str,
    /// The JSON body.
    pub body: Bytes,
    /// What the call does.
    pub kind: CallKind,
}

/// The kinds of calls, which differ in their limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// A search. All searches of a response share a time limit.
    Search,
    /// The generation of an image, which is billed.
    Image,
}

/// The values that the requests of a response's calls have in common.
#[derive(Clone, Copy, Debug)]
pub struct CallContext<'c> {
    /// The session's id, which is the prompt cache key.
    pub session: &'c str,
    /// The model of the response.
    pub model: &'c str,
    /// The model of images.
    pub image_model: &'c str,
}

/// The result of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolOutcome {
    /// The output of a search.
    Found(String),
    /// An image for the client.
    Generated(GeneratedImage),
    /// The reason for a failure, without a period.
    Failed(String),
}

/// A call and its output, which the client doesn't see, for a later request that continues the response.
#[derive(Clone, Debug)]
pub struct HiddenItems {
    /// Position of the client's item in the response.
    pub output_index: u64,
    /// Id of the client's item.
    pub item_id: String,
    /// The call as the backend sent it.
    pub call: Box<RawValue>,
    /// Its output, an input item.
    pub output: Box<RawValue>,
    /// Position of the output in the conversation.
    pub place: OutputPlace,
}

/// Position of a call's output in the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputPlace {
    /// Directly after the call.
    AfterCall,
    /// With the outputs of the client's calls of the same round.
    BesideClientOutputs,
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
            function: members.text("name").unwrap_or_default().into_owned(),
            arguments: members.text("arguments").unwrap_or_default().into_owned(),
            item: item.to_owned(),
        })
    }

    /// The request that runs the call.
    ///
    /// # Errors
    /// If the function is unknown or an argument is invalid: the reason, for the model and without a period.
    pub fn request(&self, context: CallContext<'_>) -> Result<ToolRequest, String> {
        if self.function != self.tool.function() {
            return Err(format!("{} has only the function {}", self.tool.namespace(), self.tool.function()));
        }
        let arguments: &RawValue = serde_json::from_str(&self.arguments).map_err(|_| NO_OBJECT.to_owned())?;
        let members = RawObject::parse(arguments.get()).map_err(|_| NO_OBJECT.to_owned())?;
        Ok(match &self.tool {
            ProxyTool::WebSearch(settings) => {
                let body = settings.body(context.session, context.model, arguments);
                ToolRequest { path: web_search::PATH, body, kind: CallKind::Search }
            }
            ProxyTool::ImageGeneration(settings) => {
                let body = settings.body(context.image_model, &members)?;
                ToolRequest { path: image_generation::PATH, body, kind: CallKind::Image }
            }
        })
    }

    /// What the call does.
    #[must_use]
    pub fn kind(&self) -> CallKind {
        match self.tool {
            ProxyTool::WebSearch(_) => CallKind::Search,
            ProxyTool::ImageGeneration(_) => CallKind::Image,
        }
    }

    /// Reads the response to the request.
    #[must_use]
    pub fn outcome(&self, response: &Bytes) -> ToolOutcome {
        let found = match &self.tool {
            ProxyTool::WebSearch(_) => web_search::output(response).map(ToolOutcome::Found),
            ProxyTool::ImageGeneration(_) => GeneratedImage::read(response).map(ToolOutcome::Generated),
        };
        found.unwrap_or_else(|| ToolOutcome::Failed("the backend's response has no result".to_owned()))
    }

    /// The client's item for a call without a result.
    pub(super) fn item_without_result(tool: &ProxyTool, item_id: &str, status: &str) -> String {
        let (kind, _) = tool.item_type();
        format!(r#"{{"id":{},"type":"{kind}","status":"{status}"}}"#, quoted(item_id))
    }

    /// The client's item for the call, with its result.
    pub(super) fn item_done<'o>(&self, item_id: &str, outcome: &'o ToolOutcome, sources: &[&str]) -> DoneItem<'o> {
        let status = match outcome {
            ToolOutcome::Found(_) | ToolOutcome::Generated(_) => "completed",
            ToolOutcome::Failed(_) => "failed",
        };
        let (kind, _) = self.tool.item_type();
        let rest = match (&self.tool, outcome) {
            (ProxyTool::WebSearch(_), _) => {
                let arguments = RawObject::parse(&self.arguments).unwrap_or_default();
                format!(r#","action":{}"#, web_search::action(&arguments, sources))
            }
            (ProxyTool::ImageGeneration(_), ToolOutcome::Generated(image)) => image.item_members(),
            (ProxyTool::ImageGeneration(_), _) => r#","revised_prompt":null,"result":null"#.to_owned(),
        };
        let image = match outcome {
            ToolOutcome::Generated(image) => Some(image),
            ToolOutcome::Found(_) | ToolOutcome::Failed(_) => None,
        };
        DoneItem { members: format!(r#""id":{},"type":"{kind}","status":"{status}"{rest}"#, quoted(item_id)), image }
    }

    /// The id of the client's item, from the backend's id of the call.
    pub(super) fn item_id(tool: &ProxyTool, call_id: &str, output_index: u64) -> String {
        let prefix = match tool {
            ProxyTool::WebSearch(_) => "ws",
            ProxyTool::ImageGeneration(_) => "ig",
        };
        let id = call_id.strip_prefix("call_").or_else(|| call_id.strip_prefix("fc_")).unwrap_or(call_id);
        if id.is_empty() { format!("{prefix}_{output_index}") } else { format!("{prefix}_{id}") }
    }

    /// The output of the call, as an input item of the next request. `note` is added to it for the model.
    pub(super) fn output_item(&self, output: String, note: &str) -> Box<RawValue> {
        let text = if note.is_empty() { output } else { format!("{output}\n\n{note}") };
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

impl ToolOutcome {
    /// The output for the model.
    pub(super) fn into_output(self) -> String {
        match self {
            Self::Found(text) => text,
            Self::Generated(_) => image_generation::OUTPUT.to_owned(),
            Self::Failed(reason) => format!("The call failed: {reason}."),
        }
    }

    /// The size of the result that the client gets, if it is a large one: an image.
    #[must_use]
    pub fn image_bytes(&self) -> usize {
        if let Self::Generated(image) = self { image.size_bytes() } else { 0 }
    }
}

/// An item for the client. Displays as JSON, so that an image is copied only to where the item is written.
pub(super) struct DoneItem<'o> {
    /// The members before the image.
    members: String,
    image: Option<&'o GeneratedImage>,
}

impl fmt::Display for DoneItem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.image {
            Some(image) => write!(f, r#"{{{},"result":"{}"}}"#, self.members, image.base64()),
            None => write!(f, "{{{}}}", self.members),
        }
    }
}

const NO_OBJECT: &str = "the arguments are not a JSON object";
