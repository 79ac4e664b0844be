//! The machine that passes the backend's events on.
//!
//! An event goes out as it came, but for edits in place: what the public API always has is put
//! back, the response object gets its client's own values, numbers are ours. ItemTable are kept as they
//! are done, since the terminal event lists none of them (case `01-string-input`); an item that no event
//! ended is made of its deltas. What the events that carry whole texts say decides, so a delta that could not be read
//! does no harm. An answer that was cut ends in `response.failed`, never in silence.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use serde_json::value::RawValue;

use super::event_defaults::mended;
use super::raw_event::{Incoming, Members, object};
use super::response_echo::{Manner, Shape};
use crate::error::ProxyError;
use crate::protocol::codex::{UpstreamEvent, Usage};
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::splice::Splice;
use crate::protocol::reply::assembler::{Assembler, Discard};
use crate::protocol::reply::finish::ReplyState;
use crate::protocol::stored_refs::{ConversationContext, StoredResponse};
use crate::protocol::upstream_input::json::compact;
use crate::protocol::{Encoder, Reply, Sink, Summary};

/// The response of an answer that never said what it is.
pub(super) const NAMELESS: &str = r#"{"id":"resp_unknown","object":"response","created_at":0,"status":"in_progress"}"#;

/// An event for the client.
#[derive(Clone, Debug)]
pub struct Event<'e> {
    pub(super) kind: &'e str,
    pub(super) data: Splice<'e>,
    /// The response object, if the reply ends with this event and did not fail.
    pub(super) response: Option<&'e str>,
}

/// The state of one answer.
#[derive(Debug)]
pub struct ResponsesReply {
    pub(super) shape: Shape,
    sequence_number: u64,
    /// The response object as the backend last had it.
    pub(super) response: Option<Box<RawValue>>,
    /// ItemTable that are done, mended, by output index.
    pub(super) done: BTreeMap<u64, String>,
    /// ItemTable that have begun and are not done, mended, by output index.
    pub(super) begun: BTreeMap<u64, String>,
    pub(super) assembler: Assembler,
    /// Names of the tools that are called, as JSON.
    pub(super) names: BTreeMap<u64, String>,
    is_created: bool,
    pub(super) draft: Option<ConversationContext>,
    pub(super) memory: Option<StoredResponse>,
    pub(super) encoder: EventEncoder,
    pub(super) usage: Option<Usage>,
    pub(super) state: ReplyState,
}

/// Encodes events in the framing of server-sent events, and keeps the response object of the last one.
#[derive(Debug)]
pub struct EventEncoder {
    /// A complete stream ends with `[DONE]`.
    has_done_marker: bool,
    document: Option<String>,
}

impl EventEncoder {
    fn new(shape: &Shape) -> Self {
        Self { has_done_marker: shape.done_marker, document: None }
    }
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
    pub fn new(shape: Shape, draft: Option<ConversationContext>) -> Self {
        Self {
            encoder: EventEncoder::new(&shape),
            shape,
            sequence_number: 0,
            response: None,
            done: BTreeMap::new(),
            begun: BTreeMap::new(),
            assembler: Assembler::keeping_texts(),
            names: BTreeMap::new(),
            is_created: false,
            draft,
            memory: None,
            usage: None,
            state: ReplyState::Open,
        }
    }

    /// The event that shows a client in a silence that it is not forgotten, where it needs one.
    #[must_use]
    pub fn sign_of_life(&self) -> Option<&'static str> {
        // Its idle timer takes no notice of anything but events.
        (self.shape.manner == Manner::Untouched).then_some(r#"{"type":"keepalive"}"#)
    }

