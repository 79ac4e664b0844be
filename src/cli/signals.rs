//! Signals that stop the daemon or reload its settings.
//!
//! SIGINT and SIGTERM stop it. SIGHUP reloads the settings, except if the daemon was started from a terminal that has
//! been closed: then it stops.

use std::io;
#[cfg(unix)]
use std::io::IsTerminal;

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignalAction {
    /// Ctrl-C, Ctrl-Break, SIGTERM, or the end of the terminal.
    Stop,
    #[cfg(unix)]
    Reload,
}

/// Handlers of these signals, installed by [`Signals::listen`].
#[derive(Debug)]
pub(super) struct Signals {
    #[cfg(unix)]
    interrupt: Signal,
    #[cfg(unix)]
    terminate: Signal,
    #[cfg(unix)]
    hangup: Signal,
    /// Whether stderr was a terminal at the start.
    #[cfg(unix)]
    was_at_terminal: bool,
    #[cfg(windows)]
    interrupt: tokio::signal::windows::CtrlC,
    #[cfg(windows)]
    close: tokio::signal::windows::CtrlBreak,
}

impl Signals {
    #[cfg(unix)]
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            was_at_terminal: io::stderr().is_terminal(),
        })
    }

    #[cfg(windows)]
    pub(super) fn listen() -> io::Result<Self> {
        use tokio::signal::windows::{ctrl_break, ctrl_c};
        Ok(Self { interrupt: ctrl_c()?, close: ctrl_break()? })
    }

    /// Waits for the next signal.
    #[cfg(unix)]
    pub(super) async fn next(&mut self) -> SignalAction {
        tokio::select! {
            _ = self.interrupt.recv() => SignalAction::Stop,
            _ = self.terminate.recv() => SignalAction::Stop,
            // After a terminal is closed, stderr isn't a terminal any more.
            _ = self.hangup.recv() => {
                if self.was_at_terminal && !io::stderr().is_terminal() { SignalAction::Stop } else { SignalAction::Reload }
            }
        }
    }

    /// Waits for the next signal.
    #[cfg(windows)]
    pub(super) async fn next(&mut self) -> SignalAction {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.close.recv() => {}
        }
        SignalAction::Stop
    }
}
