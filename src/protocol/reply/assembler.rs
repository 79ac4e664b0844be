//! Assembles output items from upstream events, and puts them into an [`ItemSink`] piece by piece.
//!
//! Finds the item of an event, and what the event adds to it. A delta is a piece as it is. An event with a whole text
//! or item adds only what is missing (case `20-arguments-only-in-done`). A piece is never sent twice, and text never
//! before the text that precedes it in its item. Items may be interleaved: the presenter puts them in order. Events
//! identify an item by an [`ItemPosition`]; here, `item` or `position` is its position in the [`ItemTable`].

mod whole_item;

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::item::{ItemKind, ItemStage, Release};
use super::items::ItemTable;
use super::progress::PartKind;
use super::reply_item::{Citation, ReplyItem};
use crate::protocol::UpstreamEvent;
use crate::protocol::codex::item::ContentPart;
use crate::protocol::codex::{ItemPosition, OutputItem};
use crate::protocol::json::string::{RawText, Str};
use crate::protocol::upstream_input::CallKind;

/// The items of one response, as far as they have arrived.
#[derive(Debug, Default)]
pub(in crate::protocol) struct Assembler {
    pub(in crate::protocol) items: ItemTable,
}

/// Receives the pieces of items: "sent" means put into this sink.
pub(in crate::protocol) trait ItemSink {
    /// Accepts the next piece of the item at position `item` of `items`.
    fn put(&mut self, items: &ItemTable, item: usize, piece: ReplyItem<'_>);
}

/// Discards all pieces.
#[derive(Debug)]
pub(in crate::protocol) struct Discard;

impl ItemSink for Discard {
    fn put(&mut self, _items: &ItemTable, _item: usize, _piece: ReplyItem<'_>) {}
}

impl Assembler {
    /// An assembler that keeps all texts and sends none, for an API that passes events on.
    pub(in crate::protocol) fn keeping_texts() -> Self {
        Self { items: ItemTable::keeping_texts() }
    }

    /// Accepts the next event. Events that belong to no item are ignored.
    pub(in crate::protocol) fn accept(&mut self, event: UpstreamEvent<'_>, out: &mut impl ItemSink) {
        match event {
            UpstreamEvent::Text(place, text) => self.text(&place, PartKind::Text, text, out),
            UpstreamEvent::Refusal(place, text) => self.text(&place, PartKind::Refusal, text, out),
            UpstreamEvent::Reasoning(place, text) => self.text(&place, PartKind::of_reasoning(&place), text, out),
            UpstreamEvent::TextDone(place, text) => self.text_done(&place, PartKind::Text, text, out),
            UpstreamEvent::RefusalDone(place, text) => self.text_done(&place, PartKind::Refusal, text, out),
            UpstreamEvent::ReasoningDone(place, text) => {
                self.text_done(&place, PartKind::of_reasoning(&place), text, out);
            }
            UpstreamEvent::PartAdded(place, part) => self.part_added(&place, &part, out),
            UpstreamEvent::PartDone(place, part) => self.part_done(&place, &part, out),
            UpstreamEvent::Annotation(place, annotation) => self.annotation(&place, annotation, out),
            UpstreamEvent::Arguments(place, text) => self.call_text(&place, ItemKind::Function, text, out),
            UpstreamEvent::Input(place, text) => self.call_text(&place, ItemKind::Custom, text, out),
            UpstreamEvent::ArgumentsDone(place, text) => self.call_text_done(&place, ItemKind::Function, text, out),
            UpstreamEvent::InputDone(place, text) => self.call_text_done(&place, ItemKind::Custom, text, out),
            UpstreamEvent::ItemAdded(place, item) => self.item_added(&with_ids(place, &item), &item, out),
            UpstreamEvent::ItemDone(place, item) => self.item_done(&with_ids(place, &item), &item, out),
            UpstreamEvent::Malformed { data } => self.items.note_unreadable(data),
            UpstreamEvent::Created(_)
            | UpstreamEvent::Completed(_)
            | UpstreamEvent::Incomplete(_)
            | UpstreamEvent::Failed(_)
            | UpstreamEvent::Other { .. } => {}
        }
    }

