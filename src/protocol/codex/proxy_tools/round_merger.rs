//! Joins the responses of several rounds to one response for the client.
//!
//! Events are forwarded unchanged if possible. Items are numbered across rounds, `id` and `created_at` are those of the
//! first round, and `usage` is the sum of all rounds. A call of a proxy tool becomes the item of the hosted tool. The
//! terminal event of a round with such calls is held back, so that the caller can run them: it passes each result to
//! [`RoundMerger::finish_call`], in any order, then calls [`RoundMerger::record_outputs`], and either continues with
//! [`RoundMerger::begin_round`] or ends the response with [`RoundMerger::release_end`].

mod ending;
mod event_numbers;
mod message_citations;
mod results;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::value::RawValue;

use super::ProxyTool;
use super::call::{HiddenItems, ProxyCall};
use super::citations::Citations;
use crate::protocol::codex::{JsonUsageSum, Usage, event};
use crate::protocol::json::quoted;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::splice::Splice;
use ending::RoundEnd;
use event_numbers::EventNumbers;

/// The events that the client gets in place of one of the backend's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merged {
    /// The same event.
    Unchanged,
    /// These events; none if the event is held back or dropped.
    Events(Vec<String>),
}

/// The state of a response that may consist of several rounds.
#[derive(Debug)]
pub struct RoundMerger {
    tools: Vec<ProxyTool>,
    is_first_round: bool,
    numbers: EventNumbers,
    /// Position of the round's first item in the client's response.
    base: u64,
    /// Position after the last item so far.
    next_index: u64,
    /// The first round's `id` and `created_at`, as JSON.
    identity: [Option<Box<RawValue>>; 2],
    usage: JsonUsageSum,
    citations: Citations,
    /// The events that complete the latest message, if it may be the last one.
    held: Vec<String>,
    /// Calls of the round that have begun, by position in the client's response.
    begun: BTreeMap<u64, BegunCall>,
    /// The complete calls of the round.
    calls: Vec<ProxyCall>,
    /// Whether the round calls tools of the client.
    has_client_calls: bool,
    /// The completed items of the round as the backend sent them, by position in the client's response.
    items: BTreeMap<u64, Box<RawValue>>,
    /// The outputs of the round's calls that have ended, by position in the client's response.
    results: BTreeMap<u64, String>,
    /// The outputs of the round's calls, as input items of the next request.
    outputs: Vec<Box<RawValue>>,
    /// The calls of all rounds with their outputs, until the caller takes them.
    hidden: Vec<HiddenItems>,
    /// The terminal event of the round, if it was held back.
    end: Option<String>,
}

/// A call whose item has begun.
#[derive(Debug)]
struct BegunCall {
    tool: ProxyTool,
    /// The backend's id of the item.
    backend_id: Option<String>,
    /// The id of the client's item.
    item_id: String,
}

/// An event and its members.
struct Event<'e> {
    kind: &'e str,
    text: &'e str,
    members: RawObject<'e>,
}

/// The first members of a response object, which stay the same in all rounds.
const IDENTITY: [&str; 2] = ["id", "created_at"];

impl RoundMerger {
    /// Creates the state of a response that may call these tools, before its first round.
    #[must_use]
    pub fn new(tools: Vec<ProxyTool>) -> Self {
        Self {
            tools,
            is_first_round: true,
            numbers: EventNumbers::default(),
            base: 0,
            next_index: 0,
            identity: [None, None],
            usage: JsonUsageSum::default(),
            citations: Citations::default(),
            held: Vec::new(),
            begun: BTreeMap::new(),
            calls: Vec::new(),
            has_client_calls: false,
            items: BTreeMap::new(),
            results: BTreeMap::new(),
            outputs: Vec::new(),
            hidden: Vec::new(),
            end: None,
        }
    }

    /// Accepts the next event of the round.
    pub fn accept(&mut self, data: &str) -> Merged {
        let Some(kind) = event::kind(data.as_bytes()) else { return Merged::Unchanged };
        let is_delta = kind.ends_with(".delta") && (kind != CALL_DELTA || self.begun.is_empty());
        if is_delta && self.is_first_round && !self.numbers.has_changed() {
            self.numbers.count();
            return Merged::Unchanged;
        }
        let text = data.trim();
        let Ok(members) = RawObject::parse(text) else { return Merged::Unchanged };
        let event = Event { kind: &kind, text, members };
        if self.hold(&event) {
            return self.record_held(&event);
        }
        let mut released = self.release_held(&event);
        match self.merge(&event) {
            merged if released.is_empty() => merged,
            Merged::Unchanged => {
                released.push(data.to_owned());
                Merged::Events(released)
            }
            Merged::Events(events) => {
                released.extend(events);
                Merged::Events(released)
            }
        }
    }

