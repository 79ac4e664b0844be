//! How much of each text was told in pieces, so that a piece which got lost does not go unnoticed.
//!
//! Only looked at where an event could not be read: the pieces then have to add up to the whole.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::incoming::Members;

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
        let length = |name: &str| event.get(name).map(RawValue::get).filter(|raw| raw.starts_with('"')).map(str::len);
        if event.kind.ends_with(".delta") {
            // Without the quotes.
            *self.lengths.entry(place(event)).or_default() += length("delta").map_or(0, |length| length - 2);
        } else if self.has_gap && event.kind.ends_with(".done") {
            let whole = ["text", "refusal", "arguments", "input"].into_iter().find_map(length);
            let told = self.lengths.get(&place(event)).copied().unwrap_or_default();
            self.lost |= whole.is_some_and(|whole| whole - 2 != told);
        }
    }
}

fn place(event: &Members<'_>) -> (u64, u64, bool) {
    let number = |name: &str| event.get(name).and_then(|raw| raw.get().parse().ok());
    let part = number("content_index").or_else(|| number("summary_index")).unwrap_or_default();
    (number("output_index").unwrap_or_default(), part, event.kind.starts_with("response.reasoning_summary"))
}
