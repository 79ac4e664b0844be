//! The SQLite database of responses.
//!
//! Every change is a transaction, so a killed process leaves a consistent file. The limits hold after each change, and
//! the file shrinks when data is deleted. Every function blocks.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};

use super::super::file;
use super::runs::{self, RunChange, UnfinishedRuns};
use super::{Item, LIFETIME, MAX_BYTES, MAX_RESPONSES, ResponseOwner, ResponseRecord, SCHEMA};

/// An open database.
#[derive(Debug)]
pub(super) struct Database(Connection);

/// Why a read or a change failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum DatabaseFailure {
    #[error("{0}")]
    Database(rusqlite::Error),
    #[error("another release of codex-proxy has changed its schema")]
    SchemaChanged,
    #[error("a stored response can't be parsed")]
    Unreadable,
}

/// Whether rows were deleted, so that the file can shrink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Freed {
    Yes,
    No,
}

impl Database {
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        file::connect(path).map(Self)
    }

    pub(super) fn insert(
        &mut self,
        owner: &ResponseOwner,
        stored: &ResponseRecord,
        now: SystemTime,
    ) -> Result<(), DatabaseFailure> {
        let bytes = stored.bytes();
        let freed = self.change(|change| {
            let freed = delete(change, owner, &stored.id)?;
            if bytes <= MAX_BYTES {
                insert(change, owner, stored, bytes, now)?;
            }
            Ok(freed.or(evict(change, now)?))
        })?;
        self.shrink_file(freed)
    }

    /// Deletes a response. Returns whether there was one.
    pub(super) fn remove(&mut self, owner: &ResponseOwner, id: &str) -> Result<bool, DatabaseFailure> {
        let freed = self.change(|change| delete(change, owner, id))?;
        self.shrink_file(freed)?;
        Ok(freed == Freed::Yes)
    }

    /// Deletes expired responses, and shrinks the file.
    pub(super) fn expire(&mut self, now: SystemTime) -> Result<(), DatabaseFailure> {
        self.change(|change| evict(change, now))?;
        self.shrink_file(Freed::Yes)
    }

    /// Makes a response the most recently used one.
    pub(super) fn touch(&mut self, owner: &ResponseOwner, id: &str, now: SystemTime) -> Result<(), DatabaseFailure> {
        self.change(|change| {
            let number = next_use(change)?;
            let used = params![owner.column(), id, number, milliseconds(now)];
            change.execute("UPDATE answers SET use_number = ?3, used_at = ?4 WHERE owner = ?1 AND id = ?2", used)?;
            Ok(Freed::No)
        })?;
        Ok(())
    }

    /// Changes a run.
    pub(super) fn change_run(&mut self, run: &RunChange) -> Result<(), DatabaseFailure> {
        let mut applied = Ok(());
        self.change(|change| {
            applied = run.apply(change);
            Ok(Freed::No)
        })?;
        applied
    }

    /// Reads all runs.
    pub(super) fn unfinished_runs(&self) -> Result<UnfinishedRuns, DatabaseFailure> {
        runs::unfinished(&self.0)
    }

    pub(super) fn find(
        &self,
        owner: &ResponseOwner,
        id: &str,
        now: SystemTime,
    ) -> Result<Option<ResponseRecord>, DatabaseFailure> {
        let query = "SELECT id, input, output, response, cache_key, account FROM answers \
                     WHERE owner = ?1 AND id = ?2 AND abs(?3 - used_at) < ?4";
        self.read(query, owner, id, now)
    }

    /// Returns the response that contains the item with this id.
    pub(super) fn find_by_item(
        &self,
        owner: &ResponseOwner,
        item: &str,
        now: SystemTime,
    ) -> Result<Option<ResponseRecord>, DatabaseFailure> {
        let query = "SELECT id, input, output, response, cache_key, account FROM answers \
                     WHERE number = (SELECT answer FROM items WHERE owner = ?1 AND id = ?2) AND abs(?3 - used_at) < ?4";
        self.read(query, owner, item, now)
    }

    fn read(
        &self,
        query: &str,
        owner: &ResponseOwner,
        id: &str,
        now: SystemTime,
    ) -> Result<Option<ResponseRecord>, DatabaseFailure> {
        if !SCHEMA.is_current(&self.0)? {
            return Err(DatabaseFailure::SchemaChanged);
        }
        let values = params![owner.column(), id, milliseconds(now), lifetime()];
        let found = self.0.prepare(query)?.query_row(values, record_of).optional()?;
        found.transpose()
    }

    fn change(
        &mut self,
        change: impl FnOnce(&Transaction<'_>) -> Result<Freed, rusqlite::Error>,
    ) -> Result<Freed, DatabaseFailure> {
        let transaction = self.0.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if !SCHEMA.is_current(&transaction)? {
            return Err(DatabaseFailure::SchemaChanged);
        }
        let freed = change(&transaction)?;
        transaction.commit()?;
        Ok(freed)
    }

    /// Returns free pages to the file system, and empties the write-ahead log.
    fn shrink_file(&self, freed: Freed) -> Result<(), DatabaseFailure> {
        if freed == Freed::Yes {
            run(&self.0, "PRAGMA incremental_vacuum")?;
            run(&self.0, "PRAGMA wal_checkpoint(TRUNCATE)")?;
        }
        Ok(())
    }
}