    fn merge(&mut self, event: &Event<'_>) -> Merged {
        match event.kind {
            "response.created" | "response.queued" | "response.in_progress" => self.start(event),
            "response.output_item.added" => self.item_added(event),
            "response.output_item.done" => self.item_done(event),
            CALL_DELTA | "response.function_call_arguments.done" if self.is_of_call(event) => self.dropped(),
            "response.output_text.annotation.added" => {
                self.citations.note_annotated(self.part_of(event));
                self.passed(event)
            }
            kind => match RoundEnd::of(kind) {
                Some(end) => self.ended(event, end),
                None => self.passed(event),
            },
        }
    }

    /// The calls to run, if the round has ended and its terminal event was held back.
    #[must_use]
    pub fn ended_with_calls(&self) -> Option<&[ProxyCall]> {
        self.end.is_some().then_some(&self.calls)
    }

    /// Whether the round also calls tools of the client, and the response has to end with this round.
    #[must_use]
    pub fn has_client_calls(&self) -> bool {
        self.has_client_calls
    }

    /// Begins the next round.
    pub fn begin_round(&mut self) {
        self.is_first_round = false;
        self.base = self.next_index;
        self.begun.clear();
        self.calls.clear();
        self.items.clear();
        self.results.clear();
        self.outputs.clear();
        self.end = None;
    }

    /// Returns the client's terminal event, if that of the round was held back.
    pub fn release_end(&mut self) -> Option<String> {
        let end = self.end.take()?;
        let members = RawObject::parse(&end).ok()?;
        Some(self.terminal_event(&end, &members))
    }

