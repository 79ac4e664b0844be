//! What a Messages client is told, and how it looks on the wire.
//!
//! Texts are in the escaped form in which the backend sent them and are spliced between constant
//! bytes: a delta costs a few copies and no allocation. There is no `[DONE]`: clients fail on it.

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};

use super::{error, usage};
use crate::error::ProxyError;
use crate::protocol::codex::Usage;
use crate::protocol::reply::response_meta::quoted;

/// A sign of life.
pub(super) const PING: &[u8] = b"event: ping\ndata: {\"type\":\"ping\"}\n\n";

const GROWS: &str = "a buffer grows as it is written to";

/// One event of the client's stream. Texts are escaped, names and ids are not. A number is the
/// block's position in the answer.
#[derive(Clone, Copy, Debug)]
pub enum Event<'e> {
    /// The answer begins.
    Start,
    /// A block begins.
    Opened(usize, Block<'e>),
    /// A piece of a block.
    Delta(usize, Delta<'e>),
    /// A block is over.
    Closed(usize),
    /// Why the answer ends, and what it cost.
    Ended {
        /// Why.
        reason: StopReason,
        /// The stop sequence that was met.
        stop: Option<&'e str>,
        /// Tokens spent.
        usage: Usage,
        /// Web searches made.
        searches: u64,
    },
    /// The end of a whole answer.
    Stop,
    /// The end of an answer that failed.
    Failed(&'e ProxyError),
}

/// The kinds of block.
#[derive(Clone, Copy, Debug)]
pub enum Block<'e> {
    /// Visible text.
    Text,
    /// Visible thinking, and its signature.
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
    /// What a web search found.
    SearchResult {
        /// The search's id.
        id: &'e str,
        /// The results, rendered.
        results: &'e str,
    },
}

/// The kinds of delta.
#[derive(Clone, Copy, Debug)]
pub enum Delta<'e> {
    /// A piece of text.
    Text(&'e str),
    /// A piece of thinking.
    Thinking(&'e str),
    /// A signature, without what ours begin with.
    Signature(&'e str),
    /// A piece of a tool's input: JSON text, escaped.
    Json(&'e str),
    /// A citation, rendered.
    Citation(&'e str),
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The model was done.
    EndTurn,
    /// A limit was met.
    MaxTokens,
    /// A stop sequence was met.
    StopSequence,
    /// Tools were called.
    ToolUse,
    /// The model, or a filter, refused.
    Refusal,
}

impl StopReason {
    /// The word on the wire.
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
    /// The block as it begins.
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
    /// What stands before the piece, the piece, and what stands behind it.
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

/// The message as it begins, with a guess at what the prompt costs.
pub(super) fn opening(id: &str, model: &str, prompt_tokens: u64) -> String {
    let (id, model, usage) = (quoted(id), quoted(model), usage::opening(prompt_tokens));
    format!(
        concat!(
            r#"{{"id":{},"type":"message","role":"assistant","model":{},"content":[],"#,
            r#""stop_reason":null,"stop_sequence":null,"usage":{}}}"#,
        ),
        id, model, usage,
    )
}

/// Writes an event; `opening` is the message as it begins.
pub(super) fn encode(event: &Event<'_>, opening: &str, wire: &mut BytesMut) {
    match *event {
        Event::Start => {
            put("message_start", &[r#","message":"#, opening], wire);
            wire.put_slice(PING);
        }
        Event::Opened(index, block) => {
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
        Event::Closed(index) => {
            head("content_block_stop", wire);
            write!(wire, r#","index":{index}"#).expect(GROWS);
            end(wire);
        }
        Event::Ended { reason, stop, usage, searches } => {
            let stop = stop.map_or_else(|| "null".to_owned(), quoted);
            let delta = format!(r#"{{"stop_reason":"{}","stop_sequence":{stop}}}"#, reason.as_str());
            put("message_delta", &[r#","delta":"#, &delta, r#","usage":"#, &usage::json(&usage, searches)], wire);
        }
        Event::Stop => put("message_stop", &[], wire),
        Event::Failed(error) => put("error", &[r#","error":"#, &error::members(error)], wire),
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
