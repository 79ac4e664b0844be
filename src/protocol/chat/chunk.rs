//! The events of a Chat reply, and their encoding as the chunks of a stream.
//!
//! Texts are in the escaped form in which the backend sent them. They are copied between bytes that are rendered once
//! per reply, so that a text delta costs a few copies and no allocation.

use std::fmt::Write as _;

use bytes::{BufMut, Bytes, BytesMut};

use super::document::DocumentDraft;
use super::render::{ReasoningField, RenderOptions, ReplyOptions};
use crate::command_hint::CommandHint;
use crate::error::ProxyError;
use crate::protocol::codex::Usage;
use crate::protocol::json::quoted;
use crate::protocol::reply::{Encoder, ResponseMeta, usage};
use crate::protocol::{openai, sse};

/// One event of a Chat reply. Texts are escaped, names and ids are not. "Rendered" means a JSON object.
#[derive(Clone, Copy, Debug)]
pub enum Chunk<'e> {
    /// The role that opens a reply.
    Role,
    /// Visible text.
    Content(&'e str),
    /// Visible reasoning.
    Reasoning(&'e str),
    /// Text of the model's refusal.
    Refusal(&'e str),
    /// A citation, rendered.
    Annotation(&'e str),
    /// A call begins.
    CallStart {
        /// Position among the calls of the reply.
        index: usize,
        /// The call's id.
        id: &'e str,
        /// The tool, as the client named it.
        name: &'e str,
        /// The members that hold the call.
        form: CallForm,
    },
    /// Arguments or input of a call.
    CallText {
        /// Position among the calls of the reply.
        index: usize,
        /// The members that hold the call.
        form: CallForm,
        /// The next text.
        text: &'e str,
    },
    /// A complete image, rendered.
    Image(&'e str),
    /// The finish reason, after all content.
    Finished(&'static str),
    /// Token usage. A stream contains it only if the client requested it.
    Usage(Usage),
    /// The end of a reply that did not fail.
    Done,
    /// The end of a reply that failed.
    Failed(&'e ProxyError),
}

/// The members that hold a call: those of [`CallStyle`](super::CallStyle), by kind of tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallForm {
    /// `tool_calls` with `function`.
    Function,
    /// `tool_calls` with `custom`.
    Custom,
    /// `function_call`.
    Legacy,
}

impl CallForm {
    /// The name of the member that holds the call, and in it, of the one that holds the arguments or input.
    pub(super) fn members(self) -> (&'static str, &'static str) {
        match self {
            Self::Function => ("function", "arguments"),
            Self::Custom => ("custom", "input"),
            Self::Legacy => ("function_call", "arguments"),
        }
    }
}

const GROWS: &str = "writing to a growing buffer can't fail";
const CHOICE: &str = r#""choices":[{"index":0,"delta":"#;
const CHOICE_END: &str = r#","logprobs":null,"finish_reason":"#;

/// Encodes chunks around the bytes that all chunks of a reply have in common, and folds them into a document.
#[derive(Debug)]
pub struct ChunkEncoder {
    /// The bytes of a chunk before the value of `delta`.
    prefix: String,
    /// Length of the part of `prefix` before `choices`.
    members_bytes: usize,
    /// The bytes of a chunk after the finish reason.
    end: &'static str,
    includes_usage: bool,
    reasoning: ReasoningField,
    commands: CommandHint,
    draft: DocumentDraft,
}

impl ChunkEncoder {
    pub(super) fn new(options: &ReplyOptions, response: &ResponseMeta) -> Self {
        let RenderOptions { includes_usage, reasoning, .. } = options.api;
        let tier = service_tier(options, response);
        let mut prefix =
            format!("data: {{{}", response.members("chatcmpl", "chat.completion.chunk", &options.model, tier));
        let members_bytes = prefix.len();
        prefix.push_str(CHOICE);
        let end = if includes_usage { "}],\"usage\":null}\n\n" } else { "}]}\n\n" };
        let (commands, draft) = (options.commands, DocumentDraft::default());
        Self { prefix, members_bytes, end, includes_usage, reasoning, commands, draft }
    }

    /// The document that was folded from the chunks.
    pub(super) fn document(&self, options: &ReplyOptions, response: &ResponseMeta) -> Bytes {
        let tier = service_tier(options, response);
        let members = response.members("chatcmpl", "chat.completion", &options.model, tier);
        self.draft.render(&members, self.reasoning)
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
            // The renderer emits reasoning as content, or not at all.
            ReasoningField::ThinkTags | ReasoningField::None => {}
        }
    }

    fn call_start(&self, index: usize, id: &str, name: &str, form: CallForm, wire: &mut BytesMut) {
        let (member, text) = form.members();
        let call = format!(r#""{member}":{{"name":{},"{text}":""}}"#, quoted(name));
        let delta = match form {
            CallForm::Legacy => format!("{{{call}}}"),
            CallForm::Function | CallForm::Custom => {
                format!(r#"{{"tool_calls":[{{"index":{index},"id":{},"type":"{member}",{call}}}]}}"#, quoted(id))
            }
        };
        self.delta(&[&delta], wire);
    }

    fn call_text(&self, index: usize, form: CallForm, text: &str, wire: &mut BytesMut) {
        match form {
            CallForm::Legacy => self.delta(&[r#"{"function_call":{"arguments":""#, text, r#""}}"#], wire),
            CallForm::Function | CallForm::Custom => {
                let (member, inner) = form.members();
                wire.put_slice(self.prefix.as_bytes());
                write!(wire, r#"{{"tool_calls":[{{"index":{index},"{member}":{{"{inner}":""#).expect(GROWS);
                wire.put_slice(text.as_bytes());
                wire.put_slice(br#""}}]}"#);
                self.end_delta(wire);
            }
        }
    }

    fn finished(&self, reason: &str, wire: &mut BytesMut) {
        for piece in [&self.prefix, "{}", CHOICE_END, "\"", reason, "\"", self.end] {
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

impl Encoder for ChunkEncoder {
    type Event<'e> = Chunk<'e>;

    fn encode(&mut self, chunk: &Chunk<'_>, wire: &mut BytesMut) {
        match *chunk {
            Chunk::Role => self.delta(&[r#"{"role":"assistant","content":"","refusal":null}"#], wire),
            Chunk::Content(text) => self.delta(&[r#"{"content":""#, text, r#""}"#], wire),
            Chunk::Reasoning(text) => self.reasoning(text, wire),
            Chunk::Refusal(text) => self.delta(&[r#"{"refusal":""#, text, r#""}"#], wire),
            Chunk::Annotation(json) => self.delta(&[r#"{"annotations":["#, json, "]}"], wire),
            Chunk::CallStart { index, id, name, form } => self.call_start(index, id, name, form, wire),
            Chunk::CallText { index, form, text } => self.call_text(index, form, text, wire),
            Chunk::Image(json) => self.delta(&[r#"{"images":["#, json, "]}"], wire),
            Chunk::Finished(reason) => self.finished(reason, wire),
            Chunk::Usage(usage) => self.usage(&usage, wire),
            Chunk::Done => sse::frame(b"[DONE]", wire),
            Chunk::Failed(error) => sse::frame(&openai::error::frame(error, self.commands), wire),
        }
    }

    fn absorb(&mut self, chunk: &Chunk<'_>) {
        self.draft.absorb(chunk);
    }
}

/// The tier to show; `None` if the client sent none. Before the backend has chosen a tier, it reports `auto`, which
/// isn't a valid value in a Chat reply.
fn service_tier<'r>(options: &ReplyOptions, response: &'r ResponseMeta) -> Option<&'r str> {
    let tier = response.service_tier.as_deref().filter(|_| options.api.shows_service_tier)?;
    Some(if tier == "auto" { "default" } else { tier })
}
