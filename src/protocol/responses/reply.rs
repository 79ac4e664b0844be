//! The machine that passes the backend's events on.
//!
//! An event goes out as it came, but for edits in place: what the public API always has is put
//! back, the response object gets its client's own values, numbers are ours. Items are kept as they
//! are done, since the terminal event lists none of them (case `01-string-input`). An answer that was cut
//! ends in `response.failed`, never in silence.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use serde_json::value::RawValue;

use super::error;
use super::incoming::{Incoming, Members, list, object, text, usage};
use super::repair::{mended, whole};
use super::restore::{Manner, Shape};
use super::told::Told;
use crate::error::ProxyError;
use crate::protocol::codex::{Usage, failure};
use crate::protocol::conversation::json::compact;
use crate::protocol::envelope::Envelope;
use crate::protocol::memory::{Audience, Memory};
use crate::protocol::splice::Splice;
use crate::protocol::{Reply, Sink, Summary, openai_error};

/// The response of an answer that never said what it is.
const NAMELESS: &str = r#"{"id":"resp_unknown","object":"response","created_at":0,"status":"in_progress"}"#;

/// An event for the client.
#[derive(Clone, Debug)]
pub struct Event<'e> {
    pub(super) kind: &'e str,
    data: Splice<'e>,
    /// The response object, where the answer ends with it.
    response: Option<&'e str>,
}

/// What is kept with an answer beside itself.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// The conversation before it.
    pub input: Vec<Box<RawValue>>,
    /// The prompt cache key of the conversation.
    pub cache_key: String,
    /// Who may go on from it.
    pub audience: Audience,
}

/// The state of one answer.
#[derive(Debug)]
pub struct ResponsesReply {
    shape: Shape,
    sequence_number: u64,
    /// The response object as the backend last had it.
    response: Option<Box<RawValue>>,
    /// Items that are done, mended, by output index.
    items: BTreeMap<u64, String>,
    /// Items that have begun.
    begun: BTreeSet<u64>,
    /// Names of the tools that are called, as JSON.
    names: BTreeMap<u64, String>,
    told: Told,
    is_created: bool,
    draft: Option<Draft>,
    memory: Option<Memory>,
    document: Option<String>,
    usage: Option<Usage>,
    state: State,
}

#[derive(Debug)]
enum State {
    Open,
    Finished(&'static str),
    Failed(ProxyError),
}

impl Event<'_> {
    /// Writes the event as JSON, bare of any framing.
    pub(super) fn write(&self, wire: &mut BytesMut) {
        self.data.write(wire);
    }
}

impl ResponsesReply {
    /// A machine for an answer of this shape; with a draft, the answer is to be kept.
    #[must_use]
    pub fn new(shape: Shape, draft: Option<Draft>) -> Self {
        Self {
            shape,
            sequence_number: 0,
            response: None,
            items: BTreeMap::new(),
            begun: BTreeSet::new(),
            names: BTreeMap::new(),
            told: Told::default(),
            is_created: false,
            draft,
            memory: None,
            document: None,
            usage: None,
            state: State::Open,
        }
    }

    /// The event that shows a client in a silence that it is not forgotten, where it needs one.
    #[must_use]
    pub fn sign_of_life(&self) -> Option<&'static str> {
        // Its idle timer takes no notice of anything but events.
        (self.shape.manner == Manner::Untouched).then_some(r#"{"type":"keepalive"}"#)
    }

    fn take(&mut self, event: &Members<'_>, sink: &mut impl Sink<Self>) {
        match &*event.kind {
            "response.created" | "response.queued" | "response.in_progress" => self.begin(event, sink),
            "response.completed" => self.finish(event, "completed", sink),
            "response.incomplete" => self.finish(event, "incomplete", sink),
            "response.failed" | "error" => self.fail_upstream(event, sink),
            "response.output_item.added" => {
                self.note_begun(event);
                self.pass(event, sink);
            }
            "response.output_item.done" => {
                self.pass(event, sink);
                self.note_done(event);
            }
            kind if self.passes(kind) => self.pass(event, sink),
            _ => {}
        }
    }

    /// Whether an event that is not about the answer's beginning, items or end is the client's business.
    fn passes(&self, kind: &str) -> bool {
        match self.shape.manner {
            Manner::Restored => kind.starts_with("response.") && kind != "response.metadata",
            Manner::Untouched => true,
        }
    }

    fn begin(&mut self, event: &Members<'_>, sink: &mut impl Sink<Self>) {
        if event.kind != "response.created" {
            self.open(event.get("response"), sink);
        }
        self.is_created = true;
        self.keep_response(event);
        let Some((raw, response)) = event.object("response") else { return self.pass(event, sink) };
        let restored = self.shape.restore(&response, &[]);
        let mut data = mended(event, &self.names);
        data.replace(raw, restored);
        self.send(event, data, None, sink);
    }

