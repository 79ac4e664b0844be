//! Reads and writes the unit or agent file. A marker distinguishes it from files of other programs, which are never
//! replaced.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use super::super::exit::Failure;
use crate::fs::{AtomicFile, Existing, directory_of};

/// Contained in every file that this program writes.
pub(super) const MARK: &str = "Written by `codex-proxy service install`";

/// What exists at the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Installed {
    Missing,
    /// A file of this program, with its text.
    Ours(String),
    Foreign,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteOutcome {
    Created,
    Replaced,
    Unchanged,
}

pub(super) fn find(file: &Path) -> Result<Installed, Failure> {
    match fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Installed::Missing),
        Err(error) => Err(Failure::Other(format!("Can't read {}: {error}", file.display()))),
        Ok(bytes) => Ok(match String::from_utf8(bytes) {
            Ok(text) if text.contains(MARK) => Installed::Ours(text),
            _ => Installed::Foreign,
        }),
    }
}

/// Writes the file, unless it has this text already.
pub(super) fn write(file: &Path, text: &str) -> Result<WriteOutcome, Failure> {
    let change = match find(file)? {
        Installed::Foreign => return Err(foreign_file(file)),
        Installed::Ours(old) if old == text => return Ok(WriteOutcome::Unchanged),
        Installed::Ours(_) => WriteOutcome::Replaced,
        Installed::Missing => WriteOutcome::Created,
    };
    let put = || -> io::Result<()> {
        fs::create_dir_all(directory_of(file))?;
        let mut new = AtomicFile::create(file, Existing::Replace)?;
        new.write_all(text.as_bytes())?;
        new.commit()
    };
    put().map_err(|error| Failure::Other(format!("Can't write {}: {error}", file.display())))?;
    Ok(change)
}

pub(super) fn foreign_file(file: &Path) -> Failure {
    Failure::Other(format!("{} was not written by codex-proxy and isn't changed. Move it away first.", file.display()))
}
