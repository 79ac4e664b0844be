//! Runs the lines of batches, one after the other, each as a request on behalf of the key that created its batch.
//!
//! The result of a line is stored before the next one starts. A line whose result isn't stored when the daemon ends is
//! run again after the next start. Batches take turns; one that has to wait doesn't delay the others. While a line is
//! run or waits, other batches are checked, cancelled and completed.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::activity::Obstacle;
use super::gate::{INTERVAL, MIN_WAIT};
use super::line::{LineEnd, NewResult};
use crate::history::{BatchLock, BatchRecord, BatchStatus, FileError, OutputIds};
use crate::protocol::batches::InputCheck;
use crate::server::files::fresh_id;
use crate::server::internal_request::InternalRoutes;
use crate::server::state::ServerState;
use crate::server::{Services, Settings};

/// How often the store is checked for batches of other processes, and for the right to run them.
const POLL_INTERVAL: Duration = Duration::from_secs(30);
/// Maximum size of the members of a line other than its body.
const ENVELOPE_BYTES: u64 = 64 * 1024;
/// The kind of pause while the file store fails.
const STORAGE: &str = "storage";

/// Runs the batches of all clients.
#[derive(Debug)]
pub(in crate::server) struct BatchRunner {
    pub(super) services: Arc<Services>,
    pub(super) state: Arc<ServerState>,
    pub(super) routes: InternalRoutes,
    /// `batch.window_percent`.
    pub(super) window_percent: u8,
    max_line_bytes: usize,
}

/// What the runner keeps from one line to the next.
#[derive(Debug)]
struct Turns {
    lock: Option<BatchLock>,
    /// The number of the batch whose turn was last.
    last: i64,
    /// A result that couldn't be stored. No line is run until it is: the lines would be sent again and again.
    unstored: Option<NewResult>,
    changes: watch::Receiver<()>,
}

/// What was done for a batch.
pub(super) enum Step {
    /// It has changed, and can make further progress.
    Progress,
    /// It has to wait.
    Blocked(Obstacle),
}

impl BatchRunner {
    pub(in crate::server) fn new(
        settings: &Settings,
        services: &Arc<Services>,
        state: &Arc<ServerState>,
        routes: InternalRoutes,
    ) -> Self {
        Self {
            services: Arc::clone(services),
            state: Arc::clone(state),
            routes,
            window_percent: settings.batch_window_percent,
            max_line_bytes: usize::try_from(settings.body_limit_bytes.saturating_add(ENVELOPE_BYTES))
                .unwrap_or(usize::MAX),
        }
    }

