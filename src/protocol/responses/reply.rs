//! Forwards the backend's events to the client.
//!
//! An event is sent as it is, with edits in place: members that the public API always has are added, the response
//! object gets the client's values, and events are numbered. Events for Codex clients are not edited. Output items are
//! kept, because the backend's terminal event may not list them (case `01-string-input`); an item that no event
//! completed is built from its deltas. Events with complete texts take precedence over deltas, so an unreadable delta
//! does no harm if one follows. A truncated response ends with `response.failed`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use serde_json::value::RawValue;

use super::event_defaults::with_defaults;
use super::raw_event::{EventMembers, RawEvent, object};
use super::response_echo::{Forwarding, ResponseEcho};
use crate::error::ProxyError;
use crate::protocol::codex::control::is_control_event;
use crate::protocol::codex::{UpstreamEvent, Usage};
use crate::protocol::json::compact;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::splice::Splice;
use crate::protocol::reply::assembler::{Assembler, Discard};
use crate::protocol::reply::finish::ReplyState;
use crate::protocol::stored_refs::{ConversationContext, ResponseIdentity, StoredResponse};
use crate::protocol::{Encoder, Reply, Sink, Summary};

/// The response object to send if the backend has sent none.
pub(super) const UNKNOWN_RESPONSE: &str =
    r#"{"id":"resp_unknown","object":"response","created_at":0,"status":"in_progress"}"#;

/// The number of events that precede those of the backend if the response runs in the background.
const QUEUED_EVENTS: u64 = 2;

/// An event for the client.
#[derive(Clone, Debug)]
pub struct Event<'e> {
    pub(super) kind: &'e str,
    pub(super) data: Splice<'e>,
    /// The JSON of the response object, if the reply ends with this event and did not fail.
    pub(super) response: Option<&'e str>,
}

/// The state of a response.
#[derive(Debug)]
pub struct ResponsesReply {
    pub(super) echo: ResponseEcho,
    /// Number of the next event.
    sequence_number: u64,
    /// The last response object of the backend.
    pub(super) response: Option<Box<RawValue>>,
    /// The JSON of completed items with defaults, by output index.
    pub(super) done_items: BTreeMap<u64, String>,
    /// The JSON of items that began and are not complete, with defaults, by output index.
    pub(super) open_items: BTreeMap<u64, String>,
    /// Follows the events, to rebuild items and to detect missing output.
    pub(super) assembler: Assembler,
    /// Names of the called tools as JSON, by output index.
    pub(super) call_names: BTreeMap<u64, String>,
    /// The output indexes of items that the client has interrupted.
    pub(super) interrupted_items: BTreeSet<u64>,
    /// The first event was sent: `response.created`, or `response.in_progress` of a response in the background.
    is_created: bool,
    /// The request's part of the stored response; `None` if the response isn't stored.
    pub(super) store_context: Option<ConversationContext>,
    /// The response to store, once it is complete.
    pub(super) stored: Option<StoredResponse>,
    pub(super) encoder: EventEncoder,
    pub(super) usage: Option<Usage>,
    /// Usage of the responses before this one, if the client has steered them.
    earlier_usage: Option<Usage>,
    /// Events may arrive after the end.
    expects_follow_up: bool,
    pub(super) state: ReplyState,
}

/// Encodes events as server-sent events. The document is the response object of the last event.
#[derive(Debug)]
pub struct EventEncoder {
    /// A stream that didn't fail ends with `[DONE]`.
    has_done_marker: bool,
    document: Option<String>,
}

impl EventEncoder {
    fn new(echo: &ResponseEcho) -> Self {
        Self { has_done_marker: echo.done_marker, document: None }
    }
}

impl Event<'_> {
    /// Writes the JSON of the event without framing.
    pub(super) fn write(&self, wire: &mut BytesMut) {
        self.data.write(wire);
    }
}

impl ResponsesReply {
    /// Creates the state of a response. With a `store_context`, the response is to be stored.
    #[must_use]
    pub fn new(echo: ResponseEcho, store_context: Option<ConversationContext>) -> Self {
        Self {
            encoder: EventEncoder::new(&echo),
            sequence_number: if echo.is_background { QUEUED_EVENTS } else { 0 },
            echo,
            response: None,
            done_items: BTreeMap::new(),
            open_items: BTreeMap::new(),
            assembler: Assembler::keeping_texts(),
            call_names: BTreeMap::new(),
            interrupted_items: BTreeSet::new(),
            is_created: false,
            store_context,
            stored: None,
            usage: None,
            earlier_usage: None,
            expects_follow_up: false,
            state: ReplyState::Open,
        }
    }

    /// The input to store with the response; empty if it isn't stored.
    #[must_use]
    pub fn into_stored_input(self) -> Vec<Box<RawValue>> {
        self.store_context.map(|context| context.input).unwrap_or_default()
    }

