//! From steps to lines: what the client is told, in the order in which it may be told.
//!
//! A call is told when it is whole, since its arguments are an object here. Text that may begin a
//! stop sequence is held back until it is known.

use std::ops::ControlFlow;

use super::event::{Call, DoneReason, Line};
use super::reply::{OllamaReply, Shape};
use crate::protocol::codex::ResponseObject;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::string::RawText;
use crate::protocol::reply::queue::{Gate, Queued};
use crate::protocol::reply::reply_item::Step;
use crate::protocol::reply::stop::StopMatcher;
use crate::protocol::tokens::{Meter, Segment};
use crate::protocol::upstream_input::json::compact;
use crate::protocol::{Reply, Sink};

/// A blank line, escaped.
const BLANK_LINE: &str = r"\n\n";

/// What the client has been told.
#[derive(Debug)]
pub(super) struct Shown {
    /// Characters of text and calls.
    pub(super) characters: usize,
    pub(super) reasoning_characters: usize,
    /// The item whose text was shown last.
    text_item: Option<usize>,
    has_thinking: bool,
    calls: usize,
    open_call: Option<OpenCall>,
    /// The backend cut the answer, perhaps inside a call.
    pub(super) is_cut: bool,
    stop: StopMatcher,
    /// Counts what is shown, where the client's limit is enforced.
    pub(super) meter: Option<Meter>,
}

/// A call whose arguments are still to come.
#[derive(Debug)]
struct OpenCall {
    id: String,
    name: String,
    /// Escaped.
    arguments: String,
}

impl Shown {
    pub(super) fn new(shape: &Shape) -> Self {
        Self {
            characters: 0,
            reasoning_characters: 0,
            text_item: None,
            has_thinking: false,
            calls: 0,
            open_call: None,
            is_cut: false,
            stop: StopMatcher::new(&shape.stop),
            meter: shape.token_limit.map(Meter::new),
        }
    }
}

impl Queued for OllamaReply {
    fn gate(&mut self) -> &mut Gate {
        &mut self.gate
    }

    fn show(&mut self, item: usize, step: &Step<'_>, sink: &mut impl Sink<Self>) {
        self.begin(&ResponseObject::default());
        match step {
            // There is no other place for a refusal.
            Step::Text { text, .. } | Step::Refusal(text) => self.show_text(item, text, sink),
            Step::TextEnd | Step::MessageEnd => {
                let _ = self.flush(sink);
            }
            Step::Reasoning { part, text } => self.show_thinking(item, *part, text, sink),
            Step::CallOpened { id, name, .. } => self.open_call(id, name, sink),
            Step::CallText(text) => self.add_call_text(text, sink),
            Step::CallClosed => self.show_call(sink),
            Step::MessageOpened
            | Step::ReasoningEnd { .. }
            | Step::Citation { .. }
            | Step::Image { .. }
            | Step::Search(_) => {}
        }
    }
}

impl OllamaReply {
    fn show_text(&mut self, item: usize, text: &str, sink: &mut impl Sink<Self>) {
        let before = self.shown.text_item.replace(item);
        if before.is_some_and(|before| before != item) {
            if self.flush(sink).is_break() {
                return;
            }
            // Ours, not the model's: no stop sequence is looked for in it.
            self.put_text(BLANK_LINE, sink);
        }
        match self.admit(Segment::Text(item), text) {
            ControlFlow::Continue(text) => self.show_admitted(text, sink),
            ControlFlow::Break(text) => {
                self.show_admitted(text, sink);
                if self.flush(sink).is_continue() {
                    self.cut(DoneReason::Length, sink);
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
            return self.put_text(text, sink);
        }
        let found = self.shown.stop.push(text);
        self.show_known(found, sink);
    }

    /// Shows what a stop sequence leaves of a text.
    fn show_known(&mut self, found: ControlFlow<String, String>, sink: &mut impl Sink<Self>) {
        match found {
            ControlFlow::Continue(text) => self.put_text(&text, sink),
            ControlFlow::Break(text) => {
                self.put_text(&text, sink);
                self.cut(DoneReason::Stop, sink);
            }
        }
    }

    fn put_text(&mut self, text: &str, sink: &mut impl Sink<Self>) {
        if !text.is_empty() {
            self.shown.characters += RawText::from_escaped(text).scalar_count();
            sink.put(self, &Line::Text(text));
        }
    }

    /// Shows what was held back for a stop sequence; breaks where one was in it, and the answer is over.
    pub(super) fn flush(&mut self, sink: &mut impl Sink<Self>) -> ControlFlow<()> {
        if !self.shown.stop.is_idle() {
            let held = self.shown.stop.flush();
            self.show_known(held, sink);
        }
        if self.is_finished() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn show_thinking(&mut self, item: usize, part: usize, text: &str, sink: &mut impl Sink<Self>) {
        self.shown.reasoning_characters += RawText::from_escaped(text).scalar_count();
        if !self.shape.shows_thinking || text.is_empty() {
            return;
        }
        let is_further = !std::mem::replace(&mut self.items.get_mut(item).part_mut(part).has_shown, true)
            && std::mem::replace(&mut self.shown.has_thinking, true);
        if is_further {
            sink.put(self, &Line::Thinking(BLANK_LINE));
        }
        sink.put(self, &Line::Thinking(text));
    }

    /// A call is told under the client's name for it.
    fn open_call(&mut self, id: &str, name: &str, sink: &mut impl Sink<Self>) {
        if self.flush(sink).is_break() {
            return;
        }
        let told = self.shape.names.get(name).map_or(name, String::as_str).to_owned();
        self.shown.characters += told.chars().count();
        self.shown.open_call = Some(OpenCall { id: id.to_owned(), name: told, arguments: String::new() });
    }

    /// A call that the limit cuts is not told: half an object is none.
    fn add_call_text(&mut self, text: &str, sink: &mut impl Sink<Self>) {
        let admitted = self.admit(Segment::Call(self.shown.calls), text);
        let Some(call) = &mut self.shown.open_call else { return };
        if admitted.is_break() {
            self.shown.open_call = None;
            return self.cut(DoneReason::Length, sink);
        }
        call.arguments.push_str(text);
        self.shown.characters += RawText::from_escaped(text).scalar_count();
    }

    fn show_call(&mut self, sink: &mut impl Sink<Self>) {
        let Some(OpenCall { id, name, arguments }) = self.shown.open_call.take() else { return };
        let arguments = RawText::from_escaped(&arguments).decode();
        // What a model calls a tool with is not always JSON; a line has to be.
        let arguments = match RawObject::parse(&arguments) {
            Ok(_) => compact(&arguments),
            Err(_) if self.shown.is_cut => return,
            Err(_) => "{}".into(),
        };
        let index = self.shown.calls;
        self.shown.calls += 1;
        sink.put(self, &Line::Call(Call { id: &id, index, name: &name, arguments: &arguments }));
    }
}
