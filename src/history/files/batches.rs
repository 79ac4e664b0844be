//! The records of batches.

use rusqlite::{Connection, Row, params};

use super::database::{self, ENDED, integer, unsigned};
use super::{FileError, FileStore, ListQuery, Listing, MAX_ACTIVE_BATCHES};
use crate::history::responses::ResponseOwner;

pub(super) const COLUMNS: &str = "number, owner, id, input_file, endpoint, completion_window, metadata, account, output_seconds, \
                       status, created_at, in_progress_at, finalizing_at, completed_at, failed_at, cancelling_at, \
                       cancelled_at, errors, output_file, error_file, total, completed, failed, next_line, next_offset";

/// The status of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchStatus {
    /// Its input file hasn't been checked.
    Validating,
    /// Its input file is invalid.
    Failed,
    /// Its lines are run.
    InProgress,
    /// Its output files are written.
    Finalizing,
    /// All lines have a result.
    Completed,
    /// It was cancelled; its output files aren't written yet.
    Cancelling,
    /// It was cancelled.
    Cancelled,
}

/// A batch that is about to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewBatch {
    /// Its id.
    pub id: String,
    /// The file with its lines.
    pub input_file_id: String,
    /// The path that its lines are sent to.
    pub endpoint: String,
    /// As the client wrote it.
    pub completion_window: String,
    /// A JSON object.
    pub metadata: Option<String>,
    /// The account that the request for the batch selected.
    pub account: Option<String>,
    /// How long to keep the output files, in seconds.
    pub output_seconds: Option<u64>,
}

/// The record of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchRecord {
    /// Its number in the store.
    pub number: i64,
    /// The client key that created it.
    pub owner: ResponseOwner,
    /// What the client asked for.
    pub batch: NewBatch,
    /// Its status.
    pub status: BatchStatus,
    /// When it got its statuses.
    pub times: BatchTimes,
    /// A JSON array of the errors in its input file.
    pub errors: Option<String>,
    /// The file with the results of lines that succeeded.
    pub output_file_id: Option<String>,
    /// The file with the results of lines that failed.
    pub error_file_id: Option<String>,
    /// How many lines it has, by outcome.
    pub counts: BatchCounts,
    /// The first line without a result.
    pub next: LinePosition,
}

/// When a batch got its statuses, in Unix seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchTimes {
    /// When it was created.
    pub created_at: u64,
    /// When its first line could run.
    pub in_progress_at: Option<u64>,
    /// When all lines had a result.
    pub finalizing_at: Option<u64>,
    /// When its output files were written.
    pub completed_at: Option<u64>,
    /// When its input file turned out to be invalid.
    pub failed_at: Option<u64>,
    /// When a client cancelled it.
    pub cancelling_at: Option<u64>,
    /// When its output files were written after that.
    pub cancelled_at: Option<u64>,
}

/// The numbers of lines of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchCounts {
    /// All lines.
    pub total: u64,
    /// Those that succeeded.
    pub completed: u64,
    /// Those that failed.
    pub failed: u64,
}

/// The position of a line in an input file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinePosition {
    /// Its number, from 1.
    pub line: u64,
    /// The offset of its first byte.
    pub offset: u64,
}

/// Whether a line succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineOutcome {
    /// Its result is in the output file.
    Completed,
    /// Its result is in the error file.
    Failed,
}

/// The result of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineResult {
    /// Whether it succeeded.
    pub outcome: LineOutcome,
    /// A line for the output or error file.
    pub text: String,
}

impl BatchStatus {
    const ALL: [Self; 7] = [
        Self::Validating,
        Self::Failed,
        Self::InProgress,
        Self::Finalizing,
        Self::Completed,
        Self::Cancelling,
        Self::Cancelled,
    ];

    /// Its name in OpenAI's API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Validating => "validating",
            Self::Failed => "failed",
            Self::InProgress => "in_progress",
            Self::Finalizing => "finalizing",
            Self::Completed => "completed",
            Self::Cancelling => "cancelling",
            Self::Cancelled => "cancelled",
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

impl FileStore {
    /// Adds a batch.
    ///
    /// # Errors
    /// [`FileError::NotFound`] if its input file doesn't exist; [`FileError::TooManyBatches`]; or if the database
    /// fails.
    pub async fn create_batch(&self, owner: &ResponseOwner, batch: NewBatch) -> Result<BatchRecord, FileError> {
        let owner = owner.column();
        self.run(move |shared| {
            let now = shared.now();
            let mut database = shared.lock();
            let change = database::change(&mut database)?;
            database::find(&change, &owner, &batch.input_file_id, now)?;
            if count_active(&change)? >= MAX_ACTIVE_BATCHES {
                return Err(FileError::TooManyBatches(MAX_ACTIVE_BATCHES));
            }
            insert(&change, &owner, &batch, now)?;
            let record = find(&change, &owner, &batch.id)?;
            change.commit()?;
            Ok(record)
        })
        .await
    }

