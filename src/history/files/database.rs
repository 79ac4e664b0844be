//! The records of files. Every function blocks.

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};

use super::{FileError, FileRecord, ListOrder, ListQuery, Listing, MAX_ENDED_BATCHES, SCHEMA};

/// The statuses of batches that have ended, as an SQL list.
pub(super) const ENDED: &str = "('completed', 'failed', 'cancelled')";
const COLUMNS: &str = "id, filename, purpose, bytes, created_at, expires_at";

/// Starts a change.
pub(super) fn change(database: &mut Connection) -> Result<Transaction<'_>, FileError> {
    let change = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if !SCHEMA.is_current(&change)? {
        return Err(FileError::Storage("another release of codex-proxy has changed its schema".to_owned()));
    }
    Ok(change)
}

pub(super) fn insert(database: &Connection, owner: &str, file: &FileRecord) -> rusqlite::Result<()> {
    database.execute(
        "INSERT INTO files (owner, id, filename, purpose, bytes, created_at, expires_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            owner,
            file.id,
            file.filename,
            file.purpose,
            integer(file.bytes),
            integer(file.created_at),
            integer(file.expires_at)
        ],
    )?;
    Ok(())
}

pub(super) fn find(database: &Connection, owner: &str, id: &str, now: u64) -> Result<FileRecord, FileError> {
    let query = format!("SELECT {COLUMNS} FROM files WHERE owner = ?1 AND id = ?2 AND expires_at > ?3");
    Ok(database.query_row(&query, params![owner, id, integer(now)], record)?)
}

/// Whether there is a file with this id.
pub(super) fn exists(database: &Connection, id: &str) -> rusqlite::Result<bool> {
    database.query_row("SELECT EXISTS (SELECT 1 FROM files WHERE id = ?1)", [id], |row| row.get(0))
}

pub(super) fn list(
    database: &Connection,
    owner: &str,
    query: &ListQuery,
    now: u64,
) -> Result<Listing<FileRecord>, FileError> {
    let start = start(database, "files", owner, query)?;
    let (comparison, direction) = direction(query.order);
    let sql = format!(
        "SELECT {COLUMNS} FROM files WHERE owner = ?1 AND expires_at > ?2 AND (?3 IS NULL OR purpose = ?3) \
         AND (?4 IS NULL OR number {comparison} ?4) ORDER BY number {direction} LIMIT ?5"
    );
    let mut statement = database.prepare(&sql)?;
    let limit = i64::try_from(query.limit.saturating_add(1)).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![owner, integer(now), query.purpose, start, limit], record)?;
    Ok(listing(rows.collect::<rusqlite::Result<_>>()?, query.limit))
}

/// The number of the record that a list starts behind.
pub(super) fn start(
    database: &Connection,
    table: &str,
    owner: &str,
    query: &ListQuery,
) -> Result<Option<i64>, FileError> {
    let Some(after) = &query.after else { return Ok(None) };
    let sql = format!("SELECT number FROM {table} WHERE owner = ?1 AND id = ?2");
    Ok(Some(database.query_row(&sql, params![owner, after], |row| row.get(0))?))
}

pub(super) fn direction(order: ListOrder) -> (&'static str, &'static str) {
    match order {
        ListOrder::Ascending => (">", "ASC"),
        ListOrder::Descending => ("<", "DESC"),
    }
}

/// A list of one record more than the limit, if there are that many.
pub(super) fn listing<T>(mut records: Vec<T>, limit: usize) -> Listing<T> {
    let has_more = records.len() > limit;
    records.truncate(limit);
    Listing { records, has_more }
}

pub(super) fn remove(database: &mut Connection, owner: &str, id: &str, now: u64) -> Result<(), FileError> {
    let change = change(database)?;
    find(&change, owner, id, now)?;
    let query = format!("SELECT id FROM batches WHERE input_file = ?1 AND status NOT IN {ENDED}");
    if let Some(batch) = change.query_row(&query, [id], |row| row.get(0)).optional()? {
        return Err(FileError::InUse(batch));
    }
    change.execute("DELETE FROM files WHERE id = ?1", [id])?;
    Ok(change.commit()?)
}

