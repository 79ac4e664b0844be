//! Which batches are paused and why, and the signal that a batch was created or cancelled.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock::{Clock as _, SystemClock, serialize_rfc3339};
use crate::history::FileStore;

/// The state of the batches that isn't stored.
#[derive(Debug, Default)]
pub(in crate::server) struct BatchActivity {
    changed: Notify,
    /// By the number of the batch.
    pauses: Mutex<BTreeMap<i64, Pause>>,
}

/// A batch that hasn't ended, in the JSON form of `/usage`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BatchProgress {
    /// Its id.
    pub id: String,
    /// Its status in OpenAI's API.
    pub status: &'static str,
    /// The name of the client key that created it.
    pub key: Option<String>,
    /// All lines; 0 until the input file is checked.
    pub total: u64,
    /// Lines that succeeded.
    pub completed: u64,
    /// Lines that failed.
    pub failed: u64,
    /// Why no line is run; `None`: the batch isn't paused.
    pub paused: Option<PauseStatus>,
}

/// Why a batch is paused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PauseStatus {
    /// One sentence for the user.
    pub reason: String,
    /// When the next attempt is made.
    #[serde(serialize_with = "serialize_rfc3339")]
    pub until: SystemTime,
}

/// Why and for how long a batch waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Obstacle {
    /// For the log: a pause with the same kind is logged once.
    pub(super) kind: &'static str,
    pub(super) reason: String,
    pub(super) wait: Duration,
}

#[derive(Debug)]
struct Pause {
    /// Empty if the batch has only counted attempts.
    kind: &'static str,
    status: PauseStatus,
    until: Instant,
    /// How often the current line has failed.
    attempts: u32,
}

impl BatchActivity {
    /// Wakes the runner.
    pub(super) fn notify(&self) {
        self.changed.notify_one();
    }

    /// Waits until a batch is created or cancelled.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// How long a batch still waits; `None`: its next line may be tried.
    pub(super) fn remaining_pause(&self, number: i64) -> Option<Duration> {
        let remaining = self.pauses().get(&number)?.until.saturating_duration_since(Instant::now());
        (!remaining.is_zero()).then_some(remaining)
    }

    /// Records and logs that a batch waits.
    pub(super) fn pause(&self, number: i64, id: &str, obstacle: Obstacle) {
        let Obstacle { kind, reason, wait } = obstacle;
        let mut pauses = self.pauses();
        let previous = pauses.get(&number);
        if previous.is_none_or(|previous| previous.kind != kind) {
            tracing::info!(batch = id, reason, "batch paused");
        }
        let attempts = previous.map_or(0, |previous| previous.attempts);
        let status = PauseStatus { reason, until: SystemClock.now() + wait };
        pauses.insert(number, Pause { kind, status, until: Instant::now() + wait, attempts });
    }

    /// Counts a failed attempt of the current line; returns how many there were.
    pub(super) fn count_attempt(&self, number: i64) -> u32 {
        let mut pauses = self.pauses();
        let pause = pauses.entry(number).or_insert_with(|| Pause {
            kind: "",
            status: PauseStatus { reason: String::new(), until: SystemTime::UNIX_EPOCH },
            until: Instant::now(),
            attempts: 0,
        });
        pause.attempts += 1;
        pause.attempts
    }

    /// Records that a batch goes on, and logs it if its pause was logged.
    pub(super) fn resume(&self, number: i64, id: &str) {
        if self.forget(number) {
            tracing::info!(batch = id, "batch resumed");
        }
    }

    /// Forgets the pause of a batch. Returns whether it was logged.
    pub(super) fn forget(&self, number: i64) -> bool {
        self.pauses().remove(&number).is_some_and(|pause| !pause.kind.is_empty())
    }

    /// The batches that haven't ended.
    pub(in crate::server) async fn progress(&self, files: &FileStore) -> Vec<BatchProgress> {
        let Ok(active) = files.active_batches().await else { return Vec::new() };
        let pauses = self.pauses();
        let progress = active.into_iter().map(|batch| BatchProgress {
            id: batch.batch.id,
            status: batch.status.name(),
            key: batch.owner.key_name().map(str::to_owned),
            total: batch.counts.total,
            completed: batch.counts.completed,
            failed: batch.counts.failed,
            paused: pauses.get(&batch.number).filter(|pause| !pause.kind.is_empty()).map(|pause| pause.status.clone()),
        });
        progress.collect()
    }

    fn pauses(&self) -> MutexGuard<'_, BTreeMap<i64, Pause>> {
        self.pauses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
