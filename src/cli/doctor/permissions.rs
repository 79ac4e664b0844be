//! Whether our files can be read by us and by nobody else, and their folders be written; and how to get there.

use std::fs::{self, File, Metadata};
use std::io::ErrorKind;
use std::path::Path;

use super::finding::{Check, Finding};
use crate::command_hint::{command, quoted};
use crate::fs::is_own;

/// A file with secrets in it.
pub(super) fn of_file(file: &Path) -> Option<Finding> {
    let metadata = fs::metadata(file).ok()?;
    if !metadata.is_file() {
        let kind = if metadata.is_dir() { "a folder" } else { "a pipe or device" };
        let message = format!("{} is {kind}, and has to be a file", file.display());
        return Some(Finding::error(Check::Files, message, make_room(file)));
    }
    if let Err(error) = File::open(file) {
        let message = format!("{} can't be read ({})", file.display(), error.kind());
        return Some(Finding::error(Check::Files, message, regain(file)));
    }
    open_to_others(file, &metadata)
}

/// A folder, or where it does not exist yet, the one in which it would be made.
pub(super) fn of_folder(folder: &Path) -> Option<Finding> {
    let nearest = folder.ancestors().find(|folder| folder.exists())?;
    let error = tempfile::NamedTempFile::new_in(nearest).err()?;
    let what = if nearest == folder { "be written" } else { "be made" };
    let message = format!("{} can't {what} ({})", folder.display(), error.kind());
    let help = match error.kind() {
        // Nobody's rights help there.
        ErrorKind::ReadOnlyFilesystem => {
            format!("env CODEX_PROXY_HOME=\"$HOME/.codex-proxy\" {}", command("doctor"))
        }
        ErrorKind::PermissionDenied if nearest == folder => regain(folder),
        ErrorKind::PermissionDenied => format!("sudo install -d -o \"$(id -un)\" -m 700 {}", quoted(folder)),
        _ => format!("ls -ld {}", quoted(nearest)),
    };
    Some(Finding::error(Check::Files, message, help))
}

/// The command after which a file of ours can be read.
pub(super) fn regain_file(file: &Path) -> String {
    if file.exists() && !file.is_file() { make_room(file) } else { regain(file) }
}

/// Moves what is in the way of a file.
fn make_room(file: &Path) -> String {
    let mut aside = file.as_os_str().to_owned();
    aside.push(".aside");
    format!("mv {} {}", quoted(file), quoted(Path::new(&aside)))
}

/// The command after which a file or folder of ours is ours to read and write.
pub(super) fn regain(path: &Path) -> String {
    let Ok(metadata) = fs::metadata(path) else {
        // What does not exist can't be made in its folder.
        return path.parent().map_or_else(|| command("status"), regain);
    };
    let rights = if metadata.is_dir() { "u+rwx" } else { "u+rw" };
    let path = quoted(path);
    if is_own(&metadata) {
        format!("chmod {rights} {path}")
    } else {
        format!("sudo chown \"$(id -un)\" {path} && chmod {rights} {path}")
    }
}

#[cfg(unix)]
fn open_to_others(file: &Path, metadata: &Metadata) -> Option<Finding> {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode() & 0o777;
    let message = format!("{} can be read by others (rights {mode:03o})", file.display());
    let is_open = metadata.is_file() && mode & 0o077 != 0;
    is_open.then(|| Finding::warning(Check::Files, message, format!("chmod 600 {}", quoted(file))))
}

#[cfg(not(unix))]
fn open_to_others(_file: &Path, _metadata: &Metadata) -> Option<Finding> {
    None
}
