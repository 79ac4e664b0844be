//! What changes while a batch is run: its status, and the results of its lines.

use rusqlite::params;

use super::batches::{COLUMNS, record};
use super::database::{self, ENDED, integer};
use super::{BatchRecord, BatchStatus, FileError, FileStore, LineOutcome, LinePosition, LineResult};

impl FileStore {
    /// Returns the batches of all owners that haven't ended, the oldest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn active_batches(&self) -> Result<Vec<BatchRecord>, FileError> {
        self.run(|shared| {
            let database = shared.lock();
            let sql = format!("SELECT {COLUMNS} FROM batches WHERE status NOT IN {ENDED} ORDER BY number");
            let mut statement = database.prepare(&sql)?;
            let rows = statement.query_map([], record)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// The status of a batch.
    ///
    /// # Errors
    /// [`FileError::NotFound`], or if the database fails.
    pub async fn batch_status(&self, number: i64) -> Result<BatchStatus, FileError> {
        self.run(move |shared| {
            let sql = format!("SELECT {COLUMNS} FROM batches WHERE number = ?1");
            Ok(shared.lock().query_row(&sql, [number], record)?.status)
        })
        .await
    }

    /// Starts a batch whose input file is valid and has this many lines.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn start_batch(&self, number: i64, total: u64) -> Result<(), FileError> {
        self.run(move |shared| {
            let now = shared.now();
            let sql = "UPDATE batches SET status = 'in_progress', in_progress_at = ?2, total = ?3 \
                       WHERE number = ?1 AND status = 'validating'";
            shared.lock().execute(sql, params![number, integer(now), integer(total)])?;
            Ok(())
        })
        .await
    }

    /// Ends a batch whose input file has errors, which are a JSON array.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn fail_batch(&self, number: i64, errors: String) -> Result<(), FileError> {
        self.run(move |shared| {
            let now = shared.now();
            let sql = "UPDATE batches SET status = 'failed', failed_at = ?2, errors = ?3 WHERE number = ?1 \
                       AND status = 'validating'";
            shared.lock().execute(sql, params![number, integer(now), errors])?;
            Ok(())
        })
        .await
    }

    /// Records the result of a line, and that `next` follows. Does nothing if the line has a result already.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn record_line(
        &self,
        number: i64,
        line: u64,
        next: LinePosition,
        result: LineResult,
    ) -> Result<(), FileError> {
        self.run(move |shared| {
            let mut database = shared.lock();
            let change = database::change(&mut database)?;
            let LineResult { outcome, text } = result;
            let (completed, failed) = (outcome == LineOutcome::Completed, outcome == LineOutcome::Failed);
            let bytes = integer(text.len() as u64);
            let sql = "UPDATE batches SET next_line = ?3, next_offset = ?4, completed = completed + ?5, \
                       failed = failed + ?6, result_bytes = result_bytes + ?7 WHERE number = ?1 AND next_line = ?2 \
                       AND status IN ('in_progress', 'cancelling')";
            let line = integer(line);
            let position = params![number, line, integer(next.line), integer(next.offset), completed, failed, bytes];
            if change.execute(sql, position)? == 1 {
                let sql = "INSERT INTO results (batch, line, is_error, text) VALUES (?1, ?2, ?3, ?4)";
                change.execute(sql, params![number, line, failed, text])?;
            }
            Ok(change.commit()?)
        })
        .await
    }

    /// Marks a batch as complete, except for its files.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn finalize_batch(&self, number: i64) -> Result<(), FileError> {
        self.run(move |shared| {
            let now = shared.now();
            let sql = "UPDATE batches SET status = 'finalizing', finalizing_at = ?2 \
                       WHERE number = ?1 AND status = 'in_progress'";
            shared.lock().execute(sql, params![number, integer(now)])?;
            Ok(())
        })
        .await
    }

    /// Whether there is room for the result of a line. Also checks that the database accepts changes.
    ///
    /// # Errors
    /// If it doesn't.
    pub async fn has_room(&self) -> Result<bool, FileError> {
        self.run(|shared| {
            let mut database = shared.lock();
            let change = database::change(&mut database)?;
            Ok(database::total_bytes(&change)? < shared.settings.max_bytes)
        })
        .await
    }
}
