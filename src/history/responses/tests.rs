//! What both stores do, and what only a file has to.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;
use serde_json::value::RawValue;
use tempfile::TempDir;
use tokio::time::advance;

use super::super::file::Unusable;
use super::{LIFETIME, MAX_BYTES, MAX_RESPONSES, Owner, Responses, Stored};
use crate::clock::Clock;

const SECOND: Duration = Duration::from_secs(1);

/// A clock that stands still until it is turned.
#[derive(Debug)]
struct Turned(Mutex<SystemTime>);

impl Turned {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(UNIX_EPOCH + Duration::from_secs(1_893_456_000))))
    }

    fn turn(&self, by: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }
}

impl Clock for Turned {
    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store, and the time that it goes by.
struct Bench {
    store: Responses,
    disk: Option<(Arc<Turned>, TempDir)>,
}

impl Bench {
    fn memory() -> Self {
        Self { store: Responses::default(), disk: None }
    }

    async fn disk() -> Self {
        let (clock, folder) = (Turned::new(), tempfile::tempdir().unwrap());
        let store = open(&file(&folder), &clock).await;
        Self { store, disk: Some((clock, folder)) }
    }

    async fn keep(&self, owner: &Owner, stored: Stored) {
        self.store.keep(owner, stored);
        self.store.settle().await;
    }

    async fn pass(&self, time: Duration) {
        // What was used before has to be noted as of then.
        self.store.settle().await;
        match &self.disk {
            Some((clock, _)) => clock.turn(time),
            None => advance(time).await,
        }
    }

    async fn knows(&self, id: &str) -> bool {
        self.store.find(&Owner::default(), id).await.is_some()
    }

