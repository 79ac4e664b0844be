//! One output item: which of its texts have arrived, and which were sent.
//!
//! A text with a gap (a delta that may be missing) waits until an event with the whole text arrives. No later part of
//! the item is sent before it. At the end of the response, the item reports whether content is missing.

use super::progress::{ItemPart, PartKind, TextProgress};
use super::reply_item::Citation;
use crate::protocol::codex::{ItemPosition, OutputItem};
use crate::protocol::json::string::{RawText, Str};

/// One item, as far as it has arrived.
#[derive(Debug)]
pub(in crate::protocol) struct AssembledItem {
    pub(in crate::protocol) kind: ItemKind,
    pub(super) stage: ItemStage,
    /// The start of the call was sent.
    pub(in crate::protocol) is_announced: bool,
    pub(in crate::protocol) parts: Vec<ItemPart>,
    /// Arguments or input of a call.
    call_text: TextProgress,
    pub(in crate::protocol) output_index: Option<u64>,
    pub(in crate::protocol) id: Option<String>,
    pub(super) call_id: Option<String>,
    /// An event that may have belonged to this item could not be read.
    is_suspect: bool,
    texts: TextHandling,
    /// Encrypted reasoning in the event that began the item. Used if the finished item has none.
    pub(in crate::protocol) snapshot: Option<String>,
}

/// The progress of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ItemStage {
    New,
    /// The start of the message was sent. Messages only.
    Opened,
    /// An event with the complete item has arrived.
    Done,
}

/// Treatment of the texts of an item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TextHandling {
    /// They are sent as they arrive.
    #[default]
    Sent,
    /// They are kept until the item is done, and never sent.
    Kept,
}

/// The kinds of output items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol) enum ItemKind {
    Message,
    Reasoning,
    Function,
    Custom,
    Image,
    Search,
    /// An item that isn't sent to clients.
    Other,
}

impl ItemKind {
    pub(in crate::protocol) fn of(item: &OutputItem<'_>) -> Self {
        match item.kind.as_str() {
            "message" => Self::Message,
            "reasoning" => Self::Reasoning,
            "function_call" => Self::Function,
            "custom_tool_call" => Self::Custom,
            "image_generation_call" => Self::Image,
            "web_search_call" => Self::Search,
            _ => Self::Other,
        }
    }

    fn is_call(self) -> bool {
        matches!(self, Self::Function | Self::Custom)
    }
}

impl AssembledItem {
    /// A new item. If `is_suspect`, a delta at its beginning may be missing.
    pub(super) fn new(kind: ItemKind, is_suspect: bool, texts: TextHandling) -> Self {
        Self {
            kind,
            stage: ItemStage::New,
            is_announced: false,
            parts: Vec::new(),
            call_text: TextProgress::suspect(is_suspect),
            output_index: None,
            id: None,
            call_id: None,
            is_suspect,
            texts,
            snapshot: None,
        }
    }

    pub(in crate::protocol) fn is_done(&self) -> bool {
        self.stage == ItemStage::Done
    }

    /// Notes that a delta of any text that is not whole may be missing.
    pub(super) fn note_gap(&mut self) {
        self.is_suspect = true;
        self.parts.iter_mut().for_each(|part| part.progress.note_gap());
        self.call_text.note_gap();
    }

    /// Adds the index and ids in an event that the item lacks. Until a call is announced, also its kind.
    pub(super) fn learn(&mut self, place: &ItemPosition<'_>, kind: ItemKind) {
        let owned = |text: &Str<'_>| text.as_str().to_owned();
        self.output_index = self.output_index.or(place.output_index);
        self.id = self.id.take().or_else(|| place.item_id.as_ref().map(owned));
        self.call_id = self.call_id.take().or_else(|| place.call_id.as_ref().map(owned));
        if !self.is_announced && kind != ItemKind::Other {
            self.kind = kind;
        }
    }

