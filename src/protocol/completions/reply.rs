//! The machine that turns upstream events into pieces of a completion.
//!
//! Only text is told: reasoning is dropped, and there are no tools to call. A refusal is text too,
//! since a completion has no other place for it. An answer that was cut or is damaged ends in an
//! error, never in a finish reason.

use std::ops::ControlFlow;

use bytes::{Bytes, BytesMut};

use super::chunk::{Chunk, Draft, FinishReason, Template};
use crate::error::ProxyError;
use crate::protocol::codex::{ResponseObject, Usage};
use crate::protocol::json::string::RawText;
use crate::protocol::reply::assembler::Arrival;
use crate::protocol::reply::items::Items;
use crate::protocol::reply::queue::{Gate, Queued};
use crate::protocol::reply::reply_item::Step;
use crate::protocol::reply::response_meta::Identity;
use crate::protocol::reply::stop::StopMatcher;
use crate::protocol::reply::{Terminal, usage};
use crate::protocol::tokens::{Meter, Segment};
use crate::protocol::{Reply, Sink, Summary, UpstreamEvent, openai, sse};

/// A blank line, escaped.
const BLANK_LINE: &str = r"\n\n";

/// What the request decides about the form of the answer.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// The model as the client named it: echoed in every chunk.
    pub model: String,
    /// `stream_options.include_usage`.
    pub includes_usage: bool,
    /// Stop sequences, none empty, at most four.
    pub stop: Vec<String>,
    /// Characters of the request, for the estimate of usage that a cut makes necessary.
    pub prompt_characters: usize,
    /// Tokens after which the answer is cut.
    pub token_limit: Option<u64>,
}

/// The state of one completion.
#[derive(Debug)]
pub struct CompletionReply {
    shape: Shape,
    items: Items,
    gate: Gate,
    stop: StopMatcher,
    /// Counts what is shown, where the client's limit is enforced.
    meter: Option<Meter>,
    opening: Option<(Identity, Template)>,
    draft: Draft,
    /// The item whose text was shown last.
    shown_item: Option<usize>,
    characters: usize,
    reasoning_characters: usize,
    usage: Option<Usage>,
    state: State,
}

#[derive(Debug)]
enum State {
    Open,
    Finished(FinishReason),
    Failed(ProxyError),
}

impl CompletionReply {
    /// A machine for an answer of this shape.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        Self {
            stop: StopMatcher::new(&shape.stop),
            meter: shape.token_limit.map(Meter::new),
            shape,
            items: Items::default(),
            gate: Gate::default(),
            opening: None,
            draft: Draft::default(),
            shown_item: None,
            characters: 0,
            reasoning_characters: 0,
            usage: None,
            state: State::Open,
        }
    }

    /// Takes id and time from the response that began; the first word on them holds.
    fn begin(&mut self, response: &ResponseObject<'_>) {
        if self.opening.is_none() {
            let identity = Identity::new("cmpl", &self.shape.model, response, &self.items);
            let template = Template::new(&identity, self.shape.includes_usage);
            self.opening = Some((identity, template));
        }
    }

    fn show_text(&mut self, item: usize, text: &str, sink: &mut impl Sink<Self>) {
        self.begin(&ResponseObject::default());
        let before = self.shown_item.replace(item);
        if before.is_some_and(|before| before != item) {
            self.flush(sink);
            if self.is_finished() {
                return;
            }
            // Ours, not the model's: no stop sequence is looked for in it.
            self.put(BLANK_LINE, sink);
        }
        let within = self.meter.as_mut().map(|meter| meter.push(Segment::Text(item), text));
        match within.unwrap_or(ControlFlow::Continue(text)) {
            ControlFlow::Continue(text) => self.show_admitted(text, sink),
            ControlFlow::Break(text) => {
                self.show_admitted(text, sink);
                self.flush(sink);
                if !self.is_finished() {
                    self.close(FinishReason::Length, self.estimate(), sink);
                }
            }
        }
    }

    /// Shows text up to a stop sequence.
    fn show_admitted(&mut self, text: &str, sink: &mut impl Sink<Self>) {
        if self.is_finished() {
            return;
        }
        if self.stop.is_idle() {
            return self.put(text, sink);
        }
        let found = self.stop.push(text);
        self.show_known(found, sink);
    }

    /// Shows what a stop sequence leaves of a text.
    fn show_known(&mut self, found: ControlFlow<String, String>, sink: &mut impl Sink<Self>) {
        match found {
            ControlFlow::Continue(text) => self.put(&text, sink),
            ControlFlow::Break(text) => {
                self.put(&text, sink);
                self.close(FinishReason::Stop, self.estimate(), sink);
            }
        }
    }

    /// What an answer cost that was cut here, so that the backend never said.
    fn estimate(&self) -> Usage {
        let counted = self.meter.as_ref().map(Meter::tokens);
        let tokens = counted.unwrap_or_else(|| usage::tokens(self.characters));
        usage::estimate(self.shape.prompt_characters, tokens, self.reasoning_characters)
    }

    fn put(&mut self, text: &str, sink: &mut impl Sink<Self>) {
        if !text.is_empty() {
            self.characters += RawText::from_escaped(text).scalar_count();
            sink.put(self, &Chunk::Text(text));
        }
    }

    /// Shows what was held back for a stop sequence; one that was in it ends the answer.
    fn flush(&mut self, sink: &mut impl Sink<Self>) {
        let held = self.stop.flush();
        self.show_known(held, sink);
    }

    /// Ends the answer with the backend's terminal event.
    fn finish(&mut self, response: &ResponseObject<'_>, reason: FinishReason, sink: &mut impl Sink<Self>) {
        self.begin(response);
        self.usage = response.usage;
        let terminal =
            if reason == FinishReason::Stop { Terminal::Completed } else { Terminal::of_incomplete(response) };
        if let Some(damage) = self.settle(response, terminal, sink) {
            return self.fail(damage, sink);
        }
        self.close_items(sink);
        if self.is_finished() {
            return;
        }
        self.flush(sink);
        if !self.is_finished() {
            self.close(reason, response.usage.unwrap_or_default(), sink);
        }
    }

    fn close(&mut self, reason: FinishReason, usage: Usage, sink: &mut impl Sink<Self>) {
        self.state = State::Finished(reason);
        sink.put(self, &Chunk::Finished(reason));
        sink.put(self, &Chunk::Usage(usage));
        sink.put(self, &Chunk::Done);
    }

    fn fail(&mut self, error: ProxyError, sink: &mut impl Sink<Self>) {
        sink.put(self, &Chunk::Failed(&error));
        self.state = State::Failed(error);
    }
}