/// The size of all files, and of the results of batches.
pub(super) fn total_bytes(database: &Connection) -> rusqlite::Result<u64> {
    let query = "SELECT (SELECT coalesce(sum(bytes), 0) FROM files) \
                 + (SELECT coalesce(sum(result_bytes), 0) FROM batches)";
    database.query_row(query, [], |row| row.get(0).map(unsigned))
}

pub(super) fn count(database: &Connection) -> rusqlite::Result<u64> {
    database.query_row("SELECT count(*) FROM files", [], |row| row.get(0).map(unsigned))
}

/// Deletes the records of expired files, except those that a batch reads, and of old batches. Returns the ids of the
/// files.
pub(super) fn expire(database: &mut Connection, now: u64, lifetime: u64) -> Result<Vec<String>, FileError> {
    let change = change(database)?;
    let sql = format!(
        "DELETE FROM files WHERE expires_at <= ?1 \
         AND id NOT IN (SELECT input_file FROM batches WHERE status NOT IN {ENDED}) RETURNING id"
    );
    let ids = {
        let mut statement = change.prepare(&sql)?;
        let rows = statement.query_map([integer(now)], |row| row.get(0))?;
        rows.collect::<rusqlite::Result<Vec<String>>>()?
    };
    let sql = format!(
        "DELETE FROM batches WHERE status IN {ENDED} AND (coalesce(completed_at, failed_at, cancelled_at) <= ?1 \
         OR number NOT IN (SELECT number FROM batches WHERE status IN {ENDED} \
                           ORDER BY coalesce(completed_at, failed_at, cancelled_at) DESC, number DESC LIMIT ?2))"
    );
    let batches = change.execute(&sql, params![integer(now.saturating_sub(lifetime)), integer(MAX_ENDED_BATCHES)])?;
    change.commit()?;
    if !ids.is_empty() || batches > 0 {
        shrink(database);
    }
    Ok(ids)
}

/// The batches that have ended and still have results, since a process was killed while it deleted them.
pub(super) fn ended_with_results(database: &Connection) -> rusqlite::Result<Vec<i64>> {
    let sql = format!(
        "SELECT number FROM batches WHERE status IN {ENDED} \
         AND EXISTS (SELECT 1 FROM results WHERE batch = batches.number)"
    );
    let mut statement = database.prepare(&sql)?;
    statement.query_map([], |row| row.get(0))?.collect()
}

/// When the next file expires.
pub(super) fn next_expiry(database: &Connection, now: u64) -> rusqlite::Result<Option<u64>> {
    let query = "SELECT min(expires_at) FROM files WHERE expires_at > ?1";
    let next: Option<i64> = database.query_row(query, [integer(now)], |row| row.get(0))?;
    Ok(next.map(unsigned))
}

/// Returns free pages to the file system, and empties the write-ahead log. A failure is only logged: the changes
/// before it are stored, and a later call does the same.
pub(super) fn shrink(database: &Connection) {
    for statement in ["PRAGMA incremental_vacuum", "PRAGMA wal_checkpoint(TRUNCATE)"] {
        if let Err(error) = run_all(database, statement) {
            tracing::warn!(%error, "the file store can't be made smaller");
        }
    }
}

fn run_all(database: &Connection, statement: &str) -> rusqlite::Result<()> {
    let mut statement = database.prepare(statement)?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

fn record(row: &Row<'_>) -> rusqlite::Result<FileRecord> {
    Ok(FileRecord {
        id: row.get(0)?,
        filename: row.get(1)?,
        purpose: row.get(2)?,
        bytes: row.get(3).map(unsigned)?,
        created_at: row.get(4).map(unsigned)?,
        expires_at: row.get(5).map(unsigned)?,
    })
}

pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
