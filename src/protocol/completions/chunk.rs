//! What the client of a text completion is told, and how it looks on the wire and as a document.
//!
//! Texts are in the escaped form in which the backend sent them.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::ProxyError;
use crate::protocol::codex::Usage;
use crate::protocol::reply::response_meta::Identity;
use crate::protocol::reply::usage;
use crate::protocol::{openai, sse};

const OBJECT: &str = "text_completion";

/// One event of the client's stream.
#[derive(Clone, Copy, Debug)]
pub enum Chunk<'e> {
    /// A piece of text, escaped.
    Text(&'e str),
    /// Why the answer ends.
    Finished(FinishReason),
    /// Tokens spent.
    Usage(Usage),
    /// The end of a whole answer.
    Done,
    /// The end of an answer that failed.
    Failed(&'e ProxyError),
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
}

impl FinishReason {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ContentFilter => "content_filter",
        }
    }
}

/// The bytes that are the same in every chunk of a stream.
#[derive(Debug)]
pub(super) struct Template {
    /// Up to `choices`.
    members: String,
    /// From the end of the choice on.
    end: &'static str,
    includes_usage: bool,
}

impl Template {
    pub(super) fn new(identity: &Identity, includes_usage: bool) -> Self {
        let end = if includes_usage { "}],\"usage\":null}\n\n" } else { "}]}\n\n" };
        Self { members: format!("data: {{{}", identity.members(OBJECT, None)), end, includes_usage }
    }

    pub(super) fn encode(&self, chunk: &Chunk<'_>, wire: &mut BytesMut) {
        match *chunk {
            Chunk::Text(text) => self.choice(text, "null", wire),
            Chunk::Finished(reason) => self.choice("", &format!("\"{}\"", reason.as_str()), wire),
            Chunk::Usage(usage) if self.includes_usage => {
                put(&[&self.members, r#""choices":[],"usage":"#, &usage::json(&usage), "}\n\n"], wire);
            }
            Chunk::Usage(_) => {}
            Chunk::Done => sse::frame(b"[DONE]", wire),
            Chunk::Failed(error) => sse::frame(&openai::error::frame(error), wire),
        }
    }

    fn choice(&self, text: &str, finish_reason: &str, wire: &mut BytesMut) {
        let (open, close) = (r#""choices":[{"text":""#, r#"","index":0,"logprobs":null,"finish_reason":"#);
        put(&[&self.members, open, text, close, finish_reason, self.end], wire);
    }
}

fn put(pieces: &[&str], wire: &mut BytesMut) {
    for piece in pieces {
        wire.put_slice(piece.as_bytes());
    }
}

/// The answer as one document: the fold of the chunks.
#[derive(Debug, Default)]
pub(super) struct Draft {
    text: String,
    finish_reason: Option<FinishReason>,
    usage: Usage,
}

impl Draft {
    pub(super) fn absorb(&mut self, chunk: &Chunk<'_>) {
        match *chunk {
            Chunk::Text(text) => self.text.push_str(text),
            Chunk::Finished(reason) => self.finish_reason = Some(reason),
            Chunk::Usage(usage) => self.usage = usage,
            Chunk::Done | Chunk::Failed(_) => {}
        }
    }

    pub(super) fn render(&self, identity: &Identity) -> Bytes {
        let (members, text, usage) = (identity.members(OBJECT, None), &self.text, usage::json(&self.usage));
        let finish_reason = self.finish_reason.unwrap_or(FinishReason::Stop).as_str();
        Bytes::from(format!(
            r#"{{{members}"choices":[{{"text":"{text}","index":0,"logprobs":null,"finish_reason":"{finish_reason}"}}],"usage":{usage}}}"#
        ))
    }
}
