//! Files and directories that only their owner can read.
//!
//! Replaces files atomically, locks them between processes, and creates them with mode 0600 in directories with mode
//! 0700. Symbolic links are resolved first, so that locks and temporary files are next to the real file. Also reads
//! files that other programs wrote. Every function blocks. Permissions are set and checked on Unix only.

mod atomic;
mod lock;
mod permissions;

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

pub use self::atomic::{AtomicFile, Existing, remove_abandoned, write_private};
pub use self::lock::FileLock;
pub use self::permissions::{ExposedDirectory, is_own, is_readable_by_others, make_private};

/// The number of symbolic links that Linux follows in one path.
const MAX_LINKS: usize = 40;

/// Some editors and shells on Windows start UTF-8 files with these bytes.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Replaces every symbolic link in a path by its target, and returns an absolute path.
///
/// Neither the file nor its directories have to exist. A relative path starts at the current directory. A path whose
/// links form a loop is only made absolute: opening it reports the loop.
#[must_use]
pub fn resolve(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    follow(&absolute).unwrap_or(absolute)
}

fn follow(path: &Path) -> Option<PathBuf> {
    let (mut resolved, mut links) = (PathBuf::new(), 0);
    let mut rest = components_reversed(path);
    while let Some(component) = rest.pop() {
        if component == "." {
            continue;
        }
        if component == ".." {
            resolved.pop();
            continue;
        }
        resolved.push(component);
        if let Ok(target) = fs::read_link(&resolved) {
            links += 1;
            if links > MAX_LINKS {
                return None;
            }
            resolved.pop();
            // An absolute target begins with the root, which replaces what was resolved so far.
            rest.extend(components_reversed(&target));
        }
    }
    Some(resolved)
}

fn components_reversed(path: &Path) -> Vec<OsString> {
    path.components().rev().map(|component| component.as_os_str().to_owned()).collect()
}

/// Returns the directory of a file: `.` for a bare name.
#[must_use]
pub fn directory_of(file: &Path) -> &Path {
    file.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Returns the path with a suffix appended to the file name: `a/b.json` and `.lock` give `a/b.json.lock`.
#[must_use]
pub fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    file.with_file_name(name)
}

/// Returns options that create a missing file with mode 0600. The caller adds the kind of access.
#[must_use]
pub fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Creates a directory and its missing parents with mode 0700. A directory that exists keeps its mode.
///
/// # Errors
/// If a directory can't be created, or the name belongs to a file.
pub fn create_private_directory(directory: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// Syncs a directory, so that a rename in it survives a power failure. Does nothing if the file system doesn't support
/// this.
///
/// # Errors
/// If the directory can't be opened, or the device fails.
#[cfg(unix)]
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(directory)?.sync_all() {
        Err(error) if is_unsupported(&error) => Ok(()),
        synced => synced,
    }
}

/// Does nothing: this platform can't sync directories.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub fn sync_directory(_directory: &Path) -> io::Result<()> {
    Ok(())
}

/// Whether an error means that the file system doesn't support the operation.
#[cfg(unix)]
fn is_unsupported(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let unsupported = [Errno::INVAL, Errno::NOTSUP, Errno::OPNOTSUPP, Errno::NOSYS];
    Errno::from_io_error(error).is_some_and(|errno| unsupported.contains(&errno))
}

/// Reads a text file that another program may have written. Returns its bytes, which may be invalid UTF-8, without the
/// byte order mark.
///
/// # Errors
/// If the file can't be read, is a pipe, a device or a directory ([`ErrorKind::InvalidInput`]), or is longer than the
/// limit ([`ErrorKind::FileTooLarge`]).
pub fn read_text(file: &Path, limit_bytes: u64) -> io::Result<Vec<u8>> {
    let mut options = File::options();
    options.read(true);
    // Without this, opening a pipe waits for a writer.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, non_blocking());
    let opened = options.open(file)?;
    if !opened.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    opened.take(limit_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit_bytes {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("it is longer than {limit_bytes} bytes")));
    }
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(bytes)
}

