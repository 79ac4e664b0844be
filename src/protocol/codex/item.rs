//! Output items: the messages, calls and reasoning that a response consists of.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::protocol::json::string::{RawText, Str};

/// An output item, with the members that a translation needs.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct OutputItem<'a> {
    /// `message`, `reasoning`, `function_call`, `custom_tool_call`, `image_generation_call`, …
    #[serde(rename = "type", borrow, default)]
    pub kind: Str<'a>,
    /// `msg_…`, `rs_…`, `fc_…`
    #[serde(borrow, default)]
    pub id: Option<Str<'a>>,
    /// `completed`, `failed`, `incomplete`, …
    #[serde(borrow, default)]
    pub status: Option<Str<'a>>,
    /// The id of a call, which its output in a later request repeats.
    #[serde(borrow, default)]
    pub call_id: Option<Str<'a>>,
    /// Name of the called tool.
    #[serde(borrow, default)]
    pub name: Option<Str<'a>>,
    /// Arguments of a function call: JSON text inside a JSON string.
    #[serde(borrow, default)]
    pub arguments: Option<RawText<'a>>,
    /// Input of a custom tool call.
    #[serde(borrow, default)]
    pub input: Option<RawText<'a>>,
    /// Content parts of a message.
    #[serde(borrow, default)]
    pub content: Option<&'a RawValue>,
    /// Summary parts of reasoning.
    #[serde(borrow, default)]
    pub summary: Option<&'a RawValue>,
    /// Encrypted reasoning, which later requests can replay.
    #[serde(borrow, default)]
    pub encrypted_content: Option<RawText<'a>>,
    /// A generated image, in base64.
    #[serde(borrow, default)]
    pub result: Option<RawText<'a>>,
    /// Format of a generated image: `png`, `webp`, `jpeg`.
    #[serde(borrow, default)]
    pub output_format: Option<Str<'a>>,
    /// The action of a web search: the query and the sources of a search, or an opened page.
    #[serde(borrow, default)]
    pub action: Option<&'a RawValue>,
}

/// A part of a message's content or of a reasoning summary.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ContentPart<'a> {
    /// `output_text`, `refusal`, `summary_text`, `reasoning_text`.
    #[serde(rename = "type", borrow, default)]
    pub kind: Str<'a>,
    /// Text of a text part.
    #[serde(borrow, default)]
    pub text: Option<RawText<'a>>,
    /// Text of a refusal.
    #[serde(borrow, default)]
    pub refusal: Option<RawText<'a>>,
    /// Citations of a text part.
    #[serde(borrow, default)]
    pub annotations: Option<Vec<&'a RawValue>>,
}

impl<'a> OutputItem<'a> {
    /// Parses an item; `None` unless it's an object whose members have the expected types.
    #[must_use]
    pub fn read(raw: &'a RawValue) -> Option<Self> {
        raw.get().starts_with('{').then(|| serde_json::from_str(raw.get()).ok())?
    }

    /// The content parts; empty if the member is missing, null or malformed.
    #[must_use]
    pub fn content_parts(&self) -> Vec<ContentPart<'a>> {
        parts(self.content)
    }

    /// The summary parts; empty if the member is missing, null or malformed.
    #[must_use]
    pub fn summary_parts(&self) -> Vec<ContentPart<'a>> {
        parts(self.summary)
    }
}

fn parts(raw: Option<&RawValue>) -> Vec<ContentPart<'_>> {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
}
