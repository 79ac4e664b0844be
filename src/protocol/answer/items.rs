//! What has arrived of each output item.
//!
//! Finds the item and the part that an event belongs to, also where the event leaves half of its
//! coordinates out; counts what was sent of each text, so that the events that bring the whole of
//! it add the missing tail and nothing twice; and remembers which texts have a gap. A text with a
//! gap is not sent on until its whole is there: what follows a hole must not close up with what
//! comes before it.

use crate::protocol::codex::{OutputItem, Place};
use crate::protocol::text::{RawText, Str};

/// The items of one answer, in the order of their first appearance.
#[derive(Debug, Default)]
pub(in crate::protocol) struct Items {
    all: Vec<Item>,
    has_gap: bool,
}

/// One item, as far as it has arrived.
#[derive(Debug)]
pub(in crate::protocol) struct Item {
    pub(in crate::protocol) kind: Kind,
    pub(in crate::protocol) is_done: bool,
    /// The client knows of this call.
    pub(in crate::protocol) is_announced: bool,
    pub(in crate::protocol) parts: Vec<Part>,
    /// Arguments or input of a call.
    call_text: Progress,
    output_index: Option<u64>,
    id: Option<String>,
    call_id: Option<String>,
    /// An event that may have been about it could not be read.
    is_suspect: bool,
    /// Encrypted reasoning as the item began: what it ends with is better, and may be missing.
    pub(in crate::protocol) snapshot: Option<String>,
}

/// What an item is to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol) enum Kind {
    Message,
    Reasoning,
    Function,
    Custom,
    Image,
    Search,
    /// Nothing.
    Other,
}

/// One text of an item.
#[derive(Debug)]
pub(in crate::protocol) struct Part {
    slot: Slot,
    index: u64,
    progress: Progress,
    /// Citations that have arrived.
    pub(in crate::protocol) citations: usize,
    /// Characters of content that were shown before this part.
    pub(in crate::protocol) offset: Option<usize>,
    pub(in crate::protocol) has_shown: bool,
}

/// The sequences that the texts of an item belong to; each counts from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol) enum Slot {
    Text,
    Refusal,
    Summary,
    ReasoningText,
}

/// How much of a text has been sent.
#[derive(Debug, Default)]
struct Progress {
    sent_units: usize,
    is_whole: bool,
    /// Something is missing: nothing more is sent until the whole is there.
    awaits_whole: bool,
}

impl Progress {
    fn admits(&mut self, text: RawText<'_>) -> bool {
        if self.is_whole || self.awaits_whole || text.is_empty() {
            return false;
        }
        self.sent_units += text.units();
        true
    }

    fn complete<'a>(&mut self, whole: RawText<'a>) -> Option<RawText<'a>> {
        let tail = whole.after(self.sent_units);
        self.sent_units += tail.units();
        self.is_whole = true;
        self.awaits_whole = false;
        (!tail.is_empty()).then_some(tail)
    }
}

impl Kind {
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

impl Items {
    pub(in crate::protocol) fn get_mut(&mut self, item: usize) -> &mut Item {
        self.all.get_mut(item).expect("positions come from this list, which only grows")
    }

    /// The backend's id of the first item that has one.
    pub(in crate::protocol) fn first_id(&self) -> Option<&str> {
        self.all.iter().find_map(|item| item.id.as_deref())
    }

    /// The item that a delta belongs to; a new one where its beginning was left out. `None`:
    /// several are possible.
    pub(in crate::protocol) fn at(&mut self, place: &Place<'_>, kind: Kind) -> Option<usize> {
        if let Some(item) = self.find(place, kind) {
            return Some(item);
        }
        let has_key = place.output_index.is_some() || place.item_id.is_some() || place.call_id.is_some();
        let is_only = !self.all.iter().any(|item| item.kind == kind && !item.is_done);
        (has_key || is_only).then(|| {
            let is_suspect = self.has_gap;
            self.add(place, kind, is_suspect)
        })
    }

