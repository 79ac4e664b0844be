//! From steps to blocks: what the client is told, one block after the other.
//!
//! One block is open at a time; whatever opens another closes it. Keeps the book on what was shown,
//! on text held back for a stop sequence, and on everything that waits for the last web search.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::event::{Block, Delta, Event};
use super::reply::{MessagesReply, SearchForm, Shape, ThinkingForm};
use super::web_search::{results, title};
use crate::protocol::json::string::RawText;
use crate::protocol::reply::queue::{Gate, Queued};
use crate::protocol::reply::reply_item::{Citation, Step};
use crate::protocol::reply::stop::StopMatcher;
use crate::protocol::tokens::{Meter, Segment};
use crate::protocol::{Reply, Sink};

/// A blank line, escaped.
const BLANK_LINE: &str = r"\n\n";

/// What the client has been told.
#[derive(Debug)]
pub(super) struct Shown {
    /// Characters of text, refusal and calls.
    pub(super) characters: usize,
    pub(super) reasoning_characters: usize,
    /// Searches told.
    pub(super) searches: u64,
    pub(super) has_calls: bool,
    pub(super) has_refusal: bool,
    /// Blocks begun.
    blocks: usize,
    open: Option<Open>,
    /// The part whose text came last.
    text_place: Option<(usize, usize)>,
    stop: StopMatcher,
    /// Citations, rendered, of text that is held back for a stop sequence.
    early_citations: Vec<String>,
    /// What waits for the end, once there was a search.
    pub(super) held: Option<Vec<(usize, Step<'static>)>>,
    /// Counts what is shown, where the client's limit is enforced.
    pub(super) meter: Option<Meter>,
}

/// The block that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Open {
    /// Of that item and part.
    Text(usize, usize),
    /// Of that item.
    Refusal(usize),
    /// Of that item; the part that was shown last.
    Thinking(usize, usize),
    Call,
}

impl Shown {
    pub(super) fn new(shape: &Shape) -> Self {
        Self {
            characters: 0,
            reasoning_characters: 0,
            searches: 0,
            has_calls: false,
            has_refusal: false,
            blocks: 0,
            open: None,
            text_place: None,
            stop: StopMatcher::new(&shape.stop),
            early_citations: Vec::new(),
            held: None,
            meter: shape.token_limit.map(Meter::new),
        }
    }

    /// The stop sequence that ended the text.
    pub(super) fn stop_sequence(&self) -> Option<&str> {
        self.stop.found()
    }

    /// Position of the block that is open.
    fn index(&self) -> usize {
        self.blocks.saturating_sub(1)
    }
}

impl Queued for MessagesReply {
    fn gate(&mut self) -> &mut Gate {
        &mut self.gate
    }

    fn show(&mut self, item: usize, step: &Step<'_>, sink: &mut impl Sink<Self>) {
        let starts_holding = self.shape.search == SearchForm::Gathered && matches!(step, Step::Search(_));
        if starts_holding && self.shown.held.is_none() {
            if self.flush(sink).is_break() {
                return;
            }
            self.close_block(sink);
            self.shown.held = Some(Vec::new());
        }
        match &mut self.shown.held {
            Some(held) => held.push((item, step.clone().into_owned())),
            None => self.tell(item, step, sink),
        }
    }
}

impl MessagesReply {
    /// Everything is over: what waits is shown, and what is open is closed.
    pub(super) fn close_everything(&mut self, sink: &mut impl Sink<Self>) {
        self.close_items(sink);
        self.tell_held(sink);
        if self.flush(sink).is_continue() {
            self.close_block(sink);
        }
    }