    /// The usage of the rounds that have ended; `None` if they reported none.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.usage.usage()
    }

    /// Returns the calls of the response with their outputs, for a request that continues it.
    pub fn take_hidden(&mut self) -> Vec<HiddenItems> {
        std::mem::take(&mut self.hidden)
    }

    fn start(&mut self, event: &Event<'_>) -> Merged {
        if !self.is_first_round {
            return self.dropped();
        }
        if let Some(response) = event.members.get("response").and_then(|response| RawObject::parse(response.get()).ok())
        {
            for (known, name) in self.identity.iter_mut().zip(IDENTITY) {
                *known = known.take().or_else(|| response.get(name).map(ToOwned::to_owned));
            }
        }
        self.passed(event)
    }

    fn item_added(&mut self, event: &Event<'_>) -> Merged {
        let index = self.index_of(event);
        let Some(item) = event.members.get("item").and_then(|item| RawObject::parse(item.get()).ok()) else {
            return self.passed(event);
        };
        self.next_index = self.next_index.max(index + 1);
        let Some(tool) = self.tools.iter().find(|tool| tool.is_called_by(&item)).cloned() else {
            return self.passed(event);
        };
        let call_id = item.text("call_id").or_else(|| item.text("id")).unwrap_or_default();
        Merged::Events(self.begin_call(&tool, &call_id, item.text("id").as_deref(), index))
    }

    /// Begins the client's item for a call.
    fn begin_call(&mut self, tool: &ProxyTool, call_id: &str, backend_id: Option<&str>, index: u64) -> Vec<String> {
        let item_id = ProxyCall::item_id(tool, call_id, index);
        let item = ProxyCall::item_without_result(tool, &item_id, "in_progress");
        let events = vec![
            self.inserted("response.output_item.added", format!(r#""output_index":{index},"item":{item}"#)),
            self.inserted(&format!("response.{}.in_progress", tool.item_type().0), position(&item_id, index)),
        ];
        let backend_id = backend_id.map(str::to_owned);
        self.begun.insert(index, BegunCall { tool: tool.clone(), backend_id, item_id });
        events
    }

    fn item_done(&mut self, event: &Event<'_>) -> Merged {
        let Some(item) = event.members.get("item") else { return self.passed(event) };
        let index = self.done_index_of(event, item);
        self.next_index = self.next_index.max(index + 1);
        match self.record_item(item, index) {
            Some(events) => Merged::Events(events),
            None => self.passed(event),
        }
    }

    /// Records the item of an event that is held back.
    fn record_held(&mut self, event: &Event<'_>) -> Merged {
        if let Some(item) = event.members.get("item") {
            let index = self.index_of(event);
            self.next_index = self.next_index.max(index + 1);
            self.items.insert(index, item.to_owned());
        }
        Merged::Events(Vec::new())
    }

    /// Records a completed item of the round. Returns the client's events for it if it is a call of a tool of the
    /// proxy.
    fn record_item(&mut self, item: &RawValue, index: u64) -> Option<Vec<String>> {
        self.items.insert(index, item.to_owned());
        let Some(call) = ProxyCall::read(&self.tools, item, index) else {
            let members = RawObject::parse(item.get()).unwrap_or_default();
            let kind = members.text("type").unwrap_or_default();
            self.has_client_calls |= kind.ends_with("_call") && members.get("call_id").is_some();
            return None;
        };
        let mut events = Vec::new();
        if !self.begun.contains_key(&index) {
            events = self.begin_call(&call.tool, call.call_id(), None, index);
        }
        let item_id = self.item_id_of(index);
        let (kind, running) = call.tool.item_type();
        events.push(self.inserted(&format!("response.{kind}.{running}"), position(&item_id, index)));
        self.calls.push(call);
        Some(events)
    }

    /// Forwards an event.
    fn passed(&mut self, event: &Event<'_>) -> Merged {
        let mut splice = Splice::new(event.text);
        self.edit_position(event, &mut splice);
        if splice.is_unchanged() { Merged::Unchanged } else { Merged::Events(vec![splice.text().into_owned()]) }
    }

    /// Writes an event with further edits.
    fn edited(&mut self, event: &Event<'_>, mut splice: Splice<'_>) -> String {
        self.edit_position(event, &mut splice);
        splice.text().into_owned()
    }

    /// Sets the item's position in the client's response, and the number of the event.
    fn edit_position(&mut self, event: &Event<'_>, splice: &mut Splice<'_>) {
        if self.base > 0
            && let Some(index) = event.members.get("output_index")
            && let Ok(number) = index.get().parse::<u64>()
        {
            splice.replace(index, (self.base + number).to_string());
        }
        self.numbers.renumber(&event.members, splice);
    }

    fn dropped(&mut self) -> Merged {
        self.numbers.note_change();
        Merged::Events(Vec::new())
    }

    /// Writes an event that the backend didn't send.
    fn inserted(&mut self, kind: &str, members: impl fmt::Display) -> String {
        self.numbers.inserted(kind, members)
    }

    /// Position, in the client's response, of an event's item. An event without `output_index` begins a new item.
    fn index_of(&self, event: &Event<'_>) -> u64 {
        let index = event.members.get("output_index").and_then(|index| index.get().parse::<u64>().ok());
        index.map_or(self.next_index, |index| self.base + index)
    }

    /// Like [`Self::index_of`], for the end of an item: without `output_index`, the position of the call with its id.
    fn done_index_of(&self, event: &Event<'_>, item: &RawValue) -> u64 {
        let id = id_of(item);
        let begun = self.begun.iter().find(|(_, call)| call.backend_id.is_some() && call.backend_id == id);
        match begun {
            Some((index, _)) if event.members.get("output_index").is_none() => *index,
            _ => self.index_of(event),
        }
    }

    /// The id of the client's item for a call that has begun.
    fn item_id_of(&self, index: u64) -> String {
        self.begun.get(&index).map(|call| call.item_id.clone()).unwrap_or_default()
    }

    /// Whether an event belongs to a call of a tool of the proxy.
    fn is_of_call(&self, event: &Event<'_>) -> bool {
        let id = event.members.text("item_id");
        let is_same = |call: &BegunCall| call.backend_id.is_some() && call.backend_id.as_deref() == id.as_deref();
        match event.members.get("output_index") {
            Some(_) => self.begun.contains_key(&self.index_of(event)),
            None => self.begun.values().any(is_same),
        }
    }

    fn part_of(&self, event: &Event<'_>) -> (u64, u64) {
        let part = event.members.get("content_index").and_then(|index| index.get().parse().ok());
        (self.index_of(event), part.unwrap_or(0))
    }
}

const CALL_DELTA: &str = "response.function_call_arguments.delta";

/// The members that locate an item, as JSON.
fn position(item_id: &str, index: u64) -> String {
    format!(r#""item_id":{},"output_index":{index}"#, quoted(item_id))
}

fn id_of(item: &RawValue) -> Option<String> {
    let members = RawObject::parse(item.get()).ok()?;
    members.text("id").or_else(|| members.text("call_id")).map(std::borrow::Cow::into_owned)
}
