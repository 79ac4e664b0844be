//! Numbers the events of a response (`sequence_number`) where the backend does.

use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::splice::Splice;

const MEMBER: &str = "sequence_number";

/// The number of the next event. As long as no event was added or dropped, it is the backend's.
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

    /// Notes that an event was dropped.
    pub(super) fn note_change(&mut self) {
        self.has_changed = true;
    }

    /// Counts an event that is passed on unread.
    pub(super) fn count(&mut self) {
        self.next = self.next.map(|next| next + 1);
    }

    /// Counts an event that is passed on, and sets its number if it has one and that has changed.
    pub(super) fn renumber(&mut self, members: &RawObject<'_>, splice: &mut Splice<'_>) {
        let Some(own) = members.get(MEMBER) else { return };
        if self.has_changed() {
            if let Some(next) = self.next {
                splice.replace(own, next.to_string());
            }
        } else if let Ok(number) = own.get().parse() {
            self.next = Some(number);
        }
        self.count();
    }

    /// An event that the backend didn't send, with its number.
    pub(super) fn own(&mut self, kind: &str, members: &str) -> String {
        self.has_changed = true;
        let number = self.next.map(|next| format!(r#","{MEMBER}":{next}"#)).unwrap_or_default();
        self.count();
        format!(r#"{{"type":"{kind}",{members}{number}}}"#)
    }
}
