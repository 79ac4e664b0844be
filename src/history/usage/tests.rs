//! Tests of the usage totals.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;

use super::{Day, Tokens, UsageReport, UsageRow, UsageStore, UsageTotals};
use crate::clock::Clock;
use crate::history::DatabaseError;

const DAY: Duration = Duration::from_secs(86_400);

/// A clock that only changes when it is advanced.
#[derive(Debug)]
struct ManualClock(Mutex<SystemTime>);

impl ManualClock {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(UNIX_EPOCH + 20_000 * DAY)))
    }

    fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap()
    }
}

fn tokens(input: u64) -> Tokens {
    Tokens { input, cached: 2, output: 3, reasoning: 1 }
}

async fn open(path: &Path, clock: &Arc<ManualClock>) -> UsageTotals {
    let (totals, notice) =
        UsageTotals::on_disk(path.to_owned(), 90, Arc::clone(clock) as Arc<dyn Clock>).await.unwrap();
    assert_eq!(notice, None);
    totals
}

fn file(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("usage.sqlite3")
}

/// The usage of the last days, including today.
async fn last(totals: &UsageTotals, days: u32) -> UsageReport {
    totals.report(totals.today().back(days - 1)).await.unwrap()
}

fn rows(report: &UsageReport) -> Vec<(u32, &str, &str, u64, u64)> {
    let row = |row: &'_ UsageRow| (row.day.0, row.sum.requests, row.sum.tokens.input);
    let names = report.rows.iter().map(|row| (row.key.as_deref().unwrap_or_default(), &*row.model));
    report
        .rows
        .iter()
        .map(row)
        .zip(names)
        .map(|((day, count, input), (key, model))| (day, key, model, count, input))
        .collect()
}

#[tokio::test]
async fn rows_are_added_up_by_day_key_and_model() {
    let (clock, folder) = (ManualClock::new(), tempfile::tempdir().unwrap());
    let memory = UsageTotals::in_memory(UsageStore::Memory, 90, Arc::clone(&clock) as Arc<dyn Clock>);
    let disk = open(&file(&folder), &clock).await;
    for _ in 0..2 {
        for totals in [&memory, &disk] {
            totals.add(None, "m", tokens(10));
            totals.add(None, "m", tokens(5));
            totals.add(Some("desk"), "m", tokens(1));
            totals.add(Some("desk"), "n", tokens(1));
        }
        clock.advance(DAY);
    }
    for totals in [&memory, &disk] {
        let all = last(totals, 90).await;
        let expected = [
            (20_000, "", "m", 2, 15),
            (20_000, "desk", "m", 1, 1),
            (20_000, "desk", "n", 1, 1),
            (20_001, "", "m", 2, 15),
            (20_001, "desk", "m", 1, 1),
            (20_001, "desk", "n", 1, 1),
        ];
        assert_eq!(rows(&all), expected);
        assert_eq!((all.sum.requests, all.sum.tokens), (8, Tokens { input: 34, cached: 16, output: 24, reasoning: 8 }));
        assert_eq!(rows(&totals.report(Day(20_001)).await.unwrap()).len(), 3);
        assert_eq!(rows(&last(totals, 1).await), [], "nothing was counted today");
    }
    assert_eq!((last(&memory, 1).await.store, last(&disk, 1).await.store), ("memory", "disk"));
}

#[tokio::test]
async fn a_file_is_read_with_and_without_a_running_daemon() {
    let (clock, folder) = (ManualClock::new(), tempfile::tempdir().unwrap());
    let path = file(&folder);
    let read = || UsageReport::read(&path, 90, Day(0), clock.now());
    assert_eq!(read().unwrap().rows, []);
    assert!(!path.exists(), "reading creates no file");
    let totals = open(&path, &clock).await;
    totals.add(None, "m", tokens(1));
    totals.settle().await;
    assert_eq!(read().unwrap(), totals.report(Day(0)).await.unwrap());
    drop(totals);
    assert_eq!(read().unwrap().sum.requests, 1);
}

