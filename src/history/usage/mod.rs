//! Usage totals: requests and tokens by day, client key and model.
//!
//! A response is counted when it ends. Totals are added up in memory and written by a thread, so that no request waits
//! for the disk; a process that is killed loses what it counted in the last seconds. Rows are sums, so several daemons
//! can share a file. Rows older than `usage.keep` are deleted. No content, address or conversation id is stored. Days
//! are in UTC.

mod database;
mod day;
mod write_queue;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use super::file::{DatabaseError, Schema};
use crate::clock::Clock;
use crate::excerpt::{NAME_CHARACTERS, excerpt};
use database::Database;
use write_queue::WriteQueue;

pub use day::Day;

/// The schema of the file; its application id is `cxpu`.
const SCHEMA: Schema = Schema {
    noun: "usage store",
    lost: "earlier usage is lost",
    application_id: 0x6378_7075,
    migrations: &["
    CREATE TABLE totals (
        day INTEGER NOT NULL,
        key TEXT NOT NULL,
        model TEXT NOT NULL,
        requests INTEGER NOT NULL,
        input_tokens INTEGER NOT NULL,
        cached_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        reasoning_tokens INTEGER NOT NULL,
        PRIMARY KEY (day, key, model)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE writer (release TEXT NOT NULL) STRICT;
"],
    lifetime: std::time::Duration::from_secs(90 * 86_400),
};

/// Where totals are stored (`usage.store`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum UsageStore {
    /// In a file.
    #[default]
    Disk,
    /// In memory, until the process ends.
    Memory,
    /// Nowhere.
    Off,
}

impl UsageStore {
    /// Returns the value of the setting.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Memory => "memory",
            Self::Off => "off",
        }
    }
}

/// Numbers of tokens. Cached tokens are part of the input, reasoning tokens of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tokens {
    /// Tokens of the input.
    #[serde(rename = "input_tokens")]
    pub input: u64,
    /// Input tokens that were read from the cache.
    #[serde(rename = "cached_tokens")]
    pub cached: u64,
    /// Tokens of the output.
    #[serde(rename = "output_tokens")]
    pub output: u64,
    /// Output tokens of the reasoning.
    #[serde(rename = "reasoning_tokens")]
    pub reasoning: u64,
}

/// A number of requests, and their tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UsageSum {
    /// Requests whose response started.
    pub requests: u64,
    /// Their tokens, if the backend reported them.
    #[serde(flatten)]
    pub tokens: Tokens,
}

/// The usage of one model with one client key on one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UsageRow {
    /// The day.
    pub day: Day,
    /// Name of the client key; `None`: no key was required.
    pub key: Option<String>,
    /// The backend's name of the model.
    pub model: String,
    /// The usage.
    #[serde(flatten)]
    pub sum: UsageSum,
}

/// The usage of a range of days.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UsageReport {
    /// Where totals are stored: `disk`, `memory` or `off`.
    pub store: &'static str,
    /// For how many days they are stored.
    pub keep_days: u32,
    /// The first day.
    pub since: Day,
    /// The last day: today.
    pub until: Day,
    /// The sum of all rows.
    pub sum: UsageSum,
    /// Ordered by day, key and model.
    pub rows: Vec<UsageRow>,
}

/// The usage totals, shared by all requests.
#[derive(Debug)]
pub struct UsageTotals {
    /// `None`: nothing is counted.
    queue: Option<Arc<WriteQueue>>,
    store: UsageStore,
    keep_days: u32,
    clock: Arc<dyn Clock>,
}

impl UsageTotals {
    /// Creates totals in memory, even for [`UsageStore::Disk`] (whose file can't be used), or none if the store is off.
    #[must_use]
    pub fn in_memory(store: UsageStore, keep_days: u32, clock: Arc<dyn Clock>) -> Self {
        let queue = || {
            let database = Database::in_memory().ok()?;
            WriteQueue::start(database, keep_days, Arc::clone(&clock)).ok()
        };
        let (queue, store) = match store {
            UsageStore::Off => (None, UsageStore::Off),
            UsageStore::Disk | UsageStore::Memory => (queue(), UsageStore::Memory),
        };
        Self { queue, store, keep_days, clock }
    }

