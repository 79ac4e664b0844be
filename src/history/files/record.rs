//! The records of files, lists of records, and errors.

use std::io;
use std::time::Duration;

use super::BatchStatus;

/// The record of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRecord {
    /// Its id.
    pub id: String,
    /// The name that the client gave it.
    pub filename: String,
    /// What it is for, in OpenAI's words.
    pub purpose: String,
    /// Its size.
    pub bytes: u64,
    /// When it was created, in Unix seconds.
    pub created_at: u64,
    /// When it expires, in Unix seconds.
    pub expires_at: u64,
}

/// A file that is about to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFile {
    /// The name that the client gave it.
    pub filename: String,
    /// What it is for.
    pub purpose: String,
    /// How long to keep it; `None`, or longer than the setting: as long as the setting says.
    pub lifetime: Option<Duration>,
}

/// Which records a list has, in the order of creation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// Only files with this purpose.
    pub purpose: Option<String>,
    /// Only records behind the one with this id.
    pub after: Option<String>,
    /// Maximum number of records.
    pub limit: usize,
    /// Whether the oldest is first.
    pub order: ListOrder,
}

/// The order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListOrder {
    /// The oldest record is first.
    Ascending,
    /// The latest record is first.
    Descending,
}

/// A part of a list, and whether more follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing<T> {
    /// The records.
    pub records: Vec<T>,
    /// Whether there are further ones.
    pub has_more: bool,
}

/// Why a file can't be stored, found or deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// There is no such file or batch of this owner.
    #[error("it doesn't exist")]
    NotFound,
    /// The files would be larger than the setting allows.
    #[error("stored files are limited to {max_bytes} bytes (setting files.max_bytes); delete some, or raise it")]
    Full {
        /// The limit in force.
        max_bytes: u64,
    },
    /// There are too many records.
    #[error("{0} files are stored, which is the maximum; delete some")]
    TooMany(u64),
    /// Too many batches haven't ended.
    #[error("{0} batches haven't ended, which is the maximum; cancel some, or wait until one has ended")]
    TooManyBatches(u64),
    /// A batch that hasn't ended reads the file.
    #[error("the batch '{0}' reads this file and hasn't ended; cancel the batch first")]
    InUse(String),
    /// The batch can't be cancelled.
    #[error("a batch with the status '{}' can't be cancelled", .0.name())]
    Ended(BatchStatus),
    /// The disk or the database failed.
    #[error("the file store can't be used: {0}")]
    Storage(String),
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        Self::Storage(error.to_string())
    }
}

impl From<rusqlite::Error> for FileError {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::QueryReturnedNoRows => Self::NotFound,
            other => Self::Storage(other.to_string()),
        }
    }
}
