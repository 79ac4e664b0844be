//! The directory of cassettes: whole files only, its owner's alone, and never more than so many.
//!
//! A file's name tells when the recording began and which exchange of it this is, so that the order
//! of the names is the order of the exchanges. Files of other names are left alone.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::{Cassette, Line, SCHEMA};
use crate::fs::{AtomicFile, Existing};

/// How many files are kept, and how large they may be together.
const MAX_FILES: usize = 500;
const MAX_BYTES: u64 = 256 * 1024 * 1024;
const ENDING: &str = ".cassette.jsonl";

/// The name of one exchange's file.
pub(super) fn name(began: &str, number: u64) -> String {
    format!("{}-{number:06}{ENDING}", began.replace(':', "-"))
}

/// The newest cassette in a directory.
#[must_use]
pub fn latest(directory: &Path) -> Option<PathBuf> {
    files(directory).ok()?.pop()
}

/// The cassettes in a directory, oldest first.
pub(super) fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let is_ours = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(ENDING));
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        files.extend(Some(entry?.path()).filter(is_ours));
    }
    files.sort();
    Ok(files)
}

/// Writes a cassette whole or not at all, and makes room for it.
pub(super) fn put(directory: &Path, name: &str, cassette: Cassette) -> io::Result<()> {
    let mut out = io::BufWriter::new(AtomicFile::create(&directory.join(name), Existing::Replace)?);
    cassette.write(&mut out)?;
    out.into_inner()?.commit()?;
    make_room(directory)
}

fn make_room(directory: &Path) -> io::Result<()> {
    let (mut count, mut bytes) = (0, 0);
    for path in files(directory)?.into_iter().rev() {
        count += 1;
        bytes += path.metadata().map_or(0, |file| file.len());
        // The newest stays, however large it is.
        if count > 1 && (count > MAX_FILES || bytes > MAX_BYTES) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Reads a cassette.
pub(super) fn read(path: &Path) -> Result<Cassette, String> {
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    let (mut head, mut answer, mut events, mut end) = (None, None, Vec::new(), None);
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(|error| error.to_string())?;
        if index == 0 {
            check_schema(&line)?;
        }
        match serde_json::from_str(&line).map_err(|error| format!("line {}: {error}", index + 1))? {
            Line::Cassette(line) => head = Some(line),
            Line::Answer(line) => answer = Some(line),
            Line::Event(line) => events.push(line),
            Line::End(line) => end = Some(line),
        }
    }
    let (Some(head), Some(end)) = (head, end) else { return Err("its head or its end is missing".to_owned()) };
    Ok(Cassette { head, answer, events, end })
}

fn check_schema(line: &str) -> Result<(), String> {
    let line: serde_json::Value = serde_json::from_str(line).map_err(|error| format!("line 1: {error}"))?;
    match line["cassette"]["schema"].as_u64() {
        Some(schema) if schema > u64::from(SCHEMA) => {
            Err(format!("it has schema {schema} and needs a newer release (this one reads {SCHEMA})"))
        }
        Some(_) => Ok(()),
        None => Err("it is no cassette".to_owned()),
    }
}
