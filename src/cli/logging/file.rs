//! A log file that is followed by the next one when it gets long.
//!
//! The file is its owner's alone, and so are those before it, `FILE.1` (the latest) and up. One
//! process at a time writes it: two would take each other's file away. What is no regular file, such
//! as a pipe, is written to and never moved. Everything here blocks.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::config::LogFile;
use crate::fs::{FileLock, beside, make_private, private_options};

/// The file that is open.
#[derive(Debug)]
pub(super) struct RotatingFile {
    settings: LogFile,
    permissions: Permissions,
    open: OpenFile,
    /// Whether the last line was written in part.
    is_torn: bool,
    _lock: FileLock,
}

/// What happens to the permissions of a log file that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Permissions {
    /// Others can't read it from now on.
    MakePrivate,
    /// They stay: the user linked to a file of their own.
    Keep,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    size_bytes: u64,
    is_regular: bool,
}

impl RotatingFile {
    /// Opens the file, or makes it, with its directory.
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

    /// Adds a line. What is wrong with beginning the next file is told as well, and the line is written all the same.
    pub(super) fn write(&mut self, line: &[u8]) -> (io::Result<()>, Option<io::Error>) {
        let is_full = self.open.size_bytes.saturating_add(line.len() as u64) > self.settings.size_bytes;
        let trouble =
            if is_full && self.open.size_bytes > 0 && self.open.is_regular { self.rotate().err() } else { None };
        if trouble.is_some() {
            // Not with every line: when as much again has been written.
            self.open.size_bytes = 0;
        }
        (self.append(line), trouble)
    }

    /// Goes on in the file that has the name now: somebody else has moved ours.
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

/// `FILE.1` is the latest of those that are full.
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
        let (written, trouble) = file.write(line.as_bytes());
        written.unwrap();
        assert!(trouble.is_none(), "{trouble:?}");
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
    fn a_full_file_makes_room_and_the_oldest_goes() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = RotatingFile::open(settings(directory.path(), 3)).unwrap();
        for line in ["one\n", "two\n", "three\n", "a line that is too long\n", "four\n", "five\n"] {
            write(&mut file, line);
        }
        let expected = [("a.log", "four\nfive\n"), ("a.log.1", "a line that is too long\n"), ("a.log.2", "three\n")];
        assert_eq!(read(directory.path()), pairs(&expected));
    }

    #[test]
    fn one_file_alone_begins_anew() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = RotatingFile::open(settings(directory.path(), 1)).unwrap();
        for line in ["one two\n", "three\n"] {
            write(&mut file, line);
        }
        assert_eq!(read(directory.path()), pairs(&[("a.log", "three\n")]));
    }

    #[test]
    fn what_is_there_is_gone_on_with() {
        let directory = tempfile::tempdir().unwrap();
        write(&mut RotatingFile::open(settings(directory.path(), 2)).unwrap(), "one\n");
        let mut file = RotatingFile::open(settings(directory.path(), 2)).unwrap();
        for line in ["two\n", "three\n"] {
            write(&mut file, line);
        }
        assert_eq!(read(directory.path()), pairs(&[("a.log", "three\n"), ("a.log.1", "one\ntwo\n")]));
    }

    #[test]
    fn a_file_that_was_moved_is_left_where_it_is() {
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
    fn one_process_at_a_time_writes_it() {
        let directory = tempfile::tempdir().unwrap();
        let first = RotatingFile::open(settings(directory.path(), 2)).unwrap();
        let error = RotatingFile::open(settings(directory.path(), 2)).unwrap_err();
        assert!(error.to_string().contains("another daemon"), "{error}");
        drop(first);
        RotatingFile::open(settings(directory.path(), 2)).unwrap();
    }

    #[test]
    fn a_line_is_written_even_where_the_next_file_can_not_be_begun() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = RotatingFile::open(settings(directory.path(), 2)).unwrap();
        write(&mut file, "one two\n");
        fs::create_dir_all(directory.path().join("logs/a.log.1/taken")).unwrap();
        let (written, trouble) = file.write(b"three\n");
        written.unwrap();
        assert!(trouble.is_some());
        write(&mut file, "4\n");
        assert_eq!(fs::read_to_string(directory.path().join("logs/a.log")).unwrap(), "one two\nthree\n4\n");
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_read_any_of_them() {
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
