//! The file of the service: told from those of others by a mark, and replaced whole.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use super::super::exit::Failure;
use crate::fs::{AtomicFile, Existing, directory_of};

/// Stands in whatever is ours.
pub(super) const MARK: &str = "Written by `codex-proxy service install`";

/// What is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Installed {
    Missing,
    /// With this text.
    Ours(String),
    Foreign,
}

/// What came of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteOutcome {
    Created,
    Replaced,
    Unchanged,
}

pub(super) fn find(file: &Path) -> Result<Installed, Failure> {
    match fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Installed::Missing),
        Err(error) => Err(Failure::Other(format!("{} can't be read: {error}", file.display()))),
        Ok(bytes) => Ok(match String::from_utf8(bytes) {
            Ok(text) if text.contains(MARK) => Installed::Ours(text),
            _ => Installed::Foreign,
        }),
    }
}

/// Puts the text there, unless it is there already.
pub(super) fn write(file: &Path, text: &str) -> Result<WriteOutcome, Failure> {
    let change = match find(file)? {
        Installed::Foreign => return Err(foreign(file)),
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
    put().map_err(|error| Failure::Other(format!("{} can't be written: {error}", file.display())))?;
    Ok(change)
}

pub(super) fn foreign(file: &Path) -> Failure {
    Failure::Other(format!(
        "{} was not written by this program, and is left as it is; move it away first",
        file.display()
    ))
}
