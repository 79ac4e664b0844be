//! A log file that is rotated at a size limit.
//!
//! The file and the rotated ones, `FILE.1` (the latest) and up, are readable by their owner only. A lock allows one
//! process at a time to write, because two would rotate each other's file. A file that isn't regular, such as a pipe,
//! is never rotated. Everything here blocks.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::config::LogFile;
use crate::fs::{FileLock, beside, make_private, private_options};

/// The open log file.
#[derive(Debug)]
pub(super) struct RotatingFile {
    settings: LogFile,
    permissions: Permissions,
    /// The file that lines are appended to.
    open: OpenFile,
    /// Whether the last line was written only in part.
    is_torn: bool,
    _lock: FileLock,
}

/// What to do with the permissions of an existing log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Permissions {
    /// Make it readable by its owner only.
    MakePrivate,
    /// Leave them: the path is a symbolic link that the user made.
    Keep,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    size_bytes: u64,
    is_regular: bool,
}

impl RotatingFile {
    /// Opens the file. Creates it and its directory if they don't exist.
    pub(super) fn open(mut settings: LogFile) -> io::Result<Self> {
        let is_link = settings.path.is_symlink();
        // The lock and the rotated files are next to the real file.
        settings.path = crate::fs::resolve(&settings.path);
        let lock =
            FileLock::try_acquire(&settings.path)?.ok_or_else(|| io::Error::other("another daemon writes it"))?;
        let permissions = if is_link && settings.path.exists() { Permissions::Keep } else { Permissions::MakePrivate };
        let open = open(&settings.path, permissions)?;
        Ok(Self { settings, permissions, open, is_torn: false, _lock: lock })
    }

    /// Appends a line, and rotates the file first if it is full. Returns an error of the rotation separately, because
    /// the line is written in any case.
    pub(super) fn write(&mut self, line: &[u8]) -> (io::Result<()>, Option<io::Error>) {
        let is_full = self.open.size_bytes.saturating_add(line.len() as u64) > self.settings.size_bytes;
        let rotation_error =
            if is_full && self.open.size_bytes > 0 && self.open.is_regular { self.rotate().err() } else { None };
        if rotation_error.is_some() {
            // Try again after another `size_bytes`, not with every line.
            self.open.size_bytes = 0;
        }
        (self.append(line), rotation_error)
    }

    /// Opens the path again, after another program moved the file.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.open = open(&self.settings.path, self.permissions)?;
        self.is_torn = false;
        Ok(())
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.open.file.write_all(b"\n")?;
        }
        self.is_torn = true;
        self.open.file.write_all(line)?;
        self.is_torn = false;
        self.open.size_bytes = self.open.size_bytes.saturating_add(line.len() as u64);
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let path = &self.settings.path;
        let last = self.settings.count.saturating_sub(1);
        if last == 0 {
            fs::remove_file(path)?;
        }
        for number in (1..=last).rev() {
            let from = if number == 1 { path.clone() } else { numbered(path, number - 1) };
            match fs::rename(from, numbered(path, number)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                moved => moved?,
            }
        }
        self.reopen()
    }
}

/// Returns the path of a rotated file; number 1 is the latest.
fn numbered(path: &Path, number: u32) -> PathBuf {
    beside(path, &format!(".{number}"))
}

fn open(path: &Path, permissions: Permissions) -> io::Result<OpenFile> {
    let file = private_options().append(true).open(path)?;
    let metadata = file.metadata()?;
    if permissions == Permissions::MakePrivate {
        make_private(path)?;
    }
    Ok(OpenFile { file, size_bytes: metadata.len(), is_regular: metadata.is_file() })
}

#[cfg(test)]
mod tests {
    use std::fs;
    #[cfg(unix)]
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::{Path, PathBuf};

    use super::RotatingFile;
    use crate::config::LogFile;

    fn settings(directory: &Path, count: u32) -> LogFile {
        LogFile { path: directory.join("logs/a.log"), size_bytes: 10, count }
    }

    fn write(file: &mut RotatingFile, line: &str) {
        let (written, rotation_error) = file.write(line.as_bytes());
        written.unwrap();
        assert!(rotation_error.is_none(), "{rotation_error:?}");
    }

