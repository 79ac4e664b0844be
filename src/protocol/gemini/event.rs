//! The chunks of a Gemini reply, encoded as elements of a JSON array or as server-sent events.
//!
//! Texts are in the escaped form in which the backend sent them, and are copied between constant bytes. Every chunk has
//! a candidate with at least one part, because the chats of the official SDKs drop a reply with a chunk that has none.
//! A reply that failed ends with an object whose first member is `error`: the SDKs recognize it by that.

use std::fmt::Write as _;

use bytes::{BufMut, Bytes, BytesMut};

use super::document::DocumentDraft;
use super::render::ReplyOptions;
use super::{Form, error};
use crate::command_hint::CommandHint;
use crate::error::ProxyError;
use crate::protocol::codex::Usage;
use crate::protocol::json::quoted;
use crate::protocol::reply::{Encoder, ResponseMeta};

const GROWS: &str = "writing to a growing string can't fail";

/// One chunk of a reply. Texts are escaped, names and ids are not. "Rendered" means JSON.
#[derive(Clone, Copy, Debug)]
pub enum Chunk<'e> {
    /// The start of the array, before the first chunk: Google's REST clients fail if white space precedes it.
    ArrayStart,
    /// A part, or an addition to the text of the part before it.
    Part(Part<'e>),
    /// The end of a complete reply.
    End(ChunkEnd<'e>),
    /// The end of a reply that failed.
    Failed(&'e ProxyError),
}

/// A part of the answer.
#[derive(Clone, Copy, Debug)]
pub struct Part<'e> {
    /// The content.
    pub content: PartContent<'e>,
    /// The signature of the reasoning before the part.
    pub signature: Option<&'e str>,
}

/// The content of a part, by kind.
#[derive(Clone, Copy, Debug)]
pub enum PartContent<'e> {
    /// Visible text.
    Text(&'e str),
    /// Visible reasoning.
    Thought(&'e str),
    /// A call of a function.
    Call {
        /// The call's id.
        id: &'e str,
        /// The function, as the client named it.
        name: &'e str,
        /// A JSON object.
        arguments: &'e str,
    },
    /// An image.
    Image {
        /// `png`, `webp` or `jpeg`.
        format: &'e str,
        /// The data.
        base64: &'e str,
    },
}

/// The last chunk of a complete reply.
#[derive(Clone, Copy, Debug)]
pub struct ChunkEnd<'e> {
    /// Why the reply ended.
    pub reason: FinishReason,
    /// Token usage.
    pub usage: Usage,
    /// `groundingMetadata`, rendered; `None` without web search.
    pub grounding: Option<&'e str>,
}

/// Why a reply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model was done, or the text reached a stop sequence.
    Stop,
    /// A token limit was reached.
    MaxTokens,
    /// The model refused, or the output was filtered.
    Safety,
}

impl FinishReason {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "STOP",
            Self::MaxTokens => "MAX_TOKENS",
            Self::Safety => "SAFETY",
        }
    }
}

