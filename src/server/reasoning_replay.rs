//! Replays the backend's reasoning, which clients of Chat Completions and Ollama can't send back
//! (`chat.reasoning_replay`).
//!
//! Works on translated requests and upstream events, so that the translation stays a pure function of the request.
//! Before a request is sent, stored reasoning is inserted before the tool calls that it led to. While a response
//! passes, its reasoning is noted; when the response is complete, it is stored under the ids of the calls that follow
//! it.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::history::{PrecedingReasoning, Reasoning, ReasoningScope};
use crate::protocol::codex::request::{Item, Request, Role};
use crate::protocol::codex::{OutputItem, UpstreamEvent};
use crate::protocol::json::string::Str;
use crate::protocol::upstream_input::names;

/// The warning that the backend couldn't decrypt replayed reasoning.
const DROPPED: &str = "repaired:dropped_reasoning";

/// The stored reasoning that one request may use, and the reasoning of its response.
#[derive(Debug)]
pub(super) struct ReasoningReplay {
    stored: Arc<Reasoning>,
    scope: ReasoningScope,
    /// Ids of the calls that reasoning was replayed for.
    replayed_calls: Vec<String>,
    /// The relevant items of the response so far, with their output index.
    noted: Vec<(u64, NotedItem)>,
}

/// An item that is reasoning, or determines which call reasoning is stored under.
#[derive(Debug)]
enum NotedItem {
    Reasoning(Box<RawValue>),
    Message,
    Call(String),
}

/// The event of a completed item.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    item: &'a RawValue,
}

impl ReasoningReplay {
    pub(super) fn new(stored: Arc<Reasoning>, scope: ReasoningScope) -> Self {
        Self { stored, scope, replayed_calls: Vec::new(), noted: Vec::new() }
    }

    /// Inserts stored reasoning before the calls it led to.
    pub(super) fn restore(&mut self, request: &mut Request<'_>) {
        let mut input = Vec::with_capacity(request.input.len());
        for item in request.input.drain(..) {
            if let Some(lead) = call_id_of(&item).and_then(|call_id| self.replay_before(call_id)) {
                let is_message = |item: &Item<'_>| matches!(item, Item::Message { role: Role::Assistant, .. });
                let message = input.pop_if(|last| is_message(last));
                input.extend(lead.before_message.into_iter().map(reasoning));
                input.extend(message);
                input.extend(lead.before_call.into_iter().map(reasoning));
            }
            input.push(item);
        }
        request.input = input;
    }

    /// The stored reasoning that led to a call, if any. Remembers the call for [`Self::forget_rejected`].
    fn replay_before(&mut self, call_id: &str) -> Option<PrecedingReasoning> {
        let lead = self.stored.get(&self.scope, call_id)?;
        self.replayed_calls.push(call_id.to_owned());
        Some(lead)
    }

    /// Deletes the replayed reasoning if the warnings say that the backend couldn't read it.
    pub(super) fn forget_rejected(&self, warnings: &[String]) {
        if warnings.iter().any(|token| token == DROPPED) {
            self.replayed_calls.iter().for_each(|call_id| self.stored.remove(&self.scope, call_id));
        }
    }

    /// Discards the noted items of a failed attempt.
    pub(super) fn restart(&mut self) {
        self.noted.clear();
    }

    /// Notes what is relevant in an event. Stores the reasoning if the event completes the response.
    pub(super) fn observe(&mut self, event: &UpstreamEvent<'_>, data: &str) {
        match event {
            UpstreamEvent::ItemDone(place, item) => {
                let position = place.output_index.unwrap_or(u64::MAX);
                self.noted.extend(classify(item, data).map(|noted| (position, noted)));
            }
            UpstreamEvent::Completed(_) => self.save(),
            _ => {}
        }
    }

    /// Stores the reasoning of a complete response under the calls that follow it.
    fn save(&mut self) {
        let mut noted = std::mem::take(&mut self.noted);
        noted.sort_by_key(|(position, _)| *position);
        let mut lead = PrecedingReasoning::default();
        for (_, item) in noted {
            match item {
                NotedItem::Reasoning(json) => lead.before_call.push(json),
                NotedItem::Message => lead.before_message.append(&mut lead.before_call),
                NotedItem::Call(call_id) => self.stored.insert(&self.scope, &call_id, std::mem::take(&mut lead)),
            }
        }
    }
}

/// Classifies an item; `None`: irrelevant. The id of a call is the one that the client will send back.
fn classify(item: &OutputItem<'_>, data: &str) -> Option<NotedItem> {
    match item.kind.as_str() {
        "reasoning" if item.encrypted_content.is_some_and(|content| !content.is_empty()) => {
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

fn call_id_of<'i>(item: &'i Item<'_>) -> Option<&'i str> {
    match item {
        Item::FunctionCall { call_id, .. } | Item::CustomToolCall { call_id, .. } => Some(call_id),
        _ => None,
    }
}

fn reasoning<'a>(json: Box<RawValue>) -> Item<'a> {
    Item::Raw { kind: "reasoning".into(), json: Cow::Owned(json) }
}
