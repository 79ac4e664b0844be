//! The request as every dialect builds it, and the body that leaves.
//!
//! A [`Request`] borrows its texts from the client's body. It is written from an allow-list: the
//! backend refuses a request with any member that it does not know (`400 Unsupported parameter`),
//! so nothing of the client's body gets here unless a dialect put it here. The forced members
//! (`store`, `stream`, `include`) can't be set at all. How it is written is its [`Form`].

use std::borrow::Cow;
use std::collections::BTreeSet;

use bytes::Bytes;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::classic::Classic;
use super::lite::Lite;
use crate::protocol::envelope::Envelope;
use crate::protocol::model::Effort;

/// Everything that goes upstream for one response.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// How the body is written.
    pub form: Form,
    /// The backend's name of the model.
    pub model: Cow<'a, str>,
    /// The system prompt; never empty in the classic form, since the backend insists on it.
    pub instructions: Cow<'a, str>,
    /// The conversation; never empty.
    pub input: Vec<Item<'a>>,
    /// Tools on offer.
    pub tools: Vec<Tool<'a>>,
    /// Which of them may, must or must not be called.
    pub tool_choice: ToolChoice<'a>,
    /// Whether several calls may come in one answer.
    pub parallel_tool_calls: bool,
    /// How hard to think, and how much of it to show.
    pub reasoning: Reasoning<'a>,
    /// Verbosity and output format.
    pub text: Option<Text<'a>>,
    /// The only tier the backend takes.
    pub service_tier: Option<ServiceTier>,
    /// At most 64 characters, the same for every turn of a conversation.
    pub prompt_cache_key: Cow<'a, str>,
    /// What only a client can ask for that speaks the backend's own language.
    pub beyond: Beyond<'a>,
}

/// The forms of a body. What it says is the same in each, as far as the form has words for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Every member where the public API has it.
    #[default]
    Classic,
    /// Tools and system prompt in the input, under the marker of the lite form ([`super::lite`]).
    Lite,
    /// As the client wrote it, which marked it as lite itself: nothing is moved, and no member is added
    /// that the lite form does not have.
    OwnLite,
}

/// Members that no translation needs, in the backend's form. Empty, they leave no trace in the body.
#[derive(Clone, Debug, Default)]
pub struct Beyond<'a> {
    /// Further values of `include`, beside the forced one.
    pub include: Vec<&'a RawValue>,
    /// Further members of `reasoning`.
    pub reasoning: Envelope<'a>,
    /// Further members of `text`.
    pub text: Envelope<'a>,
    /// `stream_options`.
    pub stream_options: Envelope<'a>,
    /// `client_metadata`.
    pub client_metadata: Option<&'a RawValue>,
}

/// An input item.
#[derive(Clone, Debug)]
pub enum Item<'a> {
    /// A message of role `user`, `assistant` or `developer`.
    Message {
        /// Who speaks.
        role: Role,
        /// Its parts, in order.
        content: Vec<Part<'a>>,
    },
    /// A function call of an earlier answer.
    FunctionCall {
        /// Pairs it with its output.
        call_id: Cow<'a, str>,
        /// Name of the function.
        name: Cow<'a, str>,
        /// JSON text.
        arguments: Cow<'a, str>,
    },
    /// What a function returned.
    FunctionCallOutput {
        /// The call it answers.
        call_id: Cow<'a, str>,
        /// What it returned.
        output: Output<'a>,
    },
    /// A freeform tool call of an earlier answer.
    CustomToolCall {
        /// Pairs it with its output.
        call_id: Cow<'a, str>,
        /// Name of the tool.
        name: Cow<'a, str>,
        /// Its input.
        input: Cow<'a, str>,
    },
    /// What a freeform tool returned.
    CustomToolCallOutput {
        /// The call it answers.
        call_id: Cow<'a, str>,
        /// What it returned.
        output: Output<'a>,
    },
    /// An item that is carried as it came, byte for byte.
    Raw {
        /// Its `type`.
        kind: Cow<'a, str>,
        /// The whole item.
        json: Cow<'a, RawValue>,
    },
}

/// Who speaks in a message. (`system` is refused upstream.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The program around them.
    Developer,
}

/// A part of a message or of a tool's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Text that goes in.
    InputText(Cow<'a, str>),
    /// Text that came out.
    OutputText(Cow<'a, str>),
    /// A picture: an http(s) or data URL, and the detail to look at it with.
    InputImage {
        /// The address or the data itself.
        image_url: Cow<'a, str>,
        /// `auto`, `low`, `high`, `original`.
        detail: Cow<'a, str>,
    },
    /// A file with its content.
    InputFile {
        /// Name with its extension.
        filename: Cow<'a, str>,
        /// A data URL.
        file_data: Cow<'a, str>,
    },
    /// A file that the backend fetches itself.
    RemoteFile {
        /// An http(s) URL.
        file_url: Cow<'a, str>,
    },
}

/// What a tool returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<'a> {
    /// One text.
    Text(Cow<'a, str>),
    /// Several parts, or pictures.
    Parts(Vec<Part<'a>>),
}

/// A tool on offer.
#[derive(Clone, Debug)]
pub enum Tool<'a> {
    /// A function with a JSON schema.
    Function {
        /// Valid upstream: `[A-Za-z0-9_-]{1,64}`.
        name: Cow<'a, str>,
        /// What it is for.
        description: Option<Cow<'a, str>>,
        /// The schema of its arguments.
        parameters: Cow<'a, RawValue>,
        /// Always sent: the backend's own default differs from Chat's.
        strict: bool,
    },
    /// Any other tool, in the backend's form.
    Raw(Cow<'a, RawValue>),
}

/// Which tools may be called.
#[derive(Clone, Debug)]
pub enum ToolChoice<'a> {
    /// As the model likes.
    Auto,
    /// No tool.
    None,
    /// Some tool.
    Required,
    /// A choice object in the backend's form.
    Raw(Cow<'a, RawValue>),
}

/// How hard to think, and how much of it to show.
#[derive(Clone, Debug)]
pub struct Reasoning<'a> {
    /// Absent: the model's default.
    pub effort: Option<Effort>,
    /// `auto`, `concise`, `detailed`; absent: no summary.
    pub summary: Option<Cow<'a, str>>,
}

/// Verbosity and output format.
#[derive(Clone, Debug, Default)]
pub struct Text<'a> {
    /// `low`, `medium`, `high`.
    pub verbosity: Option<Cow<'a, str>>,
    /// The format object in the backend's form.
    pub format: Option<Cow<'a, RawValue>>,
}

