//! Writes the content of a new file as it arrives.

use std::io::Write as _;
use std::sync::atomic::Ordering;

use super::contents::ContentWriter;
use super::draft::Draft;
use super::{FileError, FileRecord, FileStore, MAX_FILES, NewFile, Shared, database};
use crate::history::responses::ResponseOwner;

/// How many bytes are collected before they are written.
const BUFFER_BYTES: usize = 1024 * 1024;

/// A file whose content is arriving. Dropping it deletes what was written.
#[derive(Debug)]
pub struct Upload {
    store: FileStore,
    draft: Option<Draft>,
    /// `None` while a write is in progress, and after one has failed.
    writer: Option<ContentWriter>,
    buffer: Vec<u8>,
    bytes: u64,
    /// The size of all stored files when the upload began.
    stored_bytes: u64,
}

impl FileStore {
    /// Starts a file with this id.
    ///
    /// # Errors
    /// [`FileError::TooMany`], or if the disk or the database fails.
    pub async fn upload(&self, id: String) -> Result<Upload, FileError> {
        let started = self.run(move |shared| {
            let draft = Draft::new(shared, id);
            let database = shared.lock();
            if database::count(&database)? >= MAX_FILES {
                return Err(FileError::TooMany(MAX_FILES));
            }
            let writer = shared.contents.create(draft.id())?;
            Ok((draft, writer, database::total_bytes(&database)?))
        });
        let (draft, writer, stored_bytes) = started.await?;
        let (store, draft, writer) = (self.clone(), Some(draft), Some(writer));
        Ok(Upload { store, draft, writer, buffer: Vec::new(), bytes: 0, stored_bytes })
    }
}

impl Upload {
    /// The memory that an upload takes, in bytes.
    pub const MEMORY_BYTES: usize = 2 * BUFFER_BYTES;

    /// Adds bytes to the content. Waits for the disk if many are collected.
    ///
    /// # Errors
    /// [`FileError::Full`] if there are too many, or if the disk fails.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let shared = &self.store.0;
        let added = bytes.len() as u64;
        let uploading = shared.uploading_bytes.fetch_add(added, Ordering::AcqRel) + added;
        self.bytes += added;
        if self.stored_bytes.saturating_add(uploading) > shared.settings.max_bytes {
            return Err(shared.full());
        }
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), FileError> {
        let Some(mut writer) = self.writer.take() else { return Err(interrupted()) };
        let mut buffer = std::mem::take(&mut self.buffer);
        let writing = self.store.run(move |_| {
            writer.write_all(&buffer)?;
            buffer.clear();
            Ok((writer, buffer))
        });
        let (writer, buffer) = writing.await?;
        (self.writer, self.buffer) = (Some(writer), buffer);
        Ok(())
    }

    /// Stores the file. Returns when it is on the disk.
    ///
    /// # Errors
    /// [`FileError::Full`], or if the disk or the database fails.
    pub async fn finish(mut self, owner: &ResponseOwner, file: NewFile) -> Result<FileRecord, FileError> {
        let (Some(mut writer), Some(draft)) = (self.writer.take(), self.draft.take()) else {
            return Err(interrupted());
        };
        let (owner, bytes) = (owner.column(), self.bytes);
        let buffer = std::mem::take(&mut self.buffer);
        self.store
            .run(move |shared| {
                writer.write_all(&buffer)?;
                // Content without a record is deleted later; a record without content would be an error for the client.
                shared.contents.commit(draft.id(), writer)?;
                let added = shared.add(&owner, draft.id(), bytes, file)?;
                draft.keep();
                Ok(added)
            })
            .await
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.store.0.uploading_bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl Shared {
    pub(super) fn full(&self) -> FileError {
        FileError::Full { max_bytes: self.settings.max_bytes }
    }

    /// Adds the record of a file whose content is stored.
    fn add(&self, owner: &str, id: &str, bytes: u64, file: NewFile) -> Result<FileRecord, FileError> {
        let record = self.record(id.to_owned(), bytes, file);
        let mut database = self.lock();
        let change = database::change(&mut database)?;
        if database::total_bytes(&change)?.saturating_add(bytes) > self.settings.max_bytes {
            return Err(self.full());
        }
        database::insert(&change, owner, &record)?;
        change.commit()?;
        Ok(record)
    }

    pub(super) fn record(&self, id: String, bytes: u64, file: NewFile) -> FileRecord {
        let NewFile { filename, purpose, lifetime } = file;
        let created_at = self.now();
        let lifetime = lifetime.unwrap_or(self.settings.lifetime).min(self.settings.lifetime);
        let expires_at = created_at.saturating_add(lifetime.as_secs());
        FileRecord { id, filename, purpose, bytes, created_at, expires_at }
    }
}

fn interrupted() -> FileError {
    FileError::Storage("a write was interrupted".to_owned())
}
