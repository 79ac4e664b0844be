//! Replays items of earlier responses that clients don't send back: the backend's reasoning, for clients of Chat
//! Completions and Ollama (`chat.reasoning_replay`), and the calls that the proxy has run, with their outputs.
//!
//! Works on translated requests and upstream events, so that the translation stays a pure function of the request.
//! Before a request is sent, stored items are inserted before the tool calls that they precede, and in place of the
//! search items that clients got instead of calls. While a response arrives, its items are noted; when it is complete,
//! they are stored under the ids of the calls that follow them, else under that of the last call before them. Calls
//! that the proxy has run are also stored under the ids of the items that clients got instead, if clients of the API
//! send these back.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::history::{PrecedingItems, ReplayScope, ReplayedItems};
use crate::protocol::ItemIds;
use crate::protocol::codex::proxy_tools::{HiddenItems, OutputPlace};
use crate::protocol::codex::request::{Item, Request, Role};
use crate::protocol::codex::{OutputItem, UpstreamEvent, event};
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::string::Str;
use crate::protocol::upstream_input::names;

/// The warning that the backend couldn't decrypt replayed reasoning.
const DROPPED: &str = "repaired:dropped_reasoning";

/// Whether the proxy replays reasoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReasoningReplay {
    /// Reasoning is replayed.
    On,
    /// The setting is off, or clients of the API send reasoning back themselves.
    Off,
}

/// The stored items that one request may use, and the items of its response.
#[derive(Debug)]
pub(super) struct ItemReplay {
    stored: Arc<ReplayedItems>,
    scope: ReplayScope,
    reasoning: ReasoningReplay,
    item_ids: ItemIds,
    /// Whether the proxy may run calls in the response.
    has_proxy_tools: bool,
    /// Ids of the calls that items were replayed for.
    replayed_calls: Vec<String>,
    /// The relevant items of the response so far, with their output index.
    noted: Vec<(u64, NotedItem)>,
}

/// An item that is stored, or determines which call others are stored under.
#[derive(Debug)]
enum NotedItem {
    Reasoning(Box<RawValue>),
    Hidden(HiddenItems),
    Message,
    Call(String),
}

/// The event of a completed item.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    item: &'a RawValue,
}

impl ItemReplay {
    pub(super) fn new(
        stored: Arc<ReplayedItems>,
        scope: ReplayScope,
        reasoning: ReasoningReplay,
        item_ids: ItemIds,
    ) -> Self {
        let (replayed_calls, noted) = (Vec::new(), Vec::new());
        Self { stored, scope, reasoning, item_ids, has_proxy_tools: false, replayed_calls, noted }
    }

    /// Sets whether the proxy may run calls in the response.
    pub(super) fn with_proxy_tools(self, has_proxy_tools: bool) -> Self {
        Self { has_proxy_tools, ..self }
    }

    /// Inserts stored items where they were.
    pub(super) fn restore(&mut self, request: &mut Request<'_>) {
        if self.stored.is_empty() {
            return;
        }
        let items = std::mem::take(&mut request.input);
        request.input = Vec::with_capacity(items.len());
        let input = &mut request.input;
        // The same item can be stored for an item of the client and for a call. It is inserted once.
        let mut placed = BTreeSet::new();
        let mut new = |mut items: Vec<Box<RawValue>>| {
            items.retain(|item| placed.insert(item.get().to_owned()));
            items.into_iter().map(raw)
        };
        // Items that belong after the calls at the end of the input.
        let mut after_calls = Vec::new();
        for item in items {
            if let Some(hidden) = hidden_by(&item).and_then(|id| self.stored.get(&self.scope, &id)) {
                input.extend(new(hidden.before_call));
                after_calls.extend(new(hidden.after_calls));
                continue;
            }
            let call_id = call_id_of(&item);
            if call_id.is_none() {
                input.append(&mut after_calls);
            }
            if let Some(lead) = call_id.and_then(|call_id| self.replay_before(&call_id)) {
                let is_message = |item: &Item<'_>| matches!(item, Item::Message { role: Role::Assistant, .. });
                let message = if lead.before_message.is_empty() { None } else { input.pop_if(|last| is_message(last)) };
                input.extend(new(lead.before_message));
                input.extend(message);
                input.extend(new(lead.before_call));
                after_calls.extend(new(lead.after_calls));
            }
            input.push(item);
        }
        input.append(&mut after_calls);
    }

    /// The stored items before a call, if any. Remembers the call for [`Self::forget_rejected`].
    fn replay_before(&mut self, call_id: &str) -> Option<PrecedingItems> {
        let lead = self.stored.get(&self.scope, call_id)?;
        self.replayed_calls.push(call_id.to_owned());
        Some(lead)
    }

    /// Deletes the reasoning that was replayed if the warnings say that the backend couldn't read it.
    pub(super) fn forget_rejected(&self, warnings: &[String]) {
        if self.reasoning == ReasoningReplay::On && warnings.iter().any(|token| token == DROPPED) {
            for call_id in &self.replayed_calls {
                self.stored.retain(&self.scope, call_id, |item| !is_reasoning(item));
            }
        }
    }

