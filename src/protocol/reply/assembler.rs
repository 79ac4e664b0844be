//! Converts upstream events to steps: finds the item of an event, and what of it is new. Deltas are steps as they are;
//! events with a whole text or item add only what is missing (case `20-arguments-only-in-done`).

use std::borrow::Cow;

use super::Terminal;
use super::item::{Kind, Order, Stage};
use super::items::Items;
use super::progress::Slot;
use super::reply_item::{Citation, Search, Step};
use crate::error::ProxyError;
use crate::protocol::codex::item::ContentPart;
use crate::protocol::codex::{OutputItem, Place, ResponseObject};
use crate::protocol::json::string::{RawText, Str};
use crate::protocol::upstream_input::CallKind;
use crate::protocol::{Reply, Sink, UpstreamEvent};

/// A machine that takes its answer in steps. It says where its items are and what it does with a
/// step; all else is the same in every dialect.
pub(in crate::protocol) trait Arrival: Reply + Sized {
    /// What has arrived.
    fn items(&mut self) -> &mut Items;

    /// Takes the next step of an item.
    fn step(&mut self, item: usize, step: Step<'_>, sink: &mut impl Sink<Self>);

    /// Takes an event that belongs to an item.
    fn arrive(&mut self, event: UpstreamEvent<'_>, sink: &mut impl Sink<Self>) {
        match event {
            UpstreamEvent::Text(place, text) => self.piece(&place, Slot::Text, text, sink),
            UpstreamEvent::Refusal(place, text) => self.piece(&place, Slot::Refusal, text, sink),
            UpstreamEvent::Reasoning(place, text) => self.piece(&place, Slot::of_reasoning(&place), text, sink),
            UpstreamEvent::TextDone(place, text) => self.text_done(&place, Slot::Text, text, sink),
            UpstreamEvent::RefusalDone(place, text) => self.text_done(&place, Slot::Refusal, text, sink),
            UpstreamEvent::ReasoningDone(place, text) => self.text_done(&place, Slot::of_reasoning(&place), text, sink),
            UpstreamEvent::PartAdded(place, part) => self.part_added(&place, &part, sink),
            UpstreamEvent::PartDone(place, part) => self.part_done(&place, &part, sink),
            UpstreamEvent::Annotation(place, annotation) => self.annotation(&place, annotation, sink),
            UpstreamEvent::Arguments(place, text) => self.call_piece(&place, Kind::Function, text, sink),
            UpstreamEvent::Input(place, text) => self.call_piece(&place, Kind::Custom, text, sink),
            UpstreamEvent::ArgumentsDone(place, text) => self.call_text_done(&place, Kind::Function, text, sink),
            UpstreamEvent::InputDone(place, text) => self.call_text_done(&place, Kind::Custom, text, sink),
            UpstreamEvent::ItemAdded(place, item) => self.item_added(&with_ids(place, &item), &item, sink),
            UpstreamEvent::ItemDone(place, item) => self.item_done(&with_ids(place, &item), &item, sink),
            UpstreamEvent::Created(_)
            | UpstreamEvent::Completed(_)
            | UpstreamEvent::Incomplete(_)
            | UpstreamEvent::Failed(_)
            | UpstreamEvent::Malformed { .. }
            | UpstreamEvent::Other { .. } => {}
        }
    }

    /// The item of an event. An event that may belong to several can't be used, and leaves a gap.
    fn locate(&mut self, place: &Place<'_>, kind: Kind, sink: &mut impl Sink<Self>) -> Option<usize> {
        let item = self.items().at(place, kind);
        match item {
            Some(item) => self.open_message(item, sink),
            None => self.items().note_gap(),
        }
        item
    }

    /// A message has its place in the answer from its first event on, also if its text can't be sent yet.
    fn open_message(&mut self, item: usize, sink: &mut impl Sink<Self>) {
        let entry = self.items().get_mut(item);
        if entry.kind == Kind::Message && entry.stage == Stage::New {
            entry.stage = Stage::Opened;
            self.release_reasoning(item, sink);
            self.step(item, Step::MessageOpened, sink);
        }
    }

    /// Sends what is held of the reasoning before a message, which normally is over by then.
    fn release_reasoning(&mut self, before: usize, sink: &mut impl Sink<Self>) {
        for item in 0..before {
            if self.items().get_mut(item).is_open_reasoning() {
                self.release_parts(item, Order::Dropped, sink);
            }
        }
    }

    fn piece(&mut self, place: &Place<'_>, slot: Slot, text: RawText<'_>, sink: &mut impl Sink<Self>) {
        let Some(item) = self.locate(place, slot.kind(), sink) else { return };
        let entry = self.items().get_mut(item);
        let part = entry.part(slot, place.part_index);
        if entry.admits(part, text) {
            self.step(item, slot.step(part, text), sink);
            self.cite_early(item, part, Order::Kept, sink);
        }
    }

    fn text_done(&mut self, place: &Place<'_>, slot: Slot, text: RawText<'_>, sink: &mut impl Sink<Self>) {
        if let Some(item) = self.locate(place, slot.kind(), sink) {
            self.whole_text(item, slot, place.part_index, text, sink);
        }
    }

    /// Sends what is missing of a text, and ends it.
    fn whole_text(
        &mut self,
        item: usize,
        slot: Slot,
        index: Option<u64>,
        text: RawText<'_>,
        sink: &mut impl Sink<Self>,
    ) {
        let entry = self.items().get_mut(item);
        let part = entry.part(slot, index);
        if let Some(tail) = entry.complete(part, text) {
            self.step(item, slot.step(part, tail), sink);
        }
        if slot == Slot::Text && self.items().get_mut(item).part_mut(part).is_settled() {
            self.step(item, Step::TextEnd, sink);
        }
        self.cite_early(item, part, Order::Kept, sink);
        self.release_parts(item, Order::Kept, sink);
    }

    /// Sends the parts that waited for the ones before them.
    fn release_parts(&mut self, item: usize, order: Order, sink: &mut impl Sink<Self>) {
        while let Some((part, text)) = self.items().get_mut(item).release(order) {
            let entry = self.items().get_mut(item).part_mut(part);
            let (slot, is_settled) = (entry.slot, entry.is_settled());
            if !text.is_empty() && slot != Slot::Other {
                self.step(item, slot.step(part, RawText::from_escaped(&text)), sink);
            }
            if is_settled && slot == Slot::Text {
                self.step(item, Step::TextEnd, sink);
            }
            self.cite_early(item, part, order, sink);
        }
    }

    /// Sends the citations that waited for their text.
    fn cite_early(&mut self, item: usize, part: usize, order: Order, sink: &mut impl Sink<Self>) {
        for citation in self.items().get_mut(item).release_citations(part, order) {
            self.step(item, Step::Citation { part, citation }, sink);
        }
    }

    fn part_added(&mut self, place: &Place<'_>, part: &ContentPart<'_>, sink: &mut impl Sink<Self>) {
        let Some(slot) = Slot::of(part) else { return };
        if let Some(item) = self.locate(place, slot.kind(), sink) {
            self.items().get_mut(item).begin_part(slot, place.part_index);
        }
    }

    fn part_done(&mut self, place: &Place<'_>, part: &ContentPart<'_>, sink: &mut impl Sink<Self>) {
        let Some(slot) = Slot::of(part) else { return self.other_part_done(place, sink) };
        if let Some(item) = self.locate(place, slot.kind(), sink) {
            self.whole_part(item, slot, place.part_index, part, sink);
        }
    }

    /// A part that no client is shown still comes before the ones that follow it.
    fn other_part_done(&mut self, place: &Place<'_>, sink: &mut impl Sink<Self>) {
        if let Some(item) = self.items().find(place, Kind::Message) {
            self.whole_text(item, Slot::Other, place.part_index, RawText::from_escaped(""), sink);
        }
    }

    fn whole_part(
        &mut self,
        item: usize,
        slot: Slot,
        index: Option<u64>,
        part: &ContentPart<'_>,
        sink: &mut impl Sink<Self>,
    ) {
        let text = if slot == Slot::Refusal { part.refusal.or(part.text) } else { part.text };
        if let Some(text) = text {
            self.whole_text(item, slot, index, text, sink);
        }
        let annotations = part.annotations.as_deref().unwrap_or_default();
        let position = self.items().get_mut(item).part(slot, index);
        let known = self.items().get_mut(item).part_mut(position).citations;
        for annotation in annotations.iter().skip(known) {
            self.cite(item, position, annotation, sink);
        }
    }

    fn annotation(&mut self, place: &Place<'_>, raw: &serde_json::value::RawValue, sink: &mut impl Sink<Self>) {
        let Some(item) = self.locate(place, Kind::Message, sink) else { return };
        let part = self.items().get_mut(item).part(Slot::Text, place.part_index);
        self.cite(item, part, raw, sink);
    }

    fn cite(&mut self, item: usize, part: usize, raw: &serde_json::value::RawValue, sink: &mut impl Sink<Self>) {
        let entry = self.items().get_mut(item).part_mut(part);
        entry.citations += 1;
        let Some(citation) = Citation::read(raw) else { return };
        if entry.cites(&citation) {
            self.step(item, Step::Citation { part, citation }, sink);
        }
    }

    fn call_piece(&mut self, place: &Place<'_>, kind: Kind, text: RawText<'_>, sink: &mut impl Sink<Self>) {
        let Some(item) = self.locate(place, kind, sink) else { return };
        if self.items().get_mut(item).admits_call_text(text) {
            self.step(item, Step::CallText(Cow::Borrowed(text.escaped())), sink);
        }
    }

    fn call_text_done(&mut self, place: &Place<'_>, kind: Kind, text: RawText<'_>, sink: &mut impl Sink<Self>) {
        if let Some(item) = self.locate(place, kind, sink) {
            self.whole_call_text(item, text, sink);
        }
    }

    fn whole_call_text(&mut self, item: usize, text: RawText<'_>, sink: &mut impl Sink<Self>) {
        if let Some(tail) = self.items().get_mut(item).complete_call_text(text) {
            self.step(item, Step::CallText(Cow::Borrowed(tail.escaped())), sink);
        }
    }

    fn item_added(&mut self, place: &Place<'_>, item: &OutputItem<'_>, sink: &mut impl Sink<Self>) {
        let kind = Kind::of(item);
        let position = self.items().begin(place, kind);
        self.open_message(position, sink);
        if matches!(kind, Kind::Function | Kind::Custom) {
            self.announce(position, kind, item, sink);
        }
        if kind == Kind::Reasoning {
            let snapshot = item.encrypted_content.map(|content| content.escaped().to_owned());
            self.items().get_mut(position).snapshot = snapshot;
        }
    }

    fn item_done(&mut self, place: &Place<'_>, item: &OutputItem<'_>, sink: &mut impl Sink<Self>) {
        let kind = Kind::of(item);
        if let Some(position) = self.items().end(place, kind) {
            self.finish_item(position, kind, item, sink);
        }
    }

    /// Takes an item that is complete.
    fn finish_item(&mut self, position: usize, kind: Kind, item: &OutputItem<'_>, sink: &mut impl Sink<Self>) {
        self.open_message(position, sink);
        self.items().get_mut(position).stage = Stage::Done;
        match kind {
            Kind::Message => self.message_done(position, item, sink),
            Kind::Reasoning => self.reasoning_done(position, item, sink),
            Kind::Function => self.call_done(position, kind, item, item.arguments, sink),
            Kind::Custom => self.call_done(position, kind, item, item.input, sink),
            Kind::Image => self.image_done(position, item, sink),
            Kind::Search => {
                if let Some(search) = Search::read(item) {
                    self.step(position, Step::Search(search), sink);
                }
            }
            Kind::Other => {}
        }
        self.items().get_mut(position).forget_texts();
    }

    fn message_done(&mut self, position: usize, item: &OutputItem<'_>, sink: &mut impl Sink<Self>) {
        for (index, part) in (0_u64..).zip(item.content_parts()) {
            match Slot::of(&part) {
                Some(slot) => self.whole_part(position, slot, Some(index), &part, sink),
                None => self.whole_text(position, Slot::Other, Some(index), RawText::from_escaped(""), sink),
            }
        }
        self.end_message(position, sink);
    }

    /// Sends what is held of a message, and ends it.
    fn end_message(&mut self, position: usize, sink: &mut impl Sink<Self>) {
        self.release_parts(position, Order::Dropped, sink);
        for part in 0..self.items().get_mut(position).parts.len() {
            self.cite_early(position, part, Order::Dropped, sink);
        }
        self.step(position, Step::MessageEnd, sink);
    }

    /// Reasoning that was not streamed is sent in one piece.
    fn reasoning_done(&mut self, position: usize, item: &OutputItem<'_>, sink: &mut impl Sink<Self>) {
        let is_untold = self.items().get_mut(position).is_untold();
        let (summary, content) = (item.summary_parts(), item.content_parts());
        let summary = (0_u64..).zip(&summary).map(|(index, part)| (Slot::Summary, index, part.text));
        let content = (0_u64..).zip(&content).map(|(index, part)| (Slot::ReasoningText, index, part.text));
        let mut untold: Vec<&str> = Vec::new();
        let mut first = None;
        for (slot, index, text) in summary.chain(content) {
            let Some(text) = text else { continue };
            let entry = self.items().get_mut(position);
            let part = entry.part(slot, Some(index));
            let Some(tail) = entry.complete(part, text) else { continue };
            if is_untold {
                untold.push(tail.escaped());
                first = first.or(Some(part));
            } else {
                self.step(position, slot.step(part, tail), sink);
            }
        }
        if let Some(part) = first {
            self.step(position, Step::Reasoning { part, text: Cow::Owned(untold.join(r"\n\n")) }, sink);
        }
        self.end_reasoning(position, item.encrypted_content, sink);
    }

    /// Sends what is held of reasoning, and ends it.
    fn end_reasoning(&mut self, position: usize, encrypted: Option<RawText<'_>>, sink: &mut impl Sink<Self>) {
        self.release_parts(position, Order::Dropped, sink);
        let snapshot = self.items().get_mut(position).snapshot.take();
        let encrypted = encrypted.map(|content| Cow::Borrowed(content.escaped()));
        let encrypted = encrypted.or(snapshot.map(Cow::Owned)).filter(|content| !content.is_empty());
        self.step(position, Step::ReasoningEnd { encrypted }, sink);
    }

    fn call_done(
        &mut self,
        position: usize,
        kind: Kind,
        item: &OutputItem<'_>,
        text: Option<RawText<'_>>,
        sink: &mut impl Sink<Self>,
    ) {
        self.announce(position, kind, item, sink);
        if let Some(text) = text {
            self.whole_call_text(position, text, sink);
        }
        if !self.items().get_mut(position).is_announced {
            return self.items().get_mut(position).lose_call_text();
        }
        self.step(position, Step::CallClosed, sink);
    }

    /// Tells the client of a call as soon as its name is known.
    fn announce(&mut self, position: usize, kind: Kind, item: &OutputItem<'_>, sink: &mut impl Sink<Self>) {
        let Some(name) = item.name.as_ref().map(Str::as_str).filter(|name| !name.is_empty()) else { return };
        let entry = self.items().get_mut(position);
        if std::mem::replace(&mut entry.is_announced, true) {
            return;
        }
        let id = entry.call_id().map_or_else(|| format!("call_{position}"), str::to_owned);
        let kind = if kind == Kind::Custom { CallKind::Custom } else { CallKind::Function };
        self.step(position, Step::CallOpened { id: Cow::Owned(id), name: Cow::Borrowed(name), kind }, sink);
    }

    /// Takes the terminal event. Items that stand only in its list are part of the answer, and items that no event ended
    /// are made of their deltas.
    ///
    /// Returns the error if an answer that the backend reports as complete is damaged.
    fn settle(
        &mut self,
        response: &ResponseObject<'_>,
        terminal: Terminal,
        sink: &mut impl Sink<Self>,
    ) -> Option<ProxyError> {
        let listed = response.output_items();
        for (position, item) in listed.iter().enumerate() {
            let kind = Kind::of(item);
            if let Some(position) = self.items().listed(position, listed.len(), item) {
                self.finish_item(position, kind, item, sink);
            }
        }
        if self.is_finished() {
            return None;
        }
        if !listed.is_empty() {
            self.items().note_complete_list();
        }
        let damage = super::damage(self.items(), terminal, response.usage);
        if damage.is_none() {
            self.end_open_items(sink);
        }
        damage
    }

    fn end_open_items(&mut self, sink: &mut impl Sink<Self>) {
        for position in 0..self.items().len() {
            let item = self.items().get_mut(position);
            match item.kind {
                _ if item.is_done() => {}
                Kind::Message => self.end_message(position, sink),
                Kind::Reasoning => self.end_reasoning(position, None, sink),
                Kind::Function | Kind::Custom => self.step(position, Step::CallClosed, sink),
                Kind::Image | Kind::Search | Kind::Other => {}
            }
        }
    }

    fn image_done(&mut self, position: usize, item: &OutputItem<'_>, sink: &mut impl Sink<Self>) {
        let Some(base64) = item.result.filter(|result| !result.is_empty()) else { return };
        let format = item.output_format.as_ref().map_or("png", Str::as_str);
        let base64 = Cow::Borrowed(base64.escaped());
        self.step(position, Step::Image { format: Cow::Borrowed(format), base64 }, sink);
    }
}

/// The place of an event that carries its item, whose own ids count where the event has none.
fn with_ids<'a>(place: Place<'a>, item: &OutputItem<'a>) -> Place<'a> {
    Place {
        item_id: place.item_id.or_else(|| item.id.clone()),
        call_id: place.call_id.or_else(|| item.call_id.clone()),
        ..place
    }
}
