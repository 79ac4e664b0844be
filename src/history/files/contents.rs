//! The contents of files: each in a file named by its id, or in memory.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Cursor, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::{FileError, FileStore};
use crate::fs::{AtomicFile, Existing};

/// A file without a record is deleted if nothing was written to it for this long: another process may be writing it.
const ORPHAN_AGE: Duration = Duration::from_secs(60 * 60);
/// The size of a part that [`FileReader::next`] returns.
const PART_BYTES: usize = 256 * 1024;

/// Where contents are.
#[derive(Debug)]
pub(super) enum Contents {
    Directory(PathBuf),
    Memory(Mutex<HashMap<String, Bytes>>),
}

/// Content that is being written. It is deleted if it isn't committed.
#[derive(Debug)]
pub(super) enum ContentWriter {
    Disk(AtomicFile),
    Memory(Vec<u8>),
}

/// Reads the content of a file.
#[derive(Debug)]
pub struct FileReader(Option<Source>);

#[derive(Debug)]
enum Source {
    Disk(BufReader<File>),
    Memory(Cursor<Bytes>),
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputLine {
    /// Its bytes without the line ending; `None` if it is longer than the limit.
    pub bytes: Option<Vec<u8>>,
    /// The offset of the next line.
    pub next_offset: u64,
}

impl Contents {
    pub(super) fn in_memory() -> Self {
        Self::Memory(Mutex::default())
    }

    pub(super) fn in_directory(directory: PathBuf) -> Self {
        Self::Directory(directory)
    }

    pub(super) fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(directory) => Some(directory),
            Self::Memory(_) => None,
        }
    }

    pub(super) fn create(&self, id: &str) -> io::Result<ContentWriter> {
        match self {
            Self::Directory(directory) => {
                AtomicFile::create(&directory.join(id), Existing::Keep).map(ContentWriter::Disk)
            }
            Self::Memory(_) => Ok(ContentWriter::Memory(Vec::new())),
        }
    }

    /// Gives written content its id.
    pub(super) fn commit(&self, id: &str, writer: ContentWriter) -> io::Result<()> {
        match (self, writer) {
            (_, ContentWriter::Disk(file)) => file.commit(),
            (Self::Memory(files), ContentWriter::Memory(bytes)) => {
                locked(files).insert(id.to_owned(), bytes.into());
                Ok(())
            }
            (Self::Directory(_), ContentWriter::Memory(_)) => Err(ErrorKind::InvalidInput.into()),
        }
    }

    pub(super) fn open(&self, id: &str) -> io::Result<FileReader> {
        let source = match self {
            Self::Directory(directory) => Source::Disk(BufReader::new(File::open(directory.join(id))?)),
            Self::Memory(files) => {
                let bytes = locked(files).get(id).cloned();
                Source::Memory(Cursor::new(bytes.ok_or(ErrorKind::NotFound)?))
            }
        };
        Ok(FileReader(Some(source)))
    }

    pub(super) fn delete(&self, id: &str) -> io::Result<()> {
        match self {
            Self::Directory(directory) => match fs::remove_file(directory.join(id)) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
            Self::Memory(files) => {
                locked(files).remove(id);
                Ok(())
            }
        }
    }

    /// Deletes old contents whose id isn't known, and old temporary files.
    pub(super) fn delete_orphans(&self, now: SystemTime, is_known: impl Fn(&str) -> bool) -> io::Result<()> {
        let Self::Directory(directory) = self else { return Ok(()) };
        for entry in fs::read_dir(directory)?.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // The name of a temporary file is that of its content between a dot and a random suffix.
            let id = match name.strip_prefix('.') {
                Some(temporary) => temporary.rsplit_once('-').map_or(temporary, |(id, _)| id),
                None => &name,
            };
            let written = entry.metadata().and_then(|metadata| metadata.modified());
            let age = written.ok().and_then(|written| now.duration_since(written).ok());
            let is_old = age.is_some_and(|age| age >= ORPHAN_AGE);
            if id.starts_with("file-") && is_old && !is_known(id) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

fn locked(files: &Mutex<HashMap<String, Bytes>>) -> MutexGuard<'_, HashMap<String, Bytes>> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Write for ContentWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Disk(file) => file.write(bytes),
            Self::Memory(memory) => memory.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Disk(file) => file.flush(),
            Self::Memory(memory) => memory.flush(),
        }
    }
}

