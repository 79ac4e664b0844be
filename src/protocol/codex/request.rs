//! The request as every dialect builds it, and the body that leaves.
//!
//! A [`Request`] borrows its texts from the client's body. It is written from an allow-list: the
//! backend refuses a request with any member that it does not know (`400 Unsupported parameter`),
//! so nothing of the client's body gets here unless a dialect put it here. The forced members
//! (`store`, `stream`, `include`) can't be set at all. How it is written is its [`Form`].

mod write;

use std::borrow::Cow;
use std::collections::BTreeSet;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::classic::Classic;
use super::lite::Lite;
use crate::protocol::json::input_text::JsonText;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::models::Effort;

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
        arguments: JsonText<'a>,
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
        input: JsonText<'a>,
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
    InputText(JsonText<'a>),
    /// Text that came out.
    OutputText(JsonText<'a>),
    /// A picture: an http(s) or data URL, and the detail to look at it with.
    InputImage {
        /// The address or the data itself.
        image_url: JsonText<'a>,
        /// `auto`, `low`, `high`, `original`.
        detail: Cow<'a, str>,
    },
    /// A file with its content.
    InputFile {
        /// Name with its extension.
        filename: Cow<'a, str>,
        /// A data URL.
        file_data: JsonText<'a>,
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
    Text(JsonText<'a>),
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

/// Members without which the answer would be another one, or reasoning could not be replayed. The rest may
/// be left out when the backend refuses them.
const INDISPENSABLE: [&str; 10] =
    ["model", "instructions", "input", "tools", "tool_choice", "text", "store", "stream", "reasoning", "include"];

/// The type of the item that asks for a compaction of the conversation before it.
pub const TRIGGER: &str = "compaction_trigger";

impl Request<'_> {
    /// Whether the conversation is to be compacted, and not answered.
    #[must_use]
    pub fn is_compaction(&self) -> bool {
        matches!(self.input.last(), Some(Item::Raw { kind, .. }) if kind == TRIGGER)
    }

    /// The body in the request's form, without the members in `omitted`.
    #[must_use]
    pub fn encode(&self, omitted: &Omissions) -> Bytes {
        // Grown by doubling, a long body would take twice its room, and be copied as often.
        let mut body = Vec::with_capacity(self.written_bytes());
        let written = match self.form {
            Form::Classic | Form::OwnLite => serde_json::to_writer(&mut body, &Classic { request: self, omitted }),
            Form::Lite => serde_json::to_writer(&mut body, &Lite::new(self, omitted)),
        };
        written.expect("strings, numbers and raw JSON always serialise");
        Bytes::from(body)
    }

    /// About how many bytes the body has.
    #[must_use]
    pub fn written_bytes(&self) -> usize {
        const FRAME_BYTES: usize = 512;
        let tools: usize = self.tools.iter().map(Tool::written_bytes).sum();
        let input: usize = self.input.iter().map(Item::written_bytes).sum();
        FRAME_BYTES + self.instructions.len() * 17 / 16 + tools + input
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

impl<'a> Part<'a> {
    /// The text that goes in, where it is one.
    #[must_use]
    pub fn said(&self) -> Option<&JsonText<'a>> {
        if let Self::InputText(text) = self { Some(text) } else { None }
    }
}
