//! Sends events that arrive together in one write.
//!
//! The backend connection returns one frame per poll. A batch window lasts until the runtime has polled the other tasks
//! that are ready: frames that arrive until then join the batch. On an idle runtime a window ends immediately, so it
//! adds no delay.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// The batch window of one response.
#[derive(Debug, Default)]
pub(super) struct BatchWindow(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_running: AtomicBool,
    /// The task that polls the response.
    task: AtomicWaker,
}

impl BatchWindow {
    /// Starts a window, unless one is running. Its end wakes the task.
    pub(super) fn start(&self, cx: &mut Context<'_>) {
        self.0.task.register(cx.waker());
        if self.0.is_running.swap(true, Ordering::AcqRel) {
            return;
        }
        let waker = Waker::from(Arc::clone(&self.0));
        // The runtime wakes yielded tasks after the others. A separate waker is used, so that other wake-ups of the
        // task don't end the window.
        let yielded = std::pin::pin!(tokio::task::yield_now());
        let _ = yielded.poll(&mut Context::from_waker(&waker));
    }

    /// Ready if no window is running.
    pub(super) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
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
