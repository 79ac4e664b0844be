//! Writes settings to another program's file, and removes them again.
//!
//! Before a change, the text without our settings is saved next to the file. A record in our state directory holds
//! the paths, the settings that were written, and a hash of the result. If the file is as we left it, undoing restores
//! the saved text byte for byte; otherwise it removes our settings and keeps all other changes. A file is replaced
//! atomically, and only if no other program changed it in the meantime.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::edit::{self, Format, Refusal};
use crate::fs::{AtomicFile, Existing, directory_of, is_readable_by_others};

/// Suffix of the saved original.
const COPY_SUFFIX: &str = "before-codex-proxy";
/// How many times a change is attempted at most. An attempt fails if another program changes the file meanwhile.
const MAX_ATTEMPTS: u32 = 3;

/// The settings to add to a file.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) format: Format,
    pub(super) text: String,
    pub(super) permissions: Permissions,
}

/// The permissions of the file after the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permissions {
    /// Unchanged; a new file is private.
    Keep,
    /// Readable and writable by its owner only, because the settings contain a client key.
    Private,
}

/// The result of [`write`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WriteOutcome {
    /// The file has these settings already.
    Unchanged,
    /// The file is new.
    Created,
    /// The file was changed; the original was saved as `copy`, if there was one.
    Changed { copy: Option<PathBuf> },
}

/// The result of [`undo`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum UndoOutcome {
    /// The file is byte for byte as it was before.
    Restored(PathBuf),
    /// The file didn't exist before, and was removed.
    Removed(PathBuf),
    /// Our settings were removed; later changes stay.
    Stripped { file: PathBuf, copy: Option<PathBuf> },
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{} can't be changed: {refusal}", .file.display())]
    Refused { file: PathBuf, refusal: Refusal },
    #[error("{} can't be changed: it isn't UTF-8", .0.display())]
    NotText(PathBuf),
    #[error("Nothing to undo: codex-proxy changed no file of this client.")]
    NothingToUndo,
    #[error("{} was changed since and isn't restored; {}", .file.display(), original_place(.copy.as_deref()))]
    ChangedSince { file: PathBuf, copy: Option<PathBuf> },
    #[error("{} is being changed by another program; nothing was written. Try again.", .0.display())]
    Concurrent(PathBuf),
    #[error("{} can't be read or written: {error}", .path.display())]
    Io { path: PathBuf, error: io::Error },
}

fn original_place(copy: Option<&Path>) -> String {
    match copy {
        Some(copy) => format!("the original was saved as {}", copy.display()),
        None => "it didn't exist before".to_owned(),
    }
}

/// The changes that [`write`] made to a file, stored so that [`undo`] can reverse them.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    file: PathBuf,
    /// The saved text that the settings were added to; `None`: there was no file.
    copy: Option<PathBuf>,
    /// SHA-256 of the file after our change.
    sha256: String,
    /// The settings that were added; missing in records of release 0.1.
    #[serde(default)]
    settings: Option<String>,
}

/// Adds settings to a file.
///
/// # Errors
/// If the file can't be edited safely, read or written. Nothing is changed then.
pub(super) fn write(record: &Path, file: &Path, settings: &Settings) -> Result<WriteOutcome, Error> {
    // The file itself, if the path is a symbolic link.
    let file = crate::fs::resolve(file);
    retried(|| write_once(record, &file, settings))
}

/// Removes the settings that [`write`] added.
///
/// # Errors
/// If there is no record, or the file can't be edited safely, read or written. Nothing is changed then.
pub(super) fn undo(record: &Path, format: Format) -> Result<UndoOutcome, Error> {
    let undone = retried(|| undo_once(record, format))?;
    fs::remove_file(record).map_err(|error| Error::Io { path: record.to_owned(), error })?;
    Ok(undone)
}

fn retried<T>(mut change: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    for _ in 1..MAX_ATTEMPTS {
        match change() {
            Err(Error::Concurrent(_)) => {}
            done => return done,
        }
    }
    change()
}

