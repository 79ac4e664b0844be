//! From steps to chunks: what the client is told, in the order in which it may be told.
//!
//! Keeps the book on what was shown: separators between messages and between pieces of reasoning,
//! characters before a citation, text held back for a stop sequence, the index of the open call.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::chunk::{Chunk, FinishReason, RawObject};
use super::reply::{CallStyle, ChatReply, ReasoningField, Shape};
use crate::protocol::json::string::RawText;
use crate::protocol::reply::queue::{Gate, Queued};
use crate::protocol::reply::reply_item::Step;
use crate::protocol::reply::response_meta::quoted;
use crate::protocol::reply::stop::StopMatcher;
use crate::protocol::tokens::{Meter, Segment};
use crate::protocol::upstream_input::CallKind;
use crate::protocol::{Reply, Sink};

/// A blank line, escaped.
const BLANK_LINE: &str = r"\n\n";

/// What the client has been told.
#[derive(Debug)]
pub(super) struct Shown {
    /// Characters of text, refusal and calls.
    pub(super) characters: usize,
    pub(super) reasoning_characters: usize,
    /// Characters of `content`, which citations count.
    content_characters: usize,
    has_text: bool,
    has_reasoning: bool,
    /// A `<think>` that is not closed yet.
    is_thinking: bool,
    calls: usize,
    open_call: Option<OpenCall>,
    images: usize,
    stop: StopMatcher,
    /// Citations, rendered, of text that is held back for a stop sequence.
    early_citations: Vec<String>,
    /// Counts what is shown, where the client's limit is enforced.
    pub(super) meter: Option<Meter>,
}

/// The call that is being sent.
#[derive(Clone, Copy, Debug)]
struct OpenCall {
    index: usize,
    envelope: RawObject,
    /// Its arguments have to be JSON, and nothing of them has been sent but white space.
    lacks_arguments: bool,
}

impl Shown {
    pub(super) fn new(shape: &Shape) -> Self {
        Self {
            characters: 0,
            reasoning_characters: 0,
            content_characters: 0,
            has_text: false,
            has_reasoning: false,
            is_thinking: false,
            calls: 0,
            open_call: None,
            images: 0,
            stop: StopMatcher::new(&shape.stop),
            early_citations: Vec::new(),
            meter: shape.token_limit.map(Meter::new),
        }
    }

    /// The finish reason of an answer that came to its own end.
    pub(super) fn call_reason(&self, style: CallStyle) -> FinishReason {
        match style {
            _ if self.calls == 0 => FinishReason::Stop,
            CallStyle::Tools => FinishReason::ToolCalls,
            CallStyle::Legacy => FinishReason::FunctionCall,
        }
    }
}

impl Queued for ChatReply {
    fn gate(&mut self) -> &mut Gate {
        &mut self.gate
    }

    fn show(&mut self, item: usize, step: &Step<'_>, sink: &mut impl Sink<Self>) {
        match step {
            Step::Text { part, text } => self.show_text(item, *part, text, sink),
            Step::TextEnd | Step::MessageEnd => {
                let _ = self.flush(sink);
            }
            Step::Refusal(text) => self.show_refusal(item, text, sink),
            Step::Reasoning { part, text } => self.show_reasoning(item, *part, text, sink),
            Step::Citation { part, citation } => {
                self.open(sink);
                let citation = citation.render(self.offset(item, *part));
                self.show_citation(citation, sink);
            }
            Step::CallOpened { id, name, kind } => self.open_call(id, name, *kind, sink),
            Step::CallText(text) => self.show_call_text(text, sink),
            Step::CallClosed => self.close_call(item, sink),
            Step::Image { format, base64 } => self.show_image(format, base64, sink),
            Step::MessageOpened | Step::ReasoningEnd { .. } | Step::Search(_) => {}
        }
    }
}

impl ChatReply {
    /// Everything is over: what waits is shown, and what is open is closed.
    pub(super) fn close_everything(&mut self, sink: &mut impl Sink<Self>) {
        self.close_items(sink);
        if self.flush(sink).is_continue() {
            self.end_thinking("</think>", sink);
        }
    }