#[cfg(unix)]
fn non_blocking() -> i32 {
    i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).expect("the flag is one of the low bits")
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::fs;
    use std::io;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};

    use rustix::io::Errno;

    use super::{read_text, resolve, sync_directory};

    /// A temporary directory and its path without links.
    fn directory() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = fs::canonicalize(directory.path()).unwrap();
        (directory, path)
    }

    #[test]
    fn every_link_of_a_path_is_followed() {
        let (_guard, root) = directory();
        fs::create_dir_all(root.join("real/deep")).unwrap();
        fs::write(root.join("real/deep/file"), "").unwrap();
        symlink("real", root.join("relative")).unwrap();
        symlink(root.join("real/deep"), root.join("absolute")).unwrap();
        symlink("../absolute/file", root.join("real/chain")).unwrap();
        symlink("deep/../deep/file", root.join("real/dots")).unwrap();
        for path in ["real/deep/file", "relative/deep/file", "absolute/file", "relative/chain", "real/dots"] {
            assert_eq!(resolve(&root.join(path)), root.join("real/deep/file"), "{path}");
        }
        // `..` after a link is the parent of the link's target.
        assert_eq!(resolve(&root.join("absolute/../x")), root.join("real/x"));
    }

    #[test]
    fn a_target_need_not_exist() {
        let (_guard, root) = directory();
        symlink("nowhere/file", root.join("dangling")).unwrap();
        symlink(root.join("missing"), root.join("directory")).unwrap();
        assert_eq!(resolve(&root.join("dangling")), root.join("nowhere/file"));
        assert_eq!(resolve(&root.join("directory/a/b")), root.join("missing/a/b"));
        assert_eq!(resolve(Path::new("none")), std::env::current_dir().unwrap().join("none"));
    }

    #[test]
    fn a_loop_of_links_is_only_made_absolute() {
        let (_guard, root) = directory();
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        assert_eq!(resolve(&root.join("a")), root.join("a"));
    }

    #[test]
    fn only_regular_files_up_to_the_limit_are_read() {
        let (_guard, root) = directory();
        let kind = |name: &str| read_text(&root.join(name), 4).unwrap_err().kind();
        fs::write(root.join("fits"), "four").unwrap();
        fs::write(root.join("long"), "fiver").unwrap();
        fs::write(root.join("marked"), "\u{feff}x").unwrap();
        assert!(std::process::Command::new("mkfifo").arg(root.join("pipe")).status().unwrap().success());
        assert_eq!(read_text(&root.join("fits"), 4).unwrap(), b"four");
        assert_eq!(read_text(&root.join("marked"), 4).unwrap(), b"x");
        assert_eq!(kind("long"), io::ErrorKind::FileTooLarge);
        assert_eq!(kind("none"), io::ErrorKind::NotFound);
        for not_a_file in ["pipe", "/dev/zero", "."] {
            assert_eq!(kind(not_a_file), io::ErrorKind::InvalidInput, "{not_a_file}");
        }
    }

    #[test]
    fn an_unsupported_sync_of_a_directory_is_not_an_error() {
        let is_unsupported = |errno: Errno| super::is_unsupported(&io::Error::from(errno));
        for errno in [Errno::INVAL, Errno::NOTSUP, Errno::OPNOTSUPP, Errno::NOSYS] {
            assert!(is_unsupported(errno), "{errno:?}");
        }
        for errno in [Errno::IO, Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::ACCESS, Errno::BADF] {
            assert!(!is_unsupported(errno), "{errno:?}");
        }
        assert_eq!(sync_directory(Path::new("/no-such-directory")).unwrap_err().kind(), io::ErrorKind::NotFound);
        // procfs doesn't support syncing.
        #[cfg(target_os = "linux")]
        sync_directory(Path::new("/proc")).unwrap();
    }
}
