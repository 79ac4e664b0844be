//! The connections of a login that have sent no request yet.
//!
//! Browsers open connections ahead of time, and any local program can hold some open. Without a way
//! to close them, they would keep the real callback waiting. Their number is that of the open
//! connections at most.

use std::collections::VecDeque;
use std::convert::Infallible;

use tokio::sync::oneshot;

/// Connections without a request, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Idle(VecDeque<oneshot::Sender<Infallible>>);

impl Idle {
    /// Adds a connection. It closes when the receiver reports that its sender was dropped; it drops the
    /// receiver when it gets a request.
    pub(super) fn add(&mut self) -> oneshot::Receiver<Infallible> {
        self.forget_busy();
        let (sender, receiver) = oneshot::channel();
        self.0.push_back(sender);
        receiver
    }

    /// Closes the oldest connection.
    pub(super) fn close_oldest(&mut self) {
        self.forget_busy();
        self.0.pop_front();
    }

    pub(super) fn is_empty(&mut self) -> bool {
        self.forget_busy();
        self.0.is_empty()
    }

    fn forget_busy(&mut self) {
        self.0.retain(|sender| !sender.is_closed());
    }
}