impl FileReader {
    /// Returns the next part of the content; empty at its end.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn next(&mut self) -> io::Result<Bytes> {
        let Some(source) = self.0.take() else { return Ok(Bytes::new()) };
        match source {
            Source::Memory(mut memory) => {
                let start = usize::try_from(memory.position()).unwrap_or(usize::MAX);
                let end = start.saturating_add(PART_BYTES).min(memory.get_ref().len());
                let part = memory.get_ref().slice(start.min(end)..end);
                memory.set_position(end as u64);
                self.0 = Some(Source::Memory(memory));
                Ok(part)
            }
            Source::Disk(mut file) => {
                let reading = tokio::task::spawn_blocking(move || {
                    let mut part = Vec::with_capacity(PART_BYTES);
                    let read = file.by_ref().take(PART_BYTES as u64).read_to_end(&mut part);
                    (file, read.map(|_| part))
                });
                let (file, part) = reading.await.map_err(io::Error::other)?;
                self.0 = Some(Source::Disk(file));
                part.map(Bytes::from)
            }
        }
    }

    /// Reads the whole content, which must not be longer than this. Blocks.
    fn read_all(self, limit_bytes: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if let Some(source) = self.0 {
            source.take(limit_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
        }
        if bytes.len() as u64 > limit_bytes {
            return Err(ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    }
}

impl Source {
    /// Reads a line; `None` at the end of the file. A line that is longer than the limit is skipped. Blocks.
    fn line(&mut self, offset: u64, limit_bytes: usize) -> io::Result<Option<InputLine>> {
        let (mut bytes, mut is_long, mut next_offset) = (Vec::new(), false, offset);
        loop {
            let available = self.fill_buf()?;
            if available.is_empty() {
                break;
            }
            let end = memchr::memchr(b'\n', available);
            let length = end.map_or(available.len(), |end| end + 1);
            is_long |= bytes.len() + length > limit_bytes;
            if !is_long {
                bytes.extend_from_slice(available.get(..length).unwrap_or_default());
            }
            self.consume(length);
            next_offset += length as u64;
            if end.is_some() {
                break;
            }
        }
        if next_offset == offset {
            return Ok(None);
        }
        let trimmed = bytes.trim_ascii_end().len();
        bytes.truncate(trimmed);
        Ok(Some(InputLine { bytes: (!is_long).then_some(bytes), next_offset }))
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Disk(file) => file.read(buffer),
            Self::Memory(memory) => memory.read(buffer),
        }
    }
}

impl BufRead for Source {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self {
            Self::Disk(file) => file.fill_buf(),
            Self::Memory(memory) => memory.fill_buf(),
        }
    }

    fn consume(&mut self, amount: usize) {
        match self {
            Self::Disk(file) => file.consume(amount),
            Self::Memory(memory) => memory.consume(amount),
        }
    }
}

impl Seek for Source {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::Disk(file) => file.seek(to),
            Self::Memory(memory) => memory.seek(to),
        }
    }
}

impl FileStore {
    /// Reads the whole content of a file.
    ///
    /// # Errors
    /// If the disk fails, or the file is longer than this.
    pub async fn read_all(&self, reader: FileReader, limit_bytes: u64) -> Result<Vec<u8>, FileError> {
        self.run(move |_| Ok(reader.read_all(limit_bytes)?)).await
    }

    /// Reads the first line of a file from this offset on that isn't blank; `None` if there is none. The line's bytes
    /// are left out if there are more than the limit.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn line(&self, id: &str, offset: u64, limit_bytes: usize) -> Result<Option<InputLine>, FileError> {
        let id = id.to_owned();
        self.run(move |shared| {
            let Some(mut source) = shared.contents.open(&id)?.0 else { return Ok(None) };
            source.seek(SeekFrom::Start(offset))?;
            let mut next = offset;
            loop {
                match source.line(next, limit_bytes)? {
                    Some(InputLine { bytes: Some(bytes), next_offset }) if bytes.is_empty() => next = next_offset,
                    line => return Ok(line),
                }
            }
        })
        .await
    }

    /// Passes each line of a file to `visit`, with its number, on a blocking thread.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn visit_lines<V: Send + 'static>(
        &self,
        id: &str,
        limit_bytes: usize,
        mut visitor: V,
        visit: impl Fn(&mut V, u64, Option<&[u8]>) + Send + 'static,
    ) -> Result<V, FileError> {
        let id = id.to_owned();
        self.run(move |shared| {
            let Some(mut source) = shared.contents.open(&id)?.0 else { return Ok(visitor) };
            let (mut number, mut offset) = (1, 0);
            while let Some(line) = source.line(offset, limit_bytes)? {
                visit(&mut visitor, number, line.bytes.as_deref());
                (number, offset) = (number + 1, line.next_offset);
            }
            Ok(visitor)
        })
        .await
    }
}