    /// The item that begins with this event.
    pub(in crate::protocol) fn begin(&mut self, place: &Place<'_>, kind: Kind) -> usize {
        let known = self.find(place, kind).filter(|item| !self.get_mut(*item).is_done);
        let item = known.unwrap_or_else(|| self.add(place, kind, false));
        self.get_mut(item).learn(place, kind);
        item
    }

    /// The item that ends with this event; `None` when it has ended before.
    pub(in crate::protocol) fn end(&mut self, place: &Place<'_>, kind: Kind) -> Option<usize> {
        let item = self.find(place, kind).unwrap_or_else(|| self.add(place, kind, false));
        self.get_mut(item).learn(place, kind);
        (!self.get_mut(item).is_done).then_some(item)
    }

    fn find(&self, place: &Place<'_>, kind: Kind) -> Option<usize> {
        let id = place.item_id.as_ref().map(Str::as_str);
        let call_id = place.call_id.as_ref().map(Str::as_str);
        if place.output_index.is_some() {
            // A backend that gives every item the same index still tells them apart by id.
            let is_another =
                |item: &Item| item.is_done && id.is_some() && item.id.is_some() && item.id.as_deref() != id;
            let found = self.all.iter().rposition(|item| item.output_index == place.output_index && !is_another(item));
            if found.is_some() {
                return found;
            }
        }
        let is_free = |item: &Item| item.output_index.is_none() || place.output_index.is_none();
        let by_id = || self.all.iter().rposition(|item| id.is_some() && item.id.as_deref() == id && is_free(item));
        let by_call = || {
            self.all.iter().rposition(|item| call_id.is_some() && item.call_id.as_deref() == call_id && is_free(item))
        };
        by_id().or_else(by_call).or_else(|| self.only_open(place, kind))
    }

    /// An event without coordinates belongs to the only item that it can belong to.
    fn only_open(&self, place: &Place<'_>, kind: Kind) -> Option<usize> {
        let fits = |item: &Item| {
            let is_contradicted = (place.output_index.is_some() && item.output_index.is_some())
                || (place.item_id.is_some() && item.id.is_some())
                || (place.call_id.is_some() && item.call_id.is_some());
            item.kind == kind && !item.is_done && !is_contradicted
        };
        let mut open = self.all.iter().enumerate().filter(|(_, item)| fits(item)).map(|(at, _)| at);
        let first = open.next();
        if open.next().is_some() { None } else { first }
    }

    fn add(&mut self, place: &Place<'_>, kind: Kind, is_suspect: bool) -> usize {
        let mut item = Item {
            kind,
            is_done: false,
            is_announced: false,
            parts: Vec::new(),
            call_text: Progress::default(),
            output_index: None,
            id: None,
            call_id: None,
            is_suspect,
            snapshot: None,
        };
        item.call_text.awaits_whole = is_suspect;
        item.learn(place, kind);
        self.all.push(item);
        self.all.len() - 1
    }

    /// An event could not be read: it may have been a piece of any text that is not whole.
    pub(in crate::protocol) fn note_gap(&mut self) {
        self.has_gap = true;
        for item in self.all.iter_mut().filter(|item| !item.is_done) {
            item.is_suspect = true;
            let texts = item.parts.iter_mut().map(|part| &mut part.progress).chain([&mut item.call_text]);
            texts.filter(|text| !text.is_whole).for_each(|text| text.awaits_whole = true);
        }
    }

    /// Whether something is missing that no later event has made good.
    pub(in crate::protocol) fn is_damaged(&self) -> bool {
        self.all.iter().any(Item::is_damaged) || (self.has_gap && (self.all.is_empty() || self.has_hole()))
    }