    /// Returns a batch.
    ///
    /// # Errors
    /// [`FileError::NotFound`], or if the database fails.
    pub async fn find_batch(&self, owner: &ResponseOwner, id: &str) -> Result<BatchRecord, FileError> {
        let (owner, id) = (owner.column(), id.to_owned());
        self.run(move |shared| find(&shared.lock(), &owner, &id)).await
    }

    /// Lists batches.
    ///
    /// # Errors
    /// [`FileError::NotFound`] if `after` isn't the id of a batch, or if the database fails.
    pub async fn list_batches(
        &self,
        owner: &ResponseOwner,
        query: ListQuery,
    ) -> Result<Listing<BatchRecord>, FileError> {
        let owner = owner.column();
        self.run(move |shared| {
            let database = shared.lock();
            let start = database::start(&database, "batches", &owner, &query)?;
            let (comparison, direction) = database::direction(query.order);
            let sql = format!(
                "SELECT {COLUMNS} FROM batches WHERE owner = ?1 AND (?2 IS NULL OR number {comparison} ?2) \
                 ORDER BY number {direction} LIMIT ?3"
            );
            let mut statement = database.prepare(&sql)?;
            let limit = i64::try_from(query.limit.saturating_add(1)).unwrap_or(i64::MAX);
            let rows = statement.query_map(params![owner, start, limit], record)?;
            Ok(database::listing(rows.collect::<rusqlite::Result<_>>()?, query.limit))
        })
        .await
    }

    /// Marks a batch as cancelled, unless it has all results.
    ///
    /// # Errors
    /// [`FileError::NotFound`], [`FileError::Ended`], or if the database fails.
    pub async fn cancel_batch(&self, owner: &ResponseOwner, id: &str) -> Result<BatchRecord, FileError> {
        let (owner, id) = (owner.column(), id.to_owned());
        self.run(move |shared| {
            let now = shared.now();
            let mut database = shared.lock();
            let change = database::change(&mut database)?;
            let batch = find(&change, &owner, &id)?;
            match batch.status {
                BatchStatus::Validating | BatchStatus::InProgress => {
                    let sql = "UPDATE batches SET status = 'cancelling', cancelling_at = ?2 WHERE number = ?1";
                    change.execute(sql, params![batch.number, integer(now)])?;
                }
                BatchStatus::Cancelling => {}
                status => return Err(FileError::Ended(status)),
            }
            let batch = find(&change, &owner, &id)?;
            change.commit()?;
            Ok(batch)
        })
        .await
    }
}

fn insert(database: &Connection, owner: &str, batch: &NewBatch, now: u64) -> rusqlite::Result<()> {
    database.execute(
        "INSERT INTO batches (owner, id, input_file, endpoint, completion_window, metadata, account, output_seconds, \
         status, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'validating', ?9)",
        params![
            owner,
            batch.id,
            batch.input_file_id,
            batch.endpoint,
            batch.completion_window,
            batch.metadata,
            batch.account,
            batch.output_seconds.map(integer),
            integer(now)
        ],
    )?;
    Ok(())
}

fn count_active(database: &Connection) -> rusqlite::Result<u64> {
    let sql = format!("SELECT count(*) FROM batches WHERE status NOT IN {ENDED}");
    database.query_row(&sql, [], |row| row.get(0).map(unsigned))
}

fn find(database: &Connection, owner: &str, id: &str) -> Result<BatchRecord, FileError> {
    let sql = format!("SELECT {COLUMNS} FROM batches WHERE owner = ?1 AND id = ?2");
    Ok(database.query_row(&sql, params![owner, id], record)?)
}

pub(super) fn record(row: &Row<'_>) -> rusqlite::Result<BatchRecord> {
    let time = |column: usize| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(unsigned));
    let count = |column: usize| row.get(column).map(unsigned);
    let status: String = row.get(9)?;
    Ok(BatchRecord {
        number: row.get(0)?,
        owner: ResponseOwner::of_column(&row.get::<_, String>(1)?),
        batch: NewBatch {
            id: row.get(2)?,
            input_file_id: row.get(3)?,
            endpoint: row.get(4)?,
            completion_window: row.get(5)?,
            metadata: row.get(6)?,
            account: row.get(7)?,
            output_seconds: time(8)?,
        },
        status: BatchStatus::of_name(&status).ok_or(rusqlite::Error::InvalidQuery)?,
        times: BatchTimes {
            created_at: count(10)?,
            in_progress_at: time(11)?,
            finalizing_at: time(12)?,
            completed_at: time(13)?,
            failed_at: time(14)?,
            cancelling_at: time(15)?,
            cancelled_at: time(16)?,
        },
        errors: row.get(17)?,
        output_file_id: row.get(18)?,
        error_file_id: row.get(19)?,
        counts: BatchCounts { total: count(20)?, completed: count(21)?, failed: count(22)? },
        next: LinePosition { line: count(23)?, offset: count(24)? },
    })
}
