//! Renders the pieces of a reply as the chunks of the Chat Completions API: which chunks a piece becomes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use bytes::Bytes;

use super::chunk::{CallForm, Chunk, ChunkEncoder};
use crate::error::ProxyError;
use crate::protocol::json::quoted;
use crate::protocol::json::string::RawText;
use crate::protocol::reply::renderer::BLANK_LINE;
use crate::protocol::reply::{
    self, CallStart, Citation, Emit, FinishKind, Machine, Renderer, ReplyEnd, ReplyItem, ResponseMeta, TextDelta,
};
use crate::protocol::upstream_input::CallKind;

/// The reply to a Chat request.
pub type ChatReply = Machine<ChatRenderer>;

/// The options of a request that affect its reply.
pub type ReplyOptions = reply::ReplyOptions<RenderOptions>;

/// The options that only this API has.
#[derive(Clone, Debug, Default)]
pub struct RenderOptions {
    /// `stream_options.include_usage`: a stream ends with the token usage.
    pub includes_usage: bool,
    /// The request has `service_tier`, so the reply has the backend's.
    pub shows_service_tier: bool,
    /// The member that holds calls.
    pub calls: CallStyle,
    /// Custom tools that the client declared in the flat form. Their calls are sent as function calls.
    pub flat_custom_tools: BTreeSet<String>,
    /// The member that holds reasoning.
    pub reasoning: ReasoningField,
}

/// The member that holds calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallStyle {
    /// `tool_calls`.
    #[default]
    Tools,
    /// `function_call`, for a request with `functions`.
    Legacy,
}

/// The member that holds reasoning (`chat.reasoning_field`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum ReasoningField {
    /// `reasoning_content`, which most clients read.
    #[default]
    ReasoningContent,
    /// `reasoning`.
    Reasoning,
    /// Both members.
    Both,
    /// `content`, between `<think>` and `</think>`.
    ThinkTags,
    /// No member: reasoning is not shown.
    None,
}

/// Renders one reply.
#[derive(Debug)]
pub struct ChatRenderer {
    call_style: CallStyle,
    flat_custom_tools: BTreeSet<String>,
    reasoning: ReasoningField,
    /// Unicode scalar values in `content` so far. Citations count from its beginning.
    content_characters: usize,
    /// Characters of `content` before each part, by item and part.
    offsets: BTreeMap<(usize, usize), usize>,
    /// Item and part of the last text.
    text_part: Option<(usize, usize)>,
    /// `<think>` was sent, and `</think>` was not.
    is_thinking: bool,
    /// The call that began last: its index and form.
    call: Option<(usize, CallForm)>,
    /// Number of images sent.
    images: usize,
}

impl ChatRenderer {
    fn content(&mut self, text: &str, characters: usize, out: &mut impl Emit<ChunkEncoder>) {
        self.content_characters += characters;
        out.emit(&Chunk::Content(text));
    }

    /// Adds text to `content` that is not the model's, such as a separator.
    fn markup(&mut self, escaped: &str, out: &mut impl Emit<ChunkEncoder>) {
        self.content(escaped, RawText::from_escaped(escaped).scalar_count(), out);
    }

    /// Ends reasoning in `content` with `tag`, if it was begun.
    fn end_thinking(&mut self, tag: &str, out: &mut impl Emit<ChunkEncoder>) {
        if std::mem::take(&mut self.is_thinking) {
            self.markup(tag, out);
        }
    }

    /// Characters of `content` before a part, fixed at the first call for this part.
    fn offset(&mut self, item: usize, part: usize) -> usize {
        *self.offsets.entry((item, part)).or_insert(self.content_characters)
    }

    fn finish_reason(&self, finish: FinishKind) -> &'static str {
        match (finish, self.call, self.call_style) {
            (FinishKind::Length | FinishKind::TokenLimit, ..) => "length",
            (FinishKind::ContentFilter, ..) => "content_filter",
            (FinishKind::Completed, Some(_), CallStyle::Tools) => "tool_calls",
            (FinishKind::Completed, Some(_), CallStyle::Legacy) => "function_call",
            (FinishKind::Completed | FinishKind::StopSequence, ..) => "stop",
        }
    }
}

impl Renderer for ChatRenderer {
    type Options = RenderOptions;
    type Encoder = ChunkEncoder;

    /// Clients parse the arguments as JSON.
    const EMPTY_ARGUMENTS: &'static str = "{}";

    fn new(options: &ReplyOptions) -> Self {
        let RenderOptions { calls, flat_custom_tools, reasoning, .. } = &options.api;
        Self {
            call_style: *calls,
            flat_custom_tools: flat_custom_tools.clone(),
            reasoning: *reasoning,
            content_characters: 0,
            offsets: BTreeMap::new(),
            text_part: None,
            is_thinking: false,
            call: None,
            images: 0,
        }
    }

    fn encoder(options: &ReplyOptions, response: &ResponseMeta) -> ChunkEncoder {
        ChunkEncoder::new(options, response)
    }