    async fn holder(&self, item: &str) -> Option<String> {
        self.store.find_holder(&Owner::default(), item).await.map(|stored| stored.id.clone())
    }
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("state").join("responses.sqlite3")
}

async fn open(path: &Path, clock: &Arc<Turned>) -> Responses {
    let (store, notice) = try_open(path, clock).await.unwrap();
    assert_eq!(notice, None);
    store
}

async fn try_open(path: &Path, clock: &Arc<Turned>) -> Result<(Responses, Option<String>), Unusable> {
    let clock = Arc::clone(clock);
    Responses::on_disk(path.to_owned(), clock).await
}

fn stored(id: &str, bytes: usize) -> Stored {
    let item = |id: String| {
        let json = format!(r#"{{"id":"{id}","n":1.0e+2, "n":2}}"#);
        (Some(id), RawValue::from_string(json).unwrap())
    };
    let nameless = (None, RawValue::from_string("{ }".to_owned()).unwrap());
    Stored {
        id: id.to_owned(),
        input: vec![item("shared".to_owned()), nameless],
        output: vec![item(format!("msg_{id}"))],
        response: "x".repeat(bytes),
        cache_key: "key".to_owned(),
        account: Some("acct-1".to_owned()),
    }
}

async fn what_was_kept_is_found_as_it_was(bench: Bench) {
    bench.keep(&Owner::default(), stored("a", 3)).await;
    let (found, was) = (bench.store.find(&Owner::default(), "a").await.unwrap(), stored("a", 3));
    let items = |stored: &Stored| format!("{:?} {:?}", stored.input, stored.output);
    assert_eq!(items(&found), items(&was), "to the last byte");
    assert_eq!((&found.response, &found.cache_key, &found.account), (&was.response, &was.cache_key, &was.account));
    assert_eq!(bench.holder("msg_a").await.as_deref(), Some("a"));
    assert!(!bench.knows("b").await && bench.holder("msg_b").await.is_none());
}

async fn an_hour_after_its_last_use_it_is_gone(bench: Bench) {
    bench.keep(&Owner::default(), stored("a", 1)).await;
    let almost = LIFETIME.checked_sub(SECOND).unwrap();
    bench.pass(almost).await;
    assert!(bench.knows("a").await);
    bench.pass(almost).await;
    assert!(bench.holder("msg_a").await.is_some());
    bench.pass(LIFETIME).await;
    assert!(!bench.knows("a").await && bench.holder("msg_a").await.is_none());
}

async fn another_key_finds_nothing(bench: Bench) {
    let (own, other) = (Owner::of_key("laptop", &[1; 32]), Owner::of_key("laptop", &[2; 32]));
    bench.keep(&own, stored("a", 1)).await;
    for foreign in [&Owner::default(), &other] {
        assert!(bench.store.find(foreign, "a").await.is_none());
        assert!(bench.store.find_holder(foreign, "msg_a").await.is_none());
        assert_eq!(bench.store.remove(foreign, "a").await, Ok(false));
    }
    assert!(bench.store.find(&own, "a").await.is_some());
    assert_eq!(bench.store.remove(&own, "a").await, Ok(true));
    assert_eq!(bench.store.remove(&own, "a").await, Ok(false));
    assert!(bench.store.find(&own, "a").await.is_none() && bench.store.find_holder(&own, "msg_a").await.is_none());
}

async fn what_was_used_longest_ago_makes_room(bench: Bench) {
    for number in 0..MAX_RESPONSES {
        bench.store.keep(&Owner::default(), stored(&number.to_string(), 1));
    }
    assert!(bench.knows("0").await);
    bench.keep(&Owner::default(), stored("more", 1)).await;
    assert!(bench.knows("0").await && bench.knows("more").await && !bench.knows("1").await && bench.knows("2").await);
}

async fn its_size_is_bounded(bench: Bench) {
    for id in ["a", "b", "c", "c"] {
        bench.keep(&Owner::default(), stored(id, MAX_BYTES / 2 - 2048)).await;
    }
    assert!(!bench.knows("a").await && bench.knows("b").await && bench.knows("c").await);
    bench.keep(&Owner::default(), stored("b", MAX_BYTES)).await;
    assert!(!bench.knows("b").await, "what is too large alone is not kept");
    assert!(bench.knows("c").await);
    if let Some((_, folder)) = &bench.disk {
        let sizes = std::fs::read_dir(file(folder).parent().unwrap()).unwrap();
        let taken: u64 = sizes.map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert!(taken < MAX_BYTES as u64 / 2 + 1024 * 1024, "the files have shrunk with what is in them: {taken}");
    }
}

async fn a_shared_item_is_found_while_its_latest_answer_is_there(bench: Bench) {
    bench.keep(&Owner::default(), stored("a", 1)).await;
    bench.keep(&Owner::default(), stored("b", 1)).await;
    assert_eq!(bench.store.remove(&Owner::default(), "a").await, Ok(true));
    assert_eq!(bench.holder("shared").await.as_deref(), Some("b"));
    assert!(bench.holder("msg_a").await.is_none());
}

async fn one_key_can_not_evict_the_answers_of_another(bench: Bench) {
    let (own, other) = (Owner::of_key("laptop", &[1; 32]), Owner::of_key("batch", &[2; 32]));
    let knows = async |owner: &Owner, id: &str| bench.store.find(owner, id).await.is_some();
    bench.keep(&own, stored("mine", MAX_BYTES / 4)).await;
    for number in 0..=MAX_RESPONSES {
        bench.keep(&other, stored(&number.to_string(), 1)).await;
    }
    assert!(knows(&own, "mine").await && !knows(&other, "1").await && knows(&other, "2").await);
    for id in ["large0", "large1", "large2"] {
        bench.keep(&other, stored(id, MAX_BYTES / 3)).await;
    }
    assert!(knows(&own, "mine").await && knows(&other, "large2").await && !knows(&other, "large0").await);
}

/// Each behaviour, in memory and on disk.
macro_rules! both {
    ($($behaviour:ident),+ $(,)?) => {
        mod memory {
            $(
                #[tokio::test(start_paused = true)]
                async fn $behaviour() {
                    super::$behaviour(super::Bench::memory()).await;
                }
            )+
        }

        mod disk {
            $(
                #[tokio::test]
                async fn $behaviour() {
                    super::$behaviour(super::Bench::disk().await).await;
                }
            )+
        }
    };
}

both! {
    what_was_kept_is_found_as_it_was,
    an_hour_after_its_last_use_it_is_gone,
    another_key_finds_nothing,
    what_was_used_longest_ago_makes_room,
    its_size_is_bounded,
    one_key_can_not_evict_the_answers_of_another,
    a_shared_item_is_found_while_its_latest_answer_is_there,
}

#[tokio::test]
async fn an_answer_is_known_before_it_is_written() {
    let Bench { store, disk } = Bench::disk().await;
    let (_, folder) = disk.unwrap();
    // Another process writes: ours has to wait for its turn.
    let other = Connection::open(file(&folder)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let owner = Owner::default();
    store.keep(&owner, stored("a", 1));
    assert!(store.find(&owner, "a").await.is_some());
    assert!(store.find_holder(&owner, "msg_a").await.is_some());
    let removed = store.remove(&owner, "a");
    let looked = async {
        tokio::task::yield_now().await;
        assert!(store.find(&owner, "a").await.is_none() && store.find_holder(&owner, "msg_a").await.is_none());
        other.execute_batch("COMMIT").unwrap();
    };
    assert_eq!(tokio::join!(removed, looked).0, Ok(true));
}

#[tokio::test]
async fn two_processes_use_the_same_file() {
    let Bench { store, disk } = Bench::disk().await;
    let (clock, folder) = disk.unwrap();
    let second = open(&file(&folder), &clock).await;
    let owner = Owner::default();
    for round in 0..20 {
        let (one, two) = (format!("one{round}"), format!("two{round}"));
        store.keep(&owner, stored(&one, 1000));
        second.keep(&owner, stored(&two, 1000));
        tokio::join!(store.settle(), second.settle());
        assert!(store.find(&owner, &two).await.is_some() && second.find(&owner, &one).await.is_some(), "{round}");
    }
    assert_eq!(store.remove(&owner, "two0").await, Ok(true));
    assert!(second.find(&owner, "two0").await.is_none());
}

#[tokio::test]
async fn what_is_deleted_is_nowhere_in_the_files() {
    let Bench { store, disk } = Bench::disk().await;
    let (_clock, folder) = disk.unwrap();
    let owner = Owner::default();
    let secret = Stored { response: "a very telling word".repeat(400), ..stored("a", 1) };
    let holds = || {
        let entries = std::fs::read_dir(file(&folder).parent().unwrap()).unwrap();
        let telling = |path: PathBuf| {
            let bytes = std::fs::read(path).unwrap();
            bytes.windows(12).any(|window| window == b"telling word")
        };
        entries.map(|entry| entry.unwrap().path()).any(telling)
    };
    store.keep(&owner, secret);
    store.settle().await;
    assert!(holds());
    assert_eq!(store.remove(&owner, "a").await, Ok(true));
    assert!(!holds());
}

#[cfg(unix)]
#[tokio::test]
async fn the_files_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let Bench { store, disk } = Bench::disk().await;
    let (clock, folder) = disk.unwrap();
    store.keep(&Owner::default(), stored("a", 1));
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
async fn a_damaged_file_is_set_aside_and_a_new_one_used() {
    for damage in [&b"this is no database at all"[..], &[0xff; 9000]] {
        let (clock, folder) = (Turned::new(), tempfile::tempdir().unwrap());
        let path = file(&folder);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, damage).unwrap();
        let (store, notice) = try_open(&path, &clock).await.unwrap();
        let aside = path.with_file_name("responses.sqlite3.damaged");
        assert!(notice.unwrap().contains("responses.sqlite3.damaged"));
        assert_eq!(std::fs::read(aside).unwrap(), damage);
        store.keep(&Owner::default(), stored("a", 1));
        store.settle().await;
        drop(store);
        assert!(open(&path, &clock).await.find(&Owner::default(), "a").await.is_some());
    }
}

#[tokio::test]
async fn pages_that_contradict_each_other_are_noticed() {
    let Bench { store, disk } = Bench::disk().await;
    let (clock, folder) = disk.unwrap();
    for id in 0..40 {
        store.keep(&Owner::default(), stored(&format!("answer-{id}"), 3000));
    }
    store.settle().await;
    // The last user of the file leaves it without a log.
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
async fn a_later_or_foreign_file_is_left_alone() {
    let later = "PRAGMA application_id = 0x63787072; PRAGMA user_version = 7; CREATE TABLE writer (release TEXT);";
    for (content, word) in [
        (format!("{later} INSERT INTO writer VALUES ('9.8.7')"), "codex-proxy 9.8.7"),
        (format!("{later} INSERT INTO writer VALUES ('no <number>')"), "a later release"),
        ("CREATE TABLE songs (name TEXT)".to_owned(), "is not a response store"),
        ("PRAGMA user_version = 1; CREATE TABLE songs (name TEXT)".to_owned(), "is not a response store"),
    ] {
        let (clock, folder) = (Turned::new(), tempfile::tempdir().unwrap());
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
async fn what_a_later_release_has_changed_is_not_written_to() {
    let Bench { store, disk } = Bench::disk().await;
    let (_clock, folder) = disk.unwrap();
    let owner = Owner::default();
    store.keep(&owner, stored("a", 1));
    store.settle().await;
    let other = Connection::open(file(&folder)).unwrap();
    other.execute_batch("PRAGMA user_version = 7").unwrap();
    store.keep(&owner, stored("b", 1));
    store.settle().await;
    assert!(store.find(&owner, "a").await.is_none() && store.remove(&owner, "a").await.is_err());
    let count: u32 = other.query_row("SELECT count(*) FROM answers", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 1);
}

#[tokio::test]
async fn a_disk_that_takes_nothing_breaks_nothing() {
    let Bench { store, disk } = Bench::disk().await;
    let (_clock, folder) = disk.unwrap();
    let owner = Owner::default();
    store.keep(&owner, stored("a", 1));
    store.settle().await;
    // A table that is full is as good as a disk that is.
    let other = Connection::open(file(&folder)).unwrap();
    let full = "CREATE TRIGGER full BEFORE INSERT ON answers BEGIN SELECT raise(ABORT, 'full'); END";
    other.execute_batch(full).unwrap();
    store.keep(&owner, stored("b", 1));
    store.settle().await;
    assert!(store.find(&owner, "b").await.is_none(), "it is simply not known");
    assert!(store.find(&owner, "a").await.is_some());
}

#[tokio::test]
async fn a_place_that_can_not_be_written_is_told() {
    let (clock, folder) = (Turned::new(), tempfile::tempdir().unwrap());
    std::fs::write(folder.path().join("state"), "a file where the folder should be").unwrap();
    let refused = try_open(&file(&folder), &clock).await.unwrap_err();
    assert!(matches!(&refused, Unusable::Broken { .. }), "{refused}");
}
