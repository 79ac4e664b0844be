//! The events of a Messages reply, and their encoding in a stream.
//!
//! Texts are in the escaped form in which the backend sent them. They are copied between constant bytes, so that a
//! delta costs a few copies and no allocation. A stream doesn't end with `[DONE]`, as OpenAI's do: clients fail on it.

use std::fmt::Write as _;

use bytes::{BufMut, Bytes, BytesMut};

use super::document::DocumentDraft;
use super::render::ReplyOptions;
use super::{error, usage};
use crate::command_hint::CommandHint;
use crate::error::ProxyError;
use crate::protocol::codex::Usage;
use crate::protocol::json::quoted;
use crate::protocol::reply::{Encoder, ResponseMeta, usage as estimate};

/// The event that keeps an idle connection open.
pub(super) const PING: &[u8] = b"event: ping\ndata: {\"type\":\"ping\"}\n\n";

const GROWS: &str = "writing to a growing buffer can't fail";

/// One event of a Messages reply. Texts are escaped, names and ids are not. "Rendered" means JSON. The numbers are the
/// positions of content blocks in the reply.
#[derive(Clone, Copy, Debug)]
pub enum Event<'e> {
    /// The message that opens a reply.
    Start,
    /// A block begins.
    BlockStart(usize, Block<'e>),
    /// An addition to a block.
    Delta(usize, Delta<'e>),
    /// A block ends.
    BlockStop(usize),
    /// Stop reason and usage, after the last block.
    End {
        /// Why the reply ended.
        reason: StopReason,
        /// The stop sequence that ended the text; `None` if none did.
        stop: Option<&'e str>,
        /// Token usage.
        usage: Usage,
        /// Number of web searches that were shown.
        searches: u64,
    },
    /// The end of a reply that did not fail.
    Stop,
    /// The end of a reply that failed.
    Failed(&'e ProxyError),
}

/// The start of a content block, by kind.
#[derive(Clone, Copy, Debug)]
pub enum Block<'e> {
    /// Visible text.
    Text,
    /// Visible reasoning and its signature.
    Thinking,
    /// A call of a tool that the client runs.
    ToolUse {
        /// The call's id.
        id: &'e str,
        /// The tool, as the client named it.
        name: &'e str,
    },
    /// A web search that the backend made.
    ServerToolUse {
        /// The search's id.
        id: &'e str,
    },
    /// The results of a web search.
    SearchResult {
        /// The search's id.
        id: &'e str,
        /// The results, rendered.
        results: &'e str,
    },
}

/// An addition to a content block, by kind.
#[derive(Clone, Copy, Debug)]
pub enum Delta<'e> {
    /// Text.
    Text(&'e str),
    /// Reasoning.
    Thinking(&'e str),
    /// The backend's encrypted reasoning: the signature without its prefix.
    Signature(&'e str),
    /// The next part of a tool's input: JSON text, escaped.
    Json(&'e str),
    /// A citation, rendered.
    Citation(&'e str),
}

/// Why a reply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The model was done.
    EndTurn,
    /// A token limit was reached.
    MaxTokens,
    /// The text reached a stop sequence.
    StopSequence,
    /// Tools were called.
    ToolUse,
    /// The model refused, or the output was filtered.
    Refusal,
}

impl StopReason {
    /// The value of `stop_reason`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EndTurn => "end_turn",
            Self::MaxTokens => "max_tokens",
            Self::StopSequence => "stop_sequence",
            Self::ToolUse => "tool_use",
            Self::Refusal => "refusal",
        }
    }
}

impl Block<'_> {
    /// The JSON of a block that starts; only search results have content already.
    pub(super) fn render(&self) -> String {
        match self {
            Self::Text => r#"{"type":"text","text":""}"#.to_owned(),
            Self::Thinking => r#"{"type":"thinking","thinking":"","signature":""}"#.to_owned(),
            Self::ToolUse { id, name } => {
                format!(r#"{{"type":"tool_use","id":{},"name":{},"input":{{}}}}"#, quoted(id), quoted(name))
            }
            Self::ServerToolUse { id } => {
                format!(r#"{{"type":"server_tool_use","id":{},"name":"web_search","input":{{}}}}"#, quoted(id))
            }
            Self::SearchResult { id, results } => {
                format!(r#"{{"type":"web_search_tool_result","tool_use_id":{},"content":{results}}}"#, quoted(id))
            }
        }
    }
}

impl<'e> Delta<'e> {
    /// The delta in three pieces; the second is the text.
    fn pieces(self) -> [&'e str; 3] {
        match self {
            Self::Text(text) => [r#"{"type":"text_delta","text":""#, text, r#""}"#],
            Self::Thinking(text) => [r#"{"type":"thinking_delta","thinking":""#, text, r#""}"#],
            Self::Signature(text) => [r#"{"type":"signature_delta","signature":"cxr1."#, text, r#""}"#],
            Self::Json(text) => [r#"{"type":"input_json_delta","partial_json":""#, text, r#""}"#],
            Self::Citation(json) => [r#"{"type":"citations_delta","citation":"#, json, "}"],
        }
    }
}

/// Encodes events, and folds them into a document.
#[derive(Debug)]
pub struct EventEncoder {
    id: String,
    /// The JSON of the message without content, with an estimate of the prompt's tokens.
    message: String,
    commands: CommandHint,
    draft: DocumentDraft,
}

impl EventEncoder {
    pub(super) fn new(options: &ReplyOptions, response: &ResponseMeta) -> Self {
        let id = format!("msg_{}", response.id);
        let usage = usage::opening(estimate::tokens(options.prompt_characters));
        let message = format!(
            concat!(
                r#"{{"id":{},"type":"message","role":"assistant","model":{},"content":[],"#,
                r#""stop_reason":null,"stop_sequence":null,"usage":{}}}"#,
            ),
            quoted(&id),
            quoted(&options.model),
            usage,
        );
        Self { id, message, commands: options.commands, draft: DocumentDraft::default() }
    }

    /// The document that was folded from the events.
    pub(super) fn document(&self, model: &str) -> Bytes {
        self.draft.render(&self.id, model)
    }
}

impl Encoder for EventEncoder {
    type Event<'e> = Event<'e>;

    fn encode(&mut self, event: &Event<'_>, wire: &mut BytesMut) {
        match *event {
            Event::Start => {
                put("message_start", &[r#","message":"#, &self.message], wire);
                wire.put_slice(PING);
            }
            Event::BlockStart(index, block) => {
                head("content_block_start", wire);
                write!(wire, r#","index":{index},"content_block":{}"#, block.render()).expect(GROWS);
                end(wire);
            }
            Event::Delta(index, delta) => {
                head("content_block_delta", wire);
                write!(wire, r#","index":{index},"delta":"#).expect(GROWS);
                for piece in delta.pieces() {
                    wire.put_slice(piece.as_bytes());
                }
                end(wire);
            }
            Event::BlockStop(index) => {
                head("content_block_stop", wire);
                write!(wire, r#","index":{index}"#).expect(GROWS);
                end(wire);
            }
            Event::End { reason, stop, usage, searches } => {
                let stop = stop.map_or_else(|| "null".to_owned(), quoted);
                let delta = format!(r#"{{"stop_reason":"{}","stop_sequence":{stop}}}"#, reason.as_str());
                put("message_delta", &[r#","delta":"#, &delta, r#","usage":"#, &usage::json(&usage, searches)], wire);
            }
            Event::Stop => put("message_stop", &[], wire),
            Event::Failed(error) => put("error", &[r#","error":"#, &error::error_object(error, self.commands)], wire),
        }
    }

    fn absorb(&mut self, event: &Event<'_>) {
        self.draft.absorb(event);
    }
}

fn put(kind: &str, pieces: &[&str], wire: &mut BytesMut) {
    head(kind, wire);
    for piece in pieces {
        wire.put_slice(piece.as_bytes());
    }
    end(wire);
}

fn head(kind: &str, wire: &mut BytesMut) {
    for piece in ["event: ", kind, "\ndata: {\"type\":\"", kind, "\""] {
        wire.put_slice(piece.as_bytes());
    }
}

fn end(wire: &mut BytesMut) {
    wire.put_slice(b"}\n\n");
}