    /// The call's id for the client: its call id, else its item id.
    pub(in crate::protocol) fn call_id(&self) -> Option<&str> {
        self.call_id.as_deref().or(self.id.as_deref()).filter(|id| !id.is_empty())
    }

    /// The position of a part, which is added if it is new.
    pub(in crate::protocol) fn part(&mut self, kind: PartKind, index: Option<u64>) -> usize {
        let same = |part: &ItemPart| part.kind == kind && index.is_none_or(|index| part.index == index);
        if let Some(part) = self.parts.iter().rposition(same) {
            return part;
        }
        self.parts.push(ItemPart::new(kind, index.unwrap_or(0), TextProgress::suspect(self.is_suspect)));
        self.parts.len() - 1
    }

    pub(in crate::protocol) fn part_mut(&mut self, part: usize) -> &mut ItemPart {
        self.parts.get_mut(part).expect("positions come from this list, which only grows")
    }

    /// Notes the event that begins a part: no delta of its beginning is missing.
    pub(in crate::protocol) fn begin_part(&mut self, kind: PartKind, index: Option<u64>) {
        let before = self.parts.len();
        let part = self.part(kind, index);
        if part == before {
            self.part_mut(part).progress.awaits_whole = false;
        }
    }

    /// Accepts a delta of a part, and returns whether it is to be sent now.
    pub(in crate::protocol) fn admits(&mut self, part: usize, text: RawText<'_>) -> bool {
        let is_next = self.is_next(part);
        self.part_mut(part).progress.admits(text, is_next)
    }

