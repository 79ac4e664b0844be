//! One response in the background: its object, its events and how it ends.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::request::QueuedRequest;
use crate::budget::Reservation;
use crate::command_hint;
use crate::history::ResponseOwner;
use crate::protocol::responses::background::{ForcedEnd, forced_end, with_status};
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
    /// The current response object; `None` once the response store has it.
    object: Option<String>,
    /// The request; `None` once the response store has its input.
    request: Option<QueuedRequest>,
    /// The value of `x-proxy-warnings` that the response would have had in the foreground.
    warnings: Option<HeaderValue>,
    progress: Progress,
    /// The number of the next event.
    next_number: u64,
    /// The encoded events; `None` if they didn't fit into memory or were evicted.
    events: Option<RecordedEvents>,
    is_deleted: bool,
    /// The process stops before the response could run, and the next one is to run it.
    is_handed_over: bool,
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

/// Whether an event was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    /// It was recorded, or the run no longer records events.
    Yes,
    /// The events of other runs use the memory that it needs. Nothing was changed.
    Full,
    /// With this event, the run alone would exceed the memory for all events. Nothing was changed.
    TooLarge,
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
    /// There are none, since the process stops. The next one will run the response.
    HandedOver,
    /// The events are no longer recorded.
    Lost,
}

/// Approximate size of a recorded event without its text.
const EVENT_BYTES: usize = 64;

impl Run {
    /// A run with this response object, which is queued. `memory` is for its events.
    pub(super) fn new(
        owner: ResponseOwner,
        id: String,
        object: String,
        request: Option<QueuedRequest>,
        memory: Reservation,
    ) -> Self {
        let state = RunState {
            request,
            warnings: None,
            progress: Progress::Open,
            next_number: 0,
            events: Some(RecordedEvents { events: Vec::new(), bytes: 0, memory }),
            is_deleted: false,
            is_handed_over: false,
            object: Some(object),
        };
        let (cancel, changed) = (CancellationToken::new(), watch::Sender::new(()));
        Self { owner, id, cancel, state: Mutex::new(state), changed }
    }

    /// The current response object; `None` if the response has ended and the response store has it.
    pub(super) fn object(&self) -> Option<String> {
        self.state().object.clone()
    }

    /// The request, to read its input; `None` if the response has ended and the response store has it.
    pub(super) fn request(&self) -> Option<QueuedRequest> {
        self.state().request.clone()
    }

    /// Drops what the response store has: the response object and the input.
    pub(super) fn release(&self) {
        let mut state = self.state();
        (state.object, state.request) = (None, None);
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
        // It may have been cancelled meanwhile.
        if state.progress == Progress::Open {
            state.object = state.object.as_deref().map(|object| with_status(object, "in_progress"));
        }
    }

