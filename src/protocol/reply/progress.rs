//! How much of a text has arrived, and how much of it was sent to the client.
//!
//! Deltas are sent as they arrive. Text that can't be sent yet, because a text before it is incomplete, is held here.
//! If a delta is missing, the text waits for the event that contains the whole of it. What was sent is remembered as a
//! fingerprint, not as a copy: the whole text has to begin with it, however either of them is escaped.

use std::borrow::Cow;

use super::item::ItemKind;
use super::reply_item::{Citation, ReplyItem};
use crate::protocol::codex::item::ContentPart;
use crate::protocol::codex::{ItemPosition, PartList};
use crate::protocol::json::string::{Prefix, RawText};

/// One part of an item: a text and its citations.
#[derive(Debug)]
pub(in crate::protocol) struct ItemPart {
    pub(in crate::protocol) kind: PartKind,
    /// Position in the list that holds parts of this kind.
    pub(in crate::protocol) index: u64,
    pub(super) progress: TextProgress,
    /// Every part before this one was sent completely.
    pub(super) is_next: bool,
    /// Number of citations that have arrived.
    pub(in crate::protocol) citations: usize,
    /// Citations that arrived before the text they belong to was sent.
    pub(super) early: Vec<Citation<'static>>,
}

/// The kinds of text that an item can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol) enum PartKind {
    Text,
    Refusal,
    Summary,
    ReasoningText,
    /// A part that isn't sent to clients, but counts in the order of the parts.
    Other,
}

/// Maximum length of the held text of one part, escaped. The longest replies have about a megabyte.
const MAX_HELD_BYTES: usize = 4 << 20;

/// The state of one text.
#[derive(Debug, Default)]
pub(super) struct TextProgress {
    sent: Prefix,
    /// Escaped text that follows `sent` and can't be sent yet.
    held: String,
    /// `held` has to be sent. It may be empty: then only the end of the text has to be.
    is_held: bool,
    /// A delta is or may be missing: nothing more is sent until the whole text arrives.
    pub(super) awaits_whole: bool,
    /// The held text exceeded [`MAX_HELD_BYTES`] and was dropped. Only the event with the whole text can repair this.
    is_too_long: bool,
    stage: TextStage,
}

/// The progress of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum TextStage {
    #[default]
    Empty,
    Begun,
    /// The whole text has arrived.
    Whole,
    /// The whole text has arrived, and differs from what was sent of it.
    Contradicted,
}

impl PartKind {
    /// The kind of a part; `None` for a part that isn't sent to clients.
    pub(super) fn of(part: &ContentPart<'_>) -> Option<Self> {
        match part.kind.as_str() {
            "output_text" => Some(Self::Text),
            "refusal" => Some(Self::Refusal),
            "summary_text" => Some(Self::Summary),
            "reasoning_text" => Some(Self::ReasoningText),
            _ => None,
        }
    }

    pub(super) fn item_kind(self) -> ItemKind {
        match self {
            Self::Text | Self::Refusal | Self::Other => ItemKind::Message,
            Self::Summary | Self::ReasoningText => ItemKind::Reasoning,
        }
    }

    pub(super) fn piece(self, part: usize, text: RawText<'_>) -> ReplyItem<'_> {
        let text = Cow::Borrowed(text.escaped());
        match self {
            Self::Text | Self::Other => ReplyItem::Text { part, text },
            Self::Refusal => ReplyItem::Refusal { part, text },
            Self::Summary | Self::ReasoningText => ReplyItem::Reasoning { part, text },
        }
    }

    pub(super) fn of_reasoning(place: &ItemPosition<'_>) -> Self {
        match place.list {
            PartList::Summary => Self::Summary,
            PartList::Content => Self::ReasoningText,
        }
    }

    /// Whether the parts of both kinds are counted in the same list.
    pub(super) fn is_listed_with(self, other: Self) -> bool {
        let list = |kind: Self| match kind {
            Self::Text | Self::Refusal | Self::Other => 0,
            Self::Summary => 1,
            Self::ReasoningText => 2,
        };
        list(self) == list(other)
    }
}

impl ItemPart {
    pub(super) fn new(kind: PartKind, index: u64, progress: TextProgress) -> Self {
        Self { kind, index, progress, is_next: false, citations: 0, early: Vec::new() }
    }

    /// Accepts a citation of this text, and returns whether it is to be sent now.
    pub(super) fn cites(&mut self, citation: &Citation<'_>) -> bool {
        let is_citable = self.is_citable();
        if !is_citable {
            self.early.push(citation.clone().into_owned());
        }
        is_citable
    }

    pub(super) fn is_settled(&self) -> bool {
        self.progress.is_settled()
    }

    /// Whether a citation of this text can be sent.
    pub(super) fn is_citable(&self) -> bool {
        self.progress.has_sent() && !self.progress.is_held && !self.progress.awaits_whole
    }