    /// SDKs insist that an answer begins with `response.created`.
    fn open(&mut self, response: Option<&RawValue>, sink: &mut impl Sink<Self>) {
        if std::mem::replace(&mut self.is_created, true) || self.shape.manner == Manner::Untouched {
            return;
        }
        let members = response.and_then(object).map(|(_, members)| members).unwrap_or_default();
        let nameless = Envelope::parse(NAMELESS).expect("it is JSON");
        let named = if members.get("id").is_some() { &members } else { &nameless };
        let nothing = [("status", r#""in_progress""#), ("completed_at", "null"), ("output", "[]"), ("usage", "null")];
        let restored = self.shape.restore(named, &nothing);
        self.make("response.created", &restored, sink);
    }

    /// Sends an event of our own about the response.
    fn make(&mut self, kind: &str, response: &str, sink: &mut impl Sink<Self>) {
        let number = self.next_number();
        let text = format!(r#"{{"type":"{kind}","response":{response},"sequence_number":{number}}}"#);
        sink.put(self, &Event { kind, data: Splice::new(&text), response: None });
    }

    fn pass(&mut self, event: &Members<'_>, sink: &mut impl Sink<Self>) {
        self.open(None, sink);
        self.told.note(event);
        let data = mended(event, &self.names);
        self.send(event, data, None, sink);
    }

    fn send<'e>(
        &mut self,
        event: &'e Members<'_>,
        mut data: Splice<'e>,
        response: Option<&'e str>,
        sink: &mut impl Sink<Self>,
    ) {
        let number = self.next_number().to_string();
        match (self.shape.manner, event.get("sequence_number")) {
            (Manner::Untouched, _) => data = Splice::new(event.text),
            (Manner::Restored, Some(old)) => data.replace(old, number),
            (Manner::Restored, None) => data.add(event.text, format!(r#""sequence_number":{number}"#)),
        }
        sink.put(self, &Event { kind: &event.kind, data, response });
    }

    fn next_number(&mut self) -> u64 {
        self.sequence_number += 1;
        self.sequence_number - 1
    }

    fn keep_response(&mut self, event: &Members<'_>) {
        if let Some((raw, _)) = event.object("response") {
            self.response = Some(raw.to_owned());
        }
    }

    fn note_begun(&mut self, event: &Members<'_>) {
        let Some(index) = event.output_index() else { return };
        self.begun.insert(index);
        if let Some(name) = event.object("item").and_then(|(_, item)| item.get("name")) {
            self.names.insert(index, name.get().to_owned());
        }
    }

    fn note_done(&mut self, event: &Members<'_>) {
        let Some((item, _)) = event.object("item") else { return };
        let next = self.items.last_key_value().map_or(0, |(last, _)| last + 1);
        let item = mended(event, &self.names).part(item.get()).into_owned();
        self.items.insert(event.output_index().unwrap_or(next), item);
    }

    fn finish(&mut self, event: &Members<'_>, status: &'static str, sink: &mut impl Sink<Self>) {
        let response = event.get("response");
        self.open(response, sink);
        let members = response.and_then(object).map(|(_, members)| members).unwrap_or_default();
        self.usage = usage(&members);
        let own = list(&members, "output");
        if status == "completed"
            && self.shape.manner == Manner::Restored
            && let Some(damage) = self.damage(own.len())
        {
            return self.cut(damage, sink);
        }
        let output = self.output(&own);
        let restored = self.shape.restore(&members, &[("output", &output)]);
        self.keep(&members, &output, &restored);
        self.close(event, &restored, State::Finished(status), sink);
    }

    /// Keeps the answer for requests that go on from it.
    fn keep(&mut self, response: &Envelope<'_>, output: &str, restored: &str) {
        let Some(Draft { input, cache_key, audience }) = self.draft.take() else { return };
        let Some(id) = text(response, "id") else { return };
        let output: Vec<Box<RawValue>> = serde_json::from_str(output).unwrap_or_default();
        let (id, response) = (id.into_owned(), restored.to_owned());
        self.memory = Some(Memory { id, input, output, response, cache_key, audience });
    }

    /// Sends the terminal event with the response as the client gets it.
    fn close(&mut self, event: &Members<'_>, restored: &str, state: State, sink: &mut impl Sink<Self>) {
        let mut data = mended(event, &self.names);
        match event.get("response") {
            Some(raw) => data.replace(raw, restored.to_owned()),
            None => data.add(event.text, format!(r#""response":{restored}"#)),
        }
        if let Some(old) = event.get("type").filter(|kind| kind.get() == r#""response.done""#) {
            data.replace(old, r#""response.completed""#);
        }
        self.state = state;
        self.send(event, data, Some(restored), sink);
    }

    /// The items of the answer: the backend's own list, or those that came, where it has fewer.
    fn output(&self, own: &[&RawValue]) -> String {
        let items: Vec<String> = if own.len() < self.items.len() || own.is_empty() {
            self.items.values().cloned().collect()
        } else {
            own.iter().map(|item| whole(item)).collect()
        };
        format!("[{}]", items.join(","))
    }

    /// What makes an answer useless that the backend takes for whole.
    fn damage(&self, own: usize) -> Option<ProxyError> {
        let has_all_items = own >= self.begun.len() || self.begun.iter().all(|index| self.items.contains_key(index));
        let is_lost = self.told.is_missing() || (self.told.has_gap() && !has_all_items);
        let has_output = self.usage.is_some_and(|usage| usage.output_tokens > usage.reasoning_tokens);
        let reason = if is_lost {
            "an event could not be read, and what it held did not come again"
        } else if has_output && own == 0 && self.items.is_empty() {
            "output tokens were spent and no output arrived"
        } else {
            return None;
        };
        Some(ProxyError::Damaged { reason: reason.to_owned() })
    }

    /// Ends the answer with the backend's own failure.
    fn fail_upstream(&mut self, event: &Members<'_>, sink: &mut impl Sink<Self>) {
        let failure = failure::from_event(event.text);
        let code = openai_error::code(&ProxyError::Upstream(Box::new(failure.clone())));
        if self.shape.manner == Manner::Untouched {
            self.send(event, Splice::new(event.text), None, sink);
        } else if event.kind == "error" {
            let text = error::flat(&failure, &code, self.next_number());
            sink.put(self, &Event { kind: "error", data: Splice::new(&text), response: None });
        } else {
            self.open(event.get("response"), sink);
            let members = event.object("response").map(|(_, members)| members).unwrap_or_default();
            let output = self.output(&list(&members, "output"));
            let why = failure::has_markup(event.text).then(|| error::of_failure(&failure, &code));
            let set: Vec<_> = why.iter().map(|why| ("error", why.as_str())).chain([("output", &*output)]).collect();
            let restored = self.shape.restore(&members, &set);
            self.close(event, &restored, State::Open, sink);
        }
        self.state = State::Failed(ProxyError::Upstream(Box::new(failure)));
    }

    /// Ends the answer by our own word, with the response as it last was.
    fn cut(&mut self, cause: ProxyError, sink: &mut impl Sink<Self>) {
        self.open(None, sink);
        let last = self.response.take();
        let last = last.as_deref().map_or(NAMELESS, RawValue::get);
        let members = Envelope::parse(last).unwrap_or_default();
        let (why, output) = (error::of_cut(&cause), self.output(&[]));
        let set = [("status", r#""failed""#), ("error", why.as_str()), ("output", output.as_str())];
        let restored = self.shape.restore(&members, &set);
        self.make("response.failed", &restored, sink);
        self.state = State::Failed(cause);
    }
}

impl Reply for ResponsesReply {
    type Upstream<'u> = Incoming<'u>;
    type Event<'e> = Event<'e>;

    fn keepalive(&self) -> Bytes {
        Bytes::from_static(match self.shape.manner {
            Manner::Restored => b": keepalive\n\n",
            Manner::Untouched => b"event: keepalive\ndata: {\"type\":\"keepalive\"}\n\n",
        })
    }

    fn on_commit(&mut self, _sink: &mut impl Sink<Self>) {}

    fn on_event(&mut self, event: Incoming<'_>, sink: &mut impl Sink<Self>) {
        if self.is_finished() {
            return;
        }
        match event {
            Incoming::Event(event) => self.take(&event, sink),
            Incoming::Nothing => {}
            Incoming::Malformed => self.told.note_gap(),
        }
    }

    fn on_end(&mut self, cut: Option<ProxyError>, sink: &mut impl Sink<Self>) {
        if !self.is_finished() {
            self.cut(cut.unwrap_or(ProxyError::Truncated { cause: None }), sink);
        }
    }

    fn is_finished(&self) -> bool {
        !matches!(self.state, State::Open)
    }

    fn encode(&self, event: &Event<'_>, wire: &mut BytesMut) {
        wire.extend_from_slice(b"event: ");
        wire.extend_from_slice(event.kind.as_bytes());
        wire.extend_from_slice(b"\ndata: ");
        let start = wire.len();
        event.write(wire);
        if memchr::memchr2(b'\n', b'\r', wire.get(start..).unwrap_or_default()).is_some() {
            // White space of the backend's that would end the line of an event.
            let whole = String::from_utf8_lossy(&wire.split_off(start)).into_owned();
            wire.extend_from_slice(compact(&whole).as_bytes());
        }
        wire.extend_from_slice(b"\n\n");
        if self.shape.done_marker && matches!(self.state, State::Finished(_)) {
            wire.extend_from_slice(b"data: [DONE]\n\n");
        }
    }

    fn absorb(&mut self, event: &Event<'_>) {
        self.document = event.response.map(str::to_owned);
    }

    fn document(self) -> Result<Bytes, ProxyError> {
        match (self.state, self.document) {
            (State::Failed(error), _) => Err(error),
            (State::Finished(_), Some(document)) => Ok(Bytes::from(document)),
            (State::Finished(_) | State::Open, _) => Err(ProxyError::Truncated { cause: None }),
        }
    }

    fn summary(&self) -> Summary {
        let outcome = match &self.state {
            State::Open => String::new(),
            State::Finished(status) => (*status).to_owned(),
            State::Failed(error) => openai_error::code(error),
        };
        Summary { usage: self.usage, outcome }
    }

    fn memory(&mut self) -> Option<Memory> {
        self.memory.take()
    }
}
