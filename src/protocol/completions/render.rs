//! Renders the pieces of a reply as a text completion: visible text, and refusals as text. Nothing else is shown.

use bytes::Bytes;

use super::chunk::{Chunk, ChunkEncoder};
use crate::error::ProxyError;
use crate::protocol::reply::renderer::BLANK_LINE;
use crate::protocol::reply::{self, Emit, Machine, Renderer, ReplyEnd, ResponseMeta, TextDelta};

/// The reply to a request for a completion.
pub type CompletionReply = Machine<CompletionRenderer>;

/// The options of a request that affect its reply.
pub type ReplyOptions = reply::ReplyOptions<RenderOptions>;

/// The options that only this API has.
#[derive(Clone, Debug, Default)]
pub struct RenderOptions {
    /// `stream_options.include_usage`: a stream ends with the token usage.
    pub includes_usage: bool,
}

/// Renders one completion.
#[derive(Debug)]
pub struct CompletionRenderer;

impl Renderer for CompletionRenderer {
    type Options = RenderOptions;
    type Encoder = ChunkEncoder;

    const REFUSAL_IS_TEXT: bool = true;

    fn new(_options: &ReplyOptions) -> Self {
        Self
    }

    fn encoder(options: &ReplyOptions, response: &ResponseMeta) -> ChunkEncoder {
        ChunkEncoder::new(options, response)
    }

    fn failed(error: &ProxyError) -> Chunk<'_> {
        Chunk::Failed(error)
    }

    fn document(encoder: &ChunkEncoder, _options: &ReplyOptions, _response: &ResponseMeta) -> Bytes {
        encoder.document()
    }

    fn text(&mut self, delta: &TextDelta<'_>, out: &mut impl Emit<ChunkEncoder>) {
        if delta.is_separate {
            out.emit(&Chunk::Text(BLANK_LINE));
        }
        out.emit(&Chunk::Text(delta.text));
    }

    fn end(&mut self, end: &ReplyEnd<'_>, out: &mut impl Emit<ChunkEncoder>) {
        out.emit(&Chunk::Finished(end.finish));
        out.emit(&Chunk::Usage(end.usage));
        out.emit(&Chunk::Done);
    }
}
