//! The machine that turns upstream events into lines.
//!
//! `answer` finds the item of an event and what of it is new, the gate lets one call through at a
//! time, [`super::render`] says it to the client. The machine waits for nothing and draws nothing. An
//! answer that was cut or is damaged ends in an error, never in `done`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};

use super::document::Draft;
use super::event::{DoneReason, Ending, Line, Spent, Template};
use super::render::Shown;
use super::{Form, error};
use crate::error::ProxyError;
use crate::protocol::codex::{ResponseObject, Usage};
use crate::protocol::reply::assembler::Arrival;
use crate::protocol::reply::items::Items;
use crate::protocol::reply::queue::{Gate, Queued};
use crate::protocol::reply::reply_item::Step;
use crate::protocol::reply::{Terminal, usage};
use crate::protocol::tokens::Meter;
use crate::protocol::{Reply, Sink, Summary, UpstreamEvent, openai};

/// The last second that has a name in the form that clients read.
const LAST_SECOND: u64 = 253_402_300_799;

/// What the request decides about the form of the answer.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// Which of the two forms it has.
    pub form: Form,
    /// The model as the client named it: echoed in every line.
    pub model: String,
    /// Tool names that were changed for the backend: upstream's name to the client's.
    pub names: BTreeMap<String, String>,
    /// Whether the client is told of thinking.
    pub shows_thinking: bool,
    /// Stop sequences, none empty, at most four.
    pub stop: Vec<String>,
    /// Tokens after which the answer is cut.
    pub token_limit: Option<u64>,
    /// Characters of the request, for the estimate of usage that a cut makes necessary.
    pub prompt_characters: usize,
    /// What is told where nobody has to be asked.
    pub unasked: Option<DoneReason>,
}

/// The state of one answer.
#[derive(Debug)]
pub struct OllamaReply {
    pub(super) shape: Arc<Shape>,
    pub(super) items: Items,
    pub(super) gate: Gate,
    pub(super) shown: Shown,
    /// When the answer began, in unix seconds.
    created_at: Option<u64>,
    template: Option<Template>,
    draft: Draft,
    usage: Option<Usage>,
    state: State,
}

#[derive(Debug)]
enum State {
    Open,
    Finished(DoneReason),
    Failed(ProxyError),
}

impl OllamaReply {
    /// A machine for an answer of this shape.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        Self {
            shown: Shown::new(&shape),
            shape: Arc::new(shape),
            items: Items::default(),
            gate: Gate::default(),
            created_at: None,
            template: None,
            draft: Draft::default(),
            usage: None,
            state: State::Open,
        }
    }

    /// Takes the time from the response that began; the first word on it holds.
    pub(super) fn begin(&mut self, response: &ResponseObject<'_>) {
        if self.template.is_none() {
            self.created_at = response.created_at;
            self.template = Some(self.fresh_template());
        }
    }

    fn fresh_template(&self) -> Template {
        Template::new(self.shape.form, &self.shape.model, &written(self.created_at.unwrap_or(0)))
    }

    /// Ends the answer with the backend's terminal event.
    fn finish(&mut self, response: &ResponseObject<'_>, reason: DoneReason, sink: &mut impl Sink<Self>) {
        self.begin(response);
        self.usage = response.usage;
        self.shown.is_cut = reason != DoneReason::Stop;
        let terminal = if self.shown.is_cut { Terminal::of_incomplete(response) } else { Terminal::Completed };
        if let Some(damage) = self.settle(response, terminal, sink) {
            return self.fail(damage, sink);
        }
        self.close_items(sink);
        if self.flush(sink).is_continue() {
            let began = self.created_at.or(response.created_at);
            let seconds = response.completed_at.zip(began).map(|(end, start)| end.saturating_sub(start));
            self.close(reason, response.usage.unwrap_or_default(), seconds, sink);
        }
    }

    /// Ends the answer here: at a stop sequence, or at the client's limit.
    pub(super) fn cut(&mut self, reason: DoneReason, sink: &mut impl Sink<Self>) {
        let counted = self.shown.meter.as_ref().map(Meter::tokens);
        let answer_tokens = counted.unwrap_or_else(|| usage::tokens(self.shown.characters));
        let usage = usage::estimate(self.shape.prompt_characters, answer_tokens, self.shown.reasoning_characters);
        self.close(reason, usage, None, sink);
    }

    fn close(&mut self, reason: DoneReason, usage: Usage, seconds: Option<u64>, sink: &mut impl Sink<Self>) {
        self.state = State::Finished(reason);
        let spent = Spent { usage, seconds: seconds.unwrap_or(1).max(1) };
        sink.put(self, &Line::Ended(Ending { reason, spent: Some(spent) }));
    }

    fn fail(&mut self, error: ProxyError, sink: &mut impl Sink<Self>) {
        sink.put(self, &Line::Failed(&error));
        self.state = State::Failed(error);
    }
}