    fn opening(_options: &ReplyOptions) -> Option<Chunk<'static>> {
        Some(Chunk::Role)
    }

    fn failed(error: &ProxyError) -> Chunk<'_> {
        Chunk::Failed(error)
    }

    fn document(encoder: &ChunkEncoder, options: &ReplyOptions, response: &ResponseMeta) -> Bytes {
        encoder.document(options, response)
    }

    fn interrupts_text(&self, _item: usize, piece: &ReplyItem<'_>) -> bool {
        match piece {
            ReplyItem::CallStart { .. } => true,
            ReplyItem::Reasoning { .. } => self.reasoning == ReasoningField::ThinkTags,
            _ => false,
        }
    }

    fn text(&mut self, delta: &TextDelta<'_>, out: &mut impl Emit<ChunkEncoder>) {
        self.end_thinking(r"</think>\n\n", out);
        if delta.is_separate {
            self.markup(BLANK_LINE, out);
        }
        if self.text_part.replace((delta.item, delta.part)) != Some((delta.item, delta.part)) {
            self.offset(delta.item, delta.part);
        }
        self.content(delta.text, delta.characters, out);
    }

    fn refusal(&mut self, delta: &TextDelta<'_>, out: &mut impl Emit<ChunkEncoder>) {
        self.end_thinking("</think>", out);
        out.emit(&Chunk::Refusal(delta.text));
    }

    fn citation(&mut self, item: usize, part: usize, citation: &Citation<'_>, out: &mut impl Emit<ChunkEncoder>) {
        let offset = self.offset(item, part);
        out.emit(&Chunk::Annotation(&annotation(citation, offset)));
    }

    fn reasoning(&mut self, delta: &TextDelta<'_>, out: &mut impl Emit<ChunkEncoder>) {
        let separator = if delta.is_separate { BLANK_LINE } else { "" };
        match self.reasoning {
            ReasoningField::None => {}
            ReasoningField::ThinkTags => {
                let separator = if std::mem::replace(&mut self.is_thinking, true) { separator } else { "<think>" };
                if !separator.is_empty() {
                    self.markup(separator, out);
                }
                self.content(delta.text, delta.characters, out);
            }
            ReasoningField::ReasoningContent | ReasoningField::Reasoning | ReasoningField::Both => {
                if !separator.is_empty() {
                    out.emit(&Chunk::Reasoning(separator));
                }
                out.emit(&Chunk::Reasoning(delta.text));
            }
        }
    }

    fn call_start(&mut self, call: &CallStart<'_>, out: &mut impl Emit<ChunkEncoder>) -> ControlFlow<()> {
        let CallStart { index, id, name, kind } = *call;
        self.end_thinking("</think>", out);
        let form = match (self.call_style, kind) {
            // `function_call` holds one call. The request turned parallel calls off, but a reply may have them anyway.
            (CallStyle::Legacy, _) if index > 0 => return ControlFlow::Break(()),
            (CallStyle::Legacy, _) => CallForm::Legacy,
            (CallStyle::Tools, CallKind::Custom) if !self.flat_custom_tools.contains(name) => CallForm::Custom,
            (CallStyle::Tools, _) => CallForm::Function,
        };
        self.call = Some((index, form));
        out.emit(&Chunk::CallStart { index, id, name, form });
        ControlFlow::Continue(())
    }

    fn call_text(&mut self, text: &str, out: &mut impl Emit<ChunkEncoder>) {
        if let Some((index, form)) = self.call {
            out.emit(&Chunk::CallText { index, form, text });
        }
    }

    fn image(&mut self, format: &str, base64: &str, out: &mut impl Emit<ChunkEncoder>) {
        self.end_thinking("</think>", out);
        let index = self.images;
        self.images += 1;
        let start = quoted(&format!("data:image/{format};base64,"));
        let start = start.strip_suffix('"').unwrap_or(&start);
        let image = format!(r#"{{"type":"image_url","index":{index},"image_url":{{"url":{start}{base64}"}}}}"#);
        out.emit(&Chunk::Image(&image));
    }

    fn end(&mut self, end: &ReplyEnd<'_>, out: &mut impl Emit<ChunkEncoder>) {
        self.end_thinking("</think>", out);
        out.emit(&Chunk::Finished(self.finish_reason(end.finish)));
        out.emit(&Chunk::Usage(end.usage));
        out.emit(&Chunk::Done);
    }
}

/// The annotation for a citation of a part that begins after `offset` characters of `content`.
fn annotation(citation: &Citation<'_>, offset: usize) -> String {
    let shift = |index: u64| index.saturating_add(offset as u64);
    let (start, end) = (shift(citation.start_index), shift(citation.end_index));
    let (url, title) = (&citation.url, &citation.title);
    format!(
        r#"{{"type":"url_citation","url_citation":{{"start_index":{start},"end_index":{end},"url":"{url}","title":"{title}"}}}}"#
    )
}
