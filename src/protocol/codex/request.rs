//! The backend's request, which the requests of every client API are translated to, and the encoding of its body.
//!
//! A [`Request`] borrows its texts from the client's body. Members are written from an allow-list, because the backend
//! rejects unknown ones (`400 Unsupported parameter`): nothing of the client's body is sent unless a translation put
//! it here. The forced members (`store`, `stream`, `include`) can't be set. [`WireFormat`] decides how the body is
//! written.

mod size;
mod write;

use std::borrow::Cow;
use std::collections::BTreeSet;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::classic::ClassicBody;
use super::lite::LiteBody;
use crate::protocol::json::input_text::JsonText;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::to_raw;
use crate::protocol::models::Effort;
pub use size::Content;

/// A request to the backend for one response.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// How the body is written.
    pub format: WireFormat,
    /// The backend's name of the model.
    pub model: Cow<'a, str>,
    /// The system prompt. The backend requires a non-empty one in the classic format.
    pub instructions: Cow<'a, str>,
    /// The conversation; never empty.
    pub input: Vec<Item<'a>>,
    /// The tools that the model may call.
    pub tools: Vec<Tool<'a>>,
    /// Which of the tools may or must be called.
    pub tool_choice: ToolChoice<'a>,
    /// Whether one response may contain several tool calls.
    pub parallel_tool_calls: bool,
    /// Reasoning effort and summary.
    pub reasoning: Reasoning<'a>,
    /// Verbosity and output format.
    pub text: Option<Text<'a>>,
    /// `None` for the standard tier.
    pub service_tier: Option<ServiceTier>,
    /// At most 64 characters, equal for every request of a conversation.
    pub prompt_cache_key: Cow<'a, str>,
    /// Further members, for Responses clients.
    pub extra: ExtraMembers<'a>,
}

/// The formats of a body. They have the same meaning, as far as a format can express it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WireFormat {
    /// Every member where the public API has it.
    #[default]
    Classic,
    /// Tools and system prompt are part of the input ([`super::lite`]).
    Lite,
    /// The client wrote a lite body itself: nothing is moved, and members that the lite form doesn't have are not
    /// added.
    ClientLite,
}

/// Members in the backend's form that Responses clients send and no other API has. Empty ones are not sent.
#[derive(Clone, Debug, Default)]
pub struct ExtraMembers<'a> {
    /// Values of `include` besides the forced one.
    pub include: Vec<&'a RawValue>,
    /// Further members of `reasoning`.
    pub reasoning: RawObject<'a>,
    /// Further members of `text`.
    pub text: RawObject<'a>,
    /// `stream_options`.
    pub stream_options: RawObject<'a>,
    /// `client_metadata`.
    pub client_metadata: Option<&'a RawValue>,
}

/// An input item.
#[derive(Clone, Debug)]
pub enum Item<'a> {
    /// A message of role `user`, `assistant` or `developer`.
    Message {
        /// The author.
        role: Role,
        /// The parts, in order.
        content: Vec<Part<'a>>,
    },
    /// A function call of an earlier response.
    FunctionCall {
        /// Links the call to its output.
        call_id: Cow<'a, str>,
        /// Name of the function.
        name: Cow<'a, str>,
        /// JSON text.
        arguments: JsonText<'a>,
    },
    /// The output of a function.
    FunctionCallOutput {
        /// The id of the call.
        call_id: Cow<'a, str>,
        /// The result.
        output: Output<'a>,
    },
    /// A custom tool call of an earlier response.
    CustomToolCall {
        /// Links the call to its output.
        call_id: Cow<'a, str>,
        /// Name of the tool.
        name: Cow<'a, str>,
        /// Plain text.
        input: JsonText<'a>,
    },
    /// The output of a custom tool.
    CustomToolCallOutput {
        /// The id of the call.
        call_id: Cow<'a, str>,
        /// The result.
        output: Output<'a>,
    },
    /// An item that is sent byte for byte.
    Raw {
        /// Its `type`.
        kind: Cow<'a, str>,
        /// The whole item.
        json: Cow<'a, RawValue>,
    },
}

/// The author of a message. The backend rejects `system`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// `user`
    User,
    /// `assistant`
    Assistant,
    /// `developer`
    Developer,
}