impl Arrival for OllamaReply {
    fn items(&mut self) -> &mut Items {
        &mut self.items
    }

    fn step(&mut self, item: usize, step: Step<'_>, sink: &mut impl Sink<Self>) {
        self.queue(item, step, sink);
    }
}

impl Reply for OllamaReply {
    type Upstream<'u> = UpstreamEvent<'u>;
    type Event<'e> = Line<'e>;

    /// Lines have no form for a comment, and some clients take each piece of a body for a whole line:
    /// a line with an empty text is what all of them know, since Ollama sends such lines itself.
    fn keepalive(&self) -> Bytes {
        let (mut wire, line) = (BytesMut::new(), Line::Text(""));
        match &self.template {
            Some(template) => template.encode(&line, &mut wire),
            None => self.fresh_template().encode(&line, &mut wire),
        }
        wire.freeze()
    }

    fn asks(&self) -> bool {
        self.shape.unasked.is_none()
    }

    fn on_commit(&mut self, sink: &mut impl Sink<Self>) {
        if let Some(reason) = self.shape.unasked.filter(|_| !self.is_finished()) {
            self.begin(&ResponseObject::default());
            self.state = State::Finished(reason);
            sink.put(self, &Line::Ended(Ending { reason, spent: None }));
        }
    }

    fn on_event(&mut self, event: UpstreamEvent<'_>, sink: &mut impl Sink<Self>) {
        if self.is_finished() {
            return;
        }
        match event {
            UpstreamEvent::Created(response) => self.begin(&response),
            UpstreamEvent::Completed(response) => self.finish(&response, DoneReason::Stop, sink),
            UpstreamEvent::Incomplete(response) => {
                let is_filtered = response.is_filtered();
                let reason = if is_filtered { DoneReason::ContentFilter } else { DoneReason::Length };
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

    fn encode(&self, event: &Line<'_>, wire: &mut BytesMut) {
        match (&self.template, event) {
            (Some(template), line) => template.encode(line, wire),
            (None, Line::Failed(error)) => wire.extend_from_slice(&error::line(error)),
            (None, _) => {}
        }
    }

    fn absorb(&mut self, event: &Line<'_>) {
        self.draft.absorb(event);
    }

    fn failure(&self) -> Option<&ProxyError> {
        if let State::Failed(error) = &self.state { Some(error) } else { None }
    }

    fn restarted(self) -> Self {
        Self::new(Arc::unwrap_or_clone(self.shape))
    }

    fn document(self) -> Result<Bytes, ProxyError> {
        match (self.state, self.template) {
            (State::Failed(error), _) => Err(error),
            (State::Finished(_), Some(template)) => Ok(self.draft.render(self.shape.form, &template)),
            (State::Finished(_) | State::Open, _) => Err(ProxyError::Truncated { cause: None }),
        }
    }

    fn summary(&self) -> Summary {
        let outcome = match &self.state {
            State::Open => String::new(),
            State::Finished(DoneReason::Stop | DoneReason::Load | DoneReason::Unload) => "completed".to_owned(),
            State::Finished(DoneReason::Length | DoneReason::ContentFilter) => "incomplete".to_owned(),
            State::Failed(error) => openai::error::code(error),
        };
        Summary { usage: self.usage, outcome }
    }

    fn counts_tokens(&self) -> bool {
        self.shown.meter.is_some()
    }
}

/// A time as clients read it.
fn written(unix_seconds: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_secs(unix_seconds.min(LAST_SECOND));
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::{OllamaReply, Shape, written};
    use crate::protocol::Reply;

    #[test]
    fn any_time_can_be_written() {
        assert_eq!(written(0), "1970-01-01T00:00:00Z");
        assert_eq!(written(1_790_000_000), "2026-09-21T14:13:20Z");
        assert_eq!(written(u64::MAX), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn a_sign_of_life_is_a_whole_line_before_anything_is_known() {
        let reply = OllamaReply::new(Shape { model: "m".to_owned(), ..Shape::default() });
        let expected = concat!(
            r#"{"model":"m","created_at":"1970-01-01T00:00:00Z","#,
            r#""message":{"role":"assistant","content":""},"done":false}"#,
            "\n"
        );
        assert_eq!(reply.keepalive(), expected);
    }
}