    /// The text that has arrived and wasn't sent, escaped.
    pub(in crate::protocol) fn held(&self) -> &str {
        &self.progress.held
    }

    /// Citations that arrived and were not sent.
    pub(in crate::protocol) fn held_citations(&self) -> &[Citation<'static>] {
        &self.early
    }
}

impl TextProgress {
    /// The state of a new text. If `is_suspect`, its beginning may be missing.
    pub(super) fn suspect(is_suspect: bool) -> Self {
        Self { awaits_whole: is_suspect, ..Self::default() }
    }

    /// Accepts a delta, and returns whether it is to be sent now. With `is_next`, everything before the text was sent.
    pub(super) fn admits(&mut self, text: RawText<'_>, is_next: bool) -> bool {
        self.stage = self.stage.max(TextStage::Begun);
        if self.is_whole() || self.awaits_whole || text.is_empty() {
            return false;
        }
        if is_next {
            self.sent.push(text);
        } else {
            self.hold(text);
        }
        is_next
    }

    fn hold(&mut self, text: RawText<'_>) {
        self.is_too_long |= self.held.len() + text.escaped().len() > MAX_HELD_BYTES;
        if self.is_too_long {
            return self.forget_held();
        }
        self.held.push_str(text.escaped());
        self.is_held = true;
    }

    /// Accepts the whole text, and returns what is to be sent of it now.
    pub(super) fn complete<'a>(&mut self, whole: RawText<'a>, is_next: bool) -> Option<RawText<'a>> {
        if whole.is_empty() && (self.has_sent() || !self.held.is_empty() || self.is_too_long) {
            // Some events carry an empty text in place of the whole.
            if !self.awaits_whole && !self.is_too_long {
                self.stage = self.stage.max(TextStage::Whole);
            }
            return None;
        }
        self.stage = self.stage.max(TextStage::Whole);
        self.awaits_whole = false;
        self.is_too_long = false;
        let Some(tail) = self.sent.rest_of(whole) else {
            self.contradict();
            return None;
        };
        self.held.clear();
        self.is_held = !is_next;
        if is_next {
            self.sent.push(tail);
            return (!tail.is_empty()).then_some(tail);
        }
        self.held.push_str(tail.escaped());
        None
    }

    /// Returns the text that was held, which is to be sent now. `None` if nothing was held.
    pub(super) fn release(&mut self) -> Option<String> {
        if !std::mem::take(&mut self.is_held) {
            return None;
        }
        let held = std::mem::take(&mut self.held);
        self.sent.push(RawText::from_escaped(&held));
        Some(held)
    }

    /// Frees the held text.
    pub(super) fn forget_held(&mut self) {
        self.held = String::new();
        self.is_held = false;
    }

    /// The text that has arrived and wasn't sent, escaped.
    pub(super) fn held(&self) -> &str {
        &self.held
    }

    pub(super) fn is_too_long(&self) -> bool {
        self.is_too_long
    }

    pub(super) fn is_held(&self) -> bool {
        self.is_held
    }

    pub(super) fn is_whole(&self) -> bool {
        self.stage >= TextStage::Whole
    }

    /// Notes that the whole text differs from what was sent.
    pub(super) fn contradict(&mut self) {
        self.stage = TextStage::Contradicted;
    }

    pub(super) fn is_contradicted(&self) -> bool {
        self.stage == TextStage::Contradicted
    }

    /// Whether the whole text has arrived and was sent.
    pub(super) fn is_settled(&self) -> bool {
        self.is_whole() && !self.is_held
    }

    pub(super) fn has_sent(&self) -> bool {
        self.sent != Prefix::default()
    }

    /// Whether any event had content of the text, or one that may have is missing.
    pub(super) fn has_arrived(&self) -> bool {
        self.stage != TextStage::Empty || self.awaits_whole
    }

    /// Notes that a delta may be missing.
    pub(super) fn note_gap(&mut self) {
        self.awaits_whole |= !self.is_whole();
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_HELD_BYTES, TextProgress};
    use crate::protocol::json::string::RawText;

    #[test]
    fn a_text_that_is_too_long_to_hold_waits_for_the_whole() {
        let piece = "x".repeat(MAX_HELD_BYTES / 2);
        let piece = RawText::from_escaped(&piece);
        let mut progress = TextProgress::default();
        for is_too_long in [false, false, true, true] {
            assert!(!progress.admits(piece, false));
            assert_eq!(progress.is_too_long(), is_too_long);
        }
        assert_eq!(progress.held(), "");
        progress.complete(RawText::from_escaped(""), false);
        assert!(progress.is_too_long() && !progress.is_whole(), "an empty text is not the whole");
        assert_eq!(progress.complete(piece, true), Some(piece));
        assert!(!progress.is_too_long() && progress.is_settled());
    }
}