/// A part of a message or of a tool's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Text from the user, the developer or a tool.
    InputText(JsonText<'a>),
    /// Text from the model.
    OutputText(JsonText<'a>),
    /// An image.
    InputImage {
        /// An http(s) or data URL.
        image_url: JsonText<'a>,
        /// `auto`, `low`, `high`, `original`.
        detail: Cow<'a, str>,
    },
    /// A file with its content.
    InputFile {
        /// Name with extension.
        filename: Cow<'a, str>,
        /// A data URL.
        file_data: JsonText<'a>,
    },
    /// A file that the backend downloads.
    RemoteFile {
        /// An http(s) URL.
        file_url: Cow<'a, str>,
    },
}

/// The result of a tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<'a> {
    /// A single text.
    Text(JsonText<'a>),
    /// Several parts, such as images.
    Parts(Vec<Part<'a>>),
}

/// A tool that the model may call: JSON in the backend's form, serialized once.
#[derive(Clone, Debug)]
pub struct Tool<'a>(Cow<'a, RawValue>);

/// Which tools may or must be called.
#[derive(Clone, Debug)]
pub enum ToolChoice<'a> {
    /// Any or none.
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
    /// An object in the backend's form.
    Raw(Cow<'a, RawValue>),
}

/// Reasoning effort and summary.
#[derive(Clone, Debug)]
pub struct Reasoning<'a> {
    /// `None` for the model's default.
    pub effort: Option<Effort>,
    /// `auto`, `concise`, `detailed`; `None` for no summary.
    pub summary: Option<Cow<'a, str>>,
}

/// Verbosity and output format.
#[derive(Clone, Debug, Default)]
pub struct Text<'a> {
    /// `low`, `medium`, `high`.
    pub verbosity: Option<Cow<'a, str>>,
    /// An object in the backend's form.
    pub format: Option<Cow<'a, RawValue>>,
}

/// The tiers that the backend accepts by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceTier {
    /// Faster, and uses more of the quota.
    Priority,
}

/// Names of top-level members to leave out of the body, because the backend rejected them in an earlier attempt.
pub type Omissions = BTreeSet<String>;

/// Members that are never left out: without them the response would differ, or reasoning couldn't be replayed.
const REQUIRED_MEMBERS: [&str; 10] =
    ["model", "instructions", "input", "tools", "tool_choice", "text", "store", "stream", "reasoning", "include"];

/// The type of the item that requests a compaction of the conversation before it.
pub const COMPACTION_TRIGGER: &str = "compaction_trigger";

impl Request<'_> {
    /// Whether the request is for a compaction of the conversation instead of a reply.
    #[must_use]
    pub fn is_compaction(&self) -> bool {
        matches!(self.input.last(), Some(Item::Raw { kind, .. }) if kind == COMPACTION_TRIGGER)
    }

    /// Encodes the body in the request's format, without the members in `omitted`.
    #[must_use]
    pub fn encode(&self, omitted: &Omissions) -> Bytes {
        // Sized up front: growing by doubling would copy a long body repeatedly and could take twice its memory.
        let mut body = Vec::with_capacity(self.written_bytes());
        let written = match self.format {
            WireFormat::Classic | WireFormat::ClientLite => {
                serde_json::to_writer(&mut body, &ClassicBody { request: self, omitted })
            }
            WireFormat::Lite => serde_json::to_writer(&mut body, &LiteBody::new(self, omitted)),
        };
        written.expect("strings, numbers and raw JSON always serialize");
        Bytes::from(body)
    }

    /// Whether a top-level member may be left out.
    #[must_use]
    pub fn can_omit(member: &str) -> bool {
        !REQUIRED_MEMBERS.contains(&member)
    }

    /// Removes replayed reasoning. Returns whether there was any.
    pub fn drop_reasoning(&mut self) -> bool {
        let before = self.input.len();
        self.input.retain(|item| !matches!(item, Item::Raw { kind, .. } if kind == "reasoning"));
        self.input.len() < before
    }
}

impl<'a> Tool<'a> {
    /// A function with a JSON schema. `name` must match `[A-Za-z0-9_-]{1,64}`. `strict` is always sent, because the
    /// backend's default differs from the one of Chat Completions.
    #[must_use]
    pub fn function(name: &str, description: Option<&str>, parameters: &RawValue, strict: bool) -> Self {
        Self(Cow::Owned(to_raw(&Function { r#type: "function", name, description, parameters, strict })))
    }

    /// A tool in the backend's form.
    #[must_use]
    pub fn raw(json: Cow<'a, RawValue>) -> Self {
        Self(json)
    }

    /// The tool's JSON.
    #[must_use]
    pub fn json(&self) -> &RawValue {
        &self.0
    }

    /// The tool's JSON, for editing.
    pub fn json_mut(&mut self) -> &mut Cow<'a, RawValue> {
        &mut self.0
    }
}

#[derive(Serialize)]
struct Function<'f> {
    r#type: &'static str,
    name: &'f str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'f str>,
    parameters: &'f RawValue,
    strict: bool,
}

impl<'a> Part<'a> {
    /// The text of an input text part.
    #[must_use]
    pub fn input_text(&self) -> Option<&JsonText<'a>> {
        if let Self::InputText(text) = self { Some(text) } else { None }
    }
}
