//! One response in the background: its object, its events and how it ends.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::budget::Reservation;
use crate::command_hint;
use crate::history::ResponseOwner;
use crate::protocol::responses::background::{ForcedEnd, forced_end, queued_events, with_status};
use crate::server::response_stream::CHUNK_BYTES;

/// A response in the background, from its creation until an hour after its end.
#[derive(Debug)]
pub(in crate::server) struct Run {
    pub(super) owner: ResponseOwner,
    pub(super) id: String,
    /// Cancelled by the client.
    pub(super) cancel: CancellationToken,
    state: Mutex<RunState>,
    /// Changes with the state.
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct RunState {
    /// The current response object; `None` once the response store has the final one.
    object: Option<String>,
    /// The value of `x-proxy-warnings` that the response would have had in the foreground.
    warnings: Option<HeaderValue>,
    progress: Progress,
    /// The number of the next event.
    next_number: u64,
    /// The encoded events; `None` if they didn't fit into memory or were evicted.
    events: Option<RecordedEvents>,
    is_deleted: bool,
}

/// Whether the response has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Open,
    Ended,
}

#[derive(Debug)]
struct RecordedEvents {
    events: Vec<Bytes>,
    bytes: usize,
    memory: Reservation,
}

/// The events of a run from some number on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextEvents {
    /// Encoded events, and the number of the one after them.
    Some(Bytes, u64),
    /// There are none yet.
    Pending,
    /// There are none, and the run has ended.
    Ended,
    /// The events are no longer recorded.
    Lost,
}

/// Approximate size of a recorded event without its text.
const EVENT_BYTES: usize = 64;

impl Run {
    /// A run with this response object, which is queued. `memory` is for its events.
    pub(super) fn new(owner: ResponseOwner, id: String, object: String, memory: Reservation) -> Self {
        let first_events = queued_events(&object);
        let state = RunState {
            warnings: None,
            progress: Progress::Open,
            next_number: 0,
            events: Some(RecordedEvents { events: Vec::new(), bytes: 0, memory }),
            is_deleted: false,
            object: Some(object),
        };
        let run = Self {
            owner,
            id,
            cancel: CancellationToken::new(),
            state: Mutex::new(state),
            changed: watch::Sender::new(()),
        };
        for event in first_events {
            if !run.record(&event) {
                run.lose(&event);
            }
        }
        run
    }

    /// The current response object; `None` once the response store has the final one.
    pub(super) fn object(&self) -> Option<String> {
        self.state().object.clone()
    }

    /// Releases the response object, which the response store has now.
    pub(super) fn release_object(&self) {
        self.state().object = None;
    }

    pub(super) fn warnings(&self) -> Option<HeaderValue> {
        self.state().warnings.clone()
    }

    pub(super) fn set_warnings(&self, warnings: Option<HeaderValue>) {
        self.state().warnings = warnings;
    }

    /// Records that the run has started.
    pub(super) fn begin(&self) {
        let mut state = self.state();
        state.object = state.object.as_deref().map(|object| with_status(object, "in_progress"));
    }

    pub(in crate::server) fn is_ended(&self) -> bool {
        self.state().progress == Progress::Ended
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.state().is_deleted
    }

    pub(super) fn mark_deleted(&self) {
        self.state().is_deleted = true;
    }

    /// Whether the events are still recorded.
    pub(super) fn has_events(&self) -> bool {
        self.state().events.is_some()
    }

    /// Records an event. Returns whether there was memory for it. Ignores events after the end.
    pub(super) fn record(&self, event: &Bytes) -> bool {
        let is_recorded = self.state().record(event);
        self.notify();
        is_recorded
    }

    /// Stops recording, for lack of memory for this event.
    pub(super) fn lose(&self, event: &Bytes) {
        self.state().lose(event);
        self.notify();
    }

    /// Deletes the recorded events. Returns whether there were any.
    pub(super) fn forget_events(&self) -> bool {
        let had_events = self.state().events.take().is_some();
        self.notify();
        had_events
    }

    /// Ends the run with the final response object, after its last event. Does nothing if it has ended.
    pub(super) fn end(&self, object: String) {
        let mut state = self.state();
        if state.progress == Progress::Open {
            (state.progress, state.object) = (Progress::Ended, Some(object));
        }
        drop(state);
        self.notify();
    }

    /// Ends the run without a terminal event of the backend. Does nothing if it has ended.
    pub(super) fn force_end(&self, end: &ForcedEnd<'_>) {
        let mut state = self.state();
        if state.progress == Progress::Open
            && let Some(object) = &state.object
        {
            let (object, event) = forced_end(object, end, state.next_number, command_hint::current());
            if !state.record(&event) {
                state.lose(&event);
            }
            (state.progress, state.object) = (Progress::Ended, Some(object));
        }
        drop(state);
        self.notify();
    }

