//! The events of a text completion, encoded as chunks of a stream or folded into a document.
//!
//! Texts are in the escaped form in which the backend sent them.

use bytes::{BufMut, Bytes, BytesMut};

use super::ReplyOptions;
use crate::command_hint::CommandHint;
use crate::error::ProxyError;
use crate::protocol::codex::Usage;
use crate::protocol::reply::{Encoder, FinishKind, ResponseMeta, usage};
use crate::protocol::{openai, sse};

/// One event of a text completion.
#[derive(Clone, Copy, Debug)]
pub enum Chunk<'e> {
    /// Text, escaped.
    Text(&'e str),
    /// Why the reply ends.
    Finished(FinishKind),
    /// Token usage. A stream contains it only if the client requested it.
    Usage(Usage),
    /// The end of a reply that did not fail.
    Done,
    /// The end of a reply that failed.
    Failed(&'e ProxyError),
}

fn finish_reason(kind: FinishKind) -> &'static str {
    match kind {
        FinishKind::Completed | FinishKind::StopSequence => "stop",
        FinishKind::Length | FinishKind::TokenLimit => "length",
        FinishKind::ContentFilter => "content_filter",
    }
}

/// Encodes chunks around the bytes that all chunks of a reply have in common, and folds them into a document.
#[derive(Debug)]
pub struct ChunkEncoder {
    /// The JSON members before `choices`.
    members: String,
    includes_usage: bool,
    commands: CommandHint,
    /// The text, finish reason and usage of the document so far.
    text: String,
    finish_reason: &'static str,
    usage: Usage,
}

impl ChunkEncoder {
    pub(super) fn new(options: &ReplyOptions, response: &ResponseMeta) -> Self {
        Self {
            members: response.members("cmpl", "text_completion", &options.model, None),
            includes_usage: options.api.includes_usage,
            commands: options.commands,
            text: String::new(),
            finish_reason: "stop",
            usage: Usage::default(),
        }
    }

    /// The document that was folded from the chunks.
    pub(super) fn document(&self) -> Bytes {
        let Self { members, text, finish_reason, .. } = self;
        let usage = usage::json(&self.usage);
        Bytes::from(format!(
            r#"{{{members}"choices":[{{"text":"{text}","index":0,"logprobs":null,"finish_reason":"{finish_reason}"}}],"usage":{usage}}}"#
        ))
    }

    fn choice(&self, text: &str, finish_reason: &str, wire: &mut BytesMut) {
        let (open, close) = (r#""choices":[{"text":""#, r#"","index":0,"logprobs":null,"finish_reason":"#);
        let end = if self.includes_usage { "}],\"usage\":null}\n\n" } else { "}]}\n\n" };
        put(&["data: {", &self.members, open, text, close, finish_reason, end], wire);
    }
}

impl Encoder for ChunkEncoder {
    type Event<'e> = Chunk<'e>;

    fn encode(&mut self, chunk: &Chunk<'_>, wire: &mut BytesMut) {
        match *chunk {
            Chunk::Text(text) => self.choice(text, "null", wire),
            Chunk::Finished(kind) => self.choice("", &format!("\"{}\"", finish_reason(kind)), wire),
            Chunk::Usage(usage) if self.includes_usage => {
                put(&["data: {", &self.members, r#""choices":[],"usage":"#, &usage::json(&usage), "}\n\n"], wire);
            }
            Chunk::Usage(_) => {}
            Chunk::Done => sse::frame(b"[DONE]", wire),
            Chunk::Failed(error) => sse::frame(&openai::error::frame(error, self.commands), wire),
        }
    }

    fn absorb(&mut self, chunk: &Chunk<'_>) {
        match *chunk {
            Chunk::Text(text) => self.text.push_str(text),
            Chunk::Finished(kind) => self.finish_reason = finish_reason(kind),
            Chunk::Usage(usage) => self.usage = usage,
            Chunk::Done | Chunk::Failed(_) => {}
        }
    }
}

fn put(pieces: &[&str], wire: &mut BytesMut) {
    for piece in pieces {
        wire.put_slice(piece.as_bytes());
    }
}
