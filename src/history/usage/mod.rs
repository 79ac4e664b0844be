//! What was used: requests and tokens of each day, by client key and model.
//!
//! Counted when an answer ends, added up in memory, and written by a thread of its own, so that no
//! request waits for the disk. A row is a sum, so that several daemons can share a file; a killed one
//! loses what it had not written yet, which is a moment's. Rows older than `usage.keep` are deleted.
//! No content, no address, no id of a conversation gets in. Days are those of UTC.

mod database;
mod day;
mod write_queue;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use super::file::{Form, Unusable};
use crate::clock::Clock;
use crate::excerpt::{NAME_CHARACTERS, excerpt};
use database::Database;
use write_queue::Ledger;

pub use day::Day;

/// The file's form (`cxpu`).
const FORM: Form = Form {
    noun: "usage store",
    lost: "what was used before is not known",
    application: 0x6378_7075,
    steps: &["
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

/// Where totals are kept (`usage.store`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum UsageStore {
    /// In a file, which outlives the process.
    #[default]
    Disk,
    /// In memory, as long as the process lives.
    Memory,
    /// Nowhere.
    Off,
}

impl UsageStore {
    /// As the setting spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Memory => "memory",
            Self::Off => "off",
        }
    }
}

/// Tokens of an answer, or of many. Cached ones are part of the input, reasoning of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tokens {
    /// Tokens of the prompt.
    #[serde(rename = "input_tokens")]
    pub input: u64,
    /// Those of them that were read from the cache.
    #[serde(rename = "cached_tokens")]
    pub cached: u64,
    /// Tokens of the answer.
    #[serde(rename = "output_tokens")]
    pub output: u64,
    /// Those of them that the model thought with.
    #[serde(rename = "reasoning_tokens")]
    pub reasoning: u64,
}

/// A number of requests, and their tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// Requests that the backend began to answer.
    pub requests: u64,
    /// Their tokens, as far as the backend told them.
    #[serde(flatten)]
    pub tokens: Tokens,
}

/// What one key used of one model on one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The day.
    pub day: Day,
    /// Name of the client key; `None`: no key was asked for.
    pub key: Option<String>,
    /// The backend's name of the model.
    pub model: String,
    /// How much.
    #[serde(flatten)]
    pub sum: Sum,
}

/// What was used over some days.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Where totals are kept: `disk`, `memory` or `off`.
    pub store: &'static str,
    /// For how many days.
    pub keep_days: u32,
    /// The first day.
    pub since: Day,
    /// The last day: today.
    pub until: Day,
    /// All of it.
    pub sum: Sum,
    /// Each day's, by key and model; days, keys and models in their order.
    pub rows: Vec<Row>,
}

/// The totals, shared by all requests.
#[derive(Debug)]
pub struct Totals {
    /// `None`: nothing is counted.
    ledger: Option<Arc<Ledger>>,
    store: UsageStore,
    keep_days: u32,
    clock: Arc<dyn Clock>,
}

impl Totals {
    /// Totals in memory, kept for so many days, or none at all.
    #[must_use]
    pub fn in_memory(store: UsageStore, keep_days: u32, clock: Arc<dyn Clock>) -> Self {
        let ledger = || {
            let database = Database::in_memory().ok()?;
            Ledger::start(database, keep_days, Arc::clone(&clock)).ok()
        };
        let (ledger, store) = match store {
            UsageStore::Off => (None, UsageStore::Off),
            UsageStore::Disk | UsageStore::Memory => (ledger(), UsageStore::Memory),
        };
        Self { ledger, store, keep_days, clock }
    }