    fn take(&mut self, event: &Members<'_>, sink: &mut impl Sink<EventEncoder>) {
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

    fn begin(&mut self, event: &Members<'_>, sink: &mut impl Sink<EventEncoder>) {
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
    pub(super) fn open(&mut self, response: Option<&RawValue>, sink: &mut impl Sink<EventEncoder>) {
        if std::mem::replace(&mut self.is_created, true) || self.shape.manner == Manner::Untouched {
            return;
        }
        let members = response.and_then(object).map(|(_, members)| members).unwrap_or_default();
        let nameless = RawObject::parse(NAMELESS).expect("it is JSON");
        let named = if members.get("id").is_some() { &members } else { &nameless };
        let nothing = [("status", r#""in_progress""#), ("completed_at", "null"), ("output", "[]"), ("usage", "null")];
        let restored = self.shape.restore(named, &nothing);
        self.make("response.created", &format!(r#""response":{restored}"#), sink);
    }

    /// Sends an event of our own.
    pub(super) fn make(&mut self, kind: &str, members: &str, sink: &mut impl Sink<EventEncoder>) {
        let number = self.next_number();
        let text = format!(r#"{{"type":"{kind}",{members},"sequence_number":{number}}}"#);
        sink.put(&mut self.encoder, &Event { kind, data: Splice::new(&text), response: None });
    }

    fn pass(&mut self, event: &Members<'_>, sink: &mut impl Sink<EventEncoder>) {
        self.open(None, sink);
        self.assembler.accept(UpstreamEvent::of_members(event.all(), event.text), &mut Discard);
        let data = mended(event, &self.names);
        self.send(event, data, None, sink);
    }

    pub(super) fn send<'e>(
        &mut self,
        event: &'e Members<'_>,
        mut data: Splice<'e>,
        response: Option<&'e str>,
        sink: &mut impl Sink<EventEncoder>,
    ) {
        let number = self.next_number().to_string();
        match (self.shape.manner, event.get("sequence_number")) {
            (Manner::Untouched, _) => data = Splice::new(event.text),
            (Manner::Restored, Some(old)) => data.replace(old, number),
            (Manner::Restored, None) => data.add(event.text, format!(r#""sequence_number":{number}"#)),
        }
        sink.put(&mut self.encoder, &Event { kind: &event.kind, data, response });
    }

    pub(super) fn next_number(&mut self) -> u64 {
        self.sequence_number += 1;
        self.sequence_number - 1
    }

    fn keep_response(&mut self, event: &Members<'_>) {
        if let Some((raw, _)) = event.object("response") {
            self.response = Some(raw.to_owned());
        }
    }

    fn note_begun(&mut self, event: &Members<'_>) {
        let (Some(index), Some((item, members))) = (event.output_index(), event.object("item")) else { return };
        if let Some(name) = members.get("name") {
            self.names.insert(index, name.get().to_owned());
        }
        self.begun.insert(index, mended(event, &self.names).part(item.get()).into_owned());
    }

    fn note_done(&mut self, event: &Members<'_>) {
        let Some((item, _)) = event.object("item") else { return };
        let item = mended(event, &self.names).part(item.get()).into_owned();
        let index = event.output_index().unwrap_or_else(|| self.next_index());
        self.begun.remove(&index);
        self.done.insert(index, item);
    }

    /// The output index of an item that has none.
    pub(super) fn next_index(&self) -> u64 {
        self.done.last_key_value().map_or(0, |(last, _)| last + 1)
    }
}

impl Reply for ResponsesReply {
    type Upstream<'u> = Incoming<'u>;
    type Encoder = EventEncoder;

    fn keepalive(&self) -> Bytes {
        Bytes::from_static(match self.shape.manner {
            Manner::Restored => b": keepalive\n\n",
            Manner::Untouched => b"event: keepalive\ndata: {\"type\":\"keepalive\"}\n\n",
        })
    }

    fn on_commit(&mut self, _sink: &mut impl Sink<EventEncoder>) {}

    fn on_event(&mut self, event: Incoming<'_>, sink: &mut impl Sink<EventEncoder>) {
        if self.is_finished() {
            return;
        }
        match event {
            Incoming::Event(event) => self.take(&event, sink),
            Incoming::Nothing => {}
            Incoming::Malformed(data) => self.assembler.items.note_unreadable(data),
        }
    }

    fn on_end(&mut self, cut: Option<ProxyError>, sink: &mut impl Sink<EventEncoder>) {
        if !self.is_finished() {
            self.cut(cut.unwrap_or(ProxyError::Truncated { cause: None }), sink);
        }
    }

    fn is_finished(&self) -> bool {
        !self.state.is_open()
    }

    fn failure(&self) -> Option<&ProxyError> {
        self.state.failure()
    }

    fn restarted(self) -> Self {
        Self::new(self.shape, self.draft)
    }

    fn document(self) -> Result<Bytes, ProxyError> {
        self.state.into_result()?;
        self.encoder.document.map(Bytes::from).ok_or(ProxyError::Truncated { cause: None })
    }

    fn summary(&self) -> Summary {
        Summary { usage: self.usage, outcome: self.state.outcome() }
    }

    fn take_stored_response(&mut self) -> Option<StoredResponse> {
        self.memory.take()
    }
}

impl Encoder for EventEncoder {
    type Event<'e> = Event<'e>;

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
        if self.has_done_marker && event.response.is_some() {
            wire.extend_from_slice(b"data: [DONE]\n\n");
        }
    }

    fn absorb(&mut self, event: &Event<'_>) {
        self.document = event.response.map(str::to_owned);
    }
}
