//! Access of other users to files and directories.

use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use crate::command_hint::quoted;

/// A directory in which other users can replace files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExposedDirectory {
    directory: PathBuf,
    mode: u32,
    is_own: bool,
}

impl ExposedDirectory {
    /// Checks a directory. Returns `None` if it doesn't exist, or only its owner can replace files in it.
    ///
    /// With the sticky bit, other users can add files but not replace existing ones.
    #[cfg(unix)]
    #[must_use]
    pub fn find(directory: &Path) -> Option<Self> {
        const WRITABLE_BY_OTHERS: u32 = 0o022;
        const STICKY: u32 = 0o1000;
        let metadata = fs::metadata(directory).ok()?;
        let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777;
        let is_exposed = metadata.is_dir() && mode & WRITABLE_BY_OTHERS != 0 && mode & STICKY == 0;
        is_exposed.then(|| Self { directory: directory.to_owned(), mode, is_own: is_own(&metadata) })
    }

    /// Returns `None`: this platform has no file modes.
    #[cfg(not(unix))]
    #[must_use]
    pub fn find(_directory: &Path) -> Option<Self> {
        None
    }

    /// Returns the shell command that revokes write access of other users.
    #[must_use]
    pub fn command(&self) -> String {
        let sudo = if self.is_own { "" } else { "sudo " };
        format!("{sudo}chmod go-w {}", quoted(&self.directory))
    }
}

impl fmt::Display for ExposedDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "other users can replace files in {} (mode {:04o})", self.directory.display(), self.mode)
    }
}

/// Whether this process's user owns a file.
#[cfg(unix)]
#[must_use]
pub fn is_own(metadata: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::uid(metadata) == rustix::process::geteuid().as_raw()
}

/// Assumes that this process's user owns the file: this platform has no user ids.
#[cfg(not(unix))]
#[must_use]
pub fn is_own(_metadata: &Metadata) -> bool {
    true
}

/// Whether group or others have any permission on a file.
#[cfg(unix)]
#[must_use]
pub fn is_readable_by_others(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|metadata| is_shared(&metadata))
}

/// Returns `false`: this platform has no file modes.
#[cfg(not(unix))]
#[must_use]
pub fn is_readable_by_others(_file: &Path) -> bool {
    false
}

/// Sets the mode of a regular file to 0600 if group or others have any permission on it. Returns whether they had.
///
/// # Errors
/// If the file doesn't exist, or the mode can't be changed.
#[cfg(unix)]
pub fn make_private(file: &Path) -> io::Result<bool> {
    let metadata = fs::metadata(file)?;
    let is_affected = metadata.is_file() && is_shared(&metadata);
    if is_affected {
        fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    }
    Ok(is_affected)
}

/// Does nothing: this platform has no file modes.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub fn make_private(_file: &Path) -> io::Result<bool> {
    Ok(false)
}

#[cfg(unix)]
fn is_shared(metadata: &Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077 != 0
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::{ExposedDirectory, make_private};

    #[test]
    fn a_directory_is_exposed_when_others_can_write_to_it_and_it_is_not_sticky() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for (mode, is_exposed) in
            [(0o700, false), (0o755, false), (0o1777, false), (0o770, true), (0o702, true), (0o2775, true)]
        {
            fs::set_permissions(root, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(ExposedDirectory::find(root).is_some(), is_exposed, "{mode:o}");
        }
        let exposed = ExposedDirectory::find(root).unwrap();
        assert_eq!(exposed.command(), format!("chmod go-w {}", root.display()));
        assert!(exposed.to_string().ends_with("(mode 2775)"), "{exposed}");
        assert_eq!(ExposedDirectory::find(&root.join("none")), None);
    }

    #[test]
    fn only_regular_files_are_made_private() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(make_private(&file).unwrap());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!make_private(&file).unwrap());
        assert!(!make_private(Path::new("/dev/null")).unwrap());
        make_private(&directory.path().join("none")).unwrap_err();
    }
}
