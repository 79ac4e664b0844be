//! Changing a file that is somebody else's, and taking that back.
//!
//! Before the first change a copy is laid beside the file, and a record beside our own state: which
//! file, which copy, and what the file was like when we left it. A file is only ever replaced whole,
//! with the rights that it had. What anybody has changed since is never written over by taking back.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::edit::Refusal;

/// What stands behind the name of a copy.
const COPY: &str = "before-codex-proxy";

/// What came of writing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Everything was there already.
    Nothing,
    /// The file is new.
    Created,
    /// The file was changed; how it was lies here.
    Changed { copy: PathBuf },
}

/// What came of taking back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Undone {
    /// The file is as it was.
    Restored(PathBuf),
    /// There was none before, and there is none now.
    Removed(PathBuf),
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChangeError {
    #[error("{} can't be changed: {refusal}", .file.display())]
    Refused { file: PathBuf, refusal: Refusal },
    #[error("{} can't be changed: it is not UTF-8", .0.display())]
    NotText(PathBuf),
    #[error("there is nothing to take back: no file of this client was changed here")]
    NothingToUndo,
    #[error("{} has been changed since, and is left as it is; {}", .file.display(), how_it_was(.copy.as_deref()))]
    ChangedSince { file: PathBuf, copy: Option<PathBuf> },
    #[error("{} can't be read or written: {error}", .path.display())]
    Io { path: PathBuf, error: io::Error },
}

fn how_it_was(copy: Option<&Path>) -> String {
    match copy {
        Some(copy) => format!("how it was before lies in {}", copy.display()),
        None => "there was none before".to_owned(),
    }
}

/// What was done to a file.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    file: PathBuf,
    /// `None`: there was no file.
    copy: Option<PathBuf>,
    /// The file as we left it.
    sha256: String,
}

/// Puts settings into a file. `merge` makes the new text from the old one, which is empty where there is none.
pub(super) fn write(
    record: &Path,
    file: &Path,
    merge: impl Fn(&str) -> Result<String, Refusal>,
) -> Result<Written, ChangeError> {
    let file = target(file);
    let present = read(&file)?;
    let earlier = untouched(record, &file, present.as_deref());
    // Settings of ours that nobody has changed since are made anew from what was there before them.
    let first = earlier.as_ref().and_then(|record| original(record).ok());
    let base = first.as_ref().unwrap_or(&present);
    let text = std::str::from_utf8(base.as_deref().unwrap_or_default());
    let text = text.map_err(|_| ChangeError::NotText(file.clone()))?;
    let text = merge(text).map_err(|refusal| ChangeError::Refused { file: file.clone(), refusal })?;
    if present.as_deref() == Some(text.as_bytes()) {
        return Ok(Written::Nothing);
    }
    let copy = match (earlier.filter(|_| first.is_some()), &present) {
        (Some(earlier), _) => earlier.copy,
        (None, Some(present)) => Some(lay_beside(&file, present)?),
        (None, None) => None,
    };
    let done = Record { file: file.clone(), copy: copy.clone(), sha256: hash(text.as_bytes()) };
    let done = serde_json::to_vec_pretty(&done).expect("paths that were read can be written");
    replace(record, &done)?;
    replace(&file, text.as_bytes())?;
    Ok(copy.map_or(Written::Created, |copy| Written::Changed { copy }))
}

/// Takes back what was written.
pub(super) fn undo(record_path: &Path) -> Result<Undone, ChangeError> {
    let record: Option<Record> = read(record_path)?.and_then(|text| serde_json::from_slice(&text).ok());
    let record = record.ok_or(ChangeError::NothingToUndo)?;
    let present = read(&record.file)?;
    let is_ours = present.as_ref().is_some_and(|present| hash(present) == record.sha256);
    let is_gone = present.is_none() && record.copy.is_none();
    if !is_ours && !is_gone {
        return Err(ChangeError::ChangedSince { file: record.file, copy: record.copy });
    }
    let undone = if let Some(copy) = &record.copy {
        let before = fs::read(copy).map_err(|error| ChangeError::Io { path: copy.clone(), error })?;
        replace(&record.file, &before)?;
        // A copy too many does no harm.
        let _ = fs::remove_file(copy);
        Undone::Restored(record.file)
    } else {
        let gone = if is_gone { Ok(()) } else { fs::remove_file(&record.file) };
        gone.map_err(|error| ChangeError::Io { path: record.file.clone(), error })?;
        Undone::Removed(record.file)
    };
    fs::remove_file(record_path).map_err(|error| ChangeError::Io { path: record_path.to_owned(), error })?;
    Ok(undone)
}

/// The file itself, where a link leads to it.
fn target(file: &Path) -> PathBuf {
    fs::canonicalize(file).unwrap_or_else(|_| file.to_owned())
}

/// The record, if the file is as it says.
fn untouched(record: &Path, file: &Path, present: Option<&[u8]>) -> Option<Record> {
    let record: Record = serde_json::from_slice(&fs::read(record).ok()?).ok()?;
    (record.file == file && hash(present?) == record.sha256).then_some(record)
}

/// What was there before our first change.
fn original(record: &Record) -> io::Result<Option<Vec<u8>>> {
    record.copy.as_deref().map(fs::read).transpose()
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, ChangeError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ChangeError::Io { path: path.to_owned(), error }),
    }
}

