//! The order in which items reach the client.
//!
//! One message or call is open at a time, from its first event to its end: two messages are one text in most APIs, and
//! the official SDKs treat a new index as the end of the call. Steps of other items wait meanwhile, item by item, in
//! the order of first appearance (case `05-parallel-tool-calls-interleaved`). What waits is at most the answer itself.

use std::collections::VecDeque;

use super::assembler::Arrival;
use super::reply_item::Step;
use crate::protocol::Sink;

/// Lets the steps of one message or call pass at a time.
#[derive(Debug, Default)]
pub(in crate::protocol) struct Gate {
    open: Option<usize>,
    waiting: VecDeque<(usize, Vec<Step<'static>>)>,
}

impl Gate {
    /// Whether a step of this item has to wait.
    fn blocks(&self, item: usize) -> bool {
        self.open.is_some_and(|open| open != item)
    }

    /// Adds a step after the others of its item.
    fn hold(&mut self, item: usize, step: Step<'static>) {
        match self.waiting.iter_mut().find(|(waiting, _)| *waiting == item) {
            Some((_, steps)) => steps.push(step),
            None => self.waiting.push_back((item, vec![step])),
        }
    }

    /// Notes a step that passes.
    fn pass(&mut self, item: usize, step: &Step<'_>) {
        match step {
            Step::CallOpened { .. } | Step::MessageOpened => self.open = Some(item),
            Step::CallClosed | Step::MessageEnd => self.open = None,
            _ => {}
        }
    }

    /// The next item that waited and may pass; `None` while a message or call is open.
    fn release(&mut self) -> Option<(usize, Vec<Step<'static>>)> {
        if self.open.is_some() { None } else { self.waiting.pop_front() }
    }
}

/// A reply whose client gets one message or call at a time.
pub(in crate::protocol) trait Queued: Arrival {
    fn gate(&mut self) -> &mut Gate;

    /// Shows the client a step whose turn it is.
    fn show(&mut self, item: usize, step: &Step<'_>, sink: &mut impl Sink<Self>);

    /// Shows a step, or lets it wait for the end of the item that is open.
    fn queue(&mut self, item: usize, step: Step<'_>, sink: &mut impl Sink<Self>) {
        if self.gate().blocks(item) {
            return self.gate().hold(item, step.into_owned());
        }
        self.pass(item, &step, sink);
        self.release(sink);
    }

    /// Ends the item that is open, and shows everything that waits.
    fn close_items(&mut self, sink: &mut impl Sink<Self>) {
        while let Some(item) = self.gate().open {
            self.pass(item, &Step::CallClosed, sink);
            self.release(sink);
        }
    }

    /// Shows what waited for the item that was open.
    fn release(&mut self, sink: &mut impl Sink<Self>) {
        while let Some((item, steps)) = self.gate().release() {
            for step in &steps {
                self.pass(item, step, sink);
            }
        }
    }

    /// Lets a step through. A stop sequence may have ended the answer while it was waiting.
    fn pass(&mut self, item: usize, step: &Step<'_>, sink: &mut impl Sink<Self>) {
        self.gate().pass(item, step);
        if !self.is_finished() {
            self.show(item, step, sink);
        }
    }
}
