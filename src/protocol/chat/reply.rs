//! The machine that turns upstream events into Chat chunks.
//!
//! An event passes three stations: `answer` finds its item and what of it is new, the
//! gate lets one call through at a time, [`super::render`] says it to the client. The machine waits
//! for nothing and draws nothing: ids and times come from the backend. An answer that was cut or
//! is damaged ends in an error, never in a finish reason.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::chunk::{Chunk, FinishReason, Template};
use super::document::Draft;
use super::render::Shown;
use crate::error::ProxyError;
use crate::protocol::codex::{ResponseObject, Usage};
use crate::protocol::reply::assembler::Arrival;
use crate::protocol::reply::items::Items;
use crate::protocol::reply::queue::{Gate, Queued};
use crate::protocol::reply::reply_item::Step;
use crate::protocol::reply::response_meta::Identity;
use crate::protocol::reply::{Terminal, usage};
use crate::protocol::tokens::Meter;
use crate::protocol::{Reply, Sink, Summary, UpstreamEvent, openai, sse};

/// What the request decides about the form of the answer.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// The model as the client named it: echoed in every chunk.
    pub model: String,
    /// `stream_options.include_usage`.
    pub includes_usage: bool,
    /// The client sent `service_tier`, so that it is shown.
    pub shows_service_tier: bool,
    /// How calls are told.
    pub calls: CallStyle,
    /// Tool names that were changed for the backend: upstream's name to the client's.
    pub names: BTreeMap<String, String>,
    /// Custom tools that were declared in the flat form: their calls come back in the function envelope.
    pub flat_custom_tools: BTreeSet<String>,
    /// Where visible reasoning goes.
    pub reasoning: ReasoningField,
    /// Stop sequences, none empty, at most four.
    pub stop: Vec<String>,
    /// Tokens after which the answer is cut.
    pub token_limit: Option<u64>,
    /// Characters of the request, for the estimate of usage that a cut makes necessary.
    pub prompt_characters: usize,
}

/// How calls are told to the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallStyle {
    /// `tool_calls`.
    #[default]
    Tools,
    /// `function_call`, for a request with `functions`.
    Legacy,
}

/// Where visible reasoning goes (`chat.reasoning_field`).
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
    /// Into the text, between `<think>` and `</think>`.
    ThinkTags,
    /// Nowhere.
    None,
}

/// The state of one answer.
#[derive(Debug)]
pub struct ChatReply {
    pub(super) shape: Arc<Shape>,
    pub(super) items: Items,
    pub(super) gate: Gate,
    pub(super) shown: Shown,
    identity: Option<Identity>,
    template: Option<Template>,
    /// The tier of the terminal event, for the document.
    final_tier: Option<String>,
    draft: Draft,
    usage: Option<Usage>,
    /// The backend cut the answer short: the arguments of a call that never ended may be missing.
    pub(super) is_cut: bool,
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
    Incomplete(FinishReason),
    /// Cut short by us, at a stop sequence.
    Stopped,
    /// Cut short by us, at the client's limit.
    Limited,
}

impl ChatReply {
    /// A machine for an answer of this shape.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        Self {
            shown: Shown::new(&shape),
            shape: Arc::new(shape),
            items: Items::default(),
            gate: Gate::default(),
            identity: None,
            template: None,
            final_tier: None,
            draft: Draft::default(),
            usage: None,
            is_cut: false,
            state: State::Open,
        }
    }

    /// Takes id and time from the response that began; the first word on them holds.
    pub(super) fn begin(&mut self, response: &ResponseObject<'_>) {
        if self.identity.is_some() {
            return;
        }
        let identity = Identity::new("chatcmpl", &self.shape.model, response, &self.items);
        self.identity = Some(Identity { service_tier: self.tier(response), ..identity });
    }

    /// The tier to show: before one is chosen the backend says `auto`, which Chat does not know.
    fn tier(&self, response: &ResponseObject<'_>) -> Option<String> {
        let tier = response.service_tier.as_ref().filter(|_| self.shape.shows_service_tier)?.as_str();
        Some(if tier == "auto" { "default" } else { tier }.to_owned())
    }

    /// Opens the answer, once, with the role chunk.
    pub(super) fn open(&mut self, sink: &mut impl Sink<Self>) {
        if self.template.is_some() {
            return;
        }
        self.begin(&ResponseObject::default());
        let identity = self.identity.as_ref().expect("`begin` sets it");
        self.template = Some(Template::new(identity, &self.shape));
        sink.put(self, &Chunk::Role);
    }

    /// Ends the answer with the backend's terminal event.
    fn finish(&mut self, response: &ResponseObject<'_>, ending: Ending, sink: &mut impl Sink<Self>) {
        self.begin(response);
        self.usage = response.usage;
        self.final_tier = self.tier(response);
        let terminal =
            if ending == Ending::Completed { Terminal::Completed } else { Terminal::of_incomplete(response) };
        // Before `settle`, which ends the calls that no event ended.
        self.is_cut = ending != Ending::Completed;
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
        self.close(Ending::Stopped, self.estimate(), sink);
    }

    /// Ends the answer at the client's limit.
    pub(super) fn limit(&mut self, sink: &mut impl Sink<Self>) {
        self.close(Ending::Limited, self.estimate(), sink);
    }

    /// What an answer cost that was cut here, so that the backend never said.
    fn estimate(&self) -> Usage {
        let counted = self.shown.meter.as_ref().map(Meter::tokens);
        let answer_tokens = counted.unwrap_or_else(|| usage::tokens(self.shown.characters));
        usage::estimate(self.shape.prompt_characters, answer_tokens, self.shown.reasoning_characters)
    }

    fn close(&mut self, ending: Ending, usage: Usage, sink: &mut impl Sink<Self>) {
        let reason = match ending {
            Ending::Incomplete(reason) => reason,
            Ending::Completed => self.shown.call_reason(self.shape.calls),
            Ending::Stopped => FinishReason::Stop,
            Ending::Limited => FinishReason::Length,
        };
        self.state = State::Finished(ending);
        sink.put(self, &Chunk::Finished(reason));
        sink.put(self, &Chunk::Usage(usage));
        sink.put(self, &Chunk::Done);
    }

    fn fail(&mut self, error: ProxyError, sink: &mut impl Sink<Self>) {
        sink.put(self, &Chunk::Failed(&error));
        self.state = State::Failed(error);
    }
}

impl Arrival for ChatReply {
    fn items(&mut self) -> &mut Items {
        &mut self.items
    }

    fn step(&mut self, item: usize, step: Step<'_>, sink: &mut impl Sink<Self>) {
        self.queue(item, step, sink);
    }
}

impl Reply for ChatReply {
    type Upstream<'u> = UpstreamEvent<'u>;
    type Event<'e> = Chunk<'e>;

    fn keepalive(&self) -> Bytes {
        Bytes::from_static(b": keepalive\n\n")
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
                let is_filtered = response.is_filtered();
                let reason = if is_filtered { FinishReason::ContentFilter } else { FinishReason::Length };
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

    fn encode(&self, event: &Chunk<'_>, wire: &mut BytesMut) {
        match (&self.template, event) {
            (Some(template), event) => template.encode(event, wire),
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
        Self::new(Arc::unwrap_or_clone(self.shape))
    }

    fn document(self) -> Result<Bytes, ProxyError> {
        match (self.state, self.identity) {
            (State::Failed(error), _) => Err(error),
            (State::Finished(_), Some(identity)) => {
                let tier = self.final_tier.as_deref().or(identity.service_tier.as_deref());
                Ok(self.draft.render(&identity, tier, self.shape.reasoning))
            }
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
