//! One connection to the file, and what is asked of it.
//!
//! Every change is one transaction, so that a killed process leaves a whole store. The limits hold
//! after each of them, and the file gets smaller with what is in it. Everything here blocks.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};

use super::super::file;
use super::{FORM, Item, LIFETIME, MAX_BYTES, MAX_RESPONSES, Owner, Stored};

/// An open store.
#[derive(Debug)]
pub(super) struct Database(Connection);

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Database(rusqlite::Error),
    #[error("another release of codex-proxy has changed its form")]
    Overtaken,
    #[error("what was stored can't be read")]
    Unreadable,
}

/// Whether something became less, so that there is room to give back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Freed {
    Yes,
    No,
}

impl Database {
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        file::connect(path).map(Self)
    }

    pub(super) fn keep(&mut self, owner: &Owner, stored: &Stored, now: SystemTime) -> Result<(), Failure> {
        let bytes = stored.bytes();
        let freed = self.change(|change| {
            let freed = forget(change, owner, &stored.id)?;
            if bytes <= MAX_BYTES {
                insert(change, owner, stored, bytes, now)?;
            }
            Ok(freed.or(shrink(change, now)?))
        })?;
        self.give_back(freed)
    }

    /// Forgets an answer for good; says whether there was one.
    pub(super) fn remove(&mut self, owner: &Owner, id: &str) -> Result<bool, Failure> {
        let freed = self.change(|change| forget(change, owner, id))?;
        self.give_back(freed)?;
        Ok(freed == Freed::Yes)
    }

    /// Forgets what has had its time, and gives back what could not be given back before.
    pub(super) fn expire(&mut self, now: SystemTime) -> Result<(), Failure> {
        self.change(|change| shrink(change, now))?;
        self.give_back(Freed::Yes)
    }

    /// Makes an answer the one used last.
    pub(super) fn touch(&mut self, owner: &Owner, id: &str, now: SystemTime) -> Result<(), Failure> {
        self.change(|change| {
            let number = next_use(change)?;
            let used = params![owner_of(owner), id, number, milliseconds(now)];
            change.execute("UPDATE answers SET use_number = ?3, used_at = ?4 WHERE owner = ?1 AND id = ?2", used)?;
            Ok(Freed::No)
        })?;
        Ok(())
    }

    pub(super) fn find(&self, owner: &Owner, id: &str, now: SystemTime) -> Result<Option<Stored>, Failure> {
        let query = "SELECT id, input, output, response, cache_key, account FROM answers \
                     WHERE owner = ?1 AND id = ?2 AND abs(?3 - used_at) < ?4";
        self.read(query, owner, id, now)
    }

    /// The answer that holds the item of that id.
    pub(super) fn find_holder(&self, owner: &Owner, item: &str, now: SystemTime) -> Result<Option<Stored>, Failure> {
        let query = "SELECT id, input, output, response, cache_key, account FROM answers \
                     WHERE number = (SELECT answer FROM items WHERE owner = ?1 AND id = ?2) AND abs(?3 - used_at) < ?4";
        self.read(query, owner, item, now)
    }

    fn read(&self, query: &str, owner: &Owner, id: &str, now: SystemTime) -> Result<Option<Stored>, Failure> {
        if !FORM.is_current(&self.0)? {
            return Err(Failure::Overtaken);
        }
        let asked = params![owner_of(owner), id, milliseconds(now), lifetime()];
        let found = self.0.prepare(query)?.query_row(asked, stored).optional()?;
        found.transpose()
    }

    fn change(
        &mut self,
        change: impl FnOnce(&Transaction<'_>) -> Result<Freed, rusqlite::Error>,
    ) -> Result<Freed, Failure> {
        let transaction = self.0.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if !FORM.is_current(&transaction)? {
            return Err(Failure::Overtaken);
        }
        let freed = change(&transaction)?;
        transaction.commit()?;
        Ok(freed)
    }

    /// Returns what was freed to the system, and takes it out of the log of changes too.
    fn give_back(&self, freed: Freed) -> Result<(), Failure> {
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

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

fn insert(
    change: &Transaction<'_>,
    owner: &Owner,
    stored: &Stored,
    bytes: usize,
    now: SystemTime,
) -> rusqlite::Result<()> {
    let (input, output) = (json(&stored.input), json(&stored.output));
    change.execute(
        "INSERT INTO answers (owner, id, use_number, used_at, bytes, account, cache_key, response, input, output) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            owner_of(owner),
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
        item.execute(params![owner_of(owner), id, answer])?;
    }
    Ok(())
}

fn forget(change: &Transaction<'_>, owner: &Owner, id: &str) -> rusqlite::Result<Freed> {
    let gone = change.execute("DELETE FROM answers WHERE owner = ?1 AND id = ?2", params![owner_of(owner), id])?;
    Ok(if gone > 0 { Freed::Yes } else { Freed::No })
}

/// Lets go of what is too old or too much.
///
/// Answers stay in the order of what their owner holds with them and with its later ones, so that what is too
/// much are the oldest answers of the owners that hold the most.
fn shrink(change: &Transaction<'_>, now: SystemTime) -> rusqlite::Result<Freed> {
    let limits = params![
        milliseconds(now),
        lifetime(),
        i64::try_from(MAX_RESPONSES).unwrap_or(i64::MAX),
        i64::try_from(MAX_BYTES).unwrap_or(i64::MAX)
    ];
    // A time far ahead is that of a clock that was wrong.
    let gone = change.execute(
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
    Ok(if gone > 0 { Freed::Yes } else { Freed::No })
}

fn next_use(change: &Transaction<'_>) -> rusqlite::Result<i64> {
    change.query_row("SELECT coalesce(max(use_number), 0) + 1 FROM answers", [], |row| row.get(0))
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Result<Stored, Failure>> {
    let (input, output): (String, String) = (row.get(1)?, row.get(2)?);
    let items = |text: &str| serde_json::from_str::<Vec<Item>>(text).map_err(|_| Failure::Unreadable);
    let (id, response, cache_key, account) = (row.get(0)?, row.get(3)?, row.get(4)?, row.get(5)?);
    let whole = |input, output| Stored { id, input, output, response, cache_key, account };
    Ok(items(&input).and_then(|input| Ok(whole(input, items(&output)?))))
}

/// Runs a statement to its end; what it tells is of no interest.
fn run(connection: &Connection, statement: &str) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(statement)?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// Items as they are kept: each with its id before it.
fn json(items: &[Item]) -> String {
    serde_json::to_string(items).expect("strings and raw JSON always serialise")
}

/// An owner as it is kept; where no keys are set, all share one.
fn owner_of(owner: &Owner) -> String {
    owner.0.as_ref().map_or_else(String::new, |name| format!("key {name}"))
}

fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn lifetime() -> i64 {
    i64::try_from(LIFETIME.as_millis()).unwrap_or(i64::MAX)
}
