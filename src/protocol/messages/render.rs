//! Renders the pieces of a reply as the events of the Messages API: content blocks, one after the other.
//!
//! One block is open at a time; a piece that belongs to another block closes it. Reasoning has a signature, which
//! contains its encrypted form, so that the client can send it back.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::event::{Block, Delta, Event, EventEncoder, PING, StopReason};
use super::web_search::{self, page_title};
use crate::error::ProxyError;
use crate::protocol::reply::renderer::BLANK_LINE;
use crate::protocol::reply::{
    self, CallEnd, CallStart, Citation, Emit, FinishKind, Machine, Renderer, ReplyEnd, ReplyItem, ResponseMeta, Search,
    TextDelta,
};

/// The reply to a Messages request.
pub type MessagesReply = Machine<MessagesRenderer>;

/// The options of a request that affect its reply.
pub type ReplyOptions = reply::ReplyOptions<RenderOptions>;

/// The options that only this API has.
#[derive(Clone, Copy, Debug, Default)]
pub struct RenderOptions {
    /// How reasoning is shown.
    pub thinking: ThinkingDisplay,
    /// How web searches are shown.
    pub search: SearchDisplay,
}

/// How reasoning is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ThinkingDisplay {
    /// Not shown: the client did not enable thinking.
    #[default]
    Hidden,
    /// As a signature without text.
    Omitted,
    /// As text with a signature.
    Shown,
}

/// How web searches are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SearchDisplay {
    /// Not shown: the client did not declare the tool.
    #[default]
    Hidden,
    /// Each search when it is complete, with the sources that the backend lists.
    Immediate,
    /// The first search, and everything after it, at the end of the reply: then the searches have every source that the
    /// text cites. For requests whose only tool is web search (case `06-web-search-request`).
    Gathered,
}

/// Renders one reply.
#[derive(Debug)]
pub struct MessagesRenderer {
    thinking: ThinkingDisplay,
    search: SearchDisplay,
    /// Number of blocks begun.
    blocks: usize,
    open: Option<OpenBlock>,
    /// Number of searches shown.
    searches: u64,
    has_calls: bool,
    has_refusal: bool,
}

/// The block that is open, by the item (and part) whose content it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OpenBlock {
    Text {
        item: usize,
        part: usize,
    },
    Refusal {
        item: usize,
    },
    Thinking {
        item: usize,
    },
    /// A tool call, a web search or its results.
    Call,
}

impl MessagesRenderer {
    /// Position of the block that is open.
    fn index(&self) -> usize {
        self.blocks.saturating_sub(1)
    }

    /// Begins a block, unless it is open already.
    fn ensure_block(&mut self, open: OpenBlock, block: Block<'_>, out: &mut impl Emit<EventEncoder>) {
        if self.open != Some(open) {
            self.begin_block(open, block, out);
        }
    }

    fn begin_block(&mut self, open: OpenBlock, block: Block<'_>, out: &mut impl Emit<EventEncoder>) {
        self.close_block(out);
        self.open = Some(open);
        self.blocks += 1;
        out.emit(&Event::BlockStart(self.index(), block));
    }

    fn close_block(&mut self, out: &mut impl Emit<EventEncoder>) {
        if self.open.take().is_some() {
            out.emit(&Event::BlockStop(self.index()));
        }
    }

    fn delta(&self, delta: Delta<'_>, out: &mut impl Emit<EventEncoder>) {
        out.emit(&Event::Delta(self.index(), delta));
    }

    fn stop_reason(&self, finish: FinishKind) -> StopReason {
        match finish {
            FinishKind::StopSequence => StopReason::StopSequence,
            FinishKind::ContentFilter => StopReason::Refusal,
            FinishKind::Completed | FinishKind::Length if self.has_refusal => StopReason::Refusal,
            FinishKind::TokenLimit | FinishKind::Length => StopReason::MaxTokens,
            FinishKind::Completed if self.has_calls => StopReason::ToolUse,
            FinishKind::Completed => StopReason::EndTurn,
        }
    }
}

impl Renderer for MessagesRenderer {
    type Options = RenderOptions;
    type Encoder = EventEncoder;

    fn new(options: &ReplyOptions) -> Self {
        let RenderOptions { thinking, search } = options.api;
        Self { thinking, search, blocks: 0, open: None, searches: 0, has_calls: false, has_refusal: false }
    }

    fn encoder(options: &ReplyOptions, response: &ResponseMeta) -> EventEncoder {
        EventEncoder::new(options, response)
    }

