//! Child processes without this program's secrets in their environment.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::config::SECRET_VARIABLES;

/// Returns a command without secret variables and with an empty standard input.
pub(super) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    without_secrets(&mut command);
    command
}

/// Removes secret variables from the environment of a command, and empties its standard input.
pub(super) fn without_secrets(command: &mut Command) {
    for name in SECRET_VARIABLES {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
}
