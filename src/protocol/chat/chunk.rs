//! What a Chat client is told, piece by piece, and how a piece looks on the wire.
//!
//! Texts are in the escaped form in which the backend sent them and are spliced between bytes that
//! are rendered once for a stream: a text delta costs three copies and no allocation.

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};

use super::reply::{ReasoningField, Shape};
use crate::error::ProxyError;
use crate::protocol::codex::Usage;
use crate::protocol::reply::response_meta::{Identity, quoted};
use crate::protocol::reply::usage;
use crate::protocol::{openai, sse};

/// One event of the client's stream. Texts are escaped, names and ids are not.
#[derive(Clone, Copy, Debug)]
pub enum Chunk<'e> {
    /// The answer begins.
    Role,
    /// A piece of visible text.
    Content(&'e str),
    /// A piece of visible reasoning.
    Reasoning(&'e str),
    /// A piece of a refusal.
    Refusal(&'e str),
    /// A citation, rendered.
    Annotation(&'e str),
    /// A call begins.
    CallOpened {
        /// Position among the calls of the answer.
        index: usize,
        /// The call's id.
        id: &'e str,
        /// The tool, as the client named it.
        name: &'e str,
        /// How the call is told.
        envelope: RawObject,
    },
    /// A piece of a call's arguments or input.
    CallText {
        /// Position among the calls of the answer.
        index: usize,
        /// How the call is told.
        envelope: RawObject,
        /// The piece.
        text: &'e str,
    },
    /// A finished image, rendered.
    Image(&'e str),
    /// Why the answer ends.
    Finished(FinishReason),
    /// Tokens spent.
    Usage(Usage),
    /// The end of a whole answer.
    Done,
    /// The end of an answer that failed.
    Failed(&'e ProxyError),
}

/// The forms in which a call is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawObject {
    /// `tool_calls` with `function`.
    Function,
    /// `tool_calls` with `custom`.
    Custom,
    /// `function_call`.
    Legacy,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model was done, or a stop sequence was met.
    Stop,
    /// A limit was met.
    Length,
    /// The answer was filtered.
    ContentFilter,
    /// Tools were called.
    ToolCalls,
    /// A function was called, in the old form.
    FunctionCall,
}

impl FinishReason {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ContentFilter => "content_filter",
            Self::ToolCalls => "tool_calls",
            Self::FunctionCall => "function_call",
        }
    }
}

impl RawObject {
    /// The member that holds the call, and the one in it that holds the text.
    pub(super) fn members(self) -> (&'static str, &'static str) {
        match self {
            Self::Function => ("function", "arguments"),
            Self::Custom => ("custom", "input"),
            Self::Legacy => ("function_call", "arguments"),
        }
    }
}

const GROWS: &str = "a buffer grows as it is written to";
const CHOICE: &str = r#""choices":[{"index":0,"delta":"#;
const CHOICE_END: &str = r#","logprobs":null,"finish_reason":"#;

/// The bytes that are the same in every chunk of a stream.
#[derive(Debug)]
pub(super) struct Template {
    /// Up to the value of `delta`.
    prefix: String,
    /// How much of the prefix comes before `choices`.
    members_bytes: usize,
    /// From the end of the choice on.
    end: &'static str,
    includes_usage: bool,
    reasoning: ReasoningField,
}

impl Template {
    pub(super) fn new(identity: &Identity, shape: &Shape) -> Self {
        let members = identity.members("chat.completion.chunk", identity.service_tier.as_deref());
        let mut prefix = format!("data: {{{members}");
        let members_bytes = prefix.len();
        prefix.push_str(CHOICE);
        let end = if shape.includes_usage { "}],\"usage\":null}\n\n" } else { "}]}\n\n" };
        Self { prefix, members_bytes, end, includes_usage: shape.includes_usage, reasoning: shape.reasoning }
    }

    pub(super) fn encode(&self, chunk: &Chunk<'_>, wire: &mut BytesMut) {
        match *chunk {
            Chunk::Role => self.delta(&[r#"{"role":"assistant","content":"","refusal":null}"#], wire),
            Chunk::Content(text) => self.delta(&[r#"{"content":""#, text, r#""}"#], wire),
            Chunk::Reasoning(text) => self.reasoning(text, wire),
            Chunk::Refusal(text) => self.delta(&[r#"{"refusal":""#, text, r#""}"#], wire),
            Chunk::Annotation(json) => self.delta(&[r#"{"annotations":["#, json, "]}"], wire),
            Chunk::CallOpened { index, id, name, envelope } => self.call_opened(index, id, name, envelope, wire),
            Chunk::CallText { index, envelope, text } => self.call_text(index, envelope, text, wire),
            Chunk::Image(json) => self.delta(&[r#"{"images":["#, json, "]}"], wire),
            Chunk::Finished(reason) => self.finished(reason, wire),
            Chunk::Usage(usage) => self.usage(&usage, wire),
            Chunk::Done => sse::frame(b"[DONE]", wire),
            Chunk::Failed(error) => sse::frame(&openai::error::frame(error), wire),
        }
    }

    fn delta(&self, pieces: &[&str], wire: &mut BytesMut) {
        wire.put_slice(self.prefix.as_bytes());
        for piece in pieces {
            wire.put_slice(piece.as_bytes());
        }
        self.end_delta(wire);
    }

    fn end_delta(&self, wire: &mut BytesMut) {
        wire.put_slice(CHOICE_END.as_bytes());
        wire.put_slice(b"null");
        wire.put_slice(self.end.as_bytes());
    }

    fn reasoning(&self, text: &str, wire: &mut BytesMut) {
        match self.reasoning {
            ReasoningField::ReasoningContent => self.delta(&[r#"{"reasoning_content":""#, text, r#""}"#], wire),
            ReasoningField::Reasoning => self.delta(&[r#"{"reasoning":""#, text, r#""}"#], wire),
            ReasoningField::Both => {
                self.delta(&[r#"{"reasoning_content":""#, text, r#"","reasoning":""#, text, r#""}"#], wire);
            }
            // The machine makes text of it, or nothing.
            ReasoningField::ThinkTags | ReasoningField::None => {}
        }
    }

    fn call_opened(&self, index: usize, id: &str, name: &str, envelope: RawObject, wire: &mut BytesMut) {
        let (member, text) = envelope.members();
        let call = format!(r#""{member}":{{"name":{},"{text}":""}}"#, quoted(name));
        let delta = match envelope {
            RawObject::Legacy => format!("{{{call}}}"),
            RawObject::Function | RawObject::Custom => {
                format!(r#"{{"tool_calls":[{{"index":{index},"id":{},"type":"{member}",{call}}}]}}"#, quoted(id))
            }
        };
        self.delta(&[&delta], wire);
    }

    fn call_text(&self, index: usize, envelope: RawObject, text: &str, wire: &mut BytesMut) {
        match envelope {
            RawObject::Legacy => self.delta(&[r#"{"function_call":{"arguments":""#, text, r#""}}"#], wire),
            RawObject::Function | RawObject::Custom => {
                let (member, inner) = envelope.members();
                wire.put_slice(self.prefix.as_bytes());
                write!(wire, r#"{{"tool_calls":[{{"index":{index},"{member}":{{"{inner}":""#).expect(GROWS);
                wire.put_slice(text.as_bytes());
                wire.put_slice(br#""}}]}"#);
                self.end_delta(wire);
            }
        }
    }

    fn finished(&self, reason: FinishReason, wire: &mut BytesMut) {
        for piece in [&self.prefix, "{}", CHOICE_END, "\"", reason.as_str(), "\"", self.end] {
            wire.put_slice(piece.as_bytes());
        }
    }

    fn usage(&self, usage: &Usage, wire: &mut BytesMut) {
        if !self.includes_usage {
            return;
        }
        let members = self.prefix.get(..self.members_bytes).unwrap_or_default();
        for piece in [members, r#""choices":[],"usage":"#, &usage::json(usage), "}\n\n"] {
            wire.put_slice(piece.as_bytes());
        }
    }
}
