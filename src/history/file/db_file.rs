//! The files of a SQLite database: created private, locked while one process opens them, renamed if damaged.
//!
//! Every function blocks.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::fs::{FileLock, beside, private_options};

/// How long another process may take to open the database.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
const LOCK_INTERVAL: Duration = Duration::from_millis(20);

/// Suffixes of the database file and of those that SQLite keeps next to it.
const COMPANIONS: [&str; 3] = ["", "-wal", "-shm"];

/// Waits for the lock under which the database is opened, migrated or renamed.
pub(super) fn lock(path: &Path) -> io::Result<FileLock> {
    let mut remaining = LOCK_TIMEOUT;
    loop {
        if let Some(lock) = FileLock::try_acquire(path)? {
            return Ok(lock);
        }
        if remaining.is_zero() {
            return Err(io::Error::other("another process is opening it"));
        }
        std::thread::sleep(LOCK_INTERVAL);
        remaining = remaining.saturating_sub(LOCK_INTERVAL);
    }
}

/// Creates the file if it doesn't exist, and sets its mode to 0600. SQLite gives the files next to it the same mode.
pub(super) fn make_private(path: &Path, noun: &str) -> io::Result<()> {
    private_options().truncate(false).write(true).open(path)?;
    if crate::fs::make_private(path)? {
        tracing::warn!("other users could read the {noun}; its mode is 0600 now");
    }
    Ok(())
}

/// Renames a damaged database and its companions, and returns the new path.
pub(super) fn rename_damaged(path: &Path) -> io::Result<PathBuf> {
    let renamed = beside(path, ".damaged");
    for companion in COMPANIONS {
        match fs::rename(beside(path, companion), beside(&renamed, companion)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            moved => moved?,
        }
    }
    Ok(renamed)
}