    pub(super) fn tell(&mut self, item: usize, step: &Step<'_>, sink: &mut impl Sink<Self>) {
        match step {
            Step::Text { part, text } => self.tell_text((item, *part), text, sink),
            Step::TextEnd => {
                let _ = self.flush(sink);
            }
            Step::MessageEnd => {
                let is_open = self.flush(sink).is_continue();
                if is_open && matches!(self.shown.open, Some(Open::Text(of, _) | Open::Refusal(of)) if of == item) {
                    self.close_block(sink);
                }
            }
            Step::Refusal(text) => self.tell_refusal(item, text, sink),
            Step::Reasoning { part, text } => self.tell_reasoning(item, *part, text, sink),
            Step::ReasoningEnd { encrypted } => self.end_reasoning(item, encrypted.as_deref(), sink),
            Step::Citation { part, citation } => self.tell_citation((item, *part), citation, sink),
            Step::CallOpened { id, name, .. } => self.open_call(id, name, sink),
            Step::CallText(text) => self.tell_call_text(text, sink),
            Step::CallClosed => {
                if self.shown.open == Some(Open::Call) {
                    self.close_block(sink);
                }
            }
            Step::Search(search) => self.tell_search(item, search, &results(search, &[]), sink),
            // No tool that makes pictures is ever declared.
            Step::MessageOpened | Step::Image { .. } => {}
        }
    }

    /// Begins a block, after the end of the one before.
    pub(super) fn begin_block(&mut self, open: Open, block: Block<'_>, sink: &mut impl Sink<Self>) {
        self.open(sink);
        self.close_block(sink);
        self.shown.open = Some(open);
        self.shown.blocks += 1;
        sink.put(self, &Event::Opened(self.shown.index(), block));
    }

    pub(super) fn close_block(&mut self, sink: &mut impl Sink<Self>) {
        if self.shown.open.take().is_some() {
            sink.put(self, &Event::Closed(self.shown.index()));
        }
    }

    pub(super) fn put(&mut self, delta: Delta<'_>, sink: &mut impl Sink<Self>) {
        sink.put(self, &Event::Delta(self.shown.index(), delta));
    }

    fn tell_text(&mut self, place: (usize, usize), text: &str, sink: &mut impl Sink<Self>) {
        if self.shown.text_place != Some(place) {
            if self.flush(sink).is_break() {
                return;
            }
            self.shown.text_place = Some(place);
            self.shown.early_citations.clear();
        }
        let admitted = self.admit(Segment::Text(place.0), text);
        let (ControlFlow::Continue(text) | ControlFlow::Break(text)) = admitted;
        if self.shown.stop.is_idle() {
            self.put_text(text, sink);
        } else {
            let found = self.shown.stop.push(text);
            self.tell_known(found, sink);
        }
        self.end_at_limit(admitted, sink);
    }