    /// The event to send on a WebSocket while the backend sends none; `None` if the client doesn't need one.
    #[must_use]
    pub fn keepalive_event(&self) -> Option<&'static str> {
        // Only events reset the idle timer of a Codex client.
        (self.echo.forwarding == Forwarding::Verbatim).then_some(r#"{"type":"keepalive"}"#)
    }

    fn handle(&mut self, event: &EventMembers<'_>, sink: &mut impl Sink<EventEncoder>) {
        match &*event.kind {
            "response.created" | "response.queued" | "response.in_progress" => self.handle_start(event, sink),
            "response.completed" => self.finish(event, "completed", sink),
            "response.incomplete" => self.finish(event, "incomplete", sink),
            "response.failed" | "error" => self.fail_with_event(event, sink),
            "response.output_item.added" => {
                self.record_added(event);
                self.forward(event, sink);
            }
            "response.output_item.done" => {
                self.forward(event, sink);
                self.record_done(event);
            }
            "response.output_item.interrupted" => {
                self.record_interrupted(event);
                self.forward(event, sink);
            }
            kind if is_control_event(kind) => {
                let data = with_defaults(event, &self.call_names);
                self.send(event, data, None, sink);
            }
            kind if self.is_forwarded(kind) => self.forward(event, sink),
            _ => {}
        }
    }

    /// Whether to forward an event of a type that needs no handling.
    fn is_forwarded(&self, kind: &str) -> bool {
        match self.echo.forwarding {
            Forwarding::Normalized => kind.starts_with("response.") && kind != "response.metadata",
            Forwarding::Verbatim => true,
        }
    }

    fn handle_start(&mut self, event: &EventMembers<'_>, sink: &mut impl Sink<EventEncoder>) {
        if self.echo.is_background {
            self.keep_response(event);
            return self.ensure_created(event.get("response"), sink);
        }
        if event.kind != "response.created" {
            self.ensure_created(event.get("response"), sink);
        }
        self.is_created = true;
        self.keep_response(event);
        let Some((raw, response)) = event.object("response") else { return self.forward(event, sink) };
        let response_json = self.echo.restore(&response, &[]);
        let mut data = with_defaults(event, &self.call_names);
        data.replace(raw, response_json);
        self.send(event, data, None, sink);
    }

