//! Checks that files with secrets are readable by their owner only and that directories are writable.

use std::fs::{self, File, Metadata};
use std::io::ErrorKind;
use std::path::Path;

use super::finding::{Check, Finding};
use crate::command_hint::{command, quoted};
use crate::fs::{beside, is_own};

/// Checks a file with secrets. `None`: it is private, or doesn't exist.
pub(super) fn of_file(file: &Path) -> Option<Finding> {
    let metadata = fs::metadata(file).ok()?;
    if !metadata.is_file() {
        let kind = if metadata.is_dir() { "a directory" } else { "a pipe or device" };
        let message = format!("{} is {kind} instead of a file", file.display());
        return Some(Finding::error(Check::Files, message, move_away(file)));
    }
    if let Err(error) = File::open(file) {
        let message = format!("{} can't be read ({})", file.display(), error.kind());
        return Some(Finding::error(Check::Files, message, grant_access(file)));
    }
    readable_by_others(file, &metadata)
}

/// Checks that a directory is writable or can be created. `None`: it is.
pub(super) fn of_directory(directory: &Path) -> Option<Finding> {
    let nearest = directory.ancestors().find(|directory| directory.exists())?;
    let error = tempfile::NamedTempFile::new_in(nearest).err()?;
    let problem = if nearest == directory { "isn't writable" } else { "can't be created" };
    let message = format!("{} {problem} ({})", directory.display(), error.kind());
    let help = match error.kind() {
        // Permissions can't fix that: use another directory.
        ErrorKind::ReadOnlyFilesystem => {
            format!("env CODEX_PROXY_HOME=\"$HOME/.codex-proxy\" {}", command("doctor"))
        }
        ErrorKind::PermissionDenied if nearest == directory => grant_access(directory),
        ErrorKind::PermissionDenied => format!("sudo install -d -o \"$(id -un)\" -m 700 {}", quoted(directory)),
        _ => format!("ls -ld {}", quoted(nearest)),
    };
    Some(Finding::error(Check::Files, message, help))
}

/// Returns the command that makes a file readable, or moves something else at its path away.
pub(super) fn fix_file(file: &Path) -> String {
    if file.exists() && !file.is_file() { move_away(file) } else { grant_access(file) }
}

fn move_away(file: &Path) -> String {
    format!("mv {} {}", quoted(file), quoted(&beside(file, ".aside")))
}

/// Returns the command that makes a file or directory readable and writable for the user.
pub(super) fn grant_access(path: &Path) -> String {
    let Ok(metadata) = fs::metadata(path) else {
        // It doesn't exist, so its directory isn't writable.
        return path.parent().map_or_else(|| command("status"), grant_access);
    };
    let mode = if metadata.is_dir() { "u+rwx" } else { "u+rw" };
    let path = quoted(path);
    if is_own(&metadata) {
        format!("chmod {mode} {path}")
    } else {
        format!("sudo chown \"$(id -un)\" {path} && chmod {mode} {path}")
    }
}

#[cfg(unix)]
fn readable_by_others(file: &Path, metadata: &Metadata) -> Option<Finding> {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode() & 0o777;
    let message = format!("{} is readable by other users (mode {mode:03o})", file.display());
    let is_exposed = metadata.is_file() && mode & 0o077 != 0;
    is_exposed.then(|| Finding::warning(Check::Files, message, format!("chmod 600 {}", quoted(file))))
}

#[cfg(not(unix))]
fn readable_by_others(_file: &Path, _metadata: &Metadata) -> Option<Finding> {
    None
}