    fn read(directory: &Path) -> Vec<(String, String)> {
        let mut files: Vec<PathBuf> =
            fs::read_dir(directory.join("logs")).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let logs = files.iter().filter(|path| name(path) != "a.log.lock");
        logs.map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn a_full_file_is_rotated_and_the_oldest_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = RotatingFile::open(settings(directory.path(), 3)).unwrap();
        for line in ["one\n", "two\n", "three\n", "a line that is too long\n", "four\n", "five\n"] {
            write(&mut file, line);
        }
        let expected = [("a.log", "four\nfive\n"), ("a.log.1", "a line that is too long\n"), ("a.log.2", "three\n")];
        assert_eq!(read(directory.path()), pairs(&expected));
    }

    #[test]
    fn a_single_file_is_replaced_when_it_is_full() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = RotatingFile::open(settings(directory.path(), 1)).unwrap();
        for line in ["one two\n", "three\n"] {
            write(&mut file, line);
        }
        assert_eq!(read(directory.path()), pairs(&[("a.log", "three\n")]));
    }

    #[test]
    fn an_existing_file_is_appended_to() {
        let directory = tempfile::tempdir().unwrap();
        write(&mut RotatingFile::open(settings(directory.path(), 2)).unwrap(), "one\n");
        let mut file = RotatingFile::open(settings(directory.path(), 2)).unwrap();
        for line in ["two\n", "three\n"] {
            write(&mut file, line);
        }
        assert_eq!(read(directory.path()), pairs(&[("a.log", "three\n"), ("a.log.1", "one\ntwo\n")]));
    }

    #[test]
    fn after_reopen_a_moved_file_stays_unchanged() {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(directory.path(), 2);
        let mut file = RotatingFile::open(settings.clone()).unwrap();
        write(&mut file, "one\n");
        fs::rename(&settings.path, directory.path().join("logs/away")).unwrap();
        file.reopen().unwrap();
        write(&mut file, "two\n");
        assert_eq!(read(directory.path()), pairs(&[("a.log", "two\n"), ("away", "one\n")]));
    }

    #[test]
    fn a_second_process_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let first = RotatingFile::open(settings(directory.path(), 2)).unwrap();
        let error = RotatingFile::open(settings(directory.path(), 2)).unwrap_err();
        assert!(error.to_string().contains("another daemon"), "{error}");
        drop(first);
        RotatingFile::open(settings(directory.path(), 2)).unwrap();
    }

    #[test]
    fn a_line_is_written_even_if_rotation_fails() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = RotatingFile::open(settings(directory.path(), 2)).unwrap();
        write(&mut file, "one two\n");
        fs::create_dir_all(directory.path().join("logs/a.log.1/taken")).unwrap();
        let (written, rotation_error) = file.write(b"three\n");
        written.unwrap();
        assert!(rotation_error.is_some());
        write(&mut file, "4\n");
        assert_eq!(fs::read_to_string(directory.path().join("logs/a.log")).unwrap(), "one two\nthree\n4\n");
    }

    #[cfg(unix)]
    #[test]
    fn all_files_are_readable_by_their_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(directory.path(), 2);
        fs::create_dir(directory.path().join("logs")).unwrap();
        fs::write(&settings.path, "of old\n").unwrap();
        fs::set_permissions(&settings.path, fs::Permissions::from_mode(0o644)).unwrap();
        let mut file = RotatingFile::open(settings).unwrap();
        for line in ["one two\n", "three\n"] {
            write(&mut file, line);
        }
        for name in ["a.log", "a.log.1", "a.log.lock"] {
            let metadata = fs::metadata(directory.path().join("logs").join(name)).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_linked_file_keeps_its_permissions_and_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(directory.path(), 3);
        fs::create_dir_all(directory.path().join("logs")).unwrap();
        let target = directory.path().join("theirs.log");
        fs::write(&target, "12345678\n").unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o644)).unwrap();
        symlink(&target, &settings.path).unwrap();
        let mut file = RotatingFile::open(settings.clone()).unwrap();
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o644);
        write(&mut file, "next\n");
        assert!(settings.path.is_symlink(), "the link stays");
        assert_eq!(fs::read_to_string(&target).unwrap(), "next\n");
        assert_eq!(fs::read_to_string(directory.path().join("theirs.log.1")).unwrap(), "12345678\n");
    }
}