    fn opening(_options: &ReplyOptions) -> Option<Event<'static>> {
        Some(Event::Start)
    }

    fn failed(error: &ProxyError) -> Event<'_> {
        Event::Failed(error)
    }

    fn keepalive(_encoder: &EventEncoder) -> Bytes {
        Bytes::from_static(PING)
    }

    fn document(encoder: &EventEncoder, options: &ReplyOptions, _response: &ResponseMeta) -> Bytes {
        encoder.document(&options.model)
    }

    fn interrupts_text(&self, item: usize, piece: &ReplyItem<'_>) -> bool {
        let is_in_block = self.open == Some(OpenBlock::Thinking { item });
        match piece {
            ReplyItem::CallStart { .. } | ReplyItem::Refusal { .. } => true,
            ReplyItem::Search(_) => self.search != SearchDisplay::Hidden,
            ReplyItem::Reasoning { .. } => self.thinking == ThinkingDisplay::Shown && !is_in_block,
            ReplyItem::ReasoningEnd { encrypted: Some(_) } => self.thinking != ThinkingDisplay::Hidden && !is_in_block,
            _ => false,
        }
    }

    fn text(&mut self, delta: &TextDelta<'_>, out: &mut impl Emit<EventEncoder>) {
        let TextDelta { item, part, .. } = *delta;
        self.ensure_block(OpenBlock::Text { item, part }, Block::Text, out);
        self.delta(Delta::Text(delta.text), out);
    }

    fn refusal(&mut self, delta: &TextDelta<'_>, out: &mut impl Emit<EventEncoder>) {
        self.has_refusal = true;
        self.ensure_block(OpenBlock::Refusal { item: delta.item }, Block::Text, out);
        self.delta(Delta::Text(delta.text), out);
    }

    fn message_end(&mut self, item: usize, out: &mut impl Emit<EventEncoder>) {
        if matches!(self.open, Some(OpenBlock::Text { item: of, .. } | OpenBlock::Refusal { item: of }) if of == item) {
            self.close_block(out);
        }
    }

    /// Adds a citation to the block of its text. Drops it if that block is closed: it can't be opened again.
    fn citation(&mut self, item: usize, part: usize, citation: &Citation<'_>, out: &mut impl Emit<EventEncoder>) {
        if self.search != SearchDisplay::Hidden && self.open == Some(OpenBlock::Text { item, part }) {
            let (url, title) = (&citation.url, page_title(&citation.title, &citation.url));
            let location = format!(
                r#"{{"type":"web_search_result_location","url":"{url}","title":"{title}","encrypted_index":"","cited_text":""}}"#
            );
            self.delta(Delta::Citation(&location), out);
        }
    }

    fn reasoning(&mut self, delta: &TextDelta<'_>, out: &mut impl Emit<EventEncoder>) {
        if self.thinking != ThinkingDisplay::Shown {
            return;
        }
        let block = OpenBlock::Thinking { item: delta.item };
        if self.open != Some(block) {
            self.begin_block(block, Block::Thinking, out);
        } else if delta.is_separate {
            self.delta(Delta::Thinking(BLANK_LINE), out);
        }
        self.delta(Delta::Thinking(delta.text), out);
    }

    /// Ends a thinking block with its signature. Reasoning without text becomes a block too: clients send it back
    /// unchanged (case `04-parallel-tools-interleaved`).
    fn reasoning_end(&mut self, item: usize, encrypted: Option<&str>, out: &mut impl Emit<EventEncoder>) {
        if self.thinking == ThinkingDisplay::Hidden {
            return;
        }
        if let Some(encrypted) = encrypted {
            self.ensure_block(OpenBlock::Thinking { item }, Block::Thinking, out);
            self.delta(Delta::Signature(encrypted), out);
        }
        if self.open == Some(OpenBlock::Thinking { item }) {
            self.close_block(out);
        }
    }

    fn call_start(&mut self, call: &CallStart<'_>, out: &mut impl Emit<EventEncoder>) -> ControlFlow<()> {
        self.has_calls = true;
        self.begin_block(OpenBlock::Call, Block::ToolUse { id: call.id, name: call.name }, out);
        ControlFlow::Continue(())
    }

    fn call_text(&mut self, text: &str, out: &mut impl Emit<EventEncoder>) {
        if self.open == Some(OpenBlock::Call) {
            self.delta(Delta::Json(text), out);
        }
    }

    fn call_end(&mut self, _end: CallEnd, out: &mut impl Emit<EventEncoder>) {
        if self.open == Some(OpenBlock::Call) {
            self.close_block(out);
        }
    }

    fn search(&mut self, item: usize, search: &Search<'_>, out: &mut impl Emit<EventEncoder>) -> ControlFlow<()> {
        match self.search {
            SearchDisplay::Hidden => {}
            SearchDisplay::Gathered => {
                self.close_block(out);
                return ControlFlow::Break(());
            }
            SearchDisplay::Immediate => {
                self.searches += 1;
                let id = web_search::use_id(&search.id, item);
                self.begin_block(OpenBlock::Call, Block::ServerToolUse { id: &id }, out);
                self.delta(Delta::Json(&web_search::input(search)), out);
                let results = web_search::results(search);
                self.begin_block(OpenBlock::Call, Block::SearchResult { id: &id, results: &results }, out);
                self.close_block(out);
            }
        }
        ControlFlow::Continue(())
    }

    fn gather(&mut self, pieces: &mut [(usize, ReplyItem<'static>)]) {
        web_search::add_citations(pieces);
        self.search = SearchDisplay::Immediate;
    }

    fn end(&mut self, end: &ReplyEnd<'_>, out: &mut impl Emit<EventEncoder>) {
        self.close_block(out);
        out.emit(&Event::End {
            reason: self.stop_reason(end.finish),
            stop: end.stop_sequence,
            usage: end.usage,
            searches: self.searches,
        });
        out.emit(&Event::Stop);
    }
}
