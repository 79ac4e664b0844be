//! A moment's patience, so that what arrives together is sent together.
//!
//! A connection to the backend hands over one frame at a time, and has to be asked for each. A turn is
//! the time until this thread has done what else there is to do: as long as frames are at hand, they
//! are part of that. It is no delay: a thread that has nothing to do ends a turn at once.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// The turns of one answer, one at a time.
#[derive(Debug, Default)]
pub(super) struct BatchWindow(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_running: AtomicBool,
    task: AtomicWaker,
}

impl BatchWindow {
    /// Begins a turn; its end wakes the task.
    pub(super) fn begin(&self, cx: &mut Context<'_>) {
        self.0.task.register(cx.waker());
        if self.0.is_running.swap(true, Ordering::AcqRel) {
            return;
        }
        let waker = Waker::from(Arc::clone(&self.0));
        // The runtime wakes at the end of its turn whoever gives way. That the task has been polled
        // meanwhile, for other reasons, does not end ours.
        let giving_way = std::pin::pin!(tokio::task::yield_now());
        let _ = giving_way.poll(&mut Context::from_waker(&waker));
    }

    /// Comes at the end of the turn, at once where there is none.
    pub(super) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.task.register(cx.waker());
        if self.0.is_running.load(Ordering::Acquire) { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Wake for State {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_running.store(false, Ordering::Release);
        self.task.wake();
    }
}