    /// What of a text is within the client's limit; breaks when that is not all of it.
    fn admit<'t>(&mut self, segment: Segment, text: &'t str) -> ControlFlow<&'t str, &'t str> {
        self.shown.meter.as_mut().map_or(ControlFlow::Continue(text), |meter| meter.push(segment, text))
    }

    /// Tells what a stop sequence leaves of a text.
    fn tell_known(&mut self, found: ControlFlow<String, String>, sink: &mut impl Sink<Self>) {
        match found {
            ControlFlow::Continue(text) => self.put_text(&text, sink),
            ControlFlow::Break(text) => {
                self.put_text(&text, sink);
                self.open(sink);
                self.stop(sink);
            }
        }
    }

    /// Text of the part that came last.
    fn put_text(&mut self, text: &str, sink: &mut impl Sink<Self>) {
        let Some((item, part)) = self.shown.text_place.filter(|_| !text.is_empty()) else { return };
        if self.shown.open != Some(Open::Text(item, part)) {
            self.begin_block(Open::Text(item, part), Block::Text, sink);
        }
        self.put_counted(text, Delta::Text, sink);
        for citation in std::mem::take(&mut self.shown.early_citations) {
            self.put(Delta::Citation(&citation), sink);
        }
    }

    /// Tells what was held back for a stop sequence; breaks where one was in it, and the answer is over.
    pub(super) fn flush(&mut self, sink: &mut impl Sink<Self>) -> ControlFlow<()> {
        if !self.is_finished() && !self.shown.stop.is_idle() {
            let held = self.shown.stop.flush();
            self.tell_known(held, sink);
        }
        if self.is_finished() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn tell_refusal(&mut self, item: usize, text: &str, sink: &mut impl Sink<Self>) {
        if self.flush(sink).is_break() {
            return;
        }
        self.shown.has_refusal = true;
        if self.shown.open != Some(Open::Refusal(item)) {
            self.begin_block(Open::Refusal(item), Block::Text, sink);
        }
        let admitted = self.admit(Segment::Refusal(item), text);
        let (ControlFlow::Continue(text) | ControlFlow::Break(text)) = admitted;
        self.put_counted(text, Delta::Text, sink);
        self.end_at_limit(admitted, sink);
    }

    fn put_counted<'t>(&mut self, text: &'t str, delta: impl Fn(&'t str) -> Delta<'t>, sink: &mut impl Sink<Self>) {
        if !text.is_empty() {
            self.shown.characters += RawText::from_escaped(text).scalar_count();
            self.put(delta(text), sink);
        }
    }

    fn tell_reasoning(&mut self, item: usize, part: usize, text: &str, sink: &mut impl Sink<Self>) {
        self.shown.reasoning_characters += RawText::from_escaped(text).scalar_count();
        if self.shape.thinking != ThinkingForm::Shown {
            return;
        }
        match self.shown.open {
            Some(Open::Thinking(of, last)) if of == item => {
                if last != part {
                    self.shown.open = Some(Open::Thinking(item, part));
                    self.put(Delta::Thinking(BLANK_LINE), sink);
                }
            }
            _ => {
                if self.flush(sink).is_break() {
                    return;
                }
                self.begin_block(Open::Thinking(item, part), Block::Thinking, sink);
            }
        }
        self.put(Delta::Thinking(text), sink);
    }

    /// Ends a piece of reasoning with what it can be replayed with. One that has no text is a block
    /// all the same: clients return it intact (case `04-parallel-tools-interleaved`).
    fn end_reasoning(&mut self, item: usize, encrypted: Option<&str>, sink: &mut impl Sink<Self>) {
        if self.shape.thinking == ThinkingForm::Hidden {
            return;
        }
        let is_open = matches!(self.shown.open, Some(Open::Thinking(of, _)) if of == item);
        if !is_open && encrypted.is_some() {
            if self.flush(sink).is_break() {
                return;
            }
            self.begin_block(Open::Thinking(item, 0), Block::Thinking, sink);
        }
        if let Some(encrypted) = encrypted {
            self.put(Delta::Signature(encrypted), sink);
        }
        if is_open || encrypted.is_some() {
            self.close_block(sink);
        }
    }

    /// Shows a citation in the block of its text.
    fn tell_citation(&mut self, (item, part): (usize, usize), citation: &Citation<'_>, sink: &mut impl Sink<Self>) {
        let is_open = self.shown.open == Some(Open::Text(item, part));
        let is_held_back = self.shown.text_place == Some((item, part)) && self.shown.stop.holds_text();
        if self.shape.search == SearchForm::Hidden || !(is_open || is_held_back) {
            return;
        }
        let (url, title) = (&citation.url, title(&citation.title, &citation.url));
        let rendered = format!(
            r#"{{"type":"web_search_result_location","url":"{url}","title":"{title}","encrypted_index":"","cited_text":""}}"#
        );
        if is_open {
            self.put(Delta::Citation(&rendered), sink);
        } else {
            self.shown.early_citations.push(rendered);
        }
    }

    fn open_call(&mut self, id: &str, name: &str, sink: &mut impl Sink<Self>) {
        if self.flush(sink).is_break() {
            return;
        }
        self.shown.has_calls = true;
        self.shown.characters += name.chars().count();
        let shape = Arc::clone(&self.shape);
        let name = shape.names.get(name).map_or(name, String::as_str);
        self.begin_block(Open::Call, Block::ToolUse { id, name }, sink);
    }

    fn tell_call_text(&mut self, text: &str, sink: &mut impl Sink<Self>) {
        if self.shown.open != Some(Open::Call) {
            return;
        }
        let call = self.shown.index();
        let admitted = self.admit(Segment::Call(call), text);
        let (ControlFlow::Continue(text) | ControlFlow::Break(text)) = admitted;
        self.put_counted(text, Delta::Json, sink);
        self.end_at_limit(admitted, sink);
    }

    /// Ends the answer where not all of a text was within the limit.
    fn end_at_limit(&mut self, admitted: ControlFlow<&str, &str>, sink: &mut impl Sink<Self>) {
        if admitted.is_break() && self.flush(sink).is_continue() {
            self.open(sink);
            self.limit(sink);
        }
    }
}
