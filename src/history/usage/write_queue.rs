//! Rows that wait to be written, and the thread that writes them.
//!
//! Adding a row never blocks. Waiting rows of the same day, client key and model are added up, and the thread
//! writes all rows at once, so that a busy daemon writes sums instead of single responses. Rows that can't be written
//! are retried later. If too many different rows wait, new ones are dropped, and a warning is logged. The thread ends
//! with the store.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::database::Database;
use super::{Day, UsageRow, UsageSum};
use crate::clock::Clock;

/// How often an idle thread deletes expired rows.
const IDLE_INTERVAL: Duration = Duration::from_secs(3600);
/// How long rows are collected before they are written: waking up and writing for each response would slow responses
/// down.
const COLLECT_TIME: Duration = Duration::from_secs(1);
/// How long to wait after a failed write.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// The maximum number of waiting rows.
const MAX_WAITING: usize = 4096;
/// How long a caller waits for rows to be read or written.
const DISK_TIMEOUT: Duration = Duration::from_secs(10);

/// Day, client key and model.
type RowKey = (Day, Option<String>, String);

/// The queue, shared by requests and the thread.
#[derive(Debug, Default)]
pub(super) struct WriteQueue {
    waiting: Mutex<Waiting>,
    has_changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    sums: BTreeMap<RowKey, UsageSum>,
    reads: Vec<ReadRequest>,
    /// Whether the last write failed, so that the next one is delayed.
    has_failed: bool,
    is_closed: bool,
}

#[derive(Debug)]
struct ReadRequest {
    since: Day,
    reply: oneshot::Sender<Option<Vec<UsageRow>>>,
}

/// The next work of the thread.
#[derive(Debug)]
struct Batch {
    rows: Vec<UsageRow>,
    reads: Vec<ReadRequest>,
    is_last: bool,
}

impl WriteQueue {
    /// Starts the thread.
    pub(super) fn start(database: Database, keep_days: u32, clock: Arc<dyn Clock>) -> std::io::Result<Arc<Self>> {
        let queue = Arc::new(Self::default());
        let shared = Arc::clone(&queue);
        let thread = std::thread::Builder::new().name("usage-store".to_owned());
        thread.spawn(move || shared.work(database, keep_days, clock.as_ref()))?;
        Ok(queue)
    }

    pub(super) fn add(&self, row: UsageRow) {
        let mut waiting = self.waiting();
        let is_first = waiting.sums.is_empty();
        let has_room = waiting.add(row);
        drop(waiting);
        if is_first {
            self.has_changed.notify_one();
        }
        if !has_room {
            tracing::warn!("a response is not counted: too many rows wait for the disk of the usage store");
        }
    }

    /// Reads the rows since a day, including all that were added before. Returns `None` if they
    /// can't be read in time.
    pub(super) async fn read(&self, since: Day) -> Option<Vec<UsageRow>> {
        let (reply, rows) = oneshot::channel();
        self.waiting().reads.push(ReadRequest { since, reply });
        self.has_changed.notify_one();
        let Ok(Ok(rows)) = timeout(DISK_TIMEOUT, rows).await else {
            tracing::warn!("the disk of the usage store doesn't respond");
            return None;
        };
        rows
    }

    /// Waits until everything that was added is written.
    pub(super) async fn settle(&self) {
        // A read is handled after all rows that were added before.
        self.read(Day(u32::MAX)).await;
    }

    /// Ends the thread when it has written the waiting rows.
    pub(super) fn close(&self) {
        self.waiting().is_closed = true;
        self.has_changed.notify_one();
    }

    fn work(&self, mut database: Database, keep_days: u32, clock: &dyn Clock) {
        loop {
            let Batch { rows, reads, is_last } = self.next();
            let written = database.add(&rows, Day::of(clock.now()), keep_days);
            let mut unwritten = Vec::new();
            if let Err(error) = &written {
                tracing::warn!(%error, "the usage store can't be written; retrying");
                unwritten = rows;
            }
            for ReadRequest { since, reply } in reads {
                // Fails if the caller has given up.
                let _ = reply.send(all_rows(&database, &unwritten, since));
            }
            if is_last {
                return;
            }
            let mut waiting = self.waiting();
            waiting.has_failed = written.is_err();
            let lost = unwritten.into_iter().map(|row| waiting.add(row)).filter(|has_room| !has_room).count();
            if lost > 0 {
                tracing::warn!(lost, "responses are not counted: too many rows wait for the disk of the usage store");
            }
        }
    }

    /// Waits for rows and collects more for [`COLLECT_TIME`], or waits for a read. After a long time without any,
    /// returns an empty batch, which deletes expired rows.
    fn next(&self) -> Batch {
        let waiting = self.waiting();
        let timeout = if waiting.has_failed { RETRY_INTERVAL } else { IDLE_INTERVAL };
        let is_idle = |waiting: &mut Waiting| {
            let may_wait = waiting.sums.is_empty() || waiting.has_failed;
            may_wait && waiting.reads.is_empty() && !waiting.is_closed
        };
        let waited = self.has_changed.wait_timeout_while(waiting, timeout, is_idle);
        let (waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let may_collect = |waiting: &mut Waiting| waiting.reads.is_empty() && !waiting.is_closed;
        let collected = self.has_changed.wait_timeout_while(waiting, COLLECT_TIME, may_collect);
        let (mut waiting, _) = collected.unwrap_or_else(PoisonError::into_inner);
        let sums = std::mem::take(&mut waiting.sums).into_iter();
        Batch {
            rows: sums.map(|((day, key, model), sum)| UsageRow { day, key, model, sum }).collect(),
            reads: std::mem::take(&mut waiting.reads),
            is_last: waiting.is_closed,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Adds a row to the waiting ones. Returns whether there was room.
    fn add(&mut self, row: UsageRow) -> bool {
        let key = (row.day, row.key, row.model);
        let has_room = self.sums.len() < MAX_WAITING || self.sums.contains_key(&key);
        if has_room {
            self.sums.entry(key).or_default().add(row.sum);
        }
        has_room
    }
}

/// Returns the written rows together with the unwritten ones.
fn all_rows(database: &Database, unwritten: &[UsageRow], since: Day) -> Option<Vec<UsageRow>> {
    let log = |error: &rusqlite::Error| tracing::warn!(%error, "the usage store can't be read");
    let written = database.rows(since).inspect_err(log).ok()?;
    let mut sums: BTreeMap<RowKey, UsageSum> = BTreeMap::new();
    for row in written.iter().chain(unwritten.iter().filter(|row| row.day >= since)) {
        sums.entry((row.day, row.key.clone(), row.model.clone())).or_default().add(row.sum);
    }
    Some(sums.into_iter().map(|((day, key, model), sum)| UsageRow { day, key, model, sum }).collect())
}