#[tokio::test]
async fn two_daemons_share_a_file() {
    let (clock, folder) = (ManualClock::new(), tempfile::tempdir().unwrap());
    let (one, two) = (open(&file(&folder), &clock).await, open(&file(&folder), &clock).await);
    for _ in 0..50 {
        one.add(None, "m", tokens(1));
        two.add(None, "m", tokens(2));
        tokio::task::yield_now().await;
    }
    one.settle().await;
    two.settle().await;
    let report = last(&one, 1).await;
    assert_eq!(rows(&report), [(20_000, "", "m", 100, 150)]);
    assert_eq!(report, last(&two, 1).await);
}

#[tokio::test]
async fn expired_rows_are_deleted() {
    let (clock, folder) = (ManualClock::new(), tempfile::tempdir().unwrap());
    let path = file(&folder);
    let totals = open(&path, &clock).await;
    totals.add(None, "old", tokens(1));
    clock.advance(89 * DAY);
    totals.add(None, "new", tokens(1));
    assert_eq!(last(&totals, 200).await.rows.len(), 2);
    clock.advance(DAY);
    let rows = |report: UsageReport| report.rows.into_iter().map(|row| row.model).collect::<Vec<_>>();
    assert_eq!(rows(last(&totals, 200).await), ["new"], "a read deletes expired rows");
    drop(totals);
    clock.advance(89 * DAY);
    let totals = open(&path, &clock).await;
    assert_eq!(rows(last(&totals, 200).await), Vec::<String>::new(), "so does opening the file");
}

#[tokio::test]
async fn nothing_is_counted_if_the_store_is_off() {
    let totals = UsageTotals::in_memory(UsageStore::Off, 90, ManualClock::new());
    totals.add(None, "m", tokens(1));
    totals.settle().await;
    let report = last(&totals, 1).await;
    assert_eq!((report.store, report.rows), ("off", vec![]));
}

#[tokio::test]
async fn rows_that_can_not_be_written_are_retried() {
    let (clock, folder) = (ManualClock::new(), tempfile::tempdir().unwrap());
    let path = file(&folder);
    let totals = open(&path, &clock).await;
    totals.add(None, "m", tokens(1));
    totals.settle().await;
    Connection::open(&path).unwrap().execute_batch("ALTER TABLE totals RENAME TO gone").unwrap();
    totals.add(None, "m", tokens(1));
    totals.settle().await;
    assert_eq!(totals.report(Day(0)).await, None, "an unreadable store isn't an empty one");
    Connection::open(&path).unwrap().execute_batch("ALTER TABLE gone RENAME TO totals").unwrap();
    assert_eq!(rows(&last(&totals, 1).await), [(20_000, "", "m", 2, 2)]);
}

#[tokio::test]
async fn unusable_files_are_unchanged_or_renamed() {
    let (clock, folder) = (ManualClock::new(), tempfile::tempdir().unwrap());
    let path = file(&folder);
    let opened = async || UsageTotals::on_disk(path.clone(), 90, Arc::clone(&clock) as Arc<dyn Clock>).await;
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE other (x)").unwrap();
    assert_eq!(
        opened().await.unwrap_err().to_string(),
        format!("{} is not a usage store of codex-proxy", path.display())
    );
    assert!(matches!(UsageReport::read(&path, 90, Day(0), clock.now()), Err(DatabaseError::Foreign { .. })));
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "no database, but long enough to be looked at as if it were one".repeat(99)).unwrap();
    assert!(matches!(UsageReport::read(&path, 90, Day(0), clock.now()), Err(DatabaseError::Broken { .. })));
    let (_, notice) = opened().await.unwrap();
    assert!(notice.unwrap().contains("usage.sqlite3.damaged, and earlier usage is lost"));
}
