//! A lock on a file, between processes.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::{beside, create_private_directory, directory_of, private_options, resolve};

/// An exclusive lock, released on drop.
///
/// The lock is on a file of its own, because the locked file itself may be renamed. The lock file is never deleted: a
/// lock on a deleted file excludes no other process.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

impl FileLock {
    /// Locks a file that need not exist. Creates its directory (mode 0700) and the lock file next to it (mode 0600).
    /// Returns `None` if the lock is held already, by another process or another [`FileLock`] of this one.
    ///
    /// # Errors
    /// If the directory or the lock file can't be created, or the file system doesn't support locks.
    pub fn try_acquire(file: &Path) -> io::Result<Option<Self>> {
        let path = Self::path(&resolve(file));
        create_private_directory(directory_of(&path))?;
        let file = private_options().truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Returns the path of the lock file. `file` must have no symbolic links.
    #[must_use]
    pub fn path(file: &Path) -> PathBuf {
        beside(file, ".lock")
    }
}

#[cfg(test)]
mod tests {
    use super::FileLock;

    #[test]
    fn a_lock_excludes_others_until_it_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("new/file");
        let lock = FileLock::try_acquire(&file).unwrap().unwrap();
        assert!(FileLock::try_acquire(&file).unwrap().is_none());
        drop(lock);
        assert!(FileLock::try_acquire(&file).unwrap().is_some());
        assert!(FileLock::path(&file).is_file() && !file.exists());
    }

    #[cfg(unix)]
    #[test]
    fn two_paths_to_one_file_have_one_lock() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        std::os::unix::fs::symlink("file", &link).unwrap();
        let _lock = FileLock::try_acquire(&link).unwrap().unwrap();
        assert!(FileLock::try_acquire(&file).unwrap().is_none());
        assert!(!FileLock::path(&link).exists());
    }
}