    /// Totals in a file, which other processes may use too; and what had to be done to open it.
    ///
    /// # Errors
    /// When the file can't be used. It is left as it is then.
    pub async fn on_disk(
        path: PathBuf,
        keep_days: u32,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Option<String>), Unusable> {
        let broken = |path: PathBuf, cause: String| Unusable::Broken { path, cause };
        let interrupted = broken(path.clone(), "opening it was interrupted".to_owned());
        let opening = move || {
            let notice = FORM.prepare(&path, clock.now())?;
            let opened = Database::open(&path).and_then(|mut database| {
                // A file that can't be written now can't be used, though it can be read.
                database.expire(Day::of(clock.now()), keep_days)?;
                Ok(database)
            });
            let database = opened.map_err(|error| broken(path.clone(), error.to_string()))?;
            let ledger = Ledger::start(database, keep_days, Arc::clone(&clock));
            let ledger = Some(ledger.map_err(|error| broken(path, error.to_string()))?);
            Ok((Self { ledger, store: UsageStore::Disk, keep_days, clock }, notice))
        };
        tokio::task::spawn_blocking(opening).await.unwrap_or(Err(interrupted))
    }

    /// Counts an answer that has ended. Never waits.
    pub fn add(&self, key: Option<&str>, model: &str, tokens: Tokens) {
        let Some(ledger) = &self.ledger else { return };
        let model = excerpt(model, NAME_CHARACTERS).to_owned();
        let (day, key) = (Day::of(self.clock.now()), key.map(str::to_owned));
        ledger.add(Row { day, key, model, sum: Sum { requests: 1, tokens } });
    }

    /// What was used from a day on; `None`: the file can't be read right now.
    pub async fn report(&self, since: Day) -> Option<Report> {
        let rows = match &self.ledger {
            Some(ledger) => ledger.ask(since).await?,
            None => Vec::new(),
        };
        Some(Report::new(self.store, self.keep_days, (since, self.today()), rows))
    }

    /// The day that it is.
    #[must_use]
    pub fn today(&self) -> Day {
        Day::of(self.clock.now())
    }

    /// Waits until what was counted is written, or can't be for a while.
    pub async fn settle(&self) {
        if let Some(ledger) = &self.ledger {
            ledger.settle().await;
        }
    }
}

impl Drop for Totals {
    fn drop(&mut self) {
        if let Some(ledger) = &self.ledger {
            ledger.close();
        }
    }
}

impl Report {
    /// What a file tells, whether or not a daemon writes it. Blocks.
    ///
    /// # Errors
    /// When the file can't be read. It is left as it is then.
    pub fn read(path: &Path, keep_days: u32, since: Day, now: SystemTime) -> Result<Self, Unusable> {
        let found = FORM.find(path, now)?.map(|connection| Database::of(connection).rows(since)).transpose();
        let broken = |error: rusqlite::Error| Unusable::Broken { path: path.to_owned(), cause: error.to_string() };
        let rows = found.map_err(broken)?.unwrap_or_default();
        Ok(Self::new(UsageStore::Disk, keep_days, (since, Day::of(now)), rows))
    }

    /// What one client key used.
    #[must_use]
    pub fn of_key(mut self, key: &str) -> Self {
        self.rows.retain(|row| row.key.as_deref() == Some(key));
        Self { sum: sum(&self.rows), ..self }
    }

    fn new(store: UsageStore, keep_days: u32, (since, until): (Day, Day), rows: Vec<Row>) -> Self {
        Self { store: store.name(), keep_days, since, until, sum: sum(&rows), rows }
    }
}

fn sum(rows: &[Row]) -> Sum {
    rows.iter().fold(Sum::default(), |mut sum, row| {
        sum.add(row.sum);
        sum
    })
}

impl Sum {
    /// Adds another one.
    pub fn add(&mut self, other: Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.tokens.add(other.tokens);
    }
}

impl Tokens {
    /// Adds others.
    pub fn add(&mut self, other: Self) {
        self.input = self.input.saturating_add(other.input);
        self.cached = self.cached.saturating_add(other.cached);
        self.output = self.output.saturating_add(other.output);
        self.reasoning = self.reasoning.saturating_add(other.reasoning);
    }
}

#[cfg(test)]
mod tests;
