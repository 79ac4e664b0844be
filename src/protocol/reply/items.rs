//! The output items of a reply.
//!
//! Finds the item that an event belongs to, even if the event lacks its output index or ids, and detects at the end
//! whether output is missing.

use std::collections::BTreeSet;

use super::item::{AssembledItem, ItemKind, ItemStage, TextHandling};
use crate::protocol::codex::{ItemPosition, OutputItem};
use crate::protocol::json::string::Str;

/// The items of one reply, in the order of their first events.
#[derive(Debug, Default)]
pub(in crate::protocol) struct ItemTable {
    all: Vec<AssembledItem>,
    /// An event of an item could not be read or used.
    has_gap: bool,
    /// An event could not be read while no item was open, and no item has begun since.
    may_lack_item: bool,
    /// The terminal event listed a message before one that was already sent.
    is_misplaced: bool,
    texts: TextHandling,
    /// Positions of the items that the terminal event lists.
    listed: BTreeSet<usize>,
}

/// Prefixes of the types of events that belong to an item.
const ITEM_EVENTS: [&str; 6] = [
    "response.output_",
    "response.content_part",
    "response.refusal",
    "response.reasoning",
    "response.function_call",
    "response.custom_tool",
];

/// Whether an unreadable event may have belonged to an item. Often its type can still be found; a type that no event
/// has is that of an object inside the event.
fn may_be_of_item(data: &str) -> bool {
    const TYPE: &str = r#""type":"#;
    let kind = data.split_once(TYPE).and_then(|(_, rest)| rest.trim_start().strip_prefix('"')?.split_once('"'));
    let starts_with_any = |kind: &str, starts: &[&str]| starts.iter().any(|start| kind.starts_with(start));
    kind.is_none_or(|(kind, _)| {
        starts_with_any(kind, &ITEM_EVENTS) || !starts_with_any(kind, &["response.", "codex.", "keepalive"])
    })
}

impl ItemTable {
    /// A table whose items keep their texts, for an API that passes events on and sends no text of its own.
    pub(in crate::protocol) fn keeping_texts() -> Self {
        Self { texts: TextHandling::Kept, ..Self::default() }
    }

    pub(in crate::protocol) fn len(&self) -> usize {
        self.all.len()
    }

    pub(in crate::protocol) fn get_mut(&mut self, item: usize) -> &mut AssembledItem {
        self.all.get_mut(item).expect("positions come from this list, which only grows")
    }

    /// The backend's id of the first item that has one.
    pub(in crate::protocol) fn first_id(&self) -> Option<&str> {
        self.all.iter().find_map(|item| item.id.as_deref())
    }

    /// The item that a delta belongs to, which is added if the event that begins it is missing. `None` if several items
    /// are possible.
    pub(in crate::protocol) fn at(&mut self, place: &ItemPosition<'_>, kind: ItemKind) -> Option<usize> {
        if let Some(item) = self.find(place, kind) {
            return Some(item);
        }
        let has_key = place.output_index.is_some() || place.item_id.is_some() || place.call_id.is_some();
        let is_only = !self.all.iter().any(|item| item.kind == kind && !item.is_done());
        (has_key || is_only).then(|| {
            let is_suspect = self.has_gap;
            self.add(place, kind, is_suspect)
        })
    }

    /// The item that begins with this event.
    pub(in crate::protocol) fn begin(&mut self, place: &ItemPosition<'_>, kind: ItemKind) -> usize {
        let known = self.find(place, kind).filter(|item| !self.get_mut(*item).is_done());
        let item = known.unwrap_or_else(|| self.add(place, kind, false));
        self.get_mut(item).learn(place, kind);
        item
    }

    /// The item that ends with this event. `None` if it has ended before.
    pub(in crate::protocol) fn end(&mut self, place: &ItemPosition<'_>, kind: ItemKind) -> Option<usize> {
        let item = self.find(place, kind).unwrap_or_else(|| self.add(place, kind, false));
        self.get_mut(item).learn(place, kind);
        (!self.get_mut(item).is_done()).then_some(item)
    }

    /// The item of an event, by output index, else by id, else by call id, else as the only open one of its kind.
    pub(super) fn find(&self, place: &ItemPosition<'_>, kind: ItemKind) -> Option<usize> {
        let id = place.item_id.as_ref().map(Str::as_str);
        let call_id = place.call_id.as_ref().map(Str::as_str);
        if place.output_index.is_some() {
            // Some backends send the same index for every item. The ids still differ.
            let is_another =
                |item: &AssembledItem| item.is_done() && id.is_some() && item.id.is_some() && item.id.as_deref() != id;
            let found = self.all.iter().rposition(|item| item.output_index == place.output_index && !is_another(item));
            if found.is_some() {
                return found;
            }
        }
        let is_free = |item: &AssembledItem| item.output_index.is_none() || place.output_index.is_none();
        let by_id = || self.all.iter().rposition(|item| id.is_some() && item.id.as_deref() == id && is_free(item));
        let by_call = || {
            self.all.iter().rposition(|item| call_id.is_some() && item.call_id.as_deref() == call_id && is_free(item))
        };
        by_id().or_else(by_call).or_else(|| self.only_open(place, kind))
    }

    /// The item of an event that no index or id identifies: the only open one of this kind. `None` if there are
    /// several.
    fn only_open(&self, place: &ItemPosition<'_>, kind: ItemKind) -> Option<usize> {
        let fits = |item: &AssembledItem| {
            let is_contradicted = (place.output_index.is_some() && item.output_index.is_some())
                || (place.item_id.is_some() && item.id.is_some())
                || (place.call_id.is_some() && item.call_id.is_some());
            item.kind == kind && !item.is_done() && !is_contradicted
        };
        let mut open = self.all.iter().enumerate().filter(|(_, item)| fits(item)).map(|(at, _)| at);
        let first = open.next();
        if open.next().is_some() { None } else { first }
    }