impl Arrival for CompletionReply {
    fn items(&mut self) -> &mut Items {
        &mut self.items
    }

    fn step(&mut self, item: usize, step: Step<'_>, sink: &mut impl Sink<Self>) {
        self.queue(item, step, sink);
    }
}

impl Queued for CompletionReply {
    fn gate(&mut self) -> &mut Gate {
        &mut self.gate
    }

    fn show(&mut self, item: usize, step: &Step<'_>, sink: &mut impl Sink<Self>) {
        match step {
            Step::Text { text, .. } | Step::Refusal(text) => self.show_text(item, text, sink),
            Step::TextEnd | Step::MessageEnd => self.flush(sink),
            Step::Reasoning { text, .. } => {
                self.reasoning_characters += RawText::from_escaped(text).scalar_count();
            }
            Step::MessageOpened
            | Step::ReasoningEnd { .. }
            | Step::Citation { .. }
            | Step::CallOpened { .. }
            | Step::CallText(_)
            | Step::CallClosed
            | Step::Image { .. }
            | Step::Search(_) => {}
        }
    }
}

impl Reply for CompletionReply {
    type Upstream<'u> = UpstreamEvent<'u>;
    type Event<'e> = Chunk<'e>;

    fn keepalive(&self) -> Bytes {
        Bytes::from_static(b": keepalive\n\n")
    }

    fn on_commit(&mut self, _sink: &mut impl Sink<Self>) {
        // A completion has no opening: what is sent first is text.
    }

    fn on_event(&mut self, event: UpstreamEvent<'_>, sink: &mut impl Sink<Self>) {
        if self.is_finished() {
            return;
        }
        match event {
            UpstreamEvent::Created(response) => self.begin(&response),
            UpstreamEvent::Completed(response) => self.finish(&response, FinishReason::Stop, sink),
            UpstreamEvent::Incomplete(response) => {
                let is_filtered = response.is_filtered();
                let reason = if is_filtered { FinishReason::ContentFilter } else { FinishReason::Length };
                self.finish(&response, reason, sink);
            }
            UpstreamEvent::Failed(failure) => self.fail(ProxyError::Upstream(failure), sink),
            UpstreamEvent::Malformed { data } => self.items.note_unreadable(data),
            UpstreamEvent::Other { .. } => {}
            piece => self.arrive(piece, sink),
        }
    }

    fn on_end(&mut self, cut: Option<ProxyError>, sink: &mut impl Sink<Self>) {
        if !self.is_finished() {
            self.fail(cut.unwrap_or(ProxyError::Truncated { cause: None }), sink);
        }
    }

    fn is_finished(&self) -> bool {
        !matches!(self.state, State::Open)
    }

    fn counts_tokens(&self) -> bool {
        self.meter.is_some()
    }

    fn encode(&self, event: &Chunk<'_>, wire: &mut BytesMut) {
        match (&self.opening, event) {
            (Some((_, template)), event) => template.encode(event, wire),
            (None, Chunk::Failed(error)) => sse::frame(&openai::error::frame(error), wire),
            (None, _) => {}
        }
    }

    fn absorb(&mut self, event: &Chunk<'_>) {
        self.draft.absorb(event);
    }

    fn failure(&self) -> Option<&ProxyError> {
        if let State::Failed(error) = &self.state { Some(error) } else { None }
    }

    fn restarted(self) -> Self {
        Self::new(self.shape)
    }

    fn document(self) -> Result<Bytes, ProxyError> {
        match (self.state, self.opening) {
            (State::Failed(error), _) => Err(error),
            (State::Finished(_), Some((identity, _))) => Ok(self.draft.render(&identity)),
            (State::Finished(_) | State::Open, _) => Err(ProxyError::Truncated { cause: None }),
        }
    }

    fn summary(&self) -> Summary {
        let outcome = match &self.state {
            State::Open => String::new(),
            State::Finished(FinishReason::Stop) => "completed".to_owned(),
            State::Finished(FinishReason::Length | FinishReason::ContentFilter) => "incomplete".to_owned(),
            State::Failed(error) => openai::error::code(error),
        };
        Summary { usage: self.usage, outcome }
    }
}