fn write_once(record_path: &Path, file: &Path, settings: &Settings) -> Result<WriteOutcome, Error> {
    let present = read(file)?;
    let earlier = Record::load(record_path)?.filter(|record| record.file == file && present.is_some());
    // Settings that we wrote earlier are removed first, so that values that are no longer wanted don't stay.
    let (base, saved) = match (&earlier, &present) {
        (Some(earlier), Some(present)) => earlier.base(present, settings)?,
        _ => (present.clone(), None),
    };
    let text = edit::merge(settings.format, text(file, base.as_deref().unwrap_or_default())?, &settings.text)
        .map_err(|refusal| Error::Refused { file: file.to_owned(), refusal })?;
    if present.as_deref() == Some(text.as_bytes()) {
        if settings.permissions == Permissions::Private && is_readable_by_others(file) {
            replace(file, text.as_bytes(), present.as_deref(), None)?;
        }
        return Ok(WriteOutcome::Unchanged);
    }
    let copy = match (saved, &base) {
        (Some(copy), _) => copy,
        (None, Some(base)) => Some(save_copy(file, base)?),
        (None, None) => None,
    };
    let record = Record {
        file: file.to_owned(),
        copy: copy.clone(),
        sha256: hash(text.as_bytes()),
        settings: Some(settings.text.clone()),
    };
    let record = serde_json::to_vec_pretty(&record).expect("a record of texts is valid JSON");
    let previous = read(record_path)?;
    put(record_path, &record, None).map_err(|error| Error::Io { path: record_path.to_owned(), error })?;
    let like = (settings.permissions == Permissions::Keep).then_some(file);
    if let Err(error) = replace(file, text.as_bytes(), present.as_deref(), like) {
        // The file wasn't changed, so the previous record still describes it.
        let _ = previous.map_or_else(|| fs::remove_file(record_path), |previous| put(record_path, &previous, None));
        return Err(error);
    }
    Ok(if present.is_none() { WriteOutcome::Created } else { WriteOutcome::Changed { copy } })
}

fn undo_once(record_path: &Path, format: Format) -> Result<UndoOutcome, Error> {
    let record = Record::load(record_path)?.ok_or(Error::NothingToUndo)?;
    let Record { file, copy, .. } = record.clone();
    let Some(present) = read(&file)? else {
        return if copy.is_none() { Ok(UndoOutcome::Removed(file)) } else { Err(Error::ChangedSince { file, copy }) };
    };
    let original = record.original()?;
    let restored = if hash(&present) == record.sha256 && record.has_original() {
        original.clone()
    } else {
        let settings = record.settings.clone();
        let settings = settings.ok_or_else(|| Error::ChangedSince { file: file.clone(), copy: copy.clone() })?;
        record.without_settings(&present, original.as_deref(), format, &settings)?
    };
    let is_original = restored == original;
    match restored {
        None if read(&file)?.as_ref() != Some(&present) => return Err(Error::Concurrent(file)),
        None => fs::remove_file(&file).map_err(|error| Error::Io { path: file.clone(), error })?,
        Some(text) => replace(&file, &text, Some(&present), Some(copy.as_deref().unwrap_or(&file)))?,
    }
    match copy {
        None if is_original => Ok(UndoOutcome::Removed(file)),
        Some(copy) if is_original => {
            // If the copy stays, it does no harm.
            let _ = fs::remove_file(copy);
            Ok(UndoOutcome::Restored(file))
        }
        copy => Ok(UndoOutcome::Stripped { file, copy: copy.filter(|copy| copy.exists()) }),
    }
}

impl Record {
    fn load(path: &Path) -> Result<Option<Self>, Error> {
        Ok(read(path)?.and_then(|text| serde_json::from_slice(&text).ok()))
    }

    /// Whether the text before our change is known: there was no file, or the saved copy is still there.
    fn has_original(&self) -> bool {
        self.copy.as_ref().is_none_or(|copy| copy.exists())
    }