impl Freed {
    fn or(self, other: Self) -> Self {
        if self == Self::Yes { self } else { other }
    }
}

impl From<rusqlite::Error> for DatabaseFailure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

fn insert(
    change: &Transaction<'_>,
    owner: &ResponseOwner,
    stored: &ResponseRecord,
    bytes: usize,
    now: SystemTime,
) -> rusqlite::Result<()> {
    let (input, output) = (json(&stored.input), json(&stored.output));
    change.execute(
        "INSERT INTO answers (owner, id, use_number, used_at, bytes, account, cache_key, response, input, output) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            owner.column(),
            stored.id,
            next_use(change)?,
            milliseconds(now),
            i64::try_from(bytes).unwrap_or(i64::MAX),
            stored.account,
            stored.cache_key,
            stored.response,
            input,
            output,
        ],
    )?;
    let answer = change.last_insert_rowid();
    let mut item = change.prepare("INSERT OR REPLACE INTO items (owner, id, answer) VALUES (?1, ?2, ?3)")?;
    for id in stored.items().filter_map(|(id, _)| id.as_ref()) {
        item.execute(params![owner.column(), id, answer])?;
    }
    Ok(())
}

fn delete(change: &Transaction<'_>, owner: &ResponseOwner, id: &str) -> rusqlite::Result<Freed> {
    let deleted = change.execute("DELETE FROM answers WHERE owner = ?1 AND id = ?2", params![owner.column(), id])?;
    Ok(if deleted > 0 { Freed::Yes } else { Freed::No })
}

/// Deletes expired responses, and those that exceed the limits.
///
/// Orders responses by how much their owner has in responses that were used at least as recently. Those beyond the
/// limits are the least recently used ones of the owners that have the most.
fn evict(change: &Transaction<'_>, now: SystemTime) -> rusqlite::Result<Freed> {
    let limits = params![
        milliseconds(now),
        lifetime(),
        i64::try_from(MAX_RESPONSES).unwrap_or(i64::MAX),
        i64::try_from(MAX_BYTES).unwrap_or(i64::MAX)
    ];
    // A time in the far future was recorded with a wrong clock.
    let deleted = change.execute(
        "DELETE FROM answers WHERE abs(?1 - used_at) >= ?2 OR number IN (
            SELECT number FROM (
                SELECT number, row_number() OVER by_count AS place, sum(bytes) OVER by_bytes AS total
                FROM (
                    SELECT number, use_number, bytes, row_number() OVER latest AS held_count, sum(bytes) OVER latest AS held_bytes
                    FROM answers WINDOW latest AS (PARTITION BY owner ORDER BY use_number DESC)
                )
                WINDOW by_count AS (ORDER BY held_count, use_number DESC),
                    by_bytes AS (ORDER BY held_bytes, use_number DESC)
            ) WHERE place > ?3 OR total > ?4
        )",
        limits,
    )?;
    Ok(if deleted > 0 { Freed::Yes } else { Freed::No })
}

fn next_use(change: &Transaction<'_>) -> rusqlite::Result<i64> {
    change.query_row("SELECT coalesce(max(use_number), 0) + 1 FROM answers", [], |row| row.get(0))
}

/// Returns the response in a row of `id, input, output, response, cache_key, account`.
fn record_of(row: &Row<'_>) -> rusqlite::Result<Result<ResponseRecord, DatabaseFailure>> {
    let (input, output): (String, String) = (row.get(1)?, row.get(2)?);
    let items = |text: &str| serde_json::from_str::<Vec<Item>>(text).map_err(|_| DatabaseFailure::Unreadable);
    let (id, response, cache_key, account) = (row.get(0)?, row.get(3)?, row.get(4)?, row.get(5)?);
    let assemble = |input, output| ResponseRecord { id, input, output, response, cache_key, account };
    Ok(items(&input).and_then(|input| Ok(assemble(input, items(&output)?))))
}

/// Runs a statement to completion and ignores its rows.
fn run(connection: &Connection, statement: &str) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(statement)?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// Serializes items as pairs of id and item.
fn json(items: &[Item]) -> String {
    serde_json::to_string(items).expect("strings and raw JSON always serialize")
}

/// Returns the value of the column `owner`.
pub(super) fn owner_of(owner: &ResponseOwner) -> String {
    owner.column()
}

fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn lifetime() -> i64 {
    i64::try_from(LIFETIME.as_millis()).unwrap_or(i64::MAX)
}
