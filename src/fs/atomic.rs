//! Creates or replaces files atomically: writes a temporary file in the same directory, syncs it, and renames it.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::{create_private_directory, directory_of, resolve, sync_directory};

const TEMPORARY_SUFFIX: &str = ".tmp";

/// A temporary file that is renamed to its target when it is committed, and deleted when it is dropped.
///
/// Its mode is 0600. After a crash or a power failure, the target has either its old content or all of the new one.
#[derive(Debug)]
pub struct AtomicFile {
    temporary: NamedTempFile,
    target: PathBuf,
    existing: Existing,
}

/// What a commit does if the target exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Replaces it. If it is a symbolic link, replaces the file that it leads to.
    Replace,
    /// Fails with [`io::ErrorKind::AlreadyExists`].
    Keep,
}

/// Creates or replaces a file atomically, with mode 0600. Creates its missing directories with mode 0700.
///
/// # Errors
/// If the file can't be written. The old file is still there then.
pub fn write_private(target: &Path, bytes: &[u8]) -> io::Result<()> {
    create_private_directory(directory_of(&resolve(target)))?;
    let mut file = AtomicFile::create(target, Existing::Replace)?;
    file.write_all(bytes)?;
    file.commit()
}

/// Deletes the temporary files that killed processes left next to a target.
///
/// The caller must hold a lock that every writer of the target holds. A file that can't be deleted is left for the
/// next call.
pub fn remove_abandoned(target: &Path) {
    let target = resolve(target);
    let Ok(entries) = fs::read_dir(directory_of(&target)) else { return };
    let prefix = temporary_prefix(&target);
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(&prefix) && name.ends_with(TEMPORARY_SUFFIX) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn temporary_prefix(target: &Path) -> String {
    format!(".{}-", target.file_name().unwrap_or_default().to_string_lossy())
}

impl AtomicFile {
    /// Creates an empty temporary file in the directory of the target, which must exist.
    ///
    /// # Errors
    /// If the file can't be created.
    pub fn create(target: &Path, existing: Existing) -> io::Result<Self> {
        let target = match existing {
            Existing::Replace => resolve(target),
            Existing::Keep => target.to_owned(),
        };
        // On Unix, tempfile creates files with mode 0600.
        let temporary = tempfile::Builder::new()
            .prefix(&temporary_prefix(&target))
            .suffix(TEMPORARY_SUFFIX)
            .tempfile_in(directory_of(&target))?;
        Ok(Self { temporary, target, existing })
    }

    /// Sets the permissions that the target will have.
    ///
    /// # Errors
    /// If they can't be set.
    pub fn set_permissions(&self, permissions: Permissions) -> io::Result<()> {
        self.temporary.as_file().set_permissions(permissions)
    }

    /// Syncs what was written. [`commit`](Self::commit) does this too: call it to make a later commit quick.
    ///
    /// # Errors
    /// If the device fails or is full.
    pub fn sync(&self) -> io::Result<()> {
        self.temporary.as_file().sync_all()
    }

    /// Syncs the temporary file, gives it the target's name, and syncs the directory.
    ///
    /// # Errors
    /// If the temporary file can't be synced or renamed. The old file is still there then.
    pub fn commit(self) -> io::Result<()> {
        self.sync()?;
        let Self { temporary, target, existing } = self;
        let renamed = match existing {
            Existing::Replace => temporary.persist(&target),
            Existing::Keep => temporary.persist_noclobber(&target),
        };
        renamed.map_err(|error| error.error)?;
        if let Err(error) = sync_directory(directory_of(&target)) {
            // The file is replaced; without the sync, the rename may not survive a power failure.
            tracing::warn!(path = %target.display(), %error, "can't sync the directory of a file");
        }
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.temporary.as_file_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temporary.as_file_mut().flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{ErrorKind, Write as _};
    use std::path::Path;

    use super::{AtomicFile, Existing, remove_abandoned, write_private};

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn only_a_commit_replaces_the_target() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("new/file");
        write_private(&target, b"old").unwrap();
        let mut dropped = AtomicFile::create(&target, Existing::Replace).unwrap();
        dropped.write_all(b"new").unwrap();
        drop(dropped);
        assert_eq!(fs::read(&target).unwrap(), b"old");
        write_private(&target, b"new").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(names(target.parent().unwrap()), ["file"]);
    }

    #[test]
    fn an_existing_file_is_kept_on_request() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("file");
        let create = || AtomicFile::create(&target, Existing::Keep).unwrap();
        create().commit().unwrap();
        assert_eq!(create().commit().unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(names(directory.path()), ["file"]);
    }

    #[test]
    fn abandoned_files_of_the_same_target_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        for name in [".file-Ab12.tmp", ".other-Ab12.tmp", "file"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        remove_abandoned(&directory.path().join("file"));
        assert_eq!(names(directory.path()), [".other-Ab12.tmp", "file"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_behind_a_link_is_replaced_and_everything_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let (link, target) = (directory.path().join("link"), directory.path().join("new/file"));
        std::os::unix::fs::symlink("new/file", &link).unwrap();
        write_private(&link, b"text").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&target).unwrap(), b"text");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&target), mode(target.parent().unwrap())), (0o600, 0o700));
    }
}