    /// Whether an item is missing between others.
    fn has_hole(&self) -> bool {
        let mut seen: Vec<u64> = self.all.iter().filter_map(|item| item.output_index).collect();
        seen.sort_unstable();
        seen.dedup();
        seen.iter().zip(0_u64..).any(|(seen, expected)| *seen != expected)
    }
}

impl Item {
    /// Takes over what the event knows and the item did not.
    fn learn(&mut self, place: &Place<'_>, kind: Kind) {
        let owned = |text: &Str<'_>| text.as_str().to_owned();
        self.output_index = self.output_index.or(place.output_index);
        self.id = self.id.take().or_else(|| place.item_id.as_ref().map(owned));
        self.call_id = self.call_id.take().or_else(|| place.call_id.as_ref().map(owned));
        if !self.is_announced && kind != Kind::Other {
            self.kind = kind;
        }
    }

    /// The call's id for the client.
    pub(in crate::protocol) fn call_id(&self) -> Option<&str> {
        self.call_id.as_deref().or(self.id.as_deref()).filter(|id| !id.is_empty())
    }

    /// The position of a part; a new one where there is none yet.
    pub(in crate::protocol) fn part(&mut self, slot: Slot, index: Option<u64>) -> usize {
        let same = |part: &Part| part.slot == slot && index.is_none_or(|index| part.index == index);
        if let Some(part) = self.parts.iter().rposition(same) {
            return part;
        }
        let progress = Progress { awaits_whole: self.is_suspect, ..Progress::default() };
        let index = index.unwrap_or(0);
        self.parts.push(Part { slot, index, progress, citations: 0, offset: None, has_shown: false });
        self.parts.len() - 1
    }

    pub(in crate::protocol) fn part_mut(&mut self, part: usize) -> &mut Part {
        self.parts.get_mut(part).expect("positions come from this list, which only grows")
    }

    /// A part whose beginning arrived has no gap before it.
    pub(in crate::protocol) fn begin_part(&mut self, slot: Slot, index: Option<u64>) {
        let before = self.parts.len();
        let part = self.part(slot, index);
        if part == before {
            self.part_mut(part).progress.awaits_whole = false;
        }
    }

    /// Whether a piece of a call's text can be sent now.
    pub(in crate::protocol) fn admits_call_text(&mut self, text: RawText<'_>) -> bool {
        if !self.is_announced {
            // Without a name there is nobody to send it to; the whole comes with the name.
            self.call_text.awaits_whole = true;
        }
        self.call_text.admits(text)
    }

    /// What is missing of a call's text.
    pub(in crate::protocol) fn complete_call_text<'a>(&mut self, whole: RawText<'a>) -> Option<RawText<'a>> {
        if self.is_announced { self.call_text.complete(whole) } else { None }
    }

    /// Whether text of it was shown.
    pub(in crate::protocol) fn has_shown_text(&self) -> bool {
        self.parts.iter().any(|part| part.slot == Slot::Text && part.has_shown)
    }

    /// The call ended and there is nobody to send its text to.
    pub(in crate::protocol) fn lose_call_text(&mut self) {
        self.call_text.awaits_whole = true;
    }

    /// Whether nothing of its reasoning was sent yet.
    pub(in crate::protocol) fn is_untold(&self) -> bool {
        self.parts.iter().all(|part| part.progress.sent_units == 0)
    }

    fn is_damaged(&self) -> bool {
        if self.kind.is_call() {
            return self.call_text.awaits_whole || (self.is_suspect && !self.call_text.is_whole);
        }
        let texts_are_whole = !self.parts.is_empty() && self.parts.iter().all(|part| part.progress.is_whole);
        let is_missed = match self.kind {
            Kind::Message | Kind::Reasoning => !self.is_done && !texts_are_whole,
            Kind::Image => !self.is_done,
            Kind::Function | Kind::Custom | Kind::Search | Kind::Other => false,
        };
        self.parts.iter().any(|part| part.progress.awaits_whole) || (self.is_suspect && is_missed)
    }
}

impl Part {
    /// Whether a piece can be sent now.
    pub(in crate::protocol) fn admits(&mut self, text: RawText<'_>) -> bool {
        self.progress.admits(text)
    }

    /// What is missing of it.
    pub(in crate::protocol) fn complete<'a>(&mut self, whole: RawText<'a>) -> Option<RawText<'a>> {
        self.progress.complete(whole)
    }
}
