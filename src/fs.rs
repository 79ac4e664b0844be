//! Files and directories that belong to one user.
//!
//! Resolves symbolic links, so that a lock or a temporary file lies beside the file that is replaced,
//! creates and syncs directories, finds those that other users can write to, and reads files that
//! other programs wrote. Every function blocks. Permissions are checked on Unix only.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use crate::command_hint::quoted;

/// As many symbolic links as Linux follows in one path.
const MOST_LINKS: usize = 40;

/// Some editors and shells of Windows begin UTF-8 files with it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Returns the file that a path leads to, with every symbolic link replaced by its target.
///
/// Neither the file nor its directories have to exist. A relative path starts at the current
/// directory. A path whose links form a loop is returned as it is: opening it reports the loop.
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
            if links > MOST_LINKS {
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

/// Creates a directory and its missing parents, with mode 0700. One that exists keeps its mode.
///
/// # Errors
/// If a directory can't be created, or a file has its name.
pub fn create_private_directory(directory: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// Syncs a directory, so that a rename in it survives a power failure.
///
/// A file system that doesn't support this is no error: the rename is done, and nothing more can be
/// asked of it.
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

/// Does nothing: a directory can't be synced here.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub fn sync_directory(_directory: &Path) -> io::Result<()> {
    Ok(())
}

/// Whether a file system refuses an operation that it doesn't support.
#[cfg(unix)]
fn is_unsupported(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let unsupported = [Errno::INVAL, Errno::NOTSUP, Errno::OPNOTSUPP, Errno::NOSYS];
    Errno::from_io_error(error).is_some_and(|errno| unsupported.contains(&errno))
}

/// Reads a text file that another program may have written, without its byte order mark.
///
/// # Errors
/// If it can't be read ([`ErrorKind::InvalidInput`]: it is a pipe, a device or a directory), or is
/// longer than the limit ([`ErrorKind::FileTooLarge`]).
pub fn read_text(file: &Path, limit_bytes: u64) -> io::Result<Vec<u8>> {
    let mut options = File::options();
    options.read(true);
    // Opening a pipe would wait for a writer.
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

/// A directory in which other users can replace files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExposedDirectory {
    directory: PathBuf,
    mode: u32,
    is_own: bool,
}

impl ExposedDirectory {
    /// Checks a directory: `None` if it doesn't exist, or only its owner can replace files in it.
    ///
    /// With a sticky bit, other users can add files, and can't replace those that are there.
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

    /// Finds nothing: permissions are not modes here.
    #[cfg(not(unix))]
    #[must_use]
    pub fn find(_directory: &Path) -> Option<Self> {
        None
    }

    /// Returns the command that takes the permission away.
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

/// Whether this process's user owns a file: not known here, and taken for granted.
#[cfg(not(unix))]
#[must_use]
pub fn is_own(_metadata: &Metadata) -> bool {
    true
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::fs;
    use std::io;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};

    use rustix::io::Errno;

    use super::{ExposedDirectory, is_unsupported, read_text, resolve, sync_directory};

    /// A directory whose own path has no links.
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
    fn a_loop_of_links_is_left_to_the_system() {
        let (_guard, root) = directory();
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        assert_eq!(resolve(&root.join("a")), root.join("a"));
    }

    #[test]
    fn a_directory_is_exposed_when_others_can_write_to_it_and_it_is_not_sticky() {
        let (_guard, root) = directory();
        for (mode, is_exposed) in
            [(0o700, false), (0o755, false), (0o1777, false), (0o770, true), (0o702, true), (0o2775, true)]
        {
            fs::set_permissions(&root, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(ExposedDirectory::find(&root).is_some(), is_exposed, "{mode:o}");
        }
        let exposed = ExposedDirectory::find(&root).unwrap();
        assert_eq!(exposed.command(), format!("chmod go-w {}", root.display()));
        assert!(exposed.to_string().ends_with("(mode 2775)"), "{exposed}");
        assert_eq!(ExposedDirectory::find(&root.join("none")), None);
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
    fn only_a_refused_sync_of_a_directory_is_no_error() {
        let is_refused = |errno: Errno| is_unsupported(&io::Error::from(errno));
        for errno in [Errno::INVAL, Errno::NOTSUP, Errno::OPNOTSUPP, Errno::NOSYS] {
            assert!(is_refused(errno), "{errno:?}");
        }
        for errno in [Errno::IO, Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::ACCESS, Errno::BADF] {
            assert!(!is_refused(errno), "{errno:?}");
        }
        assert_eq!(sync_directory(Path::new("/no-such-directory")).unwrap_err().kind(), io::ErrorKind::NotFound);
        // Its directories can't be synced.
        #[cfg(target_os = "linux")]
        sync_directory(Path::new("/proc")).unwrap();
    }
}
