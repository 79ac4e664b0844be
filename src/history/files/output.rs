//! Writes the output and error files of a batch from the results of its lines.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, params};

use super::database::{self, integer};
use super::draft::Draft;
use super::{BatchRecord, FileError, FileRecord, FileStore, LineOutcome, NewFile, Shared};

const PURPOSE: &str = "batch_output";
/// How many bytes of results are read while the database is locked, except for a longer result.
const CHUNK_BYTES: usize = 1024 * 1024;
/// How many results are deleted while the database is locked: they are overwritten with zeros, which takes time.
const CHUNK_ROWS: u32 = 500;

/// The ids for the files of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputIds {
    /// For the results of lines that succeeded.
    pub output: String,
    /// For the results of lines that failed.
    pub error: String,
}

impl FileStore {
    /// Ends a batch that is finalizing or cancelling: writes its files, without those that would be empty, and deletes
    /// the separate results. Does nothing if it has ended.
    ///
    /// # Errors
    /// If the disk or the database fails. The batch keeps its results then.
    pub async fn end_batch(&self, batch: BatchRecord, ids: OutputIds) -> Result<(), FileError> {
        self.run(move |shared| {
            let output = shared.write_output(&batch, LineOutcome::Completed, ids.output)?;
            let error = shared.write_output(&batch, LineOutcome::Failed, ids.error)?;
            let [output_record, error_record] = [&output, &error].map(|file| file.as_ref().map(|(_, record)| record));
            if !shared.end_batch(&batch, output_record, error_record)? {
                return Ok(());
            }
            for (draft, _) in [output, error].into_iter().flatten() {
                draft.keep();
            }
            if let Err(error) = shared.delete_results(batch.number) {
                tracing::warn!(%error, "the results of an ended batch can't be deleted yet");
            }
            Ok(())
        })
        .await
    }
}

impl Shared {
    /// Writes the results with this outcome to a file; `None` if there are none.
    fn write_output(
        self: &Arc<Self>,
        batch: &BatchRecord,
        outcome: LineOutcome,
        id: String,
    ) -> Result<Option<(Draft, FileRecord)>, FileError> {
        let draft = Draft::new(self, id);
        let (mut writer, mut bytes, mut last) = (None, 0, 0);
        loop {
            // The database is locked for each part only, so that requests don't wait for all of them.
            let results = next_results(&self.lock(), batch.number, outcome, last)?;
            let Some((line, _)) = results.last() else { break };
            last = *line;
            let writer = match &mut writer {
                Some(writer) => writer,
                None => writer.insert(io::BufWriter::new(self.contents.create(draft.id())?)),
            };
            for (_, text) in &results {
                writer.write_all(text.as_bytes())?;
                writer.write_all(b"\n")?;
                bytes += text.len() as u64 + 1;
            }
        }
        let Some(writer) = writer else { return Ok(None) };
        let writer = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        self.contents.commit(draft.id(), writer)?;
        let kind = if outcome == LineOutcome::Completed { "output" } else { "error" };
        let file = NewFile {
            filename: format!("{}_{kind}.jsonl", batch.batch.id),
            purpose: PURPOSE.to_owned(),
            lifetime: batch.batch.output_seconds.map(Duration::from_secs),
        };
        let record = self.record(draft.id().to_owned(), bytes, file);
        Ok(Some((draft, record)))
    }

    /// Records the end of a batch, and its files. Returns false, and records nothing, if it has ended.
    fn end_batch(
        &self,
        batch: &BatchRecord,
        output: Option<&FileRecord>,
        error: Option<&FileRecord>,
    ) -> Result<bool, FileError> {
        let now = self.now();
        let mut database = self.lock();
        let change = database::change(&mut database)?;
        let sql = "UPDATE batches SET output_file = ?2, error_file = ?3, result_bytes = 0, \
                   completed_at = iif(status = 'finalizing', ?4, NULL), \
                   cancelled_at = iif(status = 'cancelling', ?4, NULL), \
                   status = iif(status = 'finalizing', 'completed', 'cancelled') \
                   WHERE number = ?1 AND status IN ('finalizing', 'cancelling')";
        let ids = [output, error].map(|file| file.map(|file| file.id.as_str()));
        if change.execute(sql, params![batch.number, ids[0], ids[1], integer(now)])? == 0 {
            return Ok(false);
        }
        let owner = batch.owner.column();
        for file in [output, error].into_iter().flatten() {
            database::insert(&change, &owner, file)?;
        }
        change.commit()?;
        Ok(true)
    }

    /// Deletes the results of a batch that has ended.
    pub(super) fn delete_results(&self, batch: i64) -> Result<(), FileError> {
        let sql = "DELETE FROM results WHERE number IN (SELECT number FROM results WHERE batch = ?1 LIMIT ?2)";
        loop {
            let mut database = self.lock();
            let change = database::change(&mut database)?;
            let deleted = change.execute(sql, params![batch, CHUNK_ROWS])?;
            change.commit()?;
            if deleted == 0 {
                return Ok(());
            }
            database::shrink(&database);
        }
    }
}

/// Some results behind the line `last`, with the numbers of their lines; empty if there are no more.
fn next_results(
    database: &Connection,
    batch: i64,
    outcome: LineOutcome,
    last: i64,
) -> rusqlite::Result<Vec<(i64, String)>> {
    let sql = "SELECT line, text FROM results WHERE batch = ?1 AND line > ?2 AND is_error = ?3 ORDER BY line";
    let mut statement = database.prepare(sql)?;
    let mut rows = statement.query(params![batch, last, outcome == LineOutcome::Failed])?;
    let (mut results, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let text: String = row.get(1)?;
        bytes += text.len();
        results.push((row.get(0)?, text));
        if bytes >= CHUNK_BYTES {
            break;
        }
    }
    Ok(results)
}