    fn add(&mut self, place: &ItemPosition<'_>, kind: ItemKind, is_suspect: bool) -> usize {
        let mut item = AssembledItem::new(kind, is_suspect, self.texts);
        item.learn(place, kind);
        self.all.push(item);
        self.may_lack_item = false;
        self.all.len() - 1
    }

    /// The item for a position of the terminal event's list, which has `count` items: found by id, else by output
    /// index, else by kind, and otherwise added. `None` if it is done already.
    pub(in crate::protocol) fn listed(
        &mut self,
        position: usize,
        count: usize,
        item: &OutputItem<'_>,
    ) -> Option<usize> {
        let kind = ItemKind::of(item);
        let position = u64::try_from(position).unwrap_or(u64::MAX);
        let same = |own: &Option<String>, listed: &Option<Str<'_>>| {
            own.is_some() && own.as_deref() == listed.as_ref().map(Str::as_str)
        };
        let is_at_position = |own: &AssembledItem| own.kind == kind && own.output_index == Some(position);
        // An index beyond the list means that the list is incomplete, so its positions are unreliable.
        let is_beyond_list =
            |own: &AssembledItem| own.output_index.and_then(|index| usize::try_from(index).ok()) >= Some(count);
        let is_candidate = |own: &AssembledItem| {
            let has_ids = own.id.is_some() && item.id.is_some();
            own.kind == kind && !has_ids && (own.output_index.is_none() || is_beyond_list(own))
        };
        let find = |fits: &dyn Fn(&AssembledItem) -> bool| {
            let mut free = self.all.iter().enumerate().filter(|(at, _)| !self.listed.contains(at));
            free.find(|(_, own)| fits(own)).map(|(at, _)| at)
        };
        let found = find(&|own| same(&own.id, &item.id) || same(&own.call_id, &item.call_id))
            .or_else(|| find(&is_at_position))
            .or_else(|| find(&is_candidate));
        let found = found.unwrap_or_else(|| self.add_listed(position, item, kind));
        self.listed.insert(found);
        (!self.get_mut(found).is_done()).then_some(found)
    }

    /// Adds an item that no event but the terminal one contained.
    fn add_listed(&mut self, position: u64, item: &OutputItem<'_>, kind: ItemKind) -> usize {
        let is_shown = |own: &AssembledItem| {
            own.kind == ItemKind::Message && own.stage != ItemStage::New && self.texts == TextHandling::Sent
        };
        let mut later = self.all.iter().enumerate().filter(|(at, _)| !self.listed.contains(at));
        self.is_misplaced |= kind == ItemKind::Message && later.any(|(_, own)| is_shown(own));
        let is_taken = self.all.iter().any(|own| own.output_index == Some(position));
        let place = ItemPosition {
            output_index: (!is_taken).then_some(position),
            item_id: item.id.clone(),
            call_id: item.call_id.clone(),
            ..ItemPosition::default()
        };
        self.add(&place, kind, false)
    }

    /// Notes an event that could not be read: it may have been a delta of any incomplete text.
    pub(in crate::protocol) fn note_unreadable(&mut self, data: &str) {
        if may_be_of_item(data) {
            self.note_gap();
        }
    }

    /// Notes that a delta of any incomplete text may be missing.
    pub(super) fn note_gap(&mut self) {
        self.has_gap = true;
        self.may_lack_item = self.all.iter().all(AssembledItem::is_done);
        self.all.iter_mut().filter(|item| !item.is_done()).for_each(AssembledItem::note_gap);
    }

    /// Notes that the terminal event listed all items.
    pub(super) fn note_complete_list(&mut self) {
        self.may_lack_item = false;
    }

    /// Whether output is missing that no later event contained. With `is_unbilled`, no visible token was billed, so a
    /// response without items is complete.
    pub(super) fn is_damaged(&self, is_unbilled: bool) -> bool {
        let may_lack_item = self.may_lack_item && !(self.all.is_empty() && is_unbilled);
        may_lack_item || self.all.iter().any(AssembledItem::is_damaged) || (self.has_gap && self.has_hole())
    }

    /// Whether the order or the text of what was sent differs from the final output.
    pub(super) fn is_contradicted(&self) -> bool {
        self.is_misplaced || self.all.iter().any(AssembledItem::is_contradicted)
    }

    /// Whether an item began and none of its content arrived.
    pub(super) fn has_unfilled(&self) -> bool {
        self.all.iter().any(AssembledItem::is_unfilled)
    }

    /// Whether an output index below the highest one is missing.
    fn has_hole(&self) -> bool {
        let mut seen: Vec<u64> = self.all.iter().filter_map(|item| item.output_index).collect();
        seen.sort_unstable();
        seen.dedup();
        seen.iter().zip(0_u64..).any(|(seen, expected)| *seen != expected)
    }
}

#[cfg(test)]
mod tests {
    use super::may_be_of_item;

    #[test]
    fn an_unreadable_event_is_part_of_an_item_unless_its_type_says_otherwise() {
        for data in [
            "",
            "{broken",
            r#"{"type":"response.outp"#,
            r#"{"type": "response.output_text.delta","delta":"a"#,
            r#"{"item":{"content":[],"type":"message"},"output_index":0,"ty"#,
            r#"{"delta":"\"type\":\"keepalive\"","ty"#,
        ] {
            assert!(may_be_of_item(data), "{data}");
        }
        for data in
            [r#"{"type":"codex.rate_limits","pla"#, r#"{"type":"keepalive""#, r#"{"type":"response.queued","re"#]
        {
            assert!(!may_be_of_item(data), "{data}");
        }
    }
}
