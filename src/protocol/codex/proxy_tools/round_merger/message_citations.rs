//! Adds citations to the messages that follow a search.
//!
//! The annotations of a part are sent as events before the first event that completes it, and are repeated in the
//! events with the complete part and item, as the public API does.

use serde_json::value::RawValue;

use super::{Event, Merged, RoundMerger, place};
use crate::protocol::codex::proxy_tools::citations::PartPosition;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::splice::Splice;

impl RoundMerger {
    /// Adds citations to the end of a message.
    pub(super) fn message_done(&mut self, event: &Event<'_>, item: &RawValue, index: u64) -> Merged {
        let mut events = Vec::new();
        let mut splice = Splice::new(event.text);
        let members = RawObject::parse(item.get()).unwrap_or_default();
        let item_id = members.text("id").unwrap_or_default();
        for (part_index, part) in (0_u64..).zip(members.list("content")) {
            let Ok(part_members) = RawObject::parse(part.get()) else { continue };
            let at = (index, part_index);
            events.extend(self.cite(at, &item_id, &part_members));
            self.add_annotations(at, part, &part_members, &mut splice);
        }
        events.push(self.edited(event, splice));
        Merged::Events(events)
    }

    pub(super) fn text_done(&mut self, event: &Event<'_>, text: Option<&str>) -> Merged {
        if !self.citations.has_sources() {
            return self.passed(event);
        }
        let at = self.part_of(event);
        let item_id = event.members.text("item_id").unwrap_or_default();
        let mut events = self.annotation_events(at, &item_id, text.unwrap_or_default());
        events.push(self.edited(event, Splice::new(event.text)));
        Merged::Events(events)
    }

    pub(super) fn part_done(&mut self, event: &Event<'_>) -> Merged {
        let part = event.members.get("part").filter(|_| self.citations.has_sources());
        let Some((part, members)) = part.and_then(|part| Some((part, RawObject::parse(part.get()).ok()?))) else {
            return self.passed(event);
        };
        let at = self.part_of(event);
        let mut events = self.cite(at, &event.members.text("item_id").unwrap_or_default(), &members);
        let mut splice = Splice::new(event.text);
        self.add_annotations(at, part, &members, &mut splice);
        events.push(self.edited(event, splice));
        Merged::Events(events)
    }

    /// The annotations for a part with this content, as events.
    fn cite(&mut self, at: PartPosition, item_id: &str, part: &RawObject<'_>) -> Vec<String> {
        if !part.list("annotations").is_empty() {
            self.citations.note_annotated(at);
        }
        let text = part.text("text").filter(|_| part.text("type").is_some_and(|kind| kind == "output_text"));
        self.annotation_events(at, item_id, text.as_deref().unwrap_or_default())
    }

    fn annotation_events(&mut self, at: PartPosition, item_id: &str, text: &str) -> Vec<String> {
        let added = self.citations.annotate(at, text);
        let event = |(number, annotation): (usize, &String)| {
            let place = format!(r#"{},"content_index":{}"#, place(item_id, at.0), at.1);
            let members = format!(r#"{place},"annotation_index":{number},"annotation":{annotation}"#);
            self.numbers.own("response.output_text.annotation.added", &members)
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
