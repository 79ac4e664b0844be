//! What waits to be written, added up, and the thread that writes it.
//!
//! Whoever adds a row waits for nobody. The thread takes all that waits at once, so that a busy
//! daemon writes a sum and not each answer. What can't be written waits for another try; what can't
//! wait either, since too many different rows do, is lost and told. The thread ends with the store.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::database::Database;
use super::{Day, Row, Sum};
use crate::clock::Clock;

/// How often old rows are looked for when nothing else is to be done.
const IDLE_INTERVAL: Duration = Duration::from_secs(3600);
/// How long rows are gathered before they are written: a wake-up and a write for each answer would
/// take a share of every answer's time.
const GATHER: Duration = Duration::from_secs(1);
/// How soon a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Different rows that may wait.
const MAX_WAITING: usize = 4096;
/// How long the disk is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A day, a key, a model.
type Heading = (Day, Option<String>, String);

/// What is shared by those who add and the thread that writes.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    waiting: Mutex<Waiting>,
    has_changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    sums: BTreeMap<Heading, Sum>,
    questions: Vec<Question>,
    /// Whether the last write failed, so that the next one takes its time.
    has_failed: bool,
    is_closed: bool,
}

#[derive(Debug)]
struct Question {
    since: Day,
    answer: oneshot::Sender<Option<Vec<Row>>>,
}

/// What the thread has to do.
#[derive(Debug)]
struct Task {
    rows: Vec<Row>,
    questions: Vec<Question>,
    is_last: bool,
}

impl Ledger {
    /// Starts the thread.
    pub(super) fn start(database: Database, keep_days: u32, clock: Arc<dyn Clock>) -> std::io::Result<Arc<Self>> {
        let ledger = Arc::new(Self::default());
        let worked = Arc::clone(&ledger);
        let thread = std::thread::Builder::new().name("usage-store".to_owned());
        thread.spawn(move || worked.work(database, keep_days, clock.as_ref()))?;
        Ok(ledger)
    }

    pub(super) fn add(&self, row: Row) {
        let mut waiting = self.waiting();
        let is_first = waiting.sums.is_empty();
        let has_room = waiting.add(row);
        drop(waiting);
        if is_first {
            self.has_changed.notify_one();
        }
        if !has_room {
            tracing::warn!("an answer is not counted: too much waits for the usage store's disk already");
        }
    }

    /// The rows from a day on, with all that was added before; `None`: they can't be read.
    pub(super) async fn ask(&self, since: Day) -> Option<Vec<Row>> {
        let (answer, answered) = oneshot::channel();
        self.waiting().questions.push(Question { since, answer });
        self.has_changed.notify_one();
        let Ok(Ok(rows)) = timeout(PATIENCE, answered).await else {
            tracing::warn!("the usage store's disk does not answer");
            return None;
        };
        rows
    }

    /// Waits until all that was added is written.
    pub(super) async fn settle(&self) {
        // An answer comes after all that was added before the question.
        self.ask(Day(u32::MAX)).await;
    }

    /// Lets the thread end, once it has written what waits.
    pub(super) fn close(&self) {
        self.waiting().is_closed = true;
        self.has_changed.notify_one();
    }

    fn work(&self, mut database: Database, keep_days: u32, clock: &dyn Clock) {
        loop {
            let Task { rows, questions, is_last } = self.next();
            let written = database.add(&rows, Day::of(clock.now()), keep_days);
            let mut unwritten = Vec::new();
            if let Err(error) = &written {
                tracing::warn!(%error, "the usage store can't be written; it is tried again");
                unwritten = rows;
            }
            for Question { since, answer } in questions {
                // Nobody may wait any longer.
                let _ = answer.send(all(&database, &unwritten, since));
            }
            if is_last {
                return;
            }
            let mut waiting = self.waiting();
            waiting.has_failed = written.is_err();
            let lost = unwritten.into_iter().map(|row| waiting.add(row)).filter(|has_room| !has_room).count();
            if lost > 0 {
                tracing::warn!(lost, "answers are not counted: too much waits for the usage store's disk");
            }
        }
    }

    /// Waits for something to do; the time for old rows is something.
    fn next(&self) -> Task {
        let waiting = self.waiting();
        let pause = if waiting.has_failed { RETRY } else { IDLE_INTERVAL };
        let is_idle = |waiting: &mut Waiting| {
            let may_wait = waiting.sums.is_empty() || waiting.has_failed;
            may_wait && waiting.questions.is_empty() && !waiting.is_closed
        };
        let waited = self.has_changed.wait_timeout_while(waiting, pause, is_idle);
        let (waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let may_gather = |waiting: &mut Waiting| waiting.questions.is_empty() && !waiting.is_closed;
        let gathered = self.has_changed.wait_timeout_while(waiting, GATHER, may_gather);
        let (mut waiting, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        let sums = std::mem::take(&mut waiting.sums).into_iter();
        Task {
            rows: sums.map(|((day, key, model), sum)| Row { day, key, model, sum }).collect(),
            questions: std::mem::take(&mut waiting.questions),
            is_last: waiting.is_closed,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Adds a row to what waits; says whether there was room.
    fn add(&mut self, row: Row) -> bool {
        let heading = (row.day, row.key, row.model);
        let has_room = self.sums.len() < MAX_WAITING || self.sums.contains_key(&heading);
        if has_room {
            self.sums.entry(heading).or_default().add(row.sum);
        }
        has_room
    }
}

/// What is written, and what could not be.
fn all(database: &Database, unwritten: &[Row], since: Day) -> Option<Vec<Row>> {
    let told = |error: &rusqlite::Error| tracing::warn!(%error, "the usage store can't be read");
    let written = database.rows(since).inspect_err(told).ok()?;
    let mut sums: BTreeMap<Heading, Sum> = BTreeMap::new();
    for row in written.iter().chain(unwritten.iter().filter(|row| row.day >= since)) {
        sums.entry((row.day, row.key.clone(), row.model.clone())).or_default().add(row.sum);
    }
    Some(sums.into_iter().map(|((day, key, model), sum)| Row { day, key, model, sum }).collect())
}