    /// Runs batches until it is dropped, which ends the running line.
    pub(in crate::server) async fn run(&self) {
        loop {
            if AssertUnwindSafe(self.run_rounds()).catch_unwind().await.is_err() {
                tracing::error!("the batch runner panicked and is restarted");
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    async fn run_rounds(&self) {
        let mut turns = Turns { lock: None, last: 0, unstored: None, changes: self.state.batches.changes() };
        loop {
            turns.changes.mark_unchanged();
            if let Some(wait) = self.round(&mut turns).await {
                let _ = timeout(wait, turns.changes.changed()).await;
            }
        }
    }

    /// Runs at most one line, after checking and completing batches. Returns how long to wait before the next round;
    /// `None`: not at all.
    async fn round(&self, turns: &mut Turns) -> Option<Duration> {
        if let Some(result) = turns.unstored.take() {
            let (number, id) = (result.number, result.id.clone());
            let step = self.store(turns, result).await;
            if let Some(wait) = self.wait_after(number, &id, step) {
                return Some(wait);
            }
        }
        let active = match self.services.files.active_batches().await {
            Ok(active) => active,
            Err(error) => {
                tracing::warn!(%error, "batches can't be read");
                return Some(POLL_INTERVAL);
            }
        };
        if !active.is_empty() && turns.lock.is_none() {
            turns.lock = self.services.files.lock_batches().await;
        }
        if active.is_empty() || turns.lock.is_none() {
            return Some(POLL_INTERVAL);
        }
        if self.settle(&active).await {
            return None;
        }
        self.run_a_line(active, turns).await
    }

    /// Runs a line of the first batch that isn't paused, starting after the one whose turn was last. Returns as
    /// [`Self::round`].
    async fn run_a_line(&self, active: Vec<BatchRecord>, turns: &mut Turns) -> Option<Duration> {
        let mut wait = POLL_INTERVAL;
        let (first, second): (Vec<_>, Vec<_>) = active.into_iter().partition(|batch| batch.number > turns.last);
        for batch in first.into_iter().chain(second) {
            if batch.status != BatchStatus::InProgress {
                continue;
            }
            if let Some(left) = self.state.batches.remaining_pause(batch.number) {
                wait = wait.min(left);
                continue;
            }
            let step = self.step(&batch, turns).await;
            turns.last = batch.number;
            let left = self.wait_after(batch.number, &batch.batch.id, step)?;
            if turns.unstored.is_some() || turns.changes.has_changed().unwrap_or_default() {
                return Some(left);
            }
            wait = wait.min(left);
        }
        Some(wait)
    }

    /// Runs the next line of a batch and stores its result, or finds that there is none.
    async fn step(&self, batch: &BatchRecord, turns: &mut Turns) -> Result<Step, FileError> {
        let end = tokio::select! {
            end = self.run_line(batch) => end?,
            () = self.until_cancelled(batch, turns.changes.clone()) => return Ok(Step::Progress),
        };
        match end {
            LineEnd::Result(result) => self.store(turns, result).await,
            LineEnd::Blocked(obstacle) => Ok(Step::Blocked(obstacle)),
            LineEnd::Cancelled => Ok(Step::Progress),
            LineEnd::NoLine => {
                self.services.files.finalize_batch(batch.number).await?;
                Ok(Step::Progress)
            }
        }
    }

    /// Stores the result of a line, or keeps it for later.
    async fn store(&self, turns: &mut Turns, result: NewResult) -> Result<Step, FileError> {
        let NewResult { number, line, next, .. } = result;
        let Err(error) = self.services.files.record_line(number, line, next, result.result.clone()).await else {
            return Ok(Step::Progress);
        };
        turns.unstored = Some(result);
        let attempts = self.state.batches.count_attempt(number, false).all;
        let wait = (MIN_WAIT * 2_u32.saturating_pow(attempts.min(10))).min(INTERVAL);
        let reason = format!("the result of a line can't be stored: {error}");
        Ok(Step::Blocked(Obstacle { kind: STORAGE, reason, wait }))
    }

    /// Records what a step means for its batch; returns how long it has to wait, if it has.
    fn wait_after(&self, number: i64, id: &str, step: Result<Step, FileError>) -> Option<Duration> {
        let step = step.unwrap_or_else(|error| {
            Step::Blocked(Obstacle { kind: STORAGE, reason: error.to_string(), wait: POLL_INTERVAL })
        });
        match step {
            Step::Progress => {
                self.state.batches.resume(number, id);
                None
            }
            Step::Blocked(obstacle) => {
                let wait = obstacle.wait;
                self.state.batches.pause(number, id, obstacle);
                Some(wait)
            }
        }
    }

    /// Returns when a batch is cancelled. Until then, checks and completes other batches as they change. `changes` is
    /// a clone, so that a change during the line also starts the next round at once.
    async fn until_cancelled(&self, batch: &BatchRecord, mut changes: watch::Receiver<()>) {
        // The sender is in the state of the server, so it isn't dropped.
        while changes.changed().await.is_ok() {
            let mut active = match self.services.files.active_batches().await {
                Ok(active) => active,
                Err(error) => {
                    tracing::warn!(%error, "the status of a batch can't be read");
                    continue;
                }
            };
            let Some(own) = active.iter().position(|active| active.number == batch.number) else { return };
            if active.remove(own).status != BatchStatus::InProgress {
                return;
            }
            self.settle(&active).await;
        }
    }

    /// Checks the input of new batches, and ends those that are complete or cancelled. Returns whether there were any.
    ///
    /// Cancel safe: what was begun is done or not done, and a later call does the rest.
    async fn settle(&self, active: &[BatchRecord]) -> bool {
        let mut has_progress = false;
        for batch in active.iter().filter(|batch| batch.status != BatchStatus::InProgress) {
            if self.state.batches.remaining_pause_for(batch.number, STORAGE).is_some() {
                continue;
            }
            match self.validate_or_end(batch).await {
                Ok(()) => {
                    self.state.batches.forget(batch.number);
                    has_progress = true;
                }
                Err(error) => _ = self.wait_after(batch.number, &batch.batch.id, Err(error)),
            }
        }
        has_progress
    }

    async fn validate_or_end(&self, batch: &BatchRecord) -> Result<(), FileError> {
        if batch.status == BatchStatus::Validating {
            return self.validate(batch).await;
        }
        let ids = OutputIds { output: fresh_id(), error: fresh_id() };
        self.services.files.end_batch(batch.clone(), ids).await?;
        let counts = batch.counts;
        tracing::info!(batch = batch.batch.id, counts.completed, counts.failed, counts.total, "batch ended");
        Ok(())
    }

    /// Checks the input file.
    async fn validate(&self, batch: &BatchRecord) -> Result<(), FileError> {
        let files = &self.services.files;
        let check = InputCheck::new(batch.batch.endpoint.clone());
        let checked =
            files.visit_lines(&batch.batch.input_file_id, self.max_line_bytes, check, InputCheck::add).await?;
        match checked.finish() {
            Ok(total) => {
                tracing::info!(batch = batch.batch.id, total, "batch started");
                files.start_batch(batch.number, total).await
            }
            Err(errors) => {
                tracing::info!(batch = batch.batch.id, errors = errors.len(), "batch failed: its input is invalid");
                let errors = serde_json::to_string(&errors).expect("strings and numbers always serialize");
                files.fail_batch(batch.number, errors).await
            }
        }
    }
}