    /// Discards the noted items of a failed attempt.
    pub(super) fn restart(&mut self) {
        self.noted.clear();
    }

    /// Notes calls that the proxy has run.
    pub(super) fn note_hidden(&mut self, hidden: Vec<HiddenItems>) {
        self.noted.extend(hidden.into_iter().map(|hidden| (hidden.output_index, NotedItem::Hidden(hidden))));
    }

    /// Notes what is relevant in an event. Stores the items if the event completes the response.
    pub(super) fn observe(&mut self, data: &str) {
        if self.reasoning == ReasoningReplay::Off && !self.has_proxy_tools {
            return;
        }
        match event::kind(data.as_bytes()).as_deref() {
            Some("response.output_item.done") => {
                let UpstreamEvent::ItemDone(place, item) = UpstreamEvent::decode(data) else { return };
                let position = place.output_index.unwrap_or(u64::MAX);
                self.noted.extend(self.classify(&item, data).map(|noted| (position, noted)));
            }
            Some("response.completed" | "response.done") => self.save(),
            _ => {}
        }
    }

    /// Stores the items of a complete response under the calls that follow them. The proxy's calls after the last call
    /// of the client are stored under that one.
    fn save(&mut self) {
        let mut noted = std::mem::take(&mut self.noted);
        noted.sort_by_key(|(position, _)| *position);
        let mut lead = PrecedingItems::default();
        let mut last_call: Option<(String, PrecedingItems)> = None;
        let mut has_hidden = false;
        for (_, item) in noted {
            match item {
                NotedItem::Reasoning(json) => lead.before_call.push(json),
                NotedItem::Hidden(HiddenItems { item_id, call, output, place, .. }) => {
                    has_hidden = true;
                    let mut by_item = PrecedingItems::default();
                    for items in [&mut lead, &mut by_item] {
                        items.before_call.push(call.clone());
                        let outputs = match place {
                            OutputPlace::AfterCall => &mut items.before_call,
                            OutputPlace::BesideClientOutputs => &mut items.after_calls,
                        };
                        outputs.push(output.clone());
                    }
                    if self.item_ids == ItemIds::SentBack {
                        self.stored.insert(&self.scope, &item_id, by_item);
                    }
                }
                NotedItem::Message => lead.before_message.append(&mut lead.before_call),
                NotedItem::Call(call_id) => {
                    has_hidden = false;
                    self.store(last_call.replace((call_id, std::mem::take(&mut lead))));
                }
            }
        }
        if let Some((_, items)) = last_call.as_mut().filter(|_| has_hidden) {
            items.after_calls =
                [lead.before_message, lead.before_call, std::mem::take(&mut items.after_calls), lead.after_calls]
                    .concat();
        }
        self.store(last_call);
    }

    fn store(&self, call: Option<(String, PrecedingItems)>) {
        if let Some((call_id, items)) = call {
            self.stored.insert(&self.scope, &call_id, items);
        }
    }

    /// Classifies an item; `None`: irrelevant. The id of a call is the one that the client will send back.
    fn classify(&self, item: &OutputItem<'_>, data: &str) -> Option<NotedItem> {
        match item.kind.as_str() {
            "reasoning" if self.reasoning == ReasoningReplay::On => {
                item.encrypted_content.filter(|content| !content.is_empty())?;
                let event: Event<'_> = serde_json::from_str(data).ok()?;
                Some(NotedItem::Reasoning(event.item.to_owned()))
            }
            "message" => Some(NotedItem::Message),
            "function_call" | "custom_tool_call" => {
                let id = item.call_id.as_ref().map(Str::as_str).filter(|id| !id.is_empty())?;
                Some(NotedItem::Call(names::call_id(id.into()).into_owned()))
            }
            _ => None,
        }
    }
}

fn call_id_of<'i>(item: &'i Item<'_>) -> Option<Cow<'i, str>> {
    match item {
        Item::FunctionCall { call_id, .. } | Item::CustomToolCall { call_id, .. } => Some(Cow::Borrowed(call_id)),
        Item::Raw { kind, json } if matches!(&**kind, "function_call" | "custom_tool_call") => {
            RawObject::parse(json.get()).ok()?.text("call_id")
        }
        _ => None,
    }
}

/// The id of an item that the client may have got instead of a call that the proxy has run.
fn hidden_by<'i>(item: &'i Item<'_>) -> Option<Cow<'i, str>> {
    match item {
        Item::Raw { kind, json } if matches!(&**kind, "web_search_call" | "image_generation_call") => {
            RawObject::parse(json.get()).ok()?.text("id")
        }
        _ => None,
    }
}

fn is_reasoning(item: &RawValue) -> bool {
    RawObject::parse(item.get()).is_ok_and(|members| members.text("type").is_some_and(|kind| kind == "reasoning"))
}

fn raw<'a>(json: Box<RawValue>) -> Item<'a> {
    let kind = RawObject::parse(json.get()).ok().and_then(|members| members.text("type")).unwrap_or_default();
    Item::Raw { kind: Cow::Owned(kind.into_owned()), json: Cow::Owned(json) }
}
