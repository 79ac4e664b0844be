//! Reads and writes the files in a directory of cassettes. They are written atomically and readable by their owner
//! only. Their number and total size are bounded: the oldest are deleted.
//!
//! A file's name contains the time at which recording started and the number of the request, so that names sort in the
//! order of the requests. Files without the extension of cassettes are ignored.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::{Cassette, Line, SCHEMA};
use crate::fs::{AtomicFile, Existing};

/// Limits for the number of files and their total size. The newest file is kept even if it is larger.
const MAX_FILES: usize = 500;
const MAX_BYTES: u64 = 256 * 1024 * 1024;
const EXTENSION: &str = ".cassette.jsonl";

/// The file name of a cassette. `started` is an RFC 3339 time.
pub(super) fn name(started: &str, number: u64) -> String {
    format!("{}-{number:06}{EXTENSION}", started.replace(':', "-"))
}

/// Returns the newest cassette in a directory. `None` if there is none, or the directory can't be read.
#[must_use]
pub fn latest(directory: &Path) -> Option<PathBuf> {
    files(directory).ok()?.pop()
}

/// Lists the cassettes in a directory, oldest first.
pub(super) fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let is_cassette = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(EXTENSION));
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        files.extend(Some(entry?.path()).filter(is_cassette));
    }
    files.sort();
    Ok(files)
}

/// Writes a cassette atomically, and deletes the oldest ones over the limits.
pub(super) fn put(directory: &Path, name: &str, cassette: Cassette) -> io::Result<()> {
    let mut out = io::BufWriter::new(AtomicFile::create(&directory.join(name), Existing::Replace)?);
    cassette.write(&mut out)?;
    out.into_inner()?.commit()?;
    delete_oldest(directory)
}

fn delete_oldest(directory: &Path) -> io::Result<()> {
    let (mut count, mut bytes) = (0, 0);
    for path in files(directory)?.into_iter().rev() {
        count += 1;
        bytes += path.metadata().map_or(0, |file| file.len());
        // The newest is always kept.
        if count > 1 && (count > MAX_FILES || bytes > MAX_BYTES) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Reads a cassette. The error is the reason.
pub(super) fn read(path: &Path) -> Result<Cassette, String> {
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    let (mut head, mut response, mut events, mut end) = (None, None, Vec::new(), None);
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(|error| error.to_string())?;
        if index == 0 {
            check_schema(&line)?;
        }
        match serde_json::from_str(&line).map_err(|error| format!("line {}: {error}", index + 1))? {
            Line::Cassette(line) => head = Some(line),
            Line::Response(line) => response = Some(line),
            Line::Event(line) => events.push(line),
            Line::End(line) => end = Some(line),
        }
    }
    let (Some(head), Some(end)) = (head, end) else { return Err("the first or last line is missing".to_owned()) };
    Ok(Cassette { head, response, events, end })
}

fn check_schema(line: &str) -> Result<(), String> {
    let line: serde_json::Value = serde_json::from_str(line).map_err(|error| format!("line 1: {error}"))?;
    match line["cassette"]["schema"].as_u64() {
        Some(schema) if schema > u64::from(SCHEMA) => {
            Err(format!("schema {schema} requires a newer release (this one reads up to {SCHEMA})"))
        }
        Some(_) => Ok(()),
        None => Err("not a cassette".to_owned()),
    }
}
