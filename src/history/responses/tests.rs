//! Tests of both stores, and of the file.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;
use serde_json::value::RawValue;
use tempfile::TempDir;
use tokio::time::advance;

use super::super::file::DatabaseError;
use super::{LIFETIME, MAX_BYTES, MAX_RESPONSES, ResponseOwner, ResponseRecord, Responses};
use crate::clock::Clock;

const SECOND: Duration = Duration::from_secs(1);

/// A clock that only changes when it is advanced.
#[derive(Debug)]
struct ManualClock(Mutex<SystemTime>);

impl ManualClock {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(UNIX_EPOCH + Duration::from_secs(1_893_456_000))))
    }

    fn advance(&self, by: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store and its clock.
struct Bench {
    store: Responses,
    disk: Option<(Arc<ManualClock>, TempDir)>,
}

impl Bench {
    fn memory() -> Self {
        Self { store: Responses::default(), disk: None }
    }

    async fn disk() -> Self {
        let (clock, folder) = (ManualClock::new(), tempfile::tempdir().unwrap());
        let store = open(&file(&folder), &clock).await;
        Self { store, disk: Some((clock, folder)) }
    }

    async fn insert(&self, owner: &ResponseOwner, stored: ResponseRecord) {
        self.store.insert(owner, stored);
        self.store.settle().await;
    }

    async fn pass(&self, time: Duration) {
        // Earlier uses must be recorded with their time.
        self.store.settle().await;
        match &self.disk {
            Some((clock, _)) => clock.advance(time),
            None => advance(time).await,
        }
    }

    async fn has(&self, id: &str) -> bool {
        self.store.find(&ResponseOwner::default(), id).await.is_some()
    }

    async fn holder(&self, item: &str) -> Option<String> {
        self.store.find_by_item(&ResponseOwner::default(), item).await.map(|stored| stored.id.clone())
    }
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("state").join("responses.sqlite3")
}

async fn open(path: &Path, clock: &Arc<ManualClock>) -> Responses {
    let (store, notice) = try_open(path, clock).await.unwrap();
    assert_eq!(notice, None);
    store
}

async fn try_open(path: &Path, clock: &Arc<ManualClock>) -> Result<(Responses, Option<String>), DatabaseError> {
    let clock = Arc::clone(clock);
    Responses::on_disk(path.to_owned(), clock).await
}

fn stored(id: &str, bytes: usize) -> ResponseRecord {
    let item = |id: String| {
        let json = format!(r#"{{"id":"{id}","n":1.0e+2, "n":2}}"#);
        (Some(id), RawValue::from_string(json).unwrap())
    };
    let nameless = (None, RawValue::from_string("{ }".to_owned()).unwrap());
    ResponseRecord {
        id: id.to_owned(),
        input: vec![item("shared".to_owned()), nameless],
        output: vec![item(format!("msg_{id}"))],
        response: "x".repeat(bytes),
        cache_key: "key".to_owned(),
        account: Some("acct-1".to_owned()),
    }
}

async fn a_response_is_read_back_as_stored(bench: Bench) {
    bench.insert(&ResponseOwner::default(), stored("a", 3)).await;
    let (found, was) = (bench.store.find(&ResponseOwner::default(), "a").await.unwrap(), stored("a", 3));
    let items = |stored: &ResponseRecord| format!("{:?} {:?}", stored.input, stored.output);
    assert_eq!(items(&found), items(&was), "to the last byte");
    assert_eq!((&found.response, &found.cache_key, &found.account), (&was.response, &was.cache_key, &was.account));
    assert_eq!(bench.holder("msg_a").await.as_deref(), Some("a"));
    assert!(!bench.has("b").await && bench.holder("msg_b").await.is_none());
}

async fn a_response_expires_an_hour_after_its_last_use(bench: Bench) {
    bench.insert(&ResponseOwner::default(), stored("a", 1)).await;
    let almost = LIFETIME.checked_sub(SECOND).unwrap();
    bench.pass(almost).await;
    assert!(bench.has("a").await);
    bench.pass(almost).await;
    assert!(bench.holder("msg_a").await.is_some());
    bench.pass(LIFETIME).await;
    assert!(!bench.has("a").await && bench.holder("msg_a").await.is_none());
}

async fn another_key_finds_nothing(bench: Bench) {
    let (own, other) = (ResponseOwner::of_key("laptop", &[1; 32]), ResponseOwner::of_key("laptop", &[2; 32]));
    bench.insert(&own, stored("a", 1)).await;
    for foreign in [&ResponseOwner::default(), &other] {
        assert!(bench.store.find(foreign, "a").await.is_none());
        assert!(bench.store.find_by_item(foreign, "msg_a").await.is_none());
        assert_eq!(bench.store.remove(foreign, "a").await, Ok(false));
    }
    assert!(bench.store.find(&own, "a").await.is_some());
    assert_eq!(bench.store.remove(&own, "a").await, Ok(true));
    assert_eq!(bench.store.remove(&own, "a").await, Ok(false));
    assert!(bench.store.find(&own, "a").await.is_none() && bench.store.find_by_item(&own, "msg_a").await.is_none());
}

async fn the_least_recently_used_response_is_evicted(bench: Bench) {
    for number in 0..MAX_RESPONSES {
        bench.store.insert(&ResponseOwner::default(), stored(&number.to_string(), 1));
    }
    assert!(bench.has("0").await);
    bench.insert(&ResponseOwner::default(), stored("more", 1)).await;
    assert!(bench.has("0").await && bench.has("more").await && !bench.has("1").await && bench.has("2").await);
}

async fn the_size_is_bounded(bench: Bench) {
    for id in ["a", "b", "c", "c"] {
        bench.insert(&ResponseOwner::default(), stored(id, MAX_BYTES / 2 - 2048)).await;
    }
    assert!(!bench.has("a").await && bench.has("b").await && bench.has("c").await);
    bench.insert(&ResponseOwner::default(), stored("b", MAX_BYTES)).await;
    assert!(!bench.has("b").await, "a response over the limit is not stored");
    assert!(bench.has("c").await);
    if let Some((_, folder)) = &bench.disk {
        let sizes = std::fs::read_dir(file(folder).parent().unwrap()).unwrap();
        let taken: u64 = sizes.map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert!(taken < MAX_BYTES as u64 / 2 + 1024 * 1024, "the files have shrunk: {taken}");
    }
}

async fn a_shared_item_is_found_in_its_latest_response(bench: Bench) {
    bench.insert(&ResponseOwner::default(), stored("a", 1)).await;
    bench.insert(&ResponseOwner::default(), stored("b", 1)).await;
    assert_eq!(bench.store.remove(&ResponseOwner::default(), "a").await, Ok(true));
    assert_eq!(bench.holder("shared").await.as_deref(), Some("b"));
    assert!(bench.holder("msg_a").await.is_none());
}

async fn one_key_can_not_evict_responses_of_another(bench: Bench) {
    let (own, other) = (ResponseOwner::of_key("laptop", &[1; 32]), ResponseOwner::of_key("batch", &[2; 32]));
    let knows = async |owner: &ResponseOwner, id: &str| bench.store.find(owner, id).await.is_some();
    bench.insert(&own, stored("mine", MAX_BYTES / 4)).await;
    for number in 0..=MAX_RESPONSES {
        bench.insert(&other, stored(&number.to_string(), 1)).await;
    }
    assert!(knows(&own, "mine").await && !knows(&other, "1").await && knows(&other, "2").await);
    for id in ["large0", "large1", "large2"] {
        bench.insert(&other, stored(id, MAX_BYTES / 3)).await;
    }
    assert!(knows(&own, "mine").await && knows(&other, "large2").await && !knows(&other, "large0").await);
}

/// Tests each behavior in memory and on disk.
macro_rules! both {
    ($($behavior:ident),+ $(,)?) => {
        mod memory {
            $(
                #[tokio::test(start_paused = true)]
                async fn $behavior() {
                    super::$behavior(super::Bench::memory()).await;
                }
            )+
        }

        mod disk {
            $(
                #[tokio::test]
                async fn $behavior() {
                    super::$behavior(super::Bench::disk().await).await;
                }
            )+
        }
    };
}

both! {
    a_response_is_read_back_as_stored,
    a_response_expires_an_hour_after_its_last_use,
    another_key_finds_nothing,
    the_least_recently_used_response_is_evicted,
    the_size_is_bounded,
    one_key_can_not_evict_responses_of_another,
    a_shared_item_is_found_in_its_latest_response,
}

#[tokio::test]
async fn a_response_is_found_before_it_is_written() {
    let Bench { store, disk } = Bench::disk().await;
    let (_, folder) = disk.unwrap();
    // Another process writes, so ours has to wait.
    let other = Connection::open(file(&folder)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let owner = ResponseOwner::default();
    store.insert(&owner, stored("a", 1));
    assert!(store.find(&owner, "a").await.is_some());
    assert!(store.find_by_item(&owner, "msg_a").await.is_some());
    let removed = store.remove(&owner, "a");
    let looked = async {
        tokio::task::yield_now().await;
        assert!(store.find(&owner, "a").await.is_none() && store.find_by_item(&owner, "msg_a").await.is_none());
        other.execute_batch("COMMIT").unwrap();
    };
    assert_eq!(tokio::join!(removed, looked).0, Ok(true));
}

#[tokio::test]
async fn two_processes_use_the_same_file() {
    let Bench { store, disk } = Bench::disk().await;
    let (clock, folder) = disk.unwrap();
    let second = open(&file(&folder), &clock).await;
    let owner = ResponseOwner::default();
    for round in 0..20 {
        let (one, two) = (format!("one{round}"), format!("two{round}"));
        store.insert(&owner, stored(&one, 1000));
        second.insert(&owner, stored(&two, 1000));
        tokio::join!(store.settle(), second.settle());
        assert!(store.find(&owner, &two).await.is_some() && second.find(&owner, &one).await.is_some(), "{round}");
    }
    assert_eq!(store.remove(&owner, "two0").await, Ok(true));
    assert!(second.find(&owner, "two0").await.is_none());
}

#[tokio::test]
async fn deleted_responses_are_overwritten_in_the_files() {
    let Bench { store, disk } = Bench::disk().await;
    let (_clock, folder) = disk.unwrap();
    let owner = ResponseOwner::default();
    let secret = ResponseRecord { response: "a very telling word".repeat(400), ..stored("a", 1) };
    let holds = || {
        let entries = std::fs::read_dir(file(&folder).parent().unwrap()).unwrap();
        let telling = |path: PathBuf| {
            let bytes = std::fs::read(path).unwrap();
            bytes.windows(12).any(|window| window == b"telling word")
        };
        entries.map(|entry| entry.unwrap().path()).any(telling)
    };
    store.insert(&owner, secret);
    store.settle().await;
    assert!(holds());
    assert_eq!(store.remove(&owner, "a").await, Ok(true));
    assert!(!holds());
}

#[cfg(unix)]
#[tokio::test]
async fn the_files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let Bench { store, disk } = Bench::disk().await;
    let (clock, folder) = disk.unwrap();
    store.insert(&ResponseOwner::default(), stored("a", 1));
    store.settle().await;
    assert_eq!(mode(file(&folder).parent().unwrap()), 0o700);
    for entry in std::fs::read_dir(file(&folder).parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    drop(store);
    std::fs::set_permissions(file(&folder), PermissionsExt::from_mode(0o644)).unwrap();
    open(&file(&folder), &clock).await;
    assert_eq!(mode(&file(&folder)), 0o600);
}

#[tokio::test]
async fn a_damaged_file_is_renamed_and_replaced() {
    for damage in [&b"this is no database at all"[..], &[0xff; 9000]] {
        let (clock, folder) = (ManualClock::new(), tempfile::tempdir().unwrap());
        let path = file(&folder);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, damage).unwrap();
        let (store, notice) = try_open(&path, &clock).await.unwrap();
        let renamed = path.with_file_name("responses.sqlite3.damaged");
        assert!(notice.unwrap().contains("responses.sqlite3.damaged"));
        assert_eq!(std::fs::read(renamed).unwrap(), damage);
        store.insert(&ResponseOwner::default(), stored("a", 1));
        store.settle().await;
        drop(store);
        assert!(open(&path, &clock).await.find(&ResponseOwner::default(), "a").await.is_some());
    }
}

#[tokio::test]
async fn inconsistent_pages_are_detected() {
    let Bench { store, disk } = Bench::disk().await;
    let (clock, folder) = disk.unwrap();
    for id in 0..40 {
        store.insert(&ResponseOwner::default(), stored(&format!("answer-{id}"), 3000));
    }
    store.settle().await;
    // The last connection deletes the write-ahead log when it closes.
    drop(store);
    let path = file(&folder);
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(connection);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[3 * 4096..5 * 4096].fill(0x55);
    std::fs::write(&path, bytes).unwrap();
    let (_store, notice) = try_open(&path, &clock).await.unwrap();
    assert!(notice.unwrap().contains("damaged"));
}

#[tokio::test]
async fn a_later_or_foreign_file_is_unchanged() {
    let later = "PRAGMA application_id = 0x63787072; PRAGMA user_version = 7; CREATE TABLE writer (release TEXT);";
    for (content, word) in [
        (format!("{later} INSERT INTO writer VALUES ('9.8.7')"), "codex-proxy 9.8.7"),
        (format!("{later} INSERT INTO writer VALUES ('no <number>')"), "a later release"),
        ("CREATE TABLE songs (name TEXT)".to_owned(), "is not a response store"),
        ("PRAGMA user_version = 1; CREATE TABLE songs (name TEXT)".to_owned(), "is not a response store"),
    ] {
        let (clock, folder) = (ManualClock::new(), tempfile::tempdir().unwrap());
        let path = file(&folder);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        Connection::open(&path).unwrap().execute_batch(&content).unwrap();
        let before = std::fs::read(&path).unwrap();
        let refused = try_open(&path, &clock).await.unwrap_err().to_string();
        assert!(refused.contains(word), "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}

#[tokio::test]
async fn a_file_that_a_later_release_has_migrated_is_not_written() {
    let Bench { store, disk } = Bench::disk().await;
    let (_clock, folder) = disk.unwrap();
    let owner = ResponseOwner::default();
    store.insert(&owner, stored("a", 1));
    store.settle().await;
    let other = Connection::open(file(&folder)).unwrap();
    other.execute_batch("PRAGMA user_version = 7").unwrap();
    store.insert(&owner, stored("b", 1));
    store.settle().await;
    assert!(store.find(&owner, "a").await.is_none() && store.remove(&owner, "a").await.is_err());
    let count: u32 = other.query_row("SELECT count(*) FROM answers", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 1);
}

#[tokio::test]
async fn a_full_disk_fails_no_request() {
    let Bench { store, disk } = Bench::disk().await;
    let (_clock, folder) = disk.unwrap();
    let owner = ResponseOwner::default();
    store.insert(&owner, stored("a", 1));
    store.settle().await;
    // Simulates a full disk.
    let other = Connection::open(file(&folder)).unwrap();
    let full = "CREATE TRIGGER full BEFORE INSERT ON answers BEGIN SELECT raise(ABORT, 'full'); END";
    other.execute_batch(full).unwrap();
    store.insert(&owner, stored("b", 1));
    store.settle().await;
    assert!(store.find(&owner, "b").await.is_none(), "it was not stored");
    assert!(store.find(&owner, "a").await.is_some());
}

#[tokio::test]
async fn a_directory_that_can_not_be_created_is_an_error() {
    let (clock, folder) = (ManualClock::new(), tempfile::tempdir().unwrap());
    std::fs::write(folder.path().join("state"), "a file where the folder should be").unwrap();
    let refused = try_open(&file(&folder), &clock).await.unwrap_err();
    assert!(matches!(&refused, DatabaseError::Broken { .. }), "{refused}");
}
