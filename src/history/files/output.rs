//! Writes the output and error files of a batch from the results of its lines.

use std::io::{self, Write as _};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::database::{self, integer};
use super::{FileError, FileRecord, FileStore, LineOutcome, NewFile, Shared};
use crate::history::BatchRecord;

const PURPOSE: &str = "batch_output";

/// The ids for the files of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputIds {
    /// For the results of lines that succeeded.
    pub output: String,
    /// For the results of lines that failed.
    pub error: String,
}

impl FileStore {
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

    /// Ends a batch that is finalizing or cancelling: writes its files, without those that would be empty, and deletes
    /// the separate results.
    ///
    /// # Errors
    /// If the disk or the database fails. The batch keeps its results then.
    pub async fn end_batch(&self, batch: BatchRecord, ids: OutputIds) -> Result<(), FileError> {
        self.run(move |shared| {
            let output = shared.write_output(&batch, LineOutcome::Completed, ids.output)?;
            let error = shared.write_output(&batch, LineOutcome::Failed, ids.error)?;
            let ended = shared.end_batch(&batch, output.as_ref(), error.as_ref());
            if ended.is_err() {
                for file in [&output, &error].into_iter().flatten() {
                    shared.contents.delete(&file.id)?;
                }
            }
            ended
        })
        .await
    }
}

impl Shared {
    /// Writes the results with this outcome to a file; `None` if there are none.
    fn write_output(
        &self,
        batch: &BatchRecord,
        outcome: LineOutcome,
        id: String,
    ) -> Result<Option<FileRecord>, FileError> {
        let (mut writer, mut bytes, mut last) = (None, 0, 0);
        // The database is locked for each row only, so that requests don't wait for all of them.
        while let Some((number, text)) = next_result(&self.lock(), batch.number, outcome, last)? {
            if writer.is_none() {
                writer = Some(io::BufWriter::new(self.contents.create(&id)?));
            }
            if let Some(writer) = &mut writer {
                writer.write_all(text.as_bytes())?;
                writer.write_all(b"\n")?;
            }
            (last, bytes) = (number, bytes + text.len() as u64 + 1);
        }
        let Some(writer) = writer else { return Ok(None) };
        let writer = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        self.contents.commit(&id, writer)?;
        let kind = if outcome == LineOutcome::Completed { "output" } else { "error" };
        let file = NewFile {
            filename: format!("{}_{kind}.jsonl", batch.batch.id),
            purpose: PURPOSE.to_owned(),
            lifetime: batch.batch.output_seconds.map(Duration::from_secs),
        };
        Ok(Some(self.record(id, bytes, file)))
    }

    fn end_batch(
        &self,
        batch: &BatchRecord,
        output: Option<&FileRecord>,
        error: Option<&FileRecord>,
    ) -> Result<(), FileError> {
        let now = self.now();
        let mut database = self.lock();
        let change = database::change(&mut database)?;
        let owner = batch.owner.column();
        for file in [output, error].into_iter().flatten() {
            database::insert(&change, &owner, file)?;
        }
        let sql = "UPDATE batches SET output_file = ?2, error_file = ?3, \
                   completed_at = iif(status = 'finalizing', ?4, NULL), \
                   cancelled_at = iif(status = 'cancelling', ?4, NULL), \
                   status = iif(status = 'finalizing', 'completed', 'cancelled') \
                   WHERE number = ?1 AND status IN ('finalizing', 'cancelling')";
        let ids = [output, error].map(|file| file.map(|file| file.id.as_str()));
        change.execute(sql, params![batch.number, ids[0], ids[1], integer(now)])?;
        change.execute("DELETE FROM results WHERE batch = ?1", [batch.number])?;
        change.commit()?;
        Ok(database::shrink(&database)?)
    }
}

/// The result behind the one with the number `last`.
fn next_result(
    database: &Connection,
    batch: i64,
    outcome: LineOutcome,
    last: i64,
) -> rusqlite::Result<Option<(i64, String)>> {
    let sql = "SELECT number, text FROM results WHERE batch = ?1 AND is_error = ?2 AND number > ?3 \
               ORDER BY number LIMIT 1";
    let mut statement = database.prepare(sql)?;
    statement
        .query_row(params![batch, outcome == LineOutcome::Failed, last], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}