    /// Returns the text before our change; `None`: there was no file, or its copy is gone.
    fn original(&self) -> Result<Option<Vec<u8>>, Error> {
        self.copy.as_deref().map_or(Ok(None), read)
    }

    /// Returns the text to add new settings to and, if it needn't be saved again, its copy (`None`: there was no file).
    #[expect(clippy::type_complexity, reason = "two optional values, each used once")]
    fn base(&self, present: &[u8], settings: &Settings) -> Result<(Option<Vec<u8>>, Option<Option<PathBuf>>), Error> {
        let original = self.original()?;
        if hash(present) == self.sha256 && self.has_original() {
            return Ok((original, Some(self.copy.clone())));
        }
        // Release 0.1 didn't record what it wrote; it had the same form.
        let ours = self.settings.as_ref().unwrap_or(&settings.text);
        let base = self.without_settings(present, original.as_deref(), settings.format, ours)?;
        let saved = (self.has_original() && base == original).then(|| self.copy.clone());
        Ok((base, saved))
    }

    /// Returns the file without our settings; `None` if nothing is left of a file that didn't exist before.
    fn without_settings(
        &self,
        present: &[u8],
        original: Option<&[u8]>,
        format: Format,
        settings: &str,
    ) -> Result<Option<Vec<u8>>, Error> {
        let original = text(&self.file, original.unwrap_or_default())?;
        let left = edit::remove(format, text(&self.file, present)?, settings, original)
            .map_err(|refusal| Error::Refused { file: self.file.clone(), refusal })?;
        let is_empty = left.trim().is_empty() || (format == Format::Json && left.split_whitespace().eq(["{", "}"]));
        Ok((self.copy.is_some() || !is_empty).then(|| left.into_bytes()))
    }
}

fn text<'b>(file: &Path, bytes: &'b [u8]) -> Result<&'b str, Error> {
    std::str::from_utf8(bytes).map_err(|_| Error::NotText(file.to_owned()))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::Io { path: path.to_owned(), error }),
    }
}

/// Saves a copy under a free name, with the permissions of the file.
fn save_copy(file: &Path, bytes: &[u8]) -> Result<PathBuf, Error> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let names = (1..).map(|count| match count {
        1 => format!("{name}.{COPY_SUFFIX}"),
        _ => format!("{name}.{COPY_SUFFIX}-{count}"),
    });
    let mut free = names.map(|name| file.with_file_name(name)).filter(|path| path.symlink_metadata().is_err());
    let copy = free.next().expect("names do not run out");
    put(&copy, bytes, Some(file)).map_err(|error| Error::Io { path: copy.clone(), error })?;
    Ok(copy)
}

/// Replaces a file if it still has the `expected` content. The new file gets the permissions of `like`, or else is
/// private.
fn replace(file: &Path, bytes: &[u8], expected: Option<&[u8]>, like: Option<&Path>) -> Result<(), Error> {
    let io_error = |error| Error::Io { path: file.to_owned(), error };
    let ready = prepare(file, bytes, like).map_err(io_error)?;
    // The time between this check and the rename is the only one in which a change of another program is lost.
    if read(file)?.as_deref() != expected {
        return Err(Error::Concurrent(file.to_owned()));
    }
    ready.commit().map_err(io_error)
}

/// Writes a file atomically, with the permissions of `like`, or else private.
fn put(file: &Path, bytes: &[u8], like: Option<&Path>) -> io::Result<()> {
    prepare(file, bytes, like)?.commit()
}

/// Returns a synced temporary file next to `file`, with the permissions of `like`, or else private.
fn prepare(file: &Path, bytes: &[u8], like: Option<&Path>) -> io::Result<AtomicFile> {
    fs::create_dir_all(directory_of(file))?;
    let mut temporary = AtomicFile::create(file, Existing::Replace)?;
    temporary.write_all(bytes)?;
    if let Some(Ok(present)) = like.map(File::open) {
        temporary.set_permissions(present.metadata()?.permissions())?;
    }
    temporary.sync()?;
    Ok(temporary)
}

fn hash(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

#[cfg(test)]
mod tests;
