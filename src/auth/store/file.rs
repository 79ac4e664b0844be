//! The file of the credential store.
//!
//! Writes are atomic: temporary file in the same directory (mode 0600), fsync, rename, fsync of the directory (mode
//! 0700). The next writer deletes what a killed process left. A copy of the last written text is kept next to the file.
//! Processes exclude each other by a lock on a second file in that directory, which is never deleted, because a lock on
//! a deleted file excludes no process. Callers pass paths without symbolic links: two paths to one file must lead to one
//! lock. Everything here blocks; the store calls it off the runtime.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::fs::{create_private_directory, directory_of, read_text, sync_directory};

const TEMPORARY_SUFFIX: &str = ".tmp";

/// A few hundred accounts.
const LIMIT_BYTES: u64 = 4 * 1024 * 1024;
/// More than a store of several accounts takes.
const PROBE_SIZE_BYTES: usize = 64 * 1024;

/// What distinguishes one state of the file from another, without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: Option<SystemTime>,
    size_bytes: u64,
    identity: u64,
}

/// The lock of one process on the store; dropped, it is free.
#[derive(Debug)]
pub(super) struct FileLock {
    _file: File,
}

/// The file's text; `None`: there is no file.
pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match read_text(path, LIMIT_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// What the system said, without the name of a temporary file, which says nothing to anybody.
pub(super) fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" at path ").map_or(text.as_str(), |(cause, _)| cause).to_owned()
}

/// The file's state; `None`: there is no file, or no way to look at it.
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some(Stamp { modified: metadata.modified().ok(), size_bytes: metadata.len(), identity: identity(&metadata) })
}

/// Takes the lock if it is free; `None`: another process has it.
pub(super) fn try_lock(path: &Path) -> io::Result<Option<FileLock>> {
    create_private_directory(directory_of(path))?;
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    private(&mut options);
    let file = options.open(lock_path(path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(FileLock { _file: file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The lock file of a store.
pub(super) fn lock_path(path: &Path) -> PathBuf {
    beside(path, ".lock")
}

/// A file beside the store's.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

/// Finds out whether a write would succeed: rights, a read-only disk, a full one.
pub(super) fn probe(path: &Path) -> io::Result<()> {
    let mut file = temporary(path)?;
    file.write_all(&vec![b' '; PROBE_SIZE_BYTES])?;
    file.as_file().sync_all()
}

/// Replaces the file's text. The caller holds the lock.
pub(super) fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    replace(path, text)
}

/// Replaces the copy beside the file, once the file itself is written. The caller holds the lock.
pub(super) fn write_copy(path: &Path, text: &[u8]) -> io::Result<()> {
    replace(&copy_path(path), text)
}

/// The copy of what was last written.
pub(super) fn copy_path(path: &Path) -> PathBuf {
    beside(path, ".bak")
}

/// Moves a file that can't be used out of the way, and says where to.
pub(super) fn set_aside(path: &Path) -> io::Result<Option<PathBuf>> {
    let aside = beside(path, ".damaged");
    match fs::rename(path, &aside) {
        Ok(()) => Ok(Some(aside)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Deletes a file; one that is not there is deleted already.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => sync_directory(directory_of(path)),
    }
}

fn replace(target: &Path, text: &[u8]) -> io::Result<()> {
    sweep(target);
    let mut file = temporary(target)?;
    file.write_all(text)?;
    file.as_file().sync_all()?;
    file.persist(target).map_err(|error| error.error)?;
    sync_directory(directory_of(target))
}

/// Whether others than the owner may read the file.
pub(super) fn is_exposed(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| is_open_to_others(&metadata))
}

/// Takes the rights of others away.
#[cfg(unix)]
pub(super) fn tighten(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
}

/// Takes the rights of others away, where files have such rights.
#[cfg(not(unix))]
pub(super) fn tighten(_path: &Path) -> io::Result<()> {
    Ok(())
}

fn temporary(target: &Path) -> io::Result<tempfile::NamedTempFile> {
    create_private_directory(directory_of(target))?;
    // On Unix, tempfile's mode is 0600 from the moment of creation.
    tempfile::Builder::new().prefix(&prefix(target)).suffix(TEMPORARY_SUFFIX).tempfile_in(directory_of(target))
}

fn prefix(target: &Path) -> String {
    format!(".{}-", target.file_name().unwrap_or_default().to_string_lossy())
}

/// Removes the temporary files of killed writers; only the holder of the lock writes, so none is in use.
fn sweep(target: &Path) {
    let Ok(entries) = fs::read_dir(directory_of(target)) else { return };
    let prefix = prefix(target);
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(&prefix) && name.ends_with(TEMPORARY_SUFFIX) {
            // Left for the next writer if it can't be removed.
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(unix)]
fn private(options: &mut OpenOptions) {
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
}

#[cfg(not(unix))]
fn private(_options: &mut OpenOptions) {}

#[cfg(unix)]
fn identity(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn identity(_metadata: &fs::Metadata) -> u64 {
    0
}

#[cfg(unix)]
fn is_open_to_others(metadata: &fs::Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077 != 0
}

#[cfg(not(unix))]
fn is_open_to_others(_metadata: &fs::Metadata) -> bool {
    false
}