    /// Finds or adds the item of an event. Notes a gap if the event may belong to several items, so that it can't be
    /// used.
    fn locate(&mut self, place: &ItemPosition<'_>, kind: ItemKind, out: &mut impl ItemSink) -> Option<usize> {
        let item = self.items.at(place, kind);
        match item {
            Some(item) => self.open_message(item, out),
            None => self.items.note_gap(),
        }
        item
    }

    /// Sends the start of a message at its first event, even if its text can't be sent yet: that determines its place
    /// among the items of the reply.
    fn open_message(&mut self, item: usize, out: &mut impl ItemSink) {
        let entry = self.items.get_mut(item);
        if entry.kind == ItemKind::Message && entry.stage == ItemStage::New {
            entry.stage = ItemStage::Opened;
            self.release_reasoning(item, out);
            out.put(&self.items, item, ReplyItem::MessageStart);
        }
    }

    /// Sends the held text of reasoning items before a message: they normally are complete by then.
    fn release_reasoning(&mut self, before: usize, out: &mut impl ItemSink) {
        for item in 0..before {
            if self.items.get_mut(item).is_open_reasoning() {
                self.release_parts(item, Release::All, out);
            }
        }
    }

    fn text(&mut self, place: &ItemPosition<'_>, kind: PartKind, text: RawText<'_>, out: &mut impl ItemSink) {
        let Some(item) = self.locate(place, kind.item_kind(), out) else { return };
        let entry = self.items.get_mut(item);
        let part = entry.part(kind, place.part_index);
        if entry.admits(part, text) {
            out.put(&self.items, item, kind.piece(part, text));
            self.release_citations(item, part, Release::InOrder, out);
        }
    }

    fn text_done(&mut self, place: &ItemPosition<'_>, kind: PartKind, text: RawText<'_>, out: &mut impl ItemSink) {
        if let Some(item) = self.locate(place, kind.item_kind(), out) {
            self.whole_text(item, kind, place.part_index, text, out);
        }
    }

    /// Sends what is missing of a text, and ends it.
    fn whole_text(
        &mut self,
        item: usize,
        kind: PartKind,
        index: Option<u64>,
        text: RawText<'_>,
        out: &mut impl ItemSink,
    ) {
        let entry = self.items.get_mut(item);
        let part = entry.part(kind, index);
        if let Some(tail) = entry.complete(part, text) {
            out.put(&self.items, item, kind.piece(part, tail));
        }
        if kind == PartKind::Text && self.items.get_mut(item).part_mut(part).is_settled() {
            out.put(&self.items, item, ReplyItem::TextEnd);
        }
        self.release_citations(item, part, Release::InOrder, out);
        self.release_parts(item, Release::InOrder, out);
    }

    /// Sends the parts that waited for the parts before them.
    fn release_parts(&mut self, item: usize, release: Release, out: &mut impl ItemSink) {
        while let Some((part, text)) = self.items.get_mut(item).release(release) {
            let entry = self.items.get_mut(item).part_mut(part);
            let (kind, is_settled) = (entry.kind, entry.is_settled());
            if !text.is_empty() {
                out.put(&self.items, item, kind.piece(part, RawText::from_escaped(&text)));
            }
            if is_settled && kind == PartKind::Text {
                out.put(&self.items, item, ReplyItem::TextEnd);
            }
            self.release_citations(item, part, release, out);
        }
    }

    /// Sends the citations that waited for their text.
    fn release_citations(&mut self, item: usize, part: usize, release: Release, out: &mut impl ItemSink) {
        for citation in self.items.get_mut(item).release_citations(part, release) {
            out.put(&self.items, item, ReplyItem::Citation { part, citation });
        }
    }

    fn part_added(&mut self, place: &ItemPosition<'_>, part: &ContentPart<'_>, out: &mut impl ItemSink) {
        let Some(kind) = PartKind::of(part) else { return };
        if let Some(item) = self.locate(place, kind.item_kind(), out) {
            self.items.get_mut(item).begin_part(kind, place.part_index);
        }
    }

