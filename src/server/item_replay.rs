//! Replays items of earlier responses that clients don't send back: the backend's reasoning, for clients of Chat
//! Completions and Ollama (`chat.reasoning_replay`), and the calls that the proxy has run, with their outputs.
//!
//! Works on translated requests and upstream events, so that the translation stays a pure function of the request.
//! Before a request is sent, stored items are inserted before the tool calls that they precede, and in place of the
//! search items that clients got instead of calls. While a response passes, its items are noted; when it is complete,
//! they are stored under the ids of the calls that follow them, and under those of the items that stand for them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::history::{PrecedingItems, ReplayScope, ReplayedItems};
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
    /// It does.
    On,
    /// It is switched off, or clients of the API send reasoning back themselves.
    Off,
}

/// The stored items that one request may use, and the items of its response.
#[derive(Debug)]
pub(super) struct ItemReplay {
    stored: Arc<ReplayedItems>,
    scope: ReplayScope,
    reasoning: ReasoningReplay,
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
    pub(super) fn new(stored: Arc<ReplayedItems>, scope: ReplayScope, reasoning: ReasoningReplay) -> Self {
        let (replayed_calls, noted) = (Vec::new(), Vec::new());
        Self { stored, scope, reasoning, has_proxy_tools: false, replayed_calls, noted }
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
        // What is in the input already is not inserted again.
        let mut placed = BTreeSet::new();
        // Outputs that belong after the calls at the end of the input.
        let mut outputs = Vec::new();
        for item in items {
            if let Some(hidden) = hidden_by(&item).and_then(|id| self.stored.get(&self.scope, &id)) {
                let all = hidden.before_call.iter().chain(&hidden.after_calls);
                placed.extend(all.map(|item| item.get().to_owned()));
                input.extend(hidden.before_call.into_iter().map(raw));
                outputs.extend(hidden.after_calls.into_iter().map(raw));
                continue;
            }
            let call_id = call_id_of(&item);
            if call_id.is_none() {
                input.append(&mut outputs);
            }
            if let Some(lead) = call_id.and_then(|call_id| self.replay_before(&call_id)) {
                let is_message = |item: &Item<'_>| matches!(item, Item::Message { role: Role::Assistant, .. });
                let message = if lead.before_message.is_empty() { None } else { input.pop_if(|last| is_message(last)) };
                let new =
                    |items: Vec<Box<RawValue>>| items.into_iter().filter(|item| !placed.contains(item.get())).map(raw);
                input.extend(new(lead.before_message));
                input.extend(message);
                input.extend(new(lead.before_call));
                outputs.extend(new(lead.after_calls));
            }
            input.push(item);
        }
        input.append(&mut outputs);
    }

    /// The stored items before a call, if any. Remembers the call for [`Self::forget_rejected`].
    fn replay_before(&mut self, call_id: &str) -> Option<PrecedingItems> {
        let lead = self.stored.get(&self.scope, call_id)?;
        self.replayed_calls.push(call_id.to_owned());
        Some(lead)
    }

    /// Deletes what was replayed before calls if the warnings say that the backend couldn't read the reasoning in it.
    pub(super) fn forget_rejected(&self, warnings: &[String]) {
        if self.reasoning == ReasoningReplay::On && warnings.iter().any(|token| token == DROPPED) {
            self.replayed_calls.iter().for_each(|call_id| self.stored.remove(&self.scope, call_id));
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

    /// Stores the items of a complete response under the calls that follow them.
    fn save(&mut self) {
        let mut noted = std::mem::take(&mut self.noted);
        noted.sort_by_key(|(position, _)| *position);
        let mut lead = PrecedingItems::default();
        for (_, item) in noted {
            match item {
                NotedItem::Reasoning(json) => lead.before_call.push(json),
                NotedItem::Hidden(HiddenItems { item_id, call, output, place, .. }) => {
                    let mut own = PrecedingItems::default();
                    for items in [&mut lead, &mut own] {
                        items.before_call.push(call.clone());
                        let outputs = match place {
                            OutputPlace::AfterCall => &mut items.before_call,
                            OutputPlace::BesideClientOutputs => &mut items.after_calls,
                        };
                        outputs.push(output.clone());
                    }
                    self.stored.insert(&self.scope, &item_id, own);
                }
                NotedItem::Message => lead.before_message.append(&mut lead.before_call),
                NotedItem::Call(call_id) => self.stored.insert(&self.scope, &call_id, std::mem::take(&mut lead)),
            }
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

/// The id of an item that may stand for a call that the proxy has run.
fn hidden_by<'i>(item: &'i Item<'_>) -> Option<Cow<'i, str>> {
    match item {
        Item::Raw { kind, json } if matches!(&**kind, "web_search_call" | "image_generation_call") => {
            RawObject::parse(json.get()).ok()?.text("id")
        }
        _ => None,
    }
}

fn raw<'a>(json: Box<RawValue>) -> Item<'a> {
    let kind = RawObject::parse(json.get()).ok().and_then(|members| members.text("type")).unwrap_or_default();
    Item::Raw { kind: Cow::Owned(kind.into_owned()), json: Cow::Owned(json) }
}