    /// Sends `response.created`, unless it was sent or events are forwarded verbatim: the SDKs require it as the first
    /// event. `response` is the backend's response object, if known. A response in the background was created before,
    /// so its backend begins with `response.in_progress`.
    pub(super) fn ensure_created(&mut self, response: Option<&RawValue>, sink: &mut impl Sink<EventEncoder>) {
        if std::mem::replace(&mut self.is_created, true) || self.echo.forwarding == Forwarding::Verbatim {
            return;
        }
        let members = response.and_then(object).map(|(_, members)| members).unwrap_or_default();
        let unknown = RawObject::parse(UNKNOWN_RESPONSE).expect("a valid literal");
        let named = if members.get("id").is_some() { &members } else { &unknown };
        let initial = [("status", r#""in_progress""#), ("completed_at", "null"), ("output", "[]"), ("usage", "null")];
        let response_json = self.echo.restore(named, &initial);
        let kind = if self.echo.is_background { "response.in_progress" } else { "response.created" };
        self.send_own(kind, &format!(r#""response":{response_json}"#), sink);
    }

    /// Sends an event that the backend didn't send.
    pub(super) fn send_own(&mut self, kind: &str, members: &str, sink: &mut impl Sink<EventEncoder>) {
        let number = self.next_number();
        let text = format!(r#"{{"type":"{kind}",{members},"sequence_number":{number}}}"#);
        sink.put(&mut self.encoder, &Event { kind, data: Splice::new(&text), response: None });
    }

    fn forward(&mut self, event: &EventMembers<'_>, sink: &mut impl Sink<EventEncoder>) {
        self.ensure_created(None, sink);
        self.assembler.accept(UpstreamEvent::of_members(event.all(), event.text), &mut Discard);
        let data = with_defaults(event, &self.call_names);
        self.send(event, data, None, sink);
    }

    /// Sends an event of the backend with the edits in `data` and a number; without edits if it is forwarded verbatim.
    pub(super) fn send<'e>(
        &mut self,
        event: &'e EventMembers<'_>,
        mut data: Splice<'e>,
        response: Option<&'e str>,
        sink: &mut impl Sink<EventEncoder>,
    ) {
        let number = self.next_number().to_string();
        match (self.echo.forwarding, event.get("sequence_number")) {
            (Forwarding::Verbatim, _) => data = Splice::new(event.text),
            (Forwarding::Normalized, Some(old)) => data.replace(old, number),
            (Forwarding::Normalized, None) => data.add(event.text, format!(r#""sequence_number":{number}"#)),
        }
        sink.put(&mut self.encoder, &Event { kind: &event.kind, data, response });
    }

    pub(super) fn next_number(&mut self) -> u64 {
        self.sequence_number += 1;
        self.sequence_number - 1
    }

    fn keep_response(&mut self, event: &EventMembers<'_>) {
        if let Some((raw, _)) = event.object("response") {
            self.response = Some(raw.to_owned());
        }
    }

    fn record_added(&mut self, event: &EventMembers<'_>) {
        let (Some(index), Some((item, members))) = (event.output_index(), event.object("item")) else { return };
        if let Some(name) = members.get("name") {
            self.call_names.insert(index, name.get().to_owned());
        }
        self.open_items.insert(index, with_defaults(event, &self.call_names).part(item.get()).into_owned());
    }

    fn record_done(&mut self, event: &EventMembers<'_>) {
        let Some((item, _)) = event.object("item") else { return };
        let item = with_defaults(event, &self.call_names).part(item.get()).into_owned();
        let index = event.output_index().unwrap_or_else(|| self.next_index());
        self.open_items.remove(&index);
        self.done_items.insert(index, item);
    }

    /// Discards an item that the client has interrupted: it is not part of the response.
    fn record_interrupted(&mut self, event: &EventMembers<'_>) {
        if let Some(index) = event.output_index() {
            self.open_items.remove(&index);
            self.interrupted_items.insert(index);
        }
    }

    /// Begins the response that the backend starts by itself after the client has steered the one that has ended.
    fn begin_successor(&mut self) {
        let next = Self::new(self.echo.clone(), None);
        let ended = std::mem::replace(self, next);
        self.earlier_usage = ended.summary().usage;
        self.stored = ended.stored;
    }

    /// The output index for an item without one.
    pub(super) fn next_index(&self) -> u64 {
        self.done_items.last_key_value().map_or(0, |(last, _)| last + 1)
    }
}

impl Reply for ResponsesReply {
    type Upstream<'u> = RawEvent<'u>;
    type Encoder = EventEncoder;

    fn keepalive(&self) -> Bytes {
        Bytes::from_static(match self.echo.forwarding {
            Forwarding::Normalized => b": keepalive\n\n",
            Forwarding::Verbatim => b"event: keepalive\ndata: {\"type\":\"keepalive\"}\n\n",
        })
    }

    fn on_commit(&mut self, _sink: &mut impl Sink<EventEncoder>) {}

    fn on_event(&mut self, event: RawEvent<'_>, sink: &mut impl Sink<EventEncoder>) {
        if self.is_finished() {
            match &event {
                RawEvent::Event(event) if self.expects_follow_up && event.kind == "response.created" => {
                    self.begin_successor();
                }
                RawEvent::Event(event) if self.expects_follow_up && is_control_event(&event.kind) => {}
                _ => return,
            }
        }
        match event {
            RawEvent::Event(event) => self.handle(&event, sink),
            RawEvent::Ignored => {}
            RawEvent::Malformed(data) => self.assembler.items.note_unreadable(data),
        }
    }

    fn on_end(&mut self, cut: Option<ProxyError>, sink: &mut impl Sink<EventEncoder>) {
        if self.is_finished() && self.expects_follow_up && cut.is_some() {
            // The response that was to follow has failed.
            self.begin_successor();
        }
        if !self.is_finished() {
            self.fail(cut.unwrap_or(ProxyError::Truncated { cause: None }), sink);
        }
    }

    fn is_finished(&self) -> bool {
        !self.state.is_open()
    }

    fn expect_follow_up(&mut self) {
        self.expects_follow_up = true;
    }

    fn failure(&self) -> Option<&ProxyError> {
        self.state.failure()
    }

    fn queued_object(&self, identity: impl FnOnce() -> ResponseIdentity) -> Option<(ResponseIdentity, String)> {
        if !self.echo.is_background {
            return None;
        }
        let identity = identity();
        let echo = self.echo.clone().in_background(Some(identity.clone()));
        Some((identity, echo.restore(&RawObject::default(), &[("status", r#""queued""#)])))
    }

    fn restarted(self) -> Self {
        Self::new(self.echo, self.store_context)
    }

    fn document(self) -> Result<Bytes, ProxyError> {
        self.state.into_result()?;
        self.encoder.document.map(Bytes::from).ok_or(ProxyError::Truncated { cause: None })
    }

    fn summary(&self) -> Summary {
        let usage = self.earlier_usage.into_iter().chain(self.usage).reduce(Usage::plus);
        Summary { usage, outcome: self.state.outcome() }
    }

    fn take_stored_response(&mut self) -> Option<StoredResponse> {
        self.stored.take()
    }
}

impl Encoder for EventEncoder {
    type Event<'e> = Event<'e>;

    fn encode(&mut self, event: &Event<'_>, wire: &mut BytesMut) {
        wire.extend_from_slice(b"event: ");
        wire.extend_from_slice(event.kind.as_bytes());
        wire.extend_from_slice(b"\ndata: ");
        let start = wire.len();
        event.write(wire);
        if memchr::memchr2(b'\n', b'\r', wire.get(start..).unwrap_or_default()).is_some() {
            // A line break between tokens would end the `data` line.
            let json = String::from_utf8_lossy(&wire.split_off(start)).into_owned();
            wire.extend_from_slice(compact(&json).as_bytes());
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
