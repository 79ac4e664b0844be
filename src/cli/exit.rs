//! How a command ends.

use std::io;
use std::process::ExitCode;

use crate::command_hint::command;
use crate::config::Faults;
use crate::token_source::AuthError;

/// The exit code of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: it was tried and failed.
    Failed,
    /// 2: the command line or the settings make no sense.
    WrongUse,
    /// 3: there is no login to do it with.
    SignedOut,
}

/// Why a command failed. The texts are for the person at the terminal.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The settings are at fault.
    #[error("the settings can't be used:\n{0}")]
    Settings(Faults),
    /// The command line makes no sense, in one sentence.
    #[error("{0}")]
    Use(String),
    /// The login is at fault.
    #[error("{0}")]
    Auth(AuthError),
    /// A service could not be reached; what is in the way, `doctor` finds.
    #[error("{}: `{}`", .0, command("doctor"))]
    Unreached(String),
    /// Standard output can't be written to.
    #[error("the answer can't be written: {0}")]
    Output(io::Error),
    /// Anything else, in one sentence.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    /// A login that is at fault, or the way to who renews it.
    #[must_use]
    pub fn auth(error: AuthError) -> Self {
        match error {
            AuthError::Unavailable { .. } => Self::Unreached(error.to_string()),
            other => Self::Auth(other),
        }
    }

    /// A failure in its own words.
    pub fn other(cause: &impl ToString) -> Self {
        Self::Other(cause.to_string())
    }

    /// The exit code that it means.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Settings(_) | Self::Use(_) => Exit::WrongUse,
            Self::Auth(
                AuthError::SignedOut
                | AuthError::NoActiveAccount
                | AuthError::UnknownAccount { .. }
                | AuthError::Ended { .. }
                | AuthError::BorrowedEnded { .. }
                | AuthError::GivenEnded { .. },
            ) => Exit::SignedOut,
            Self::Auth(
                AuthError::Store { .. }
                | AuthError::AccountChanged
                | AuthError::TokenRefused { .. }
                | AuthError::Unavailable { .. },
            )
            | Self::Output(_)
            | Self::Unreached(_)
            | Self::Other(_) => Exit::Failed,
        }
    }

    /// Whether the reader of the answer has just had enough of it.
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::WrongUse => 2,
            Exit::SignedOut => 3,
        })
    }
}