    fn part_done(&mut self, place: &ItemPosition<'_>, part: &ContentPart<'_>, out: &mut impl ItemSink) {
        let Some(kind) = PartKind::of(part) else { return self.other_part_done(place, out) };
        if let Some(item) = self.locate(place, kind.item_kind(), out) {
            self.whole_part(item, kind, place.part_index, part, out);
        }
    }

    /// Completes a part that isn't sent to clients, so that the parts after it can be sent.
    fn other_part_done(&mut self, place: &ItemPosition<'_>, out: &mut impl ItemSink) {
        if let Some(item) = self.items.find(place, ItemKind::Message) {
            self.whole_text(item, PartKind::Other, place.part_index, RawText::from_escaped(""), out);
        }
    }

    fn whole_part(
        &mut self,
        item: usize,
        kind: PartKind,
        index: Option<u64>,
        part: &ContentPart<'_>,
        out: &mut impl ItemSink,
    ) {
        let text = if kind == PartKind::Refusal { part.refusal.or(part.text) } else { part.text };
        if let Some(text) = text {
            self.whole_text(item, kind, index, text, out);
        }
        let annotations = part.annotations.as_deref().unwrap_or_default();
        let position = self.items.get_mut(item).part(kind, index);
        let known = self.items.get_mut(item).part_mut(position).citations;
        for annotation in annotations.iter().skip(known) {
            self.cite(item, position, annotation, out);
        }
    }

    fn annotation(&mut self, place: &ItemPosition<'_>, raw: &RawValue, out: &mut impl ItemSink) {
        let Some(item) = self.locate(place, ItemKind::Message, out) else { return };
        let part = self.items.get_mut(item).part(PartKind::Text, place.part_index);
        self.cite(item, part, raw, out);
    }

    /// Counts a citation, and sends it unless its text isn't sent yet.
    fn cite(&mut self, item: usize, part: usize, raw: &RawValue, out: &mut impl ItemSink) {
        let entry = self.items.get_mut(item).part_mut(part);
        entry.citations += 1;
        let Some(citation) = Citation::read(raw) else { return };
        if entry.cites(&citation) {
            out.put(&self.items, item, ReplyItem::Citation { part, citation });
        }
    }

    fn call_text(&mut self, place: &ItemPosition<'_>, kind: ItemKind, text: RawText<'_>, out: &mut impl ItemSink) {
        let Some(item) = self.locate(place, kind, out) else { return };
        if self.items.get_mut(item).admits_call_text(text) {
            out.put(&self.items, item, ReplyItem::CallText(Cow::Borrowed(text.escaped())));
        }
    }

    fn call_text_done(&mut self, place: &ItemPosition<'_>, kind: ItemKind, text: RawText<'_>, out: &mut impl ItemSink) {
        if let Some(item) = self.locate(place, kind, out) {
            self.whole_call_text(item, text, out);
        }
    }

    fn whole_call_text(&mut self, item: usize, text: RawText<'_>, out: &mut impl ItemSink) {
        if let Some(tail) = self.items.get_mut(item).complete_call_text(text) {
            out.put(&self.items, item, ReplyItem::CallText(Cow::Borrowed(tail.escaped())));
        }
    }

    /// Sends the start of a call, once, as soon as its name is known.
    fn announce(&mut self, position: usize, kind: ItemKind, item: &OutputItem<'_>, out: &mut impl ItemSink) {
        let Some(name) = item.name.as_ref().map(Str::as_str).filter(|name| !name.is_empty()) else { return };
        let entry = self.items.get_mut(position);
        if std::mem::replace(&mut entry.is_announced, true) {
            return;
        }
        let id = entry.call_id().map_or_else(|| format!("call_{position}"), str::to_owned);
        let kind = if kind == ItemKind::Custom { CallKind::Custom } else { CallKind::Function };
        out.put(&self.items, position, ReplyItem::CallStart { id: Cow::Owned(id), name: Cow::Borrowed(name), kind });
    }
}

/// The position of an event that contains its item, with the item's ids where the event has none.
fn with_ids<'a>(place: ItemPosition<'a>, item: &OutputItem<'a>) -> ItemPosition<'a> {
    ItemPosition {
        item_id: place.item_id.or_else(|| item.id.clone()),
        call_id: place.call_id.or_else(|| item.call_id.clone()),
        ..place
    }
}
