//! The order in which items reach the client.
//!
//! One message or call is open at a time, from its first piece to its last: most APIs join two messages into one text,
//! and the official SDKs treat a new index as the end of a call. Pieces of other items wait meanwhile, item by item, in
//! the order of first appearance (case `05-parallel-tool-calls-interleaved`). What waits is never longer than the
//! reply.

use std::collections::VecDeque;

use super::reply_item::ReplyItem;

/// An item and its pieces that wait.
type Waiting = (usize, Vec<ReplyItem<'static>>);

/// Holds back the pieces of all items but the one that is open.
#[derive(Debug, Default)]
pub(super) struct Queue {
    open: Option<usize>,
    waiting: VecDeque<Waiting>,
}

impl Queue {
    /// The message or call that is open.
    pub(super) fn open(&self) -> Option<usize> {
        self.open
    }

    /// Whether a piece of this item has to wait.
    pub(super) fn blocks(&self, item: usize) -> bool {
        self.open.is_some_and(|open| open != item)
    }

    /// Adds a piece after the others of its item.
    pub(super) fn hold(&mut self, item: usize, piece: ReplyItem<'static>) {
        match self.waiting.iter_mut().find(|(waiting, _)| *waiting == item) {
            Some((_, pieces)) => pieces.push(piece),
            None => self.waiting.push_back((item, vec![piece])),
        }
    }

    /// Notes a piece that is shown now: it may open or end its item.
    pub(super) fn pass(&mut self, item: usize, piece: &ReplyItem<'_>) {
        match piece {
            ReplyItem::CallStart { .. } | ReplyItem::MessageStart => self.open = Some(item),
            ReplyItem::CallEnd(_) | ReplyItem::MessageEnd => self.open = None,
            _ => {}
        }
    }

    /// Removes the next item that can be shown. `None` while a message or call is open.
    pub(super) fn release(&mut self) -> Option<Waiting> {
        if self.open.is_some() { None } else { self.waiting.pop_front() }
    }
}
