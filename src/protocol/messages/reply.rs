//! The machine that turns upstream events into Messages events.
//!
//! `answer` finds the item of an event and what of it is new, the gate lets one call through at a
//! time, [`super::render`] says it to the client in blocks that never overlap. The machine waits for
//! nothing and draws nothing. An answer that was cut or is damaged ends in an error, never in
//! `message_stop`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::document::Draft;
use super::event::{self, Event, StopReason};
use super::render::Shown;
use crate::error::ProxyError;
use crate::protocol::codex::{ResponseObject, Usage};
use crate::protocol::reply::assembler::Arrival;
use crate::protocol::reply::items::Items;
use crate::protocol::reply::queue::{Gate, Queued};
use crate::protocol::reply::reply_item::Step;
use crate::protocol::reply::response_meta::bare_id;
use crate::protocol::reply::{Terminal, usage};
use crate::protocol::tokens::Meter;
use crate::protocol::{Reply, Sink, Summary, UpstreamEvent, openai};

/// What the request decides about the form of the answer.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// The model as the client named it: echoed.
    pub model: String,
    /// Tool names that were changed for the backend: upstream's name to the client's.
    pub names: BTreeMap<String, String>,
    /// What is told of thinking.
    pub thinking: ThinkingForm,
    /// What is told of web searches.
    pub search: SearchForm,
    /// Stop sequences, none empty.
    pub stop: Vec<String>,
    /// Tokens after which the answer is cut.
    pub token_limit: Option<u64>,
    /// Characters of the request, for what is said of its cost before it is known.
    pub prompt_characters: usize,
}

/// What a client is told of thinking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ThinkingForm {
    /// Nothing: it did not ask.
    #[default]
    Hidden,
    /// The signature alone.
    Omitted,
    /// Text and signature.
    Shown,
}

/// What a client is told of web searches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SearchForm {
    /// Nothing: it declared none.
    #[default]
    Hidden,
    /// Each search when it is made, with the sources that are known then.
    Told,
    /// The searches at the end, with everything that the text quotes: the search is all that the
    /// client wants (case `06-web-search-request`).
    Gathered,
}

/// The state of one answer.
#[derive(Debug)]
pub struct MessagesReply {
    pub(super) shape: Arc<Shape>,
    pub(super) items: Items,
    pub(super) gate: Gate,
    pub(super) shown: Shown,
    id: Option<String>,
    /// The message as it begins, once it has begun.
    opening: Option<String>,
    draft: Draft,
    usage: Option<Usage>,
    state: State,
}

#[derive(Debug)]
enum State {
    Open,
    Finished(Ending),
    Failed(ProxyError),
}

/// How an answer ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Completed,
    /// Cut short by the backend, for a reason that it named.
    Incomplete(StopReason),
    /// Cut short by us, at a stop sequence.
    Stopped,
    /// Cut short by us, at the client's limit.
    Limited,
}

