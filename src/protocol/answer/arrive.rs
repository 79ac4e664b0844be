//! From upstream events to steps: which item an event belongs to, and what of it is new.
//!
//! Deltas are steps as they are. The events that bring the whole of a text or an item add what is
//! missing, so that an answer without deltas is as good as one with them
//! (case `20-arguments-only-in-done`), and nothing twice.

use std::borrow::Cow;

use super::items::{Items, Kind, Slot};
use super::step::{Citation, Gate, Search, Step};
use crate::protocol::codex::item::ContentPart;
use crate::protocol::codex::{OutputItem, PartList, Place};
use crate::protocol::conversation::CallKind;
use crate::protocol::text::{RawText, Str};
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
            UpstreamEvent::Reasoning(place, text) => self.piece(&place, reasoning_slot(&place), text, sink),
            UpstreamEvent::TextDone(place, text) => self.text_done(&place, Slot::Text, text, sink),
            UpstreamEvent::RefusalDone(place, text) => self.text_done(&place, Slot::Refusal, text, sink),
            UpstreamEvent::ReasoningDone(place, text) => self.text_done(&place, reasoning_slot(&place), text, sink),
            UpstreamEvent::PartAdded(place, part) => self.part_added(&place, &part),
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

    /// The item of an event; an event that may belong to several can't be used, and leaves a gap.
    fn locate(&mut self, place: &Place<'_>, kind: Kind) -> Option<usize> {
        let item = self.items().at(place, kind);
        if item.is_none() {
            self.items().note_gap();
        }
        item
    }

    fn piece(&mut self, place: &Place<'_>, slot: Slot, text: RawText<'_>, sink: &mut impl Sink<Self>) {
        let Some(item) = self.locate(place, slot.kind()) else { return };
        let part = self.items().get_mut(item).part(slot, place.part_index);
        if self.items().get_mut(item).part_mut(part).admits(text) {
            self.step(item, slot.step(part, text), sink);
        }
    }

    fn text_done(&mut self, place: &Place<'_>, slot: Slot, text: RawText<'_>, sink: &mut impl Sink<Self>) {
        if let Some(item) = self.locate(place, slot.kind()) {
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
        let part = self.items().get_mut(item).part(slot, index);
        if let Some(tail) = self.items().get_mut(item).part_mut(part).complete(text) {
            self.step(item, slot.step(part, tail), sink);
        }
        if slot == Slot::Text {
            self.step(item, Step::TextEnd, sink);
        }
    }

    fn part_added(&mut self, place: &Place<'_>, part: &ContentPart<'_>) {
        let Some(slot) = Slot::of(part) else { return };
        if let Some(item) = self.locate(place, slot.kind()) {
            self.items().get_mut(item).begin_part(slot, place.part_index);
        }
    }

    fn part_done(&mut self, place: &Place<'_>, part: &ContentPart<'_>, sink: &mut impl Sink<Self>) {
        let Some(slot) = Slot::of(part) else { return };
        if let Some(item) = self.locate(place, slot.kind()) {
            self.whole_part(item, slot, place.part_index, part, sink);
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
        let Some(item) = self.locate(place, Kind::Message) else { return };
        let part = self.items().get_mut(item).part(Slot::Text, place.part_index);
        self.cite(item, part, raw, sink);
    }

    fn cite(&mut self, item: usize, part: usize, raw: &serde_json::value::RawValue, sink: &mut impl Sink<Self>) {
        self.items().get_mut(item).part_mut(part).citations += 1;
        if let Some(citation) = Citation::read(raw) {
            self.step(item, Step::Citation { part, citation }, sink);
        }
    }

    fn call_piece(&mut self, place: &Place<'_>, kind: Kind, text: RawText<'_>, sink: &mut impl Sink<Self>) {
        let Some(item) = self.locate(place, kind) else { return };
        if self.items().get_mut(item).admits_call_text(text) {
            self.step(item, Step::CallText(Cow::Borrowed(text.escaped())), sink);
        }
    }

    fn call_text_done(&mut self, place: &Place<'_>, kind: Kind, text: RawText<'_>, sink: &mut impl Sink<Self>) {
        if let Some(item) = self.locate(place, kind) {
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
        let Some(position) = self.items().end(place, kind) else { return };
        self.items().get_mut(position).is_done = true;
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
    }

    fn message_done(&mut self, position: usize, item: &OutputItem<'_>, sink: &mut impl Sink<Self>) {
        for (index, part) in (0_u64..).zip(item.content_parts()) {
            if let Some(slot) = Slot::of(&part) {
                self.whole_part(position, slot, Some(index), &part, sink);
            }
        }
        self.step(position, Step::MessageEnd, sink);
    }

    /// Reasoning of which nothing was streamed is told in one piece.
    fn reasoning_done(&mut self, position: usize, item: &OutputItem<'_>, sink: &mut impl Sink<Self>) {
        let is_untold = self.items().get_mut(position).is_untold();
        let (summary, content) = (item.summary_parts(), item.content_parts());
        let summary = (0_u64..).zip(&summary).map(|(index, part)| (Slot::Summary, index, part.text));
        let content = (0_u64..).zip(&content).map(|(index, part)| (Slot::ReasoningText, index, part.text));
        let mut untold: Vec<&str> = Vec::new();
        let mut first = None;
        for (slot, index, text) in summary.chain(content) {
            let Some(text) = text else { continue };
            let part = self.items().get_mut(position).part(slot, Some(index));
            let Some(tail) = self.items().get_mut(position).part_mut(part).complete(text) else { continue };
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
        let snapshot = self.items().get_mut(position).snapshot.take();
        let encrypted = item.encrypted_content.map(|content| Cow::Borrowed(content.escaped()));
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
        if !self.items().get_mut(position).is_announced {
            return self.items().get_mut(position).lose_call_text();
        }
        if let Some(text) = text {
            self.whole_call_text(position, text, sink);
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

    fn image_done(&mut self, position: usize, item: &OutputItem<'_>, sink: &mut impl Sink<Self>) {
        let Some(base64) = item.result.filter(|result| !result.is_empty()) else { return };
        let format = item.output_format.as_ref().map_or("png", Str::as_str);
        let base64 = Cow::Borrowed(base64.escaped());
        self.step(position, Step::Image { format: Cow::Borrowed(format), base64 }, sink);
    }
}

/// A machine whose client can be told of one call at a time.
pub(in crate::protocol) trait Queued: Arrival {
    /// What lets one call through at a time.
    fn gate(&mut self) -> &mut Gate;

    /// Tells the client of a step whose turn it is.
    fn show(&mut self, item: usize, step: &Step<'_>, sink: &mut impl Sink<Self>);

    /// Shows a step, or lets it wait behind the call that is open.
    fn queue(&mut self, item: usize, step: Step<'_>, sink: &mut impl Sink<Self>) {
        if self.gate().blocks(item) {
            return self.gate().hold(item, step.into_owned());
        }
        self.pass(item, &step, sink);
        self.release(sink);
    }

    /// Everything is over: what waits is shown, and calls that never ended are closed.
    fn close_calls(&mut self, sink: &mut impl Sink<Self>) {
        while let Some(call) = self.gate().open() {
            self.pass(call, &Step::CallClosed, sink);
            self.release(sink);
        }
    }

    /// Shows what waited for the call that was open.
    fn release(&mut self, sink: &mut impl Sink<Self>) {
        while let Some((item, steps)) = self.gate().release() {
            for step in &steps {
                self.pass(item, step, sink);
            }
        }
    }

    /// Lets a step through. A stop sequence may have ended the answer while it was waiting.
    fn pass(&mut self, item: usize, step: &Step<'_>, sink: &mut impl Sink<Self>) {
        self.gate().pass(item, step);
        if !self.is_finished() {
            self.show(item, step, sink);
        }
    }
}

impl Slot {
    fn of(part: &ContentPart<'_>) -> Option<Self> {
        match part.kind.as_str() {
            "output_text" => Some(Self::Text),
            "refusal" => Some(Self::Refusal),
            "summary_text" => Some(Self::Summary),
            "reasoning_text" => Some(Self::ReasoningText),
            _ => None,
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Text | Self::Refusal => Kind::Message,
            Self::Summary | Self::ReasoningText => Kind::Reasoning,
        }
    }

    fn step(self, part: usize, text: RawText<'_>) -> Step<'_> {
        let text = Cow::Borrowed(text.escaped());
        match self {
            Self::Text => Step::Text { part, text },
            Self::Refusal => Step::Refusal(text),
            Self::Summary | Self::ReasoningText => Step::Reasoning { part, text },
        }
    }
}

fn reasoning_slot(place: &Place<'_>) -> Slot {
    match place.list {
        PartList::Summary => Slot::Summary,
        PartList::Content => Slot::ReasoningText,
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
