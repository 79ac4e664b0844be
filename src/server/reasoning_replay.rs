//! Gives the backend its own reasoning back, which a Chat client can't carry (`chat.reasoning_replay`).
//!
//! Stands beside the translation, which stays a function of the request: before a request leaves,
//! what is remembered is put before the calls that came back; while the answer passes, its
//! reasoning is noted, and kept under the calls that follow it when the answer is whole. Off, it
//! costs nothing.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::history::{Lead, Reasoning, Scope};
use crate::protocol::codex::request::{Item, Request, Role};
use crate::protocol::codex::{OutputItem, UpstreamEvent};
use crate::protocol::json::string::Str;
use crate::protocol::upstream_input::names;

/// The warning that the backend could not read what it was given back.
const DROPPED: &str = "repaired:dropped_reasoning";

/// The memory as one exchange sees it.
#[derive(Debug)]
pub(super) struct ReasoningReplay {
    memory: Arc<Reasoning>,
    scope: Scope,
    /// The calls that something was recalled for.
    recalled: Vec<String>,
    /// What of the answer matters here, with its position in it.
    noted: Vec<(u64, NotedItem)>,
}

/// An item of an answer.
#[derive(Debug)]
enum NotedItem {
    Reasoning(Box<RawValue>),
    Message,
    Call(String),
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    item: &'a RawValue,
}

impl ReasoningReplay {
    pub(super) fn new(memory: Arc<Reasoning>, scope: Scope) -> Self {
        Self { memory, scope, recalled: Vec::new(), noted: Vec::new() }
    }

    /// Puts what is remembered before the calls it led to.
    pub(super) fn restore(&mut self, request: &mut Request<'_>) {
        let mut input = Vec::with_capacity(request.input.len());
        for item in request.input.drain(..) {
            if let Some(lead) = called(&item).and_then(|call_id| self.lead_of(call_id)) {
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

    fn lead_of(&mut self, call_id: &str) -> Option<Lead> {
        let lead = self.memory.recall(&self.scope, call_id)?;
        self.recalled.push(call_id.to_owned());
        Some(lead)
    }

    /// Forgets what the backend could not read, as the warnings of its answer tell.
    pub(super) fn heed(&self, warnings: &[String]) {
        if warnings.iter().any(|token| token == DROPPED) {
            self.recalled.iter().for_each(|call_id| self.memory.forget(&self.scope, call_id));
        }
    }

    /// Forgets what was noted of an answer that is given up.
    pub(super) fn restart(&mut self) {
        self.noted.clear();
    }

    /// Takes note of an event on its way to the client.
    pub(super) fn note(&mut self, event: &UpstreamEvent<'_>, data: &str) {
        match event {
            UpstreamEvent::ItemDone(place, item) => {
                let position = place.output_index.unwrap_or(u64::MAX);
                self.noted.extend(noted(item, data).map(|noted| (position, noted)));
            }
            UpstreamEvent::Completed(_) => self.keep(),
            _ => {}
        }
    }

    /// Keeps the reasoning of a whole answer under the calls that follow it.
    fn keep(&mut self) {
        let mut noted = std::mem::take(&mut self.noted);
        noted.sort_by_key(|(position, _)| *position);
        let mut lead = Lead::default();
        for (_, item) in noted {
            match item {
                NotedItem::Reasoning(json) => lead.before_call.push(json),
                NotedItem::Message => lead.before_message.append(&mut lead.before_call),
                NotedItem::Call(call_id) => self.memory.keep(&self.scope, &call_id, std::mem::take(&mut lead)),
            }
        }
    }
}

/// What an item of an answer is to the memory. A call is known by the id it will come back with.
fn noted(item: &OutputItem<'_>, data: &str) -> Option<NotedItem> {
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

fn called<'i>(item: &'i Item<'_>) -> Option<&'i str> {
    match item {
        Item::FunctionCall { call_id, .. } | Item::CustomToolCall { call_id, .. } => Some(call_id),
        _ => None,
    }
}

fn reasoning<'a>(json: Box<RawValue>) -> Item<'a> {
    Item::Raw { kind: "reasoning".into(), json: Cow::Owned(json) }
}