impl MessagesReply {
    /// A machine for an answer of this shape.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        Self {
            shown: Shown::new(&shape),
            shape: Arc::new(shape),
            items: Items::default(),
            gate: Gate::default(),
            id: None,
            opening: None,
            draft: Draft::default(),
            usage: None,
            state: State::Open,
        }
    }

    /// Takes the id from the response that began; the first word on it holds.
    fn begin(&mut self, response: &ResponseObject<'_>) {
        if self.id.is_none() {
            self.id = Some(format!("msg_{}", bare_id(response, &self.items)));
        }
    }

    /// Opens the answer, once.
    pub(super) fn open(&mut self, sink: &mut impl Sink<Self>) {
        if self.opening.is_some() {
            return;
        }
        self.begin(&ResponseObject::default());
        let id = self.id.as_deref().unwrap_or_default();
        let prompt_tokens = usage::tokens(self.shape.prompt_characters);
        self.opening = Some(event::opening(id, &self.shape.model, prompt_tokens));
        sink.put(self, &Event::Start);
    }

    /// Ends the answer with the backend's terminal event.
    fn finish(&mut self, response: &ResponseObject<'_>, ending: Ending, sink: &mut impl Sink<Self>) {
        self.begin(response);
        self.usage = response.usage;
        let terminal =
            if ending == Ending::Completed { Terminal::Completed } else { Terminal::of_incomplete(response) };
        if let Some(damage) = self.settle(response, terminal, sink) {
            return self.fail(damage, sink);
        }
        self.open(sink);
        self.close_everything(sink);
        if !self.is_finished() {
            self.close(ending, response.usage.unwrap_or_default(), sink);
        }
    }

    /// Ends the answer at a stop sequence.
    pub(super) fn stop(&mut self, sink: &mut impl Sink<Self>) {
        self.cut(Ending::Stopped, sink);
    }

    /// Ends the answer at the client's limit.
    pub(super) fn limit(&mut self, sink: &mut impl Sink<Self>) {
        self.cut(Ending::Limited, sink);
    }

    /// Cuts the answer. What it cost is a guess, unless the backend was done already.
    fn cut(&mut self, ending: Ending, sink: &mut impl Sink<Self>) {
        let counted = self.shown.meter.as_ref().map(Meter::tokens);
        let answer = counted.unwrap_or_else(|| usage::tokens(self.shown.characters));
        let guess = usage::estimate(self.shape.prompt_characters, answer, self.shown.reasoning_characters);
        self.close_block(sink);
        self.close(ending, self.usage.unwrap_or(guess), sink);
    }

    fn close(&mut self, ending: Ending, usage: Usage, sink: &mut impl Sink<Self>) {
        let reason = match ending {
            Ending::Stopped => StopReason::StopSequence,
            Ending::Limited => StopReason::MaxTokens,
            Ending::Incomplete(StopReason::Refusal) => StopReason::Refusal,
            _ if self.shown.has_refusal => StopReason::Refusal,
            Ending::Incomplete(reason) => reason,
            Ending::Completed if self.shown.has_calls => StopReason::ToolUse,
            Ending::Completed => StopReason::EndTurn,
        };
        let stop = self.shown.stop_sequence().filter(|_| ending == Ending::Stopped).map(str::to_owned);
        let searches = self.shown.searches;
        self.state = State::Finished(ending);
        sink.put(self, &Event::Ended { reason, stop: stop.as_deref(), usage, searches });
        sink.put(self, &Event::Stop);
    }

    fn fail(&mut self, error: ProxyError, sink: &mut impl Sink<Self>) {
        sink.put(self, &Event::Failed(&error));
        self.state = State::Failed(error);
    }
}

impl Arrival for MessagesReply {
    fn items(&mut self) -> &mut Items {
        &mut self.items
    }

    fn step(&mut self, item: usize, step: Step<'_>, sink: &mut impl Sink<Self>) {
        self.queue(item, step, sink);
    }
}

impl Reply for MessagesReply {
    type Upstream<'u> = UpstreamEvent<'u>;
    type Event<'e> = Event<'e>;

    fn keepalive(&self) -> Bytes {
        Bytes::from_static(event::PING)
    }

    fn on_commit(&mut self, sink: &mut impl Sink<Self>) {
        if !self.is_finished() {
            self.open(sink);
        }
    }

    fn on_event(&mut self, event: UpstreamEvent<'_>, sink: &mut impl Sink<Self>) {
        if self.is_finished() {
            return;
        }
        match event {
            UpstreamEvent::Created(response) => self.begin(&response),
            UpstreamEvent::Completed(response) => self.finish(&response, Ending::Completed, sink),
            UpstreamEvent::Incomplete(response) => {
                let reason = if response.is_filtered() { StopReason::Refusal } else { StopReason::MaxTokens };
                self.finish(&response, Ending::Incomplete(reason), sink);
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

    fn encode(&self, event: &Event<'_>, wire: &mut BytesMut) {
        event::encode(event, self.opening.as_deref().unwrap_or("null"), wire);
    }

    fn absorb(&mut self, event: &Event<'_>) {
        self.draft.absorb(event);
    }

    fn failure(&self) -> Option<&ProxyError> {
        if let State::Failed(error) = &self.state { Some(error) } else { None }
    }

    fn restarted(self) -> Self {
        Self::new(Arc::unwrap_or_clone(self.shape))
    }

    fn document(self) -> Result<Bytes, ProxyError> {
        match (self.state, self.id) {
            (State::Failed(error), _) => Err(error),
            (State::Finished(_), Some(id)) => Ok(self.draft.render(&id, &self.shape.model)),
            (State::Finished(_) | State::Open, _) => Err(ProxyError::Truncated { cause: None }),
        }
    }

    fn summary(&self) -> Summary {
        let outcome = match &self.state {
            State::Open => String::new(),
            State::Finished(Ending::Completed | Ending::Stopped) => "completed".to_owned(),
            State::Finished(Ending::Incomplete(_) | Ending::Limited) => "incomplete".to_owned(),
            State::Failed(error) => openai::error::code(error),
        };
        Summary { usage: self.usage, outcome }
    }

    fn counts_tokens(&self) -> bool {
        self.shown.meter.is_some()
    }
}
