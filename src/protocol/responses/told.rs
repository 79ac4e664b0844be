//! How much of each text was told in pieces, so that a piece which got lost does not go unnoticed.
//!
//! Only looked at where an event could not be read: the pieces then have to add up to the whole.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::incoming::{Members, list, object};
use crate::protocol::envelope::Envelope;

/// Where the whole of a text may stand.
const TEXTS: [&str; 4] = ["text", "refusal", "arguments", "input"];

/// Lengths of what was told, by item and part.
#[derive(Debug, Default)]
pub(super) struct Told {
    lengths: BTreeMap<(u64, u64, bool), usize>,
    has_gap: bool,
    lost: bool,
}

impl Told {
    /// Something could not be read.
    pub(super) fn note_gap(&mut self) {
        self.has_gap = true;
    }

    /// Whether something could not be read.
    pub(super) fn has_gap(&self) -> bool {
        self.has_gap
    }

    /// Whether a piece of a text is missing.
    pub(super) fn is_missing(&self) -> bool {
        self.lost
    }

    /// Takes note of a piece, or holds the pieces against the whole.
    pub(super) fn note(&mut self, event: &Members<'_>) {
        if event.kind.ends_with(".delta") {
            let piece = event.get("delta").and_then(length_bytes).unwrap_or_default();
            *self.lengths.entry(place(event)).or_default() += piece;
        } else if self.has_gap && event.kind == "response.output_item.done" {
            self.note_item(event);
        } else if self.has_gap && event.kind.ends_with(".done") {
            let whole = TEXTS.into_iter().find_map(|name| length_bytes(event.get(name)?));
            self.hold(place(event), whole);
        }
    }

    /// An item holds its texts, too: that is all there is where no event closes them one by one.
    fn note_item(&mut self, event: &Members<'_>) {
        let (index, ..) = place(event);
        let Some((_, item)) = event.object("item") else { return };
        let whole = |of: &Envelope<'_>| TEXTS.into_iter().find_map(|name| length_bytes(of.get(name)?));
        let parts = list(&item, "content").into_iter().map(|part| object(part).and_then(|(_, part)| whole(&part)));
        let own = whole(&item).map(|whole| (0, Some(whole)));
        for (part, whole) in (0..).zip(parts).chain(own) {
            self.hold((index, part, false), whole);
        }
    }

    fn hold(&mut self, place: (u64, u64, bool), whole: Option<usize>) {
        let told = self.lengths.get(&place).copied().unwrap_or_default();
        self.lost |= whole.is_some_and(|whole| whole != told);
    }
}

/// How long a text is as it is written, without its quotes.
fn length_bytes(raw: &RawValue) -> Option<usize> {
    Some(raw.get().strip_prefix('"')?.len() - 1)
}

fn place(event: &Members<'_>) -> (u64, u64, bool) {
    let number = |name: &str| event.get(name).and_then(|raw| raw.get().parse().ok());
    let part = number("content_index").or_else(|| number("summary_index")).unwrap_or_default();
    (number("output_index").unwrap_or_default(), part, event.kind.starts_with("response.reasoning_summary"))
}
