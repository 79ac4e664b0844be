//! Child processes: their environment contains none of our secrets.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::config::SECRET_VARIABLES;

/// A command without our secret variables, and with nothing on its standard input.
pub(super) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    without_secrets(&mut command);
    command
}

/// Removes our secret variables from the environment of a command, and empties its standard input.
pub(super) fn without_secrets(command: &mut Command) {
    for name in SECRET_VARIABLES {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
}