/// The tiers that the backend takes by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceTier {
    /// Faster, at a higher price in quota.
    Priority,
}

/// Names of top-level members to leave out, since the backend has refused them.
pub type Omissions = BTreeSet<String>;

/// Members without which the answer would be another one; the rest may be left out when the backend
/// refuses them.
const INDISPENSABLE: [&str; 8] = ["model", "instructions", "input", "tools", "tool_choice", "text", "store", "stream"];

impl Request<'_> {
    /// The body in the request's form, without the members in `omitted`.
    #[must_use]
    pub fn encode(&self, omitted: &Omissions) -> Bytes {
        let body = match self.form {
            Form::Classic | Form::OwnLite => serde_json::to_vec(&Classic { request: self, omitted }),
            Form::Lite => serde_json::to_vec(&Lite::new(self, omitted)),
        };
        Bytes::from(body.expect("strings, numbers and raw JSON always serialise"))
    }

    /// Whether a member can be left out at all.
    #[must_use]
    pub fn can_omit(member: &str) -> bool {
        !INDISPENSABLE.contains(&member)
    }

    /// Removes replayed reasoning; says whether there was any.
    pub fn drop_reasoning(&mut self) -> bool {
        let before = self.input.len();
        self.input.retain(|item| !matches!(item, Item::Raw { kind, .. } if kind == "reasoning"));
        self.input.len() < before
    }
}

impl Serialize for Item<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Self::Raw { json, .. } = self {
            return json.serialize(serializer);
        }
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::Message { role, content } => {
                entries(&mut map, "message", &[])?;
                map.serialize_entry("role", role)?;
                map.serialize_entry("content", content)?;
            }
            Self::FunctionCall { call_id, name, arguments } => {
                entries(&mut map, "function_call", &[("call_id", call_id), ("name", name), ("arguments", arguments)])?;
            }
            Self::CustomToolCall { call_id, name, input } => {
                entries(&mut map, "custom_tool_call", &[("call_id", call_id), ("name", name), ("input", input)])?;
            }
            Self::FunctionCallOutput { call_id, output } => {
                entries(&mut map, "function_call_output", &[("call_id", call_id)])?;
                map.serialize_entry("output", output)?;
            }
            Self::CustomToolCallOutput { call_id, output } => {
                entries(&mut map, "custom_tool_call_output", &[("call_id", call_id)])?;
                map.serialize_entry("output", output)?;
            }
            Self::Raw { .. } => {}
        }
        map.end()
    }
}

impl Serialize for Part<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::InputText(text) => entries(&mut map, "input_text", &[("text", text)])?,
            Self::OutputText(text) => entries(&mut map, "output_text", &[("text", text)])?,
            Self::InputImage { image_url, detail } => {
                entries(&mut map, "input_image", &[("image_url", image_url), ("detail", detail)])?;
            }
            Self::InputFile { filename, file_data } => {
                entries(&mut map, "input_file", &[("filename", filename), ("file_data", file_data)])?;
            }
            Self::RemoteFile { file_url } => entries(&mut map, "input_file", &[("file_url", file_url)])?,
        }
        map.end()
    }
}

fn entries<M: SerializeMap>(map: &mut M, kind: &str, texts: &[(&str, &Cow<'_, str>)]) -> Result<(), M::Error> {
    map.serialize_entry("type", kind)?;
    texts.iter().try_for_each(|(name, text)| map.serialize_entry(name, text))
}

impl Serialize for Output<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => text.serialize(serializer),
            Self::Parts(parts) => parts.serialize(serializer),
        }
    }
}

impl Serialize for Tool<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (name, description, parameters, strict) = match self {
            Self::Raw(json) => return json.serialize(serializer),
            Self::Function { name, description, parameters, strict } => (name, description, parameters, strict),
        };
        let mut map = serializer.serialize_map(None)?;
        entries(&mut map, "function", &[("name", name)])?;
        if let Some(description) = description {
            map.serialize_entry("description", description)?;
        }
        map.serialize_entry("parameters", parameters)?;
        map.serialize_entry("strict", strict)?;
        map.end()
    }
}

impl Serialize for ToolChoice<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::None => serializer.serialize_str("none"),
            Self::Required => serializer.serialize_str("required"),
            Self::Raw(json) => json.serialize(serializer),
        }
    }
}
