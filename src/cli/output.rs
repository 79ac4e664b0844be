//! Standard output is the answer, standard error the talk.

use std::io::{self, Write};

use super::exit::Failure;

/// Writes a part of the answer, and a line end.
pub(super) fn answer(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(Failure::Output)
}

/// Writes a part of the answer as it is.
pub(super) fn answer_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(Failure::Output)
}

/// Says something to the person at the terminal. When nobody can hear it, nothing is lost.
pub(super) fn talk(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
