//! Renders the pieces of a reply as the chunks of the Gemini API.
//!
//! A call is sent when it is complete, since its arguments are a JSON object. The signature of reasoning is sent with
//! the part that follows it, since clients drop thoughts from the conversation but keep texts and calls.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::event::{Chunk, ChunkEncoder, ChunkEnd, FinishReason, Part, PartContent};
use super::grounding::Grounding;
use super::{Form, signature};
use crate::error::ProxyError;
use crate::protocol::json::string::RawText;
use crate::protocol::reply::renderer::BLANK_LINE;
use crate::protocol::reply::{
    self, CallEnd, CallStart, Citation, CompleteCall, Emit, FinishKind, Machine, PendingCall, Renderer, ReplyEnd,
    ReplyItem, ResponseMeta, Search, TextDelta,
};

/// The reply to a Gemini request.
pub type GeminiReply = Machine<GeminiRenderer>;

/// The options of a request that affect its reply.
pub type ReplyOptions = reply::ReplyOptions<RenderOptions>;

/// The options that only this API has.
#[derive(Clone, Copy, Debug, Default)]
pub struct RenderOptions {
    /// The form of the reply.
    pub form: Form,
    /// Whether reasoning is shown.
    pub shows_thoughts: bool,
    /// Whether the request has web search, so that the reply reports its sources.
    pub searches: bool,
}

/// Renders one reply.
#[derive(Debug)]
pub struct GeminiRenderer {
    shows_thoughts: bool,
    /// `None` without web search.
    grounding: Option<Grounding>,
    /// The call that began last.
    call: PendingCall,
    /// The signature that the next part gets.
    signature: Option<String>,
    has_refusal: bool,
}

impl GeminiRenderer {
    /// Sends a part, with the signature of the reasoning before it.
    fn part(&mut self, content: PartContent<'_>, out: &mut impl Emit<ChunkEncoder>) {
        let signature = self.signature.take();
        out.emit(&Chunk::Part(Part { content, signature: signature.as_deref() }));
    }

    /// Sends a signature that no part follows.
    fn flush_signature(&mut self, out: &mut impl Emit<ChunkEncoder>) {
        if self.signature.is_some() {
            self.part(PartContent::Text(""), out);
        }
    }

    fn finish_reason(&self, finish: FinishKind) -> FinishReason {
        match finish {
            FinishKind::ContentFilter => FinishReason::Safety,
            FinishKind::Completed | FinishKind::Length if self.has_refusal => FinishReason::Safety,
            FinishKind::Completed | FinishKind::StopSequence => FinishReason::Stop,
            FinishKind::Length | FinishKind::TokenLimit => FinishReason::MaxTokens,
        }
    }
}

impl Renderer for GeminiRenderer {
    type Options = RenderOptions;
    type Encoder = ChunkEncoder;

    fn new(options: &ReplyOptions) -> Self {
        let RenderOptions { shows_thoughts, searches, .. } = options.api;
        Self {
            shows_thoughts,
            grounding: searches.then(Grounding::default),
            call: PendingCall::default(),
            signature: None,
            has_refusal: false,
        }
    }

    fn encoder(options: &ReplyOptions, response: &ResponseMeta) -> ChunkEncoder {
        ChunkEncoder::new(options, response)
    }

    fn opening(options: &ReplyOptions) -> Option<Chunk<'static>> {
        (options.api.form == Form::Array).then_some(Chunk::ArrayStart)
    }

    fn failed(error: &ProxyError) -> Chunk<'_> {
        Chunk::Failed(error)
    }

    fn keepalive(encoder: &ChunkEncoder) -> Bytes {
        encoder.keepalive()
    }

    fn document(encoder: &ChunkEncoder, _options: &ReplyOptions, _response: &ResponseMeta) -> Bytes {
        encoder.document()
    }

    fn interrupts_text(&self, _item: usize, piece: &ReplyItem<'_>) -> bool {
        match piece {
            ReplyItem::CallStart { .. } | ReplyItem::Refusal { .. } | ReplyItem::Image { .. } => true,
            ReplyItem::Reasoning { .. } => self.shows_thoughts,
            ReplyItem::ReasoningEnd { encrypted } => encrypted.is_some(),
            _ => false,
        }
    }

    fn text(&mut self, delta: &TextDelta<'_>, out: &mut impl Emit<ChunkEncoder>) {
        if delta.is_separate {
            self.part(PartContent::Text(BLANK_LINE), out);
        }
        if let Some(grounding) = &mut self.grounding {
            if delta.is_separate {
                grounding.push_separator(BLANK_LINE);
            }
            grounding.push_text((delta.item, delta.part), delta.text);
        }
        self.part(PartContent::Text(delta.text), out);
    }

    fn refusal(&mut self, delta: &TextDelta<'_>, out: &mut impl Emit<ChunkEncoder>) {
        self.has_refusal = true;
        self.part(PartContent::Text(delta.text), out);
    }

    fn citation(&mut self, item: usize, part: usize, citation: &Citation<'_>, _out: &mut impl Emit<ChunkEncoder>) {
        if let Some(grounding) = &mut self.grounding {
            grounding.cite((item, part), citation);
        }
    }

    fn reasoning(&mut self, delta: &TextDelta<'_>, out: &mut impl Emit<ChunkEncoder>) {
        if !self.shows_thoughts {
            return;
        }
        self.flush_signature(out);
        for text in delta.is_separate.then_some(BLANK_LINE).into_iter().chain([delta.text]) {
            self.part(PartContent::Thought(text), out);
        }
    }

    fn reasoning_end(&mut self, _item: usize, encrypted: Option<&str>, out: &mut impl Emit<ChunkEncoder>) {
        if let Some(encrypted) = encrypted {
            self.flush_signature(out);
            self.signature = Some(signature::encode(&RawText::from_escaped(encrypted).decode()));
        }
    }

    fn call_start(&mut self, call: &CallStart<'_>, _out: &mut impl Emit<ChunkEncoder>) -> ControlFlow<()> {
        self.call = PendingCall::new(call);
        ControlFlow::Continue(())
    }

    fn call_text(&mut self, text: &str, _out: &mut impl Emit<ChunkEncoder>) {
        self.call.push(text);
    }

    fn call_end(&mut self, end: CallEnd, out: &mut impl Emit<ChunkEncoder>) {
        let Some(CompleteCall { id, name, arguments }) = self.call.end(end) else { return };
        self.part(PartContent::Call { id: &id, name: &name, arguments: &arguments }, out);
    }

    fn image(&mut self, format: &str, base64: &str, out: &mut impl Emit<ChunkEncoder>) {
        self.part(PartContent::Image { format, base64 }, out);
    }

    fn search(&mut self, _item: usize, search: &Search<'_>, _out: &mut impl Emit<ChunkEncoder>) -> ControlFlow<()> {
        if let Some(grounding) = self.grounding.as_mut().filter(|_| !search.is_failed) {
            grounding.add_search(search);
        }
        ControlFlow::Continue(())
    }

    fn end(&mut self, end: &ReplyEnd<'_>, out: &mut impl Emit<ChunkEncoder>) {
        self.flush_signature(out);
        let grounding = self.grounding.as_ref().filter(|grounding| !grounding.is_empty()).map(Grounding::render);
        out.emit(&Chunk::End(ChunkEnd {
            reason: self.finish_reason(end.finish),
            usage: end.usage,
            grounding: grounding.as_deref(),
        }));
    }
}
