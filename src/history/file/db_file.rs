//! The files of a store: its owner's alone, opened by one process at a time, set aside whole.
//!
//! Everything here blocks.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::fs::{create_private_directory, directory_of};

/// How long another process may take to open the store.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Beside the database itself, what SQLite keeps of it.
const COMPANIONS: [&str; 3] = ["", "-wal", "-shm"];

/// The right to open, migrate or set aside the store; dropped, another process has it.
#[derive(Debug)]
pub(super) struct Turn {
    _file: File,
}

/// Waits for the turn. The lock file is never deleted, since a lock on a deleted file excludes nobody.
pub(super) fn take_turn(path: &Path) -> io::Result<Turn> {
    create_private_directory(directory_of(path))?;
    let file = private().open(beside(path, ".lock"))?;
    let mut left = LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Turn { _file: file }),
            Err(TryLockError::WouldBlock) if !left.is_zero() => {
                std::thread::sleep(LOCK_PAUSE);
                left = left.saturating_sub(LOCK_PAUSE);
            }
            Err(TryLockError::WouldBlock) => return Err(io::Error::other("another process is opening it")),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Makes the file where there is none, and takes the rights of others away. SQLite gives its further
/// files the same rights.
pub(super) fn make_private(path: &Path, noun: &str) -> io::Result<()> {
    let file = private().open(path)?;
    tighten(&file, noun)
}

/// Moves a file that can't be used out of the way, with what belongs to it.
pub(super) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = beside(path, ".damaged");
    for companion in COMPANIONS {
        match fs::rename(beside(path, companion), beside(&aside, companion)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            moved => moved?,
        }
    }
    Ok(aside)
}

/// The file of this name with something behind it.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

#[cfg(unix)]
fn tighten(file: &File, noun: &str) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    const OF_OTHERS: u32 = 0o077;
    let is_private = file.metadata()?.permissions().mode() & OF_OTHERS == 0;
    if is_private {
        return Ok(());
    }
    tracing::warn!("other users could read the {noun}; its rights are 0600 now");
    file.set_permissions(fs::Permissions::from_mode(0o600))
}

#[cfg(not(unix))]
fn tighten(_file: &File, _noun: &str) -> io::Result<()> {
    Ok(())
}
