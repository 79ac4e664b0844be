//! Reads, writes and deletes the credential file and its copy.
//!
//! A copy of the last written text is kept next to the file. The temporary files of killed processes are deleted by the
//! next writer. Callers pass paths without symbolic links. Every function blocks; the store calls them off the runtime.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::fs::{
    AtomicFile, Existing, beside, create_private_directory, directory_of, read_text, remove_abandoned, sync_directory,
    write_private,
};

/// Maximum size of the file: enough for a few hundred accounts.
const LIMIT_BYTES: u64 = 4 * 1024 * 1024;
/// Written to check for free space: more than a store with several accounts needs.
const PROBE_SIZE_BYTES: usize = 64 * 1024;

/// Identifies a state of the file without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: Option<SystemTime>,
    size_bytes: u64,
    /// Inode number; zero on systems other than Unix.
    identity: u64,
}

/// Reads the file. Returns `None` if it doesn't exist.
pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match read_text(path, LIMIT_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Returns the system's error message without the name of a temporary file.
pub(super) fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" at path ").map_or(text.as_str(), |(cause, _)| cause).to_owned()
}

/// Returns the file's state, or `None` if it doesn't exist or its metadata can't be read.
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some(Stamp { modified: metadata.modified().ok(), size_bytes: metadata.len(), identity: identity(&metadata) })
}

/// Checks that the file can be written: permissions, a read-only file system, free space.
pub(super) fn probe(path: &Path) -> io::Result<()> {
    create_private_directory(directory_of(path))?;
    let mut file = AtomicFile::create(path, Existing::Replace)?;
    file.write_all(&vec![b' '; PROBE_SIZE_BYTES])?;
    file.sync()
}

/// Replaces the file. The caller must hold the lock.
pub(super) fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    remove_abandoned(path);
    write_private(path, text)
}

/// Replaces the copy, after the file itself. The caller must hold the lock.
pub(super) fn write_copy(path: &Path, text: &[u8]) -> io::Result<()> {
    write(&copy_path(path), text)
}

/// Returns the path of the copy of the last written text.
pub(super) fn copy_path(path: &Path) -> PathBuf {
    beside(path, ".bak")
}

/// Renames a damaged file, and returns its new path. Returns `None` if it doesn't exist.
pub(super) fn rename_damaged(path: &Path) -> io::Result<Option<PathBuf>> {
    let renamed = beside(path, ".damaged");
    match fs::rename(path, &renamed) {
        Ok(()) => Ok(Some(renamed)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Deletes a file, if it exists.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => sync_directory(directory_of(path)),
    }
}

#[cfg(unix)]
fn identity(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn identity(_metadata: &fs::Metadata) -> u64 {
    0
}
