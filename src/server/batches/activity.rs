//! Which batches are paused and why, how often their lines failed, and the signal that a batch was created or
//! cancelled.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::{Clock as _, SystemClock, serialize_rfc3339};
use crate::history::FileStore;

/// The state of the batches that isn't stored.
#[derive(Debug, Default)]
pub(in crate::server) struct BatchActivity {
    changed: watch::Sender<()>,
    /// By the number of the batch.
    batches: Mutex<BTreeMap<i64, Activity>>,
}

/// The state of a batch since its last result.
#[derive(Debug, Default)]
struct Activity {
    pause: Option<Pause>,
    attempts: Attempts,
}

/// How often the current line has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attempts {
    /// In any way.
    pub(super) all: u32,
    /// In a way that the line may have caused.
    pub(super) unexplained: u32,
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
    kind: &'static str,
    status: PauseStatus,
    /// When the batch was paused for this kind of reason.
    began: Instant,
    until: Instant,
}

impl BatchActivity {
    /// Wakes the runner.
    pub(super) fn notify(&self) {
        self.changed.send_replace(());
    }

    /// Reports each batch that is created or cancelled.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// How long a batch still waits; `None`: it may be tried.
    pub(super) fn remaining_pause(&self, number: i64) -> Option<Duration> {
        self.remaining(number, |_| true)
    }

    /// The same, for a pause of this kind only.
    pub(super) fn remaining_pause_for(&self, number: i64, kind: &str) -> Option<Duration> {
        self.remaining(number, |pause| pause.kind == kind)
    }

    fn remaining(&self, number: i64, counts: impl Fn(&Pause) -> bool) -> Option<Duration> {
        let batches = self.batches();
        let pause = batches.get(&number)?.pause.as_ref().filter(|pause| counts(pause))?;
        let remaining = pause.until.saturating_duration_since(Instant::now());
        (!remaining.is_zero()).then_some(remaining)
    }

    /// For how long a batch has been paused for this kind of reason.
    pub(super) fn paused_for(&self, number: i64, kind: &str) -> Duration {
        let batches = self.batches();
        let pause = batches.get(&number).and_then(|activity| activity.pause.as_ref());
        pause.filter(|pause| pause.kind == kind).map_or(Duration::ZERO, |pause| pause.began.elapsed())
    }

    /// Records and logs that a batch waits.
    pub(super) fn pause(&self, number: i64, id: &str, obstacle: Obstacle) {
        let Obstacle { kind, reason, wait } = obstacle;
        let mut batches = self.batches();
        let activity = batches.entry(number).or_default();
        let previous = activity.pause.as_ref().filter(|previous| previous.kind == kind);
        if previous.is_none() {
            tracing::info!(batch = id, reason, "batch paused");
        }
        let now = Instant::now();
        let began = previous.map_or(now, |previous| previous.began);
        let status = PauseStatus { reason, until: SystemClock.now() + wait };
        activity.pause = Some(Pause { kind, status, began, until: now + wait });
    }

    /// Counts a failed attempt of the current line; returns how many there were.
    pub(super) fn count_attempt(&self, number: i64, is_unexplained: bool) -> Attempts {
        let mut batches = self.batches();
        let attempts = &mut batches.entry(number).or_default().attempts;
        attempts.all += 1;
        attempts.unexplained += u32::from(is_unexplained);
        *attempts
    }

    /// Forgets the state of a batch that has another status.
    pub(super) fn forget(&self, number: i64) {
        self.batches().remove(&number);
    }

    /// Ends the pause of a batch, and logs that it resumed.
    pub(super) fn resume(&self, number: i64, id: &str) {
        if self.batches().remove(&number).is_some_and(|activity| activity.pause.is_some()) {
            tracing::info!(batch = id, "batch resumed");
        }
    }

    /// The batches that haven't ended.
    pub(in crate::server) async fn progress(&self, files: &FileStore) -> Vec<BatchProgress> {
        let Ok(active) = files.active_batches().await else { return Vec::new() };
        let batches = self.batches();
        let progress = active.into_iter().map(|batch| BatchProgress {
            id: batch.batch.id,
            status: batch.status.name(),
            key: batch.owner.key_name().map(str::to_owned),
            total: batch.counts.total,
            completed: batch.counts.completed,
            failed: batch.counts.failed,
            paused: batches.get(&batch.number).and_then(|activity| Some(activity.pause.as_ref()?.status.clone())),
        });
        progress.collect()
    }

    fn batches(&self) -> MutexGuard<'_, BTreeMap<i64, Activity>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{BatchActivity, Obstacle};

    #[tokio::test(start_paused = true)]
    async fn a_pause_lasts_as_long_as_its_kind_stays_the_same() {
        let (activity, minute) = (BatchActivity::default(), Duration::from_secs(60));
        let pause = |kind| activity.pause(1, "batch_1", Obstacle { kind, reason: String::new(), wait: minute });
        pause("key");
        tokio::time::advance(9 * minute).await;
        pause("key");
        tokio::time::advance(minute).await;
        assert_eq!(activity.paused_for(1, "key"), 10 * minute);
        pause("other");
        assert_eq!(activity.paused_for(1, "key"), Duration::ZERO);
    }
}