    /// Ends the streams of the run, which a later process will start.
    pub(super) fn close(&self) {
        self.state().progress = Progress::Ended;
        self.notify();
    }

    /// Adds a terminating mark that isn't an event, such as `[DONE]`, to the last event.
    pub(super) fn append_to_last(&self, mark: &Bytes) {
        let mut state = self.state();
        if let Some(last) = state.events.as_mut().and_then(|recorded| recorded.events.last_mut()) {
            *last = [last.as_ref(), mark].concat().into();
        }
    }

    /// The events from this number on, up to the size of a chunk.
    pub(super) fn events_from(&self, number: u64) -> NextEvents {
        let state = self.state();
        let Some(RecordedEvents { events, .. }) = &state.events else { return NextEvents::Lost };
        let start = usize::try_from(number).unwrap_or(usize::MAX);
        let mut chunk = BytesMut::new();
        let mut next = number;
        for event in events.get(start..).unwrap_or_default() {
            chunk.extend_from_slice(event);
            next += 1;
            if chunk.len() >= CHUNK_BYTES {
                break;
            }
        }
        match state.progress {
            _ if next > number => NextEvents::Some(chunk.freeze(), next),
            Progress::Open => NextEvents::Pending,
            Progress::Ended => NextEvents::Ended,
        }
    }

    /// Reports changes of the state.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn notify(&self) {
        self.changed.send_replace(());
    }

    fn state(&self) -> MutexGuard<'_, RunState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RunState {
    fn record(&mut self, event: &Bytes) -> bool {
        if self.progress == Progress::Ended {
            return true;
        }
        if let Some(recorded) = &mut self.events {
            let bytes = recorded.bytes + event.len() + EVENT_BYTES;
            if bytes > recorded.memory.limit_bytes() || !recorded.memory.try_set_buffered(bytes) {
                return false;
            }
            recorded.bytes = bytes;
            recorded.events.push(event.clone());
        }
        self.next_number += 1;
        true
    }

    fn lose(&mut self, event: &Bytes) {
        tracing::warn!(bytes = event.len(), "the events of a background response don't fit into memory; it continues");
        (self.events, self.next_number) = (None, self.next_number + 1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::{NextEvents, Run};
    use crate::budget::ByteBudget;
    use crate::history::ResponseOwner;
    use crate::protocol::responses::background::{ForcedEnd, has_status};

    const OBJECT: &str = r#"{"id":"resp_1","status":"queued","error":null}"#;

    fn run(memory_bytes: usize) -> (Run, Arc<ByteBudget>) {
        let budget = Arc::new(ByteBudget::new(memory_bytes));
        let owner = ResponseOwner::default();
        (Run::new(owner, "resp_1".to_owned(), OBJECT.to_owned(), budget.reserve()), budget)
    }

    #[test]
    fn events_are_read_from_any_number_while_and_after_the_run() {
        let (run, _budget) = run(10_000);
        let NextEvents::Some(first, 2) = run.events_from(0) else { panic!("two events") };
        assert!(first.starts_with(b"event: response.created\n"));
        assert_eq!(run.events_from(2), NextEvents::Pending);
        assert!(run.record(&Bytes::from_static(b"event: x\n\n")));
        assert_eq!(run.events_from(2), NextEvents::Some(Bytes::from_static(b"event: x\n\n"), 3));
        run.end("{}".to_owned());
        assert_eq!((run.events_from(3), run.object().as_deref()), (NextEvents::Ended, Some("{}")));
        assert!(matches!(run.events_from(1), NextEvents::Some(_, 3)));
        assert_eq!(run.events_from(u64::MAX), NextEvents::Ended);
    }

    #[test]
    fn the_first_end_counts() {
        let (run, _budget) = run(10_000);
        run.force_end(&ForcedEnd::Cancelled);
        run.end("{}".to_owned());
        run.force_end(&ForcedEnd::Interrupted);
        assert!(has_status(&run.object().unwrap(), "cancelled"));
        assert!(matches!(run.events_from(2), NextEvents::Some(_, 3)));
    }

    #[test]
    fn events_that_dont_fit_are_reported_as_lost_and_release_their_memory() {
        let (run, budget) = run(1000);
        let large = Bytes::from(vec![b'x'; 1000]);
        assert!(!run.record(&large) && run.has_events());
        run.lose(&large);
        assert_eq!((run.events_from(0), budget.used_bytes()), (NextEvents::Lost, 0));
        run.force_end(&ForcedEnd::Interrupted);
        assert!(has_status(&run.object().unwrap(), "failed") && !run.forget_events());
    }
}
