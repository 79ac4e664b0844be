//! Events that begin or end a whole item, and the list of items in the terminal event.

use std::borrow::Cow;

use super::{Assembler, ItemSink};
use crate::protocol::codex::{ItemPosition, OutputItem, ResponseObject};
use crate::protocol::json::string::{RawText, Str};
use crate::protocol::reply::item::{ItemKind, ItemStage, Release};
use crate::protocol::reply::progress::PartKind;
use crate::protocol::reply::renderer::BLANK_LINE;
use crate::protocol::reply::reply_item::{CallEnd, ReplyItem, Search};

impl Assembler {
    pub(super) fn item_added(&mut self, place: &ItemPosition<'_>, item: &OutputItem<'_>, out: &mut impl ItemSink) {
        let kind = ItemKind::of(item);
        let position = self.items.begin(place, kind);
        self.open_message(position, out);
        if matches!(kind, ItemKind::Function | ItemKind::Custom) {
            self.announce(position, kind, item, out);
        }
        if kind == ItemKind::Reasoning {
            let snapshot = item.encrypted_content.map(|content| content.escaped().to_owned());
            self.items.get_mut(position).snapshot = snapshot;
        }
    }

    pub(super) fn item_done(&mut self, place: &ItemPosition<'_>, item: &OutputItem<'_>, out: &mut impl ItemSink) {
        let kind = ItemKind::of(item);
        if let Some(position) = self.items.end(place, kind) {
            self.finish_item(position, item, out);
        }
    }

    /// Accepts a complete item: sends what is missing of it, and its end.
    pub(in crate::protocol) fn finish_item(&mut self, position: usize, item: &OutputItem<'_>, out: &mut impl ItemSink) {
        let kind = ItemKind::of(item);
        self.open_message(position, out);
        self.items.get_mut(position).stage = ItemStage::Done;
        match kind {
            ItemKind::Message => self.message_done(position, item, out),
            ItemKind::Reasoning => self.reasoning_done(position, item, out),
            ItemKind::Function => self.call_done(position, kind, item, item.arguments, out),
            ItemKind::Custom => self.call_done(position, kind, item, item.input, out),
            ItemKind::Image => self.image_done(position, item, out),
            ItemKind::Search => {
                if let Some(search) = Search::read(item) {
                    out.put(&self.items, position, ReplyItem::Search(search));
                }
            }
            ItemKind::Other => {}
        }
        self.items.get_mut(position).forget_texts();
    }

    fn message_done(&mut self, position: usize, item: &OutputItem<'_>, out: &mut impl ItemSink) {
        for (index, part) in (0_u64..).zip(item.content_parts()) {
            match PartKind::of(&part) {
                Some(kind) => self.whole_part(position, kind, Some(index), &part, out),
                None => self.whole_text(position, PartKind::Other, Some(index), RawText::from_escaped(""), out),
            }
        }
        self.end_message(position, out);
    }

    /// Sends what is held of a message, and ends it.
    fn end_message(&mut self, position: usize, out: &mut impl ItemSink) {
        self.release_parts(position, Release::All, out);
        for part in 0..self.items.get_mut(position).parts.len() {
            self.release_citations(position, part, Release::All, out);
        }
        out.put(&self.items, position, ReplyItem::MessageEnd);
    }

    /// Sends what is missing of reasoning, and ends it. If none of it was sent, its parts are joined to one piece.
    fn reasoning_done(&mut self, position: usize, item: &OutputItem<'_>, out: &mut impl ItemSink) {
        let is_unsent = self.items.get_mut(position).is_unsent();
        let (summary, content) = (item.summary_parts(), item.content_parts());
        let summary = (0_u64..).zip(&summary).map(|(index, part)| (PartKind::Summary, index, part.text));
        let content = (0_u64..).zip(&content).map(|(index, part)| (PartKind::ReasoningText, index, part.text));
        let mut unsent: Vec<&str> = Vec::new();
        let mut first = None;
        for (kind, index, text) in summary.chain(content) {
            let Some(text) = text else { continue };
            let entry = self.items.get_mut(position);
            let part = entry.part(kind, Some(index));
            let Some(tail) = entry.complete(part, text) else { continue };
            if is_unsent {
                unsent.push(tail.escaped());
                first = first.or(Some(part));
            } else {
                out.put(&self.items, position, kind.piece(part, tail));
            }
        }
        if let Some(part) = first {
            let text = Cow::Owned(unsent.join(BLANK_LINE));
            out.put(&self.items, position, ReplyItem::Reasoning { part, text });
        }
        self.end_reasoning(position, item.encrypted_content, out);
    }

    /// Sends what is held of reasoning, and ends it.
    fn end_reasoning(&mut self, position: usize, encrypted: Option<RawText<'_>>, out: &mut impl ItemSink) {
        self.release_parts(position, Release::All, out);
        let snapshot = self.items.get_mut(position).snapshot.take();
        let encrypted = encrypted.map(|content| Cow::Borrowed(content.escaped()));
        let encrypted = encrypted.or(snapshot.map(Cow::Owned)).filter(|content| !content.is_empty());
        out.put(&self.items, position, ReplyItem::ReasoningEnd { encrypted });
    }

    fn call_done(
        &mut self,
        position: usize,
        kind: ItemKind,
        item: &OutputItem<'_>,
        text: Option<RawText<'_>>,
        out: &mut impl ItemSink,
    ) {
        self.announce(position, kind, item, out);
        if let Some(text) = text {
            self.whole_call_text(position, text, out);
        }
        if !self.items.get_mut(position).is_announced {
            return self.items.get_mut(position).lose_call_text();
        }
        out.put(&self.items, position, ReplyItem::CallEnd(CallEnd::Complete));
    }

    fn image_done(&mut self, position: usize, item: &OutputItem<'_>, out: &mut impl ItemSink) {
        let Some(base64) = item.result.filter(|result| !result.is_empty()) else { return };
        let format = item.output_format.as_ref().map_or("png", Str::as_str);
        let base64 = Cow::Borrowed(base64.escaped());
        out.put(&self.items, position, ReplyItem::Image { format: Cow::Borrowed(format), base64 });
    }

    /// Accepts the list of items in the terminal event: it may have items that no other event contained.
    pub(in crate::protocol) fn accept_list(&mut self, response: &ResponseObject<'_>, out: &mut impl ItemSink) {
        let listed = response.output_items();
        for (position, item) in listed.iter().enumerate() {
            if let Some(position) = self.items.listed(position, listed.len(), item) {
                self.finish_item(position, item, out);
            }
        }
        if !listed.is_empty() {
            self.items.note_complete_list();
        }
    }

    /// Ends the items that no event ended, with the content of their deltas.
    pub(in crate::protocol) fn end_open_items(&mut self, out: &mut impl ItemSink) {
        for position in 0..self.items.len() {
            let item = self.items.get_mut(position);
            match item.kind {
                _ if item.is_done() => {}
                ItemKind::Message => self.end_message(position, out),
                ItemKind::Reasoning => self.end_reasoning(position, None, out),
                ItemKind::Function | ItemKind::Custom => {
                    out.put(&self.items, position, ReplyItem::CallEnd(CallEnd::Truncated));
                }
                ItemKind::Image | ItemKind::Search | ItemKind::Other => {}
            }
        }
    }
}
