//! Adds citations to the messages that follow a search.
//!
//! The annotations of a part are sent as events before the first event that completes it, and are repeated in the
//! events with the complete part and item, as in the public API.
//!
//! The last message of the response cites the pages whose URLs occur in no text. Only the next event shows whether a
//! message is the last one, so the events that complete it are held back until another item's event or the terminal
//! event arrives.

use serde_json::value::RawValue;

use super::{Event, RoundEnd, RoundMerger, position};
use crate::protocol::codex::event;
use crate::protocol::codex::proxy_tools::citations::{PartPosition, UnnamedPages};
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::splice::Splice;

impl RoundMerger {
    /// Holds an event back if it completes a message, or a part of one, that may get citations.
    pub(super) fn hold(&mut self, event: &Event<'_>) -> bool {
        let is_held = self.citations.has_sources()
            && match event.kind {
                "response.output_text.done" | "response.content_part.done" => true,
                "response.output_item.done" => is_message(event),
                _ => false,
            };
        if is_held {
            self.held.push(event.text.to_owned());
        }
        is_held
    }

    /// Returns the events that were held back before this one, if it shows whether they complete the last message.
    pub(super) fn release_held(&mut self, next: &Event<'_>) -> Vec<String> {
        let is_end = RoundEnd::of(next.kind).is_some();
        if self.held.is_empty() || (!is_end && next.members.get("output_index").is_none()) {
            return Vec::new();
        }
        let is_last = is_end && self.calls.is_empty() && !self.has_client_calls;
        let pages = if is_last { UnnamedPages::Cite } else { UnnamedPages::Keep };
        let mut events = Vec::new();
        for text in std::mem::take(&mut self.held) {
            let (Some(kind), Ok(members)) = (event::kind(text.as_bytes()), RawObject::parse(&text)) else { continue };
            let event = Event { kind: &kind, text: &text, members };
            events.extend(match event.kind {
                "response.output_text.done" => self.text_done(&event, pages),
                "response.content_part.done" => self.part_done(&event, pages),
                _ => self.message_done(&event, pages),
            });
        }
        events
    }

    /// Adds citations to the end of a message.
    fn message_done(&mut self, event: &Event<'_>, pages: UnnamedPages) -> Vec<String> {
        let mut events = Vec::new();
        let mut splice = Splice::new(event.text);
        let item = event.members.get("item").and_then(|item| RawObject::parse(item.get()).ok()).unwrap_or_default();
        let index = self.index_of(event);
        let item_id = item.text("id").unwrap_or_default();
        let parts = item.list("content");
        let last_index = (parts.len() as u64).saturating_sub(1);
        for (part_index, part) in (0_u64..).zip(parts) {
            let Ok(part_members) = RawObject::parse(part.get()) else { continue };
            let at = (index, part_index);
            let pages = if part_index == last_index { pages } else { UnnamedPages::Keep };
            events.extend(self.cite(at, &item_id, &part_members, pages));
            self.add_annotations(at, part, &part_members, &mut splice);
        }
        events.push(self.edited(event, splice));
        events
    }

    fn text_done(&mut self, event: &Event<'_>, pages: UnnamedPages) -> Vec<String> {
        let at = self.part_of(event);
        let item_id = event.members.text("item_id").unwrap_or_default();
        let text = event.members.text("text").unwrap_or_default();
        let mut events = self.annotation_events(at, &item_id, &text, pages);
        events.push(self.edited(event, Splice::new(event.text)));
        events
    }

    fn part_done(&mut self, event: &Event<'_>, pages: UnnamedPages) -> Vec<String> {
        let mut events = Vec::new();
        let mut splice = Splice::new(event.text);
        let part = event.members.get("part");
        if let Some((part, members)) = part.and_then(|part| Some((part, RawObject::parse(part.get()).ok()?))) {
            let at = self.part_of(event);
            events = self.cite(at, &event.members.text("item_id").unwrap_or_default(), &members, pages);
            self.add_annotations(at, part, &members, &mut splice);
        }
        events.push(self.edited(event, splice));
        events
    }

    /// Annotates a part with this content, and returns the events for the annotations.
    fn cite(&mut self, at: PartPosition, item_id: &str, part: &RawObject<'_>, pages: UnnamedPages) -> Vec<String> {
        if !part.list("annotations").is_empty() {
            self.citations.note_annotated(at);
        }
        let text = part.text("text").filter(|_| part.text("type").is_some_and(|kind| kind == "output_text"));
        self.annotation_events(at, item_id, text.as_deref().unwrap_or_default(), pages)
    }

    fn annotation_events(&mut self, at: PartPosition, item_id: &str, text: &str, pages: UnnamedPages) -> Vec<String> {
        let added = self.citations.annotate(at, text, pages);
        let event = |(number, annotation): (usize, &String)| {
            let part = format!(r#"{},"content_index":{}"#, position(item_id, at.0), at.1);
            let members = format!(r#"{part},"annotation_index":{number},"annotation":{annotation}"#);
            self.numbers.inserted("response.output_text.annotation.added", members)
        };
        added.iter().enumerate().map(event).collect()
    }

    /// Sets the annotations of a complete part to those that were added to it.
    fn add_annotations(&self, at: PartPosition, part: &RawValue, members: &RawObject<'_>, splice: &mut Splice<'_>) {
        let added = self.citations.added_to(at);
        if added.is_empty() {
            return;
        }
        let list = format!("[{}]", added.join(","));
        match members.get("annotations") {
            Some(old) => splice.replace(old, list),
            None => splice.add(part.get(), format!(r#""annotations":{list}"#)),
        }
    }
}

fn is_message(event: &Event<'_>) -> bool {
    let item = event.members.get("item").and_then(|item| RawObject::parse(item.get()).ok());
    item.and_then(|item| item.text("type")).is_some_and(|kind| kind == "message")
}