    /// Accepts the whole text of a part, and returns what is to be sent of it now.
    pub(in crate::protocol) fn complete<'a>(&mut self, part: usize, whole: RawText<'a>) -> Option<RawText<'a>> {
        let is_next = self.is_next(part);
        let tail = self.part_mut(part).progress.complete(whole, is_next)?;
        let ItemPart { kind, index, .. } = *self.part_mut(part);
        let is_later = |other: &ItemPart| other.index > index && other.kind.is_listed_with(kind);
        if self.parts.iter().any(|other| is_later(other) && other.progress.has_sent()) {
            // Too late: the tail would end up behind the text of a later part.
            self.part_mut(part).progress.contradict();
            return None;
        }
        Some(tail)
    }

    /// Whether every part before this one was sent completely. A part that has not begun counts as not sent.
    fn is_next(&mut self, part: usize) -> bool {
        if self.texts == TextHandling::Kept {
            return false;
        }
        let ItemPart { kind, index, is_next, .. } = *self.part_mut(part);
        if is_next || index == 0 {
            return true;
        }
        let mut expected = 0;
        let mut before: Vec<&ItemPart> =
            self.parts.iter().filter(|other| other.index < index && other.kind.is_listed_with(kind)).collect();
        before.sort_unstable_by_key(|other| other.index);
        for other in before {
            if other.index > expected || !other.progress.is_settled() {
                return false;
            }
            expected = other.index + 1;
        }
        self.part_mut(part).is_next = expected == index;
        expected == index
    }

    /// Removes a held text that can be sent now, and returns its part and the text.
    pub(super) fn release(&mut self, release: Release) -> Option<(usize, String)> {
        if self.texts == TextHandling::Kept {
            return None;
        }
        let mut held: Vec<usize> =
            (0..self.parts.len()).filter(|part| self.part_mut(*part).progress.is_held()).collect();
        held.sort_by_key(|part| self.part_mut(*part).index);
        let part = held.into_iter().find(|part| release == Release::All || self.is_next(*part))?;
        Some((part, self.part_mut(part).progress.release()?))
    }

    /// Removes the citations of a part that can be sent now.
    pub(super) fn release_citations(&mut self, part: usize, release: Release) -> Vec<Citation<'static>> {
        let part = self.part_mut(part);
        let is_free = release == Release::All || part.is_citable();
        if is_free { std::mem::take(&mut part.early) } else { Vec::new() }
    }

    /// Frees what is kept of an item that is done.
    pub(super) fn forget_texts(&mut self) {
        self.call_text.forget_held();
        self.parts.iter_mut().for_each(|part| {
            part.progress.forget_held();
            part.early = Vec::new();
        });
    }

    /// Accepts a delta of a call's text, and returns whether it is to be sent now.
    pub(in crate::protocol) fn admits_call_text(&mut self, text: RawText<'_>) -> bool {
        if !self.is_announced && self.texts == TextHandling::Sent {
            // A call can't be sent without its name; the event that brings the name brings the whole text too.
            self.call_text.awaits_whole = true;
        }
        self.call_text.admits(text, self.texts == TextHandling::Sent)
    }

    /// Accepts the whole text of a call, and returns what is to be sent of it now.
    pub(in crate::protocol) fn complete_call_text<'a>(&mut self, whole: RawText<'a>) -> Option<RawText<'a>> {
        if self.is_announced || self.texts == TextHandling::Kept {
            self.call_text.complete(whole, self.texts == TextHandling::Sent)
        } else {
            None
        }
    }

    /// The kept text of a call, escaped.
    pub(in crate::protocol) fn kept_call_text(&self) -> &str {
        self.call_text.held()
    }

    /// Notes that the call ended without a name, so that its text can't be sent.
    pub(in crate::protocol) fn lose_call_text(&mut self) {
        self.call_text.awaits_whole |= self.texts == TextHandling::Sent;
    }

    /// Whether nothing of the item's texts was sent yet.
    pub(super) fn is_unsent(&self) -> bool {
        self.parts.iter().all(|part| !part.progress.has_sent())
    }

    /// Whether content of the item is or may be missing, because an event with it could not be read or used.
    pub(super) fn is_damaged(&self) -> bool {
        let is_passed_on = self.texts == TextHandling::Kept && self.is_done();
        let is_too_long = self.call_text.is_too_long() || self.parts.iter().any(|part| part.progress.is_too_long());
        if is_too_long && !is_passed_on {
            return true;
        }
        if self.kind.is_call() {
            let is_nameless = !self.is_done() && !self.is_announced && self.call_text.has_arrived();
            let is_missed = self.is_suspect && !self.call_text.is_whole();
            return is_nameless || self.call_text.awaits_whole || is_missed;
        }
        let texts_are_whole = !self.parts.is_empty() && self.parts.iter().all(|part| part.progress.is_whole());
        let is_missed = match self.kind {
            ItemKind::Message | ItemKind::Reasoning => !self.is_done() && !texts_are_whole,
            ItemKind::Image => !self.is_done(),
            ItemKind::Function | ItemKind::Custom | ItemKind::Search | ItemKind::Other => false,
        };
        self.parts.iter().any(|part| part.progress.awaits_whole) || (self.is_suspect && is_missed)
    }

    /// Whether the whole of a text differs from what was sent of it.
    pub(super) fn is_contradicted(&self) -> bool {
        self.call_text.is_contradicted() || self.parts.iter().any(|part| part.progress.is_contradicted())
    }

    /// Whether the item began and isn't done, and none of its content arrived.
    pub(super) fn is_unfilled(&self) -> bool {
        let has_content =
            matches!(self.kind, ItemKind::Message | ItemKind::Function | ItemKind::Custom | ItemKind::Image);
        let has_arrived = self.call_text.has_arrived() || self.parts.iter().any(|part| part.progress.has_arrived());
        has_content && !self.is_done() && !has_arrived
    }

    /// Whether the item is reasoning that isn't done, and none of its text is missing so far.
    pub(super) fn is_open_reasoning(&self) -> bool {
        self.kind == ItemKind::Reasoning && !self.is_done() && !self.parts.iter().any(|part| part.progress.awaits_whole)
    }
}

/// Which of the held parts to release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol) enum Release {
    /// Those whose preceding parts were all sent.
    InOrder,
    /// All of them, since nothing more arrives of the item.
    All,
}
