//! Connections to the callback server that have sent no request yet.
//!
//! Browsers open connections in advance, and any local program can keep some open. They can be closed, so that they
//! don't use up the connection limit and block the callback.

use std::collections::VecDeque;
use std::convert::Infallible;

use tokio::sync::oneshot;

/// Connections without a request, the oldest first.
#[derive(Debug, Default)]
pub(super) struct IdleConnections(VecDeque<oneshot::Sender<Infallible>>);

impl IdleConnections {
    /// Adds a connection. It closes when the receiver reports that its sender was dropped; it drops the
    /// receiver when it gets a request.
    pub(super) fn add(&mut self) -> oneshot::Receiver<Infallible> {
        self.remove_busy();
        let (sender, receiver) = oneshot::channel();
        self.0.push_back(sender);
        receiver
    }

    /// Closes the oldest connection.
    pub(super) fn close_oldest(&mut self) {
        self.remove_busy();
        self.0.pop_front();
    }

    pub(super) fn is_empty(&mut self) -> bool {
        self.remove_busy();
        self.0.is_empty()
    }

    fn remove_busy(&mut self) {
        self.0.retain(|sender| !sender.is_closed());
    }
}
