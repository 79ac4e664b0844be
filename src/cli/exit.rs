//! Exit codes and failures of commands.

use std::io;
use std::process::ExitCode;

use crate::command_hint::command;
use crate::config::ConfigErrors;
use crate::token_source::AuthError;

/// The exit code of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: failed.
    Failed,
    /// 2: wrong usage or invalid settings.
    WrongUsage,
    /// 3: not signed in, or the session expired.
    SignedOut,
}

/// Why a command failed. `Display` is the message for the user.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Invalid settings.
    #[error("Invalid settings:\n{0}")]
    Settings(ConfigErrors),
    /// Wrong usage.
    #[error("{0}")]
    Usage(String),
    /// No usable login, or the credential store failed.
    #[error("{0}")]
    Auth(AuthError),
    /// The issuer or the backend can't be reached.
    #[error("{} Run `{}`.", sentence(.0), command("doctor"))]
    Unreachable(String),
    /// Standard output can't be written.
    #[error("Can't write to standard output: {0}")]
    Output(io::Error),
    /// Any other failure.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    /// Converts an error of the token source.
    #[must_use]
    pub fn auth(error: AuthError) -> Self {
        match error {
            AuthError::Unavailable { .. } => Self::Unreachable(error.to_string()),
            other => Self::Auth(other),
        }
    }

    /// Uses the text of any error as the message.
    pub fn other(cause: &impl ToString) -> Self {
        Self::Other(cause.to_string())
    }

    /// Returns the exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Settings(_) | Self::Usage(_) => Exit::WrongUsage,
            Self::Auth(
                AuthError::ByClient
                | AuthError::SignedOut
                | AuthError::NoActiveAccount
                | AuthError::UnknownAccount { .. }
                | AuthError::Ended { .. }
                | AuthError::BorrowedEnded { .. }
                | AuthError::EnvTokenUnusable { .. }
                | AuthError::ClientTokenUnusable { .. },
            ) => Exit::SignedOut,
            Self::Auth(
                AuthError::Store { .. }
                | AuthError::AccountChanged
                | AuthError::TokenRefused { .. }
                | AuthError::Unavailable { .. },
            )
            | Self::Output(_)
            | Self::Unreachable(_)
            | Self::Other(_) => Exit::Failed,
        }
    }

    /// Whether the reader of standard output closed the pipe.
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Ends a text with a period, unless it ends with one.
fn sentence(text: &str) -> String {
    format!("{}.", text.trim_end_matches('.'))
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::WrongUsage => 2,
            Exit::SignedOut => 3,
        })
    }
}
