//! Corrects the numbers of events (`sequence_number`) after an event was inserted or dropped.

use std::fmt;

use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::splice::Splice;

const MEMBER: &str = "sequence_number";

/// The number of the next event. As long as no event was inserted or dropped, it is the backend's.
#[derive(Debug, Default)]
pub(super) struct EventNumbers {
    /// `None` if the backend doesn't number its events.
    next: Option<u64>,
    has_changed: bool,
}

impl EventNumbers {
    /// Whether the numbers of further events differ from the backend's.
    pub(super) fn has_changed(&self) -> bool {
        self.has_changed && self.next.is_some()
    }

    /// Records that an event was dropped.
    pub(super) fn note_change(&mut self) {
        self.has_changed = true;
    }

    /// Counts an event that is forwarded without being parsed.
    pub(super) fn count(&mut self) {
        self.next = self.next.map(|next| next + 1);
    }

    /// Counts a forwarded event that has a number, and corrects the number if it differs from the backend's.
    pub(super) fn renumber(&mut self, members: &RawObject<'_>, splice: &mut Splice<'_>) {
        let Some(current) = members.get(MEMBER) else { return };
        if self.has_changed() {
            if let Some(next) = self.next {
                splice.replace(current, next.to_string());
            }
        } else if let Ok(number) = current.get().parse() {
            self.next = Some(number);
        }
        self.count();
    }

    /// Writes an event that the backend didn't send, with its number.
    pub(super) fn inserted(&mut self, kind: &str, members: impl fmt::Display) -> String {
        self.has_changed = true;
        let number = self.next.map(|next| format!(r#","{MEMBER}":{next}"#)).unwrap_or_default();
        self.count();
        format!(r#"{{"type":"{kind}",{members}{number}}}"#)
    }
}
