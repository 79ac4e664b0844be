//! The SQLite database of usage totals. Every function blocks.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior, params};

use super::super::file;
use super::{Day, SCHEMA, Tokens, UsageRow, UsageSum};

/// An open database.
#[derive(Debug)]
pub(super) struct Database(Connection);

impl Database {
    pub(super) fn of(connection: Connection) -> Self {
        Self(connection)
    }

    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        file::connect(path).map(Self)
    }

    pub(super) fn in_memory() -> rusqlite::Result<Self> {
        let mut connection = Connection::open_in_memory()?;
        SCHEMA.create(&mut connection)?;
        Ok(Self(connection))
    }

    /// Adds rows to the totals and deletes expired rows, in one transaction.
    pub(super) fn add<'r>(
        &mut self,
        rows: impl IntoIterator<Item = &'r UsageRow>,
        today: Day,
        keep_days: u32,
    ) -> rusqlite::Result<()> {
        let change = self.0.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if !SCHEMA.is_current(&change)? {
            // Another release has changed the schema meanwhile.
            return Err(rusqlite::Error::InvalidQuery);
        }
        let mut statement = change.prepare(
            "INSERT INTO totals (day, key, model, requests, input_tokens, cached_tokens, output_tokens, \
             reasoning_tokens) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (day, key, model) DO UPDATE SET \
             requests = requests + excluded.requests, input_tokens = input_tokens + excluded.input_tokens, \
             cached_tokens = cached_tokens + excluded.cached_tokens, \
             output_tokens = output_tokens + excluded.output_tokens, \
             reasoning_tokens = reasoning_tokens + excluded.reasoning_tokens",
        )?;
        for UsageRow { day, key, model, sum: UsageSum { requests, tokens } } in rows {
            let key = key.as_deref().unwrap_or_default();
            let counts = [*requests, tokens.input, tokens.cached, tokens.output, tokens.reasoning];
            let [requests, input, cached, output, reasoning] = counts.map(number);
            statement.execute(params![day.0, key, model, requests, input, cached, output, reasoning])?;
        }
        drop(statement);
        delete_expired(&change, today, keep_days)?;
        change.commit()
    }

    /// Deletes expired rows.
    pub(super) fn expire(&mut self, today: Day, keep_days: u32) -> rusqlite::Result<()> {
        delete_expired(&self.0, today, keep_days)
    }

    /// Returns the totals from a day on, ordered by day, key and model.
    pub(super) fn rows(&self, since: Day) -> rusqlite::Result<Vec<UsageRow>> {
        let mut statement = self.0.prepare(
            "SELECT day, key, model, requests, input_tokens, cached_tokens, output_tokens, reasoning_tokens \
             FROM totals WHERE day >= ?1 ORDER BY day, key, model",
        )?;
        let count = |value: i64| u64::try_from(value).unwrap_or(0);
        let rows = statement.query_map(params![since.0], |row| {
            let tokens = Tokens {
                input: count(row.get(4)?),
                cached: count(row.get(5)?),
                output: count(row.get(6)?),
                reasoning: count(row.get(7)?),
            };
            let key = row.get::<_, String>(1)?;
            Ok(UsageRow {
                day: Day(row.get(0)?),
                key: (!key.is_empty()).then_some(key),
                model: row.get(2)?,
                sum: UsageSum { requests: count(row.get(3)?), tokens },
            })
        })?;
        rows.collect()
    }
}

/// Deletes all rows but those of the last `keep_days` days, which include today.
fn delete_expired(connection: &Connection, today: Day, keep_days: u32) -> rusqlite::Result<()> {
    let Some(last) = today.0.checked_sub(keep_days) else { return Ok(()) };
    connection.execute("DELETE FROM totals WHERE day <= ?1", [last])?;
    Ok(())
}

/// Converts a count, limited to 2^48 so that sums don't overflow.
fn number(count: u64) -> i64 {
    i64::try_from(count.min(1 << 48)).unwrap_or(i64::MAX)
}