    fn show_text(&mut self, item: usize, part: usize, text: &str, sink: &mut impl Sink<Self>) {
        self.open(sink);
        self.end_thinking(r"</think>\n\n", sink);
        let is_first = !self.items.get_mut(item).has_shown_text();
        self.items.get_mut(item).part_mut(part).has_shown = true;
        if std::mem::replace(&mut self.shown.has_text, true) && is_first {
            if self.flush(sink).is_break() {
                return;
            }
            // Ours, not the model's: no stop sequence is looked for in it.
            self.put_content(BLANK_LINE, sink);
        }
        self.offset(item, part);
        match self.admit(Segment::Text(item), text) {
            ControlFlow::Continue(text) => self.show_admitted(text, sink),
            ControlFlow::Break(text) => {
                self.show_admitted(text, sink);
                if self.flush(sink).is_continue() {
                    self.limit(sink);
                }
            }
        }
    }

    /// What of a text is within the limit; breaks when that is not all of it.
    fn admit<'t>(&mut self, segment: Segment, text: &'t str) -> ControlFlow<&'t str, &'t str> {
        self.shown.meter.as_mut().map_or(ControlFlow::Continue(text), |meter| meter.push(segment, text))
    }

    /// Shows text up to a stop sequence.
    fn show_admitted(&mut self, text: &str, sink: &mut impl Sink<Self>) {
        if self.shown.stop.is_idle() {
            return self.put_content(text, sink);
        }
        let found = self.shown.stop.push(text);
        self.show_known(found, sink);
    }

    /// Shows what a stop sequence leaves of a text.
    fn show_known(&mut self, found: ControlFlow<String, String>, sink: &mut impl Sink<Self>) {
        match found {
            ControlFlow::Continue(text) => self.put_content(&text, sink),
            ControlFlow::Break(text) => {
                self.put_content(&text, sink);
                self.stop(sink);
            }
        }
    }

    /// Characters of content before a part, fixed when the part is first heard of.
    fn offset(&mut self, item: usize, part: usize) -> usize {
        let before = self.shown.content_characters;
        *self.items.get_mut(item).part_mut(part).offset.get_or_insert(before)
    }

    fn put_content(&mut self, text: &str, sink: &mut impl Sink<Self>) {
        if !text.is_empty() {
            let characters = RawText::from_escaped(text).scalar_count();
            self.shown.content_characters += characters;
            self.shown.characters += characters;
            sink.put(self, &Chunk::Content(text));
            for citation in std::mem::take(&mut self.shown.early_citations) {
                sink.put(self, &Chunk::Annotation(&citation));
            }
        }
    }

    /// Shows a citation after its text.
    fn show_citation(&mut self, citation: String, sink: &mut impl Sink<Self>) {
        if self.shown.stop.holds_text() {
            self.shown.early_citations.push(citation);
        } else {
            sink.put(self, &Chunk::Annotation(&citation));
        }
    }

    /// Shows what was held back for a stop sequence; breaks where one was in it, and the answer is over.
    fn flush(&mut self, sink: &mut impl Sink<Self>) -> ControlFlow<()> {
        if !self.shown.stop.is_idle() {
            let held = self.shown.stop.flush();
            self.show_known(held, sink);
        }
        if self.is_finished() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn show_refusal(&mut self, item: usize, text: &str, sink: &mut impl Sink<Self>) {
        self.open(sink);
        self.end_thinking("</think>", sink);
        self.put_within_limit(Segment::Refusal(item), text, Chunk::Refusal, sink);
    }

    /// Shows a text that nothing but the limit ends.
    fn put_within_limit<'t>(
        &mut self,
        segment: Segment,
        text: &'t str,
        chunk: impl Fn(&'t str) -> Chunk<'t>,
        sink: &mut impl Sink<Self>,
    ) {
        let admitted = self.admit(segment, text);
        let (ControlFlow::Continue(text) | ControlFlow::Break(text)) = admitted;
        if !text.is_empty() {
            self.shown.characters += RawText::from_escaped(text).scalar_count();
            sink.put(self, &chunk(text));
        }
        if admitted.is_break() && self.flush(sink).is_continue() {
            self.limit(sink);
        }
    }

    fn show_reasoning(&mut self, item: usize, part: usize, text: &str, sink: &mut impl Sink<Self>) {
        self.shown.reasoning_characters += RawText::from_escaped(text).scalar_count();
        if self.shape.reasoning == ReasoningField::None {
            return;
        }
        self.open(sink);
        let is_further = !std::mem::replace(&mut self.items.get_mut(item).part_mut(part).has_shown, true)
            && std::mem::replace(&mut self.shown.has_reasoning, true);
        if self.shape.reasoning == ReasoningField::ThinkTags {
            return self.think(text, is_further, sink);
        }
        if is_further {
            sink.put(self, &Chunk::Reasoning(BLANK_LINE));
        }
        sink.put(self, &Chunk::Reasoning(text));
    }

    /// Reasoning as a part of the text, for clients that look for it there.
    fn think(&mut self, text: &str, is_further: bool, sink: &mut impl Sink<Self>) {
        if self.flush(sink).is_break() {
            return;
        }
        let before = match std::mem::replace(&mut self.shown.is_thinking, true) {
            false => "<think>",
            true if is_further => BLANK_LINE,
            true => "",
        };
        self.put_content(before, sink);
        self.put_content(text, sink);
    }

    fn end_thinking(&mut self, closing: &str, sink: &mut impl Sink<Self>) {
        if std::mem::take(&mut self.shown.is_thinking) {
            self.put_content(closing, sink);
        }
    }

    /// A call is told under the client's name for it, in the envelope that the client knows.
    fn open_call(&mut self, id: &str, name: &str, kind: CallKind, sink: &mut impl Sink<Self>) {
        let shape = Arc::clone(&self.shape);
        let told = shape.names.get(name).map_or(name, String::as_str);
        let is_flat = shape.flat_custom_tools.contains(told) || shape.flat_custom_tools.contains(name);
        let envelope = match (shape.calls, kind) {
            (CallStyle::Legacy, _) => RawObject::Legacy,
            (CallStyle::Tools, CallKind::Custom) if !is_flat => RawObject::Custom,
            (CallStyle::Tools, _) => RawObject::Function,
        };
        self.open(sink);
        if self.flush(sink).is_break() {
            return;
        }
        self.end_thinking("</think>", sink);
        if envelope == RawObject::Legacy && self.shown.calls > 0 {
            // The old form has room for one call, which is why parallel calls are switched off for it.
            return;
        }
        let index = self.shown.calls;
        self.shown.calls += 1;
        self.shown.open_call = Some(OpenCall { index, envelope, lacks_arguments: kind == CallKind::Function });
        self.shown.characters += told.chars().count();
        sink.put(self, &Chunk::CallOpened { index, id, name: told, envelope });
    }

    fn show_call_text(&mut self, text: &str, sink: &mut impl Sink<Self>) {
        let Some(call) = &mut self.shown.open_call else { return };
        call.lacks_arguments = call.lacks_arguments && RawText::from_escaped(text).is_blank();
        let OpenCall { index, envelope, .. } = *call;
        self.put_within_limit(Segment::Call(index), text, |text| Chunk::CallText { index, envelope, text }, sink);
    }

    /// Ends a call. Clients read its arguments as JSON, so that a call without any gets an empty object.
    fn close_call(&mut self, item: usize, sink: &mut impl Sink<Self>) {
        let is_whole = !self.is_cut || self.items.get_mut(item).is_done();
        if is_whole && self.shown.open_call.is_some_and(|call| call.lacks_arguments) {
            self.show_call_text("{}", sink);
        }
        self.shown.open_call = None;
    }

    fn show_image(&mut self, format: &str, base64: &str, sink: &mut impl Sink<Self>) {
        self.open(sink);
        self.end_thinking("</think>", sink);
        let index = self.shown.images;
        self.shown.images += 1;
        let start: Cow<'_, str> = format!("data:image/{format};base64,").into();
        let start = quoted(&start);
        let start = start.strip_suffix('"').unwrap_or(&start);
        let image = format!(r#"{{"type":"image_url","index":{index},"image_url":{{"url":{start}{base64}"}}}}"#);
        sink.put(self, &Chunk::Image(&image));
    }
}