/// Writes a copy under a name that is free, with the rights of the file.
fn lay_beside(file: &Path, bytes: &[u8]) -> Result<PathBuf, ChangeError> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let names = (1..).map(|count| match count {
        1 => format!("{name}.{COPY}"),
        _ => format!("{name}.{COPY}-{count}"),
    });
    let mut free = names.map(|name| file.with_file_name(name)).filter(|path| !path.exists());
    let copy = free.next().expect("names do not run out");
    put(&copy, bytes, file).map_err(|error| ChangeError::Io { path: copy.clone(), error })?;
    Ok(copy)
}

fn replace(file: &Path, bytes: &[u8]) -> Result<(), ChangeError> {
    put(file, bytes, file).map_err(|error| ChangeError::Io { path: file.to_owned(), error })
}

/// Puts a file in its place in one step, with the rights of another one; a new one is its owner's alone.
fn put(file: &Path, bytes: &[u8], like: &Path) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    temporary.write_all(bytes)?;
    if let Ok(present) = File::open(like) {
        temporary.as_file().set_permissions(present.metadata()?.permissions())?;
    }
    temporary.as_file().sync_all()?;
    temporary.persist(file)?;
    Ok(())
}

fn hash(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{ChangeError, Undone, Written, undo, write};
    use crate::cli::connect::edit::Refusal;

    struct Desk(tempfile::TempDir);

    impl Desk {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.0.path().join(name)
        }

        /// Adds a line to what was there.
        fn write(&self, line: &str) -> Result<Written, ChangeError> {
            let merge = |text: &str| -> Result<String, Refusal> {
                Ok(if text.contains(line) { text.to_owned() } else { format!("{text}{line}\n") })
            };
            write(&self.path("state/record.json"), &self.path("tool/file"), merge)
        }

        fn undo(&self) -> Result<Undone, ChangeError> {
            undo(&self.path("state/record.json"))
        }

        fn text(&self) -> String {
            fs::read_to_string(self.path("tool/file")).unwrap()
        }

        fn with(text: &str) -> Self {
            let desk = Self::new();
            fs::create_dir(desk.path("tool")).unwrap();
            fs::write(desk.path("tool/file"), text).unwrap();
            desk
        }
    }

    #[test]
    fn a_new_file_goes_when_it_is_taken_back() {
        let desk = Desk::new();
        assert_eq!(desk.write("ours").unwrap(), Written::Created);
        assert_eq!(desk.text(), "ours\n");
        assert_eq!(desk.write("ours").unwrap(), Written::Nothing);
        assert!(matches!(desk.undo(), Ok(Undone::Removed(_))));
        assert!(!desk.path("tool/file").exists());
        assert!(matches!(desk.undo(), Err(ChangeError::NothingToUndo)));
    }

    #[test]
    fn what_was_there_comes_back_byte_for_byte_even_after_other_values() {
        let desk = Desk::with("theirs");
        let copy = desk.path("tool/file.before-codex-proxy");
        assert_eq!(desk.write("one").unwrap(), Written::Changed { copy: copy.clone() });
        assert_eq!(desk.write("two").unwrap(), Written::Changed { copy: copy.clone() });
        assert_eq!(desk.text(), "theirstwo\n", "made from what was there first");
        assert!(matches!(desk.undo(), Ok(Undone::Restored(_))));
        assert_eq!((desk.text().as_str(), copy.exists()), ("theirs", false));
    }

    #[test]
    fn what_was_changed_since_is_not_written_over() {
        let desk = Desk::with("theirs\n");
        desk.write("ours").unwrap();
        fs::write(desk.path("tool/file"), "theirs\nours\nlater\n").unwrap();
        let error = desk.undo().unwrap_err().to_string();
        assert!(error.contains("changed since") && error.contains("file.before-codex-proxy"), "{error}");
        assert_eq!(desk.text(), "theirs\nours\nlater\n");
        assert_eq!(desk.write("ours").unwrap(), Written::Nothing);
        let second = desk.path("tool/file.before-codex-proxy-2");
        assert_eq!(desk.write("more").unwrap(), Written::Changed { copy: second });
        assert!(matches!(desk.undo(), Ok(Undone::Restored(_))));
        assert_eq!(desk.text(), "theirs\nours\nlater\n");
        let first = fs::read_to_string(desk.path("tool/file.before-codex-proxy")).unwrap();
        assert_eq!(first, "theirs\n", "the first copy stays");
    }

    #[test]
    fn a_file_that_can_not_be_edited_is_left_alone() {
        let desk = Desk::with("theirs\n");
        fs::write(desk.path("tool/file"), [0xff]).unwrap();
        assert!(matches!(desk.write("ours"), Err(ChangeError::NotText(_))));
        assert_eq!(fs::read(desk.path("tool/file")).unwrap(), [0xff]);
        assert!(!desk.path("state/record.json").exists());
    }

    #[cfg(unix)]
    #[test]
    fn rights_and_links_stay_and_a_new_file_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let desk = Desk::with("theirs\n");
        fs::rename(desk.path("tool/file"), desk.path("dotfile")).unwrap();
        std::os::unix::fs::symlink(desk.path("dotfile"), desk.path("tool/file")).unwrap();
        fs::set_permissions(desk.path("dotfile"), fs::Permissions::from_mode(0o640)).unwrap();
        desk.write("ours").unwrap();
        assert!(desk.path("tool/file").is_symlink());
        assert_eq!((mode(desk.path("dotfile")), mode(desk.path("dotfile.before-codex-proxy"))), (0o640, 0o640));
        desk.undo().unwrap();
        assert_eq!((desk.text().as_str(), mode(desk.path("dotfile"))), ("theirs\n", 0o640));
        let new = Desk::new();
        new.write("ours").unwrap();
        assert_eq!(mode(new.path("tool/file")), 0o600);
    }
}