    pub(super) fn is_handed_over(&self) -> bool {
        self.state().is_handed_over
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

    /// Records an event. Ignores events after the end.
    pub(super) fn record(&self, event: &Bytes) -> Recorded {
        let recorded = self.state().record(event);
        self.notify();
        recorded
    }

    /// Deletes the recorded events, and records no further ones. Returns whether there were any.
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

    /// Ends the run without a terminal event of the backend, if its last event can be recorded. Does nothing if it has
    /// ended.
    pub(super) fn force_end(&self, end: &ForcedEnd<'_>) -> Recorded {
        let mut state = self.state();
        let mut recorded = Recorded::Yes;
        if state.progress == Progress::Open {
            let object = state.object.as_deref().unwrap_or_default();
            let (object, event) = forced_end(object, end, state.next_number, command_hint::current());
            recorded = state.record(&event);
            if recorded == Recorded::Yes {
                (state.progress, state.object) = (Progress::Ended, Some(object));
            }
        }
        drop(state);
        self.notify();
        recorded
    }

    /// Ends the streams of the run, which a later process will start. Returns whether it was still open.
    pub(super) fn hand_over(&self) -> bool {
        let mut state = self.state();
        state.is_handed_over = state.progress == Progress::Open;
        let is_handed_over = state.is_handed_over;
        drop(state);
        self.notify();
        is_handed_over
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
            Progress::Open if state.is_handed_over => NextEvents::HandedOver,
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
    fn record(&mut self, event: &Bytes) -> Recorded {
        if self.progress == Progress::Ended {
            return Recorded::Yes;
        }
        if let Some(recorded) = &mut self.events {
            let bytes = recorded.bytes + event.len() + EVENT_BYTES;
            if bytes > recorded.memory.limit_bytes() {
                return Recorded::TooLarge;
            }
            if !recorded.memory.try_set_buffered(bytes) {
                return Recorded::Full;
            }
            recorded.bytes = bytes;
            recorded.events.push(event.clone());
        }
        self.next_number += 1;
        Recorded::Yes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::{NextEvents, Recorded, Run};
    use crate::budget::ByteBudget;
    use crate::history::ResponseOwner;
    use crate::protocol::responses::background::{ForcedEnd, has_status, queued_events};

    const OBJECT: &str = r#"{"id":"resp_1","status":"queued","error":null}"#;

    fn run(memory_bytes: usize) -> (Run, Arc<ByteBudget>) {
        let budget = Arc::new(ByteBudget::new(memory_bytes));
        let owner = ResponseOwner::default();
        let run = Run::new(owner, "resp_1".to_owned(), OBJECT.to_owned(), None, budget.reserve());
        for event in queued_events(OBJECT) {
            assert_eq!(run.record(&event), Recorded::Yes);
        }
        (run, budget)
    }

    #[test]
    fn events_are_read_from_any_number_while_and_after_the_run() {
        let (run, _budget) = run(10_000);
        let NextEvents::Some(first, 2) = run.events_from(0) else { panic!("two events") };
        assert!(first.starts_with(b"event: response.created\n"));
        assert_eq!(run.events_from(2), NextEvents::Pending);
        assert_eq!(run.record(&Bytes::from_static(b"event: x\n\n")), Recorded::Yes);
        assert_eq!(run.events_from(2), NextEvents::Some(Bytes::from_static(b"event: x\n\n"), 3));
        run.end("{}".to_owned());
        assert_eq!((run.events_from(3), run.object().as_deref()), (NextEvents::Ended, Some("{}")));
        assert!(matches!(run.events_from(1), NextEvents::Some(_, 3)));
        assert_eq!(run.events_from(u64::MAX), NextEvents::Ended);
    }

    #[test]
    fn the_first_end_counts() {
        let (run, _budget) = run(10_000);
        assert_eq!(run.force_end(&ForcedEnd::Cancelled), Recorded::Yes);
        run.end("{}".to_owned());
        run.begin();
        assert_eq!(run.force_end(&ForcedEnd::Interrupted), Recorded::Yes);
        assert!(has_status(&run.object().unwrap(), "cancelled"));
        assert!(matches!(run.events_from(2), NextEvents::Some(_, 3)));
    }

    #[test]
    fn events_that_dont_fit_are_reported_as_lost_and_release_their_memory() {
        let (run, budget) = run(1000);
        let (large, end) = (Bytes::from(vec![b'x'; 1000]), ForcedEnd::Interrupted);
        assert_eq!(run.record(&large), Recorded::TooLarge);
        let mut other = budget.reserve();
        assert!(run.has_events() && other.try_set_buffered(1000 - budget.used_bytes()));
        assert_eq!((run.force_end(&end), run.events_from(2)), (Recorded::Full, NextEvents::Pending));
        drop(other);
        assert!(run.forget_events());
        assert_eq!((run.events_from(0), budget.used_bytes()), (NextEvents::Lost, 0));
        assert_eq!(run.force_end(&end), Recorded::Yes);
        assert!(!run.forget_events() && has_status(&run.object().unwrap(), "failed"), "the object isn't stored yet");
    }
}