impl Part<'_> {
    /// Writes the part as JSON.
    pub(super) fn write(&self, out: &mut impl BufMut) {
        match self.content {
            PartContent::Text(text) => put(&[r#"{"text":""#, text, "\""], out),
            PartContent::Thought(text) => put(&[r#"{"thought":true,"text":""#, text, "\""], out),
            PartContent::Call { id, name, arguments } => {
                let (id, name) = (quoted(id), quoted(name));
                put(&[r#"{"functionCall":{"id":"#, &id, r#","name":"#, &name, r#","args":"#, arguments, "}"], out);
            }
            PartContent::Image { format, base64 } => {
                put(&[r#"{"inlineData":{"mimeType":"image/"#, format, r#"","data":""#, base64, r#""}"#], out);
            }
        }
        if let Some(signature) = self.signature {
            put(&[r#","thoughtSignature":""#, signature, "\""], out);
        }
        out.put_u8(b'}');
    }
}

impl ChunkEnd<'_> {
    /// The members of the candidate after its content, each after a comma.
    pub(super) fn candidate_members(&self) -> String {
        let grounding = self.grounding.map(|json| format!(r#","groundingMetadata":{json}"#)).unwrap_or_default();
        format!(r#","finishReason":"{}"{grounding}"#, self.reason.as_str())
    }

    /// `usageMetadata`. The prompt includes cached tokens; the candidates don't include thoughts.
    pub(super) fn usage_metadata(&self) -> String {
        let Usage { input_tokens, cached_tokens, output_tokens, reasoning_tokens, total_tokens, .. } = self.usage;
        let candidates = output_tokens.saturating_sub(reasoning_tokens);
        let mut usage = format!(r#"{{"promptTokenCount":{input_tokens},"candidatesTokenCount":{candidates}"#);
        for (name, tokens) in [("thoughtsTokenCount", reasoning_tokens), ("cachedContentTokenCount", cached_tokens)] {
            if tokens > 0 {
                write!(usage, r#","{name}":{tokens}"#).expect(GROWS);
            }
        }
        write!(usage, r#","totalTokenCount":{total_tokens}}}"#).expect(GROWS);
        usage
    }
}

/// How much of the array was written.
#[derive(Clone, Copy, Debug)]
enum ArrayState {
    Unwritten,
    /// The opening bracket.
    Empty,
    HasElements,
}

/// Encodes chunks, and folds them into a document.
#[derive(Debug)]
pub struct ChunkEncoder {
    form: Form,
    commands: CommandHint,
    /// The members that all chunks have, after a comma, and the end of the object.
    tail: String,
    array: ArrayState,
    draft: DocumentDraft,
}

impl ChunkEncoder {
    pub(super) fn new(options: &ReplyOptions, response: &ResponseMeta) -> Self {
        let mut tail = format!(r#","modelVersion":{}"#, quoted(&options.model));
        if !response.id.is_empty() {
            write!(tail, r#","responseId":{}"#, quoted(&response.id)).expect(GROWS);
        }
        tail.push('}');
        Self {
            form: options.api.form,
            commands: options.commands,
            tail,
            array: ArrayState::Unwritten,
            draft: DocumentDraft::default(),
        }
    }

    /// The document that was folded from the chunks.
    pub(super) fn document(&self) -> Bytes {
        self.draft.render(&self.tail)
    }

    /// The bytes that keep an idle connection open: white space between the elements of an array, or an event with an
    /// empty text. Some SDKs fail on comments and on empty lines.
    pub(super) fn keepalive(&self) -> Bytes {
        if self.form != Form::Events {
            return Bytes::from_static(b"\n");
        }
        let mut wire = BytesMut::new();
        wire.put_slice(b"data: ");
        put_candidate(&Part { content: PartContent::Text(""), signature: None }, "", &mut wire);
        put(&[&self.tail, "\n\n"], &mut wire);
        wire.freeze()
    }

    fn begin(&mut self, wire: &mut BytesMut) {
        let before = std::mem::replace(&mut self.array, ArrayState::HasElements);
        let start = match (self.form, before) {
            (Form::Array, ArrayState::Unwritten) => "[",
            (Form::Array, ArrayState::Empty) => "",
            (Form::Array, ArrayState::HasElements) => ",\r\n",
            (Form::Events | Form::Document, _) => "data: ",
        };
        put(&[start], wire);
    }

    fn end(&self, is_last: bool, wire: &mut BytesMut) {
        match self.form {
            Form::Array if is_last => wire.put_slice(b"]"),
            Form::Array => {}
            Form::Events | Form::Document => wire.put_slice(b"\n\n"),
        }
    }
}

impl Encoder for ChunkEncoder {
    type Event<'e> = Chunk<'e>;

    fn encode(&mut self, chunk: &Chunk<'_>, wire: &mut BytesMut) {
        if !matches!(chunk, Chunk::ArrayStart) {
            self.begin(wire);
        }
        match chunk {
            Chunk::ArrayStart => {
                self.array = ArrayState::Empty;
                return wire.put_u8(b'[');
            }
            Chunk::Part(part) => {
                put_candidate(part, "", wire);
                put(&[&self.tail], wire);
            }
            Chunk::End(end) => {
                let nothing = Part { content: PartContent::Text(""), signature: None };
                put_candidate(&nothing, &end.candidate_members(), wire);
                put(&[r#","usageMetadata":"#, &end.usage_metadata(), &self.tail], wire);
            }
            Chunk::Failed(error) => put(&[&error::body(error, self.commands)], wire),
        }
        self.end(!matches!(chunk, Chunk::Part(_)), wire);
    }

    fn absorb(&mut self, chunk: &Chunk<'_>) {
        self.draft.absorb(chunk);
    }
}

/// Writes a chunk up to its usage. `members` are those of the candidate after its content.
fn put_candidate(part: &Part<'_>, members: &str, wire: &mut BytesMut) {
    wire.put_slice(br#"{"candidates":[{"content":{"parts":["#);
    part.write(wire);
    put(&[r#"],"role":"model"}"#, members, r#","index":0}]"#], wire);
}

/// Writes the pieces of JSON text.
pub(super) fn put(pieces: &[&str], out: &mut impl BufMut) {
    for piece in pieces {
        out.put_slice(piece.as_bytes());
    }
}