    /// Opens totals in a file, which other processes may use too. Also returns a notice for the log if the file was
    /// damaged.
    ///
    /// # Errors
    /// If the file can't be used. It is unchanged then.
    pub async fn on_disk(
        path: PathBuf,
        keep_days: u32,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Option<String>), DatabaseError> {
        let broken = |path: PathBuf, cause: String| DatabaseError::Broken { path, cause };
        let interrupted = broken(path.clone(), "opening it was interrupted".to_owned());
        let opening = move || {
            let notice = SCHEMA.prepare(&path, clock.now())?;
            let opened = Database::open(&path).and_then(|mut database| {
                // Checks that the file is writable.
                database.expire(Day::of(clock.now()), keep_days)?;
                Ok(database)
            });
            let database = opened.map_err(|error| broken(path.clone(), error.to_string()))?;
            let queue = WriteQueue::start(database, keep_days, Arc::clone(&clock));
            let queue = Some(queue.map_err(|error| broken(path, error.to_string()))?);
            Ok((Self { queue, store: UsageStore::Disk, keep_days, clock }, notice))
        };
        tokio::task::spawn_blocking(opening).await.unwrap_or(Err(interrupted))
    }

    /// Counts a response that has ended. Never blocks.
    pub fn add(&self, key: Option<&str>, model: &str, tokens: Tokens) {
        let Some(queue) = &self.queue else { return };
        let model = excerpt(model, NAME_CHARACTERS).to_owned();
        let (day, key) = (Day::of(self.clock.now()), key.map(str::to_owned));
        queue.add(UsageRow { day, key, model, sum: UsageSum { requests: 1, tokens } });
    }

    /// Returns the usage since a day, or `None` if it can't be read in time.
    pub async fn report(&self, since: Day) -> Option<UsageReport> {
        let rows = match &self.queue {
            Some(queue) => queue.read(since).await?,
            None => Vec::new(),
        };
        Some(UsageReport::new(self.store, self.keep_days, (since, self.today()), rows))
    }

    /// Returns the current day.
    #[must_use]
    pub fn today(&self) -> Day {
        Day::of(self.clock.now())
    }

    /// Waits until everything counted is written. Gives up after a timeout.
    pub async fn settle(&self) {
        if let Some(queue) = &self.queue {
            queue.settle().await;
        }
    }
}

impl Drop for UsageTotals {
    fn drop(&mut self) {
        if let Some(queue) = &self.queue {
            queue.close();
        }
    }
}

impl UsageReport {
    /// Reads the usage from a file, whether or not a daemon uses it. Blocks.
    ///
    /// # Errors
    /// If the file can't be read. It is unchanged then.
    pub fn read(path: &Path, keep_days: u32, since: Day, now: SystemTime) -> Result<Self, DatabaseError> {
        let found = SCHEMA.find(path, now)?.map(|connection| Database::of(connection).rows(since)).transpose();
        let broken = |error: rusqlite::Error| DatabaseError::Broken { path: path.to_owned(), cause: error.to_string() };
        let rows = found.map_err(broken)?.unwrap_or_default();
        Ok(Self::new(UsageStore::Disk, keep_days, (since, Day::of(now)), rows))
    }

    /// Returns the usage of one client key.
    #[must_use]
    pub fn of_key(mut self, key: &str) -> Self {
        self.rows.retain(|row| row.key.as_deref() == Some(key));
        Self { sum: sum(&self.rows), ..self }
    }

    fn new(store: UsageStore, keep_days: u32, (since, until): (Day, Day), rows: Vec<UsageRow>) -> Self {
        Self { store: store.name(), keep_days, since, until, sum: sum(&rows), rows }
    }
}

fn sum(rows: &[UsageRow]) -> UsageSum {
    rows.iter().fold(UsageSum::default(), |mut sum, row| {
        sum.add(row.sum);
        sum
    })
}

impl UsageSum {
    /// Adds another sum.
    pub fn add(&mut self, other: Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.tokens.add(other.tokens);
    }
}

impl Tokens {
    /// Adds other counts.
    pub fn add(&mut self, other: Self) {
        self.input = self.input.saturating_add(other.input);
        self.cached = self.cached.saturating_add(other.cached);
        self.output = self.output.saturating_add(other.output);
        self.reasoning = self.reasoning.saturating_add(other.reasoning);
    }
}

#[cfg(test)]
mod tests;
