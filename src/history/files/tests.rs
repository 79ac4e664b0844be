use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::*;
use crate::clock::SystemClock;

const HOUR: Duration = Duration::from_secs(3600);
const SETTINGS: FileSettings = FileSettings { max_bytes: 1000, lifetime: Duration::from_secs(24 * 3600) };

#[derive(Debug)]
struct ManualClock(Mutex<SystemTime>);

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap()
    }
}

/// A store on disk and one in memory, and their clock.
async fn stores(directory: &Path) -> (Vec<FileStore>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock(Mutex::new(UNIX_EPOCH + Duration::from_secs(1_800_000_000))));
    let (disk, notice) =
        FileStore::on_disk(directory.join("files"), SETTINGS, Arc::clone(&clock) as Arc<dyn Clock>).await.unwrap();
    assert_eq!(notice, None);
    (vec![disk, FileStore::in_memory(SETTINGS, Arc::clone(&clock) as Arc<dyn Clock>)], clock)
}

fn ann() -> ResponseOwner {
    ResponseOwner(Some("ann 1".to_owned()))
}

async fn put(store: &FileStore, id: &str, content: &[u8], lifetime: Option<Duration>) -> Result<FileRecord, FileError> {
    let mut upload = store.upload(id.to_owned()).await?;
    for part in content.chunks(100) {
        upload.write(part).await?;
    }
    let file = NewFile { filename: "a.jsonl".to_owned(), purpose: "batch".to_owned(), lifetime };
    upload.finish(&ann(), file).await
}

async fn read(store: &FileStore, owner: &ResponseOwner, id: &str) -> Result<Vec<u8>, FileError> {
    let (_, mut reader) = store.open(owner, id).await?;
    let mut content = Vec::new();
    loop {
        let part = reader.next().await?;
        if part.is_empty() {
            return Ok(content);
        }
        content.extend_from_slice(&part);
    }
}

fn new_batch(id: &str, input: &str) -> NewBatch {
    NewBatch {
        id: id.to_owned(),
        input_file_id: input.to_owned(),
        endpoint: "/v1/responses".to_owned(),
        completion_window: "24h".to_owned(),
        metadata: None,
        account: None,
        output_seconds: Some(3600),
    }
}

fn at(line: u64, offset: u64) -> LinePosition {
    LinePosition { line, offset }
}

fn result(outcome: LineOutcome, text: &str) -> LineResult {
    LineResult { outcome, text: text.to_owned() }
}

fn ids() -> OutputIds {
    OutputIds { output: "file-out".to_owned(), error: "file-err".to_owned() }
}

#[tokio::test]
async fn a_file_is_read_by_its_owner_only_until_it_is_deleted() {
    let directory = tempfile::tempdir().unwrap();
    for store in stores(directory.path()).await.0 {
        let content: Vec<u8> = (0..=255).cycle().take(700).collect();
        let stored = put(&store, "file-1", &content, None).await.unwrap();
        assert_eq!((stored.bytes, stored.expires_at - stored.created_at), (700, 24 * 3600));
        assert_eq!(store.find(&ann(), "file-1").await.unwrap(), stored);
        assert_eq!(read(&store, &ann(), "file-1").await.unwrap(), content);
        let other = ResponseOwner(Some("bob 2".to_owned()));
        for owner in [other, ResponseOwner::default()] {
            assert_eq!(store.find(&owner, "file-1").await, Err(FileError::NotFound));
            assert_eq!(read(&store, &owner, "file-1").await, Err(FileError::NotFound));
            assert_eq!(store.remove(&owner, "file-1").await, Err(FileError::NotFound));
        }
        store.remove(&ann(), "file-1").await.unwrap();
        assert_eq!(store.find(&ann(), "file-1").await, Err(FileError::NotFound));
    }
}

#[cfg(unix)]
#[tokio::test]
async fn files_on_disk_are_private_and_survive_a_restart() {
    use std::os::unix::fs::PermissionsExt as _;

    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("files");
    let store = stores(directory.path()).await.0.remove(0);
    put(&store, "file-1", b"content", None).await.unwrap();
    drop(store.upload("file-2".to_owned()).await.unwrap());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&root), 0o700);
    for entry in std::fs::read_dir(&root).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        assert!(!path.to_string_lossy().contains("file-2"), "an upload that was dropped leaves nothing");
    }
    drop(store);
    let store = stores(directory.path()).await.0.remove(0);
    assert_eq!(read(&store, &ann(), "file-1").await.unwrap(), b"content");
}

#[tokio::test]
async fn the_total_size_is_bounded_also_for_uploads_in_progress() {
    let directory = tempfile::tempdir().unwrap();
    for store in stores(directory.path()).await.0 {
        put(&store, "file-1", &[0; 600], None).await.unwrap();
        assert_eq!(put(&store, "file-2", &[0; 401], None).await, Err(FileError::Full { max_bytes: 1000 }));
        let mut first = store.upload("file-3".to_owned()).await.unwrap();
        first.write(&[0; 300]).await.unwrap();
        assert!(put(&store, "file-4", &[0; 101], None).await.is_err());
        drop(first);
        put(&store, "file-4", &[0; 400], None).await.unwrap();
        store.remove(&ann(), "file-1").await.unwrap();
        put(&store, "file-5", &[0; 600], None).await.unwrap();
    }
}

#[tokio::test]
async fn expired_files_are_not_found_and_removed_from_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let (stores, clock) = stores(directory.path()).await;
    for (store, is_on_disk) in stores.iter().zip([true, false]) {
        put(store, "file-1", b"x", Some(HOUR)).await.unwrap();
        put(store, "file-2", b"y", Some(100 * HOUR)).await.unwrap();
        assert_eq!(store.0.expire().unwrap(), HOUR.min(EXPIRY_INTERVAL.max(HOUR)));
        *clock.0.lock().unwrap() += HOUR;
        assert_eq!(store.find(&ann(), "file-1").await, Err(FileError::NotFound));
        let path = directory.path().join("files/file-1");
        assert_eq!(path.exists(), is_on_disk);
        store.0.expire().unwrap();
        assert!(!path.exists() && read(store, &ann(), "file-2").await.is_ok());
        *clock.0.lock().unwrap() += 23 * HOUR;
        assert!(store.find(&ann(), "file-2").await.is_err(), "the setting limits the lifetime");
    }
}

#[tokio::test]
async fn lists_are_paged_in_both_orders() {
    let directory = tempfile::tempdir().unwrap();
    for store in stores(directory.path()).await.0 {
        for id in ["file-1", "file-2", "file-3"] {
            put(&store, id, b"x", None).await.unwrap();
        }
        let list = async |order, after: Option<&str>, limit| {
            let query = ListQuery { purpose: Some("batch".to_owned()), after: after.map(str::to_owned), limit, order };
            let listing = store.list(&ann(), query).await?;
            Ok::<_, FileError>((listing.records.into_iter().map(|file| file.id).collect::<Vec<_>>(), listing.has_more))
        };
        let ids = |ids: &[&str]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(list(ListOrder::Descending, None, 2).await.unwrap(), (ids(&["file-3", "file-2"]), true));
        assert_eq!(list(ListOrder::Descending, Some("file-2"), 2).await.unwrap(), (ids(&["file-1"]), false));
        assert_eq!(list(ListOrder::Ascending, Some("file-1"), 2).await.unwrap(), (ids(&["file-2", "file-3"]), false));
        assert_eq!(list(ListOrder::Ascending, Some("file-9"), 2).await, Err(FileError::NotFound));
    }
}

#[tokio::test]
async fn lines_are_read_by_offset_without_blank_and_long_ones() {
    let directory = tempfile::tempdir().unwrap();
    for store in stores(directory.path()).await.0 {
        put(&store, "file-1", b"one\r\n\nthis is long\nend", None).await.unwrap();
        let line = |offset| store.line("file-1", offset, 6);
        let found =
            |bytes: Option<&[u8]>, next_offset| Some(InputLine { bytes: bytes.map(<[u8]>::to_vec), next_offset });
        assert_eq!(line(0).await.unwrap(), found(Some(b"one"), 5));
        assert_eq!(line(5).await.unwrap(), found(None, 19), "a blank line is skipped");
        assert_eq!(line(6).await.unwrap(), found(None, 19));
        assert_eq!(line(19).await.unwrap(), found(Some(b"end"), 22));
        assert_eq!(line(22).await.unwrap(), None);
        let visit = |seen: &mut Vec<(u64, bool)>, number, bytes: Option<&[u8]>| seen.push((number, bytes.is_some()));
        let seen = store.visit_lines("file-1", 6, Vec::new(), visit).await.unwrap();
        assert_eq!(seen, [(1, true), (2, true), (3, false), (4, true)]);
    }
}

#[tokio::test]
async fn a_line_gets_one_result_and_the_files_have_all_of_them() {
    let directory = tempfile::tempdir().unwrap();
    for store in stores(directory.path()).await.0 {
        put(&store, "file-1", b"a\nb\nc\n", None).await.unwrap();
        assert_eq!(store.create_batch(&ann(), new_batch("batch_1", "file-9")).await, Err(FileError::NotFound));
        let batch = store.create_batch(&ann(), new_batch("batch_1", "file-1")).await.unwrap();
        assert_eq!((batch.status, batch.next), (BatchStatus::Validating, at(1, 0)));
        store.start_batch(batch.number, 3).await.unwrap();
        let record = |line, next, outcome, text| store.record_line(batch.number, line, next, result(outcome, text));
        record(1, at(2, 2), LineOutcome::Completed, "{1}").await.unwrap();
        record(1, at(2, 2), LineOutcome::Completed, "{again}").await.unwrap();
        record(2, at(3, 4), LineOutcome::Failed, "{2}").await.unwrap();
        record(3, at(4, 6), LineOutcome::Completed, "{3}").await.unwrap();
        assert_eq!(store.remove(&ann(), "file-1").await, Err(FileError::InUse("batch_1".to_owned())));
        store.finalize_batch(batch.number).await.unwrap();
        assert_eq!(
            store.cancel_batch(&ann(), "batch_1").await,
            Err(FileError::Ended(BatchStatus::Finalizing)),
            "it has all results"
        );
        let batch = store.active_batches().await.unwrap().remove(0);
        assert_eq!(batch.counts, BatchCounts { total: 3, completed: 2, failed: 1 });
        store.end_batch(batch, ids()).await.unwrap();
        let batch = store.find_batch(&ann(), "batch_1").await.unwrap();
        assert_eq!((batch.status, batch.times.completed_at.is_some()), (BatchStatus::Completed, true));
        assert_eq!(read(&store, &ann(), "file-out").await.unwrap(), b"{1}\n{3}\n");
        assert_eq!(read(&store, &ann(), "file-err").await.unwrap(), b"{2}\n");
        let output = store.find(&ann(), "file-out").await.unwrap();
        assert_eq!((output.purpose.as_str(), output.bytes), ("batch_output", 8));
        assert_eq!(output.expires_at - output.created_at, 3600);
        assert!(store.active_batches().await.unwrap().is_empty());
        store.remove(&ann(), "file-1").await.unwrap();
    }
}

#[tokio::test]
async fn a_cancelled_batch_keeps_the_results_it_has() {
    let directory = tempfile::tempdir().unwrap();
    for store in stores(directory.path()).await.0 {
        put(&store, "file-1", b"a\nb\n", None).await.unwrap();
        let batch = store.create_batch(&ann(), new_batch("batch_1", "file-1")).await.unwrap();
        store.start_batch(batch.number, 2).await.unwrap();
        store.record_line(batch.number, 1, at(2, 2), result(LineOutcome::Completed, "{1}")).await.unwrap();
        let other = ResponseOwner::default();
        assert_eq!(store.cancel_batch(&other, "batch_1").await, Err(FileError::NotFound));
        assert_eq!(store.cancel_batch(&ann(), "batch_1").await.unwrap().status, BatchStatus::Cancelling);
        let batch = store.active_batches().await.unwrap().remove(0);
        store.end_batch(batch, ids()).await.unwrap();
        let batch = store.find_batch(&ann(), "batch_1").await.unwrap();
        assert_eq!((batch.status, &batch.error_file_id), (BatchStatus::Cancelled, &None));
        assert_eq!(read(&store, &ann(), "file-out").await.unwrap(), b"{1}\n");
        let query = ListQuery { purpose: None, after: None, limit: 1, order: ListOrder::Descending };
        assert_eq!(store.list_batches(&ann(), query).await.unwrap().records, [batch]);
    }
}

#[tokio::test]
async fn an_end_that_fails_keeps_the_results_and_leaves_no_files() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("files");
    let store = stores(directory.path()).await.0.remove(0);
    put(&store, "file-1", b"a\nb\n", None).await.unwrap();
    let batch = store.create_batch(&ann(), new_batch("batch_1", "file-1")).await.unwrap();
    store.start_batch(batch.number, 2).await.unwrap();
    store.record_line(batch.number, 1, at(2, 2), result(LineOutcome::Completed, "{1}")).await.unwrap();
    store.record_line(batch.number, 2, at(3, 4), result(LineOutcome::Failed, "{2}")).await.unwrap();
    store.finalize_batch(batch.number).await.unwrap();
    let batch = store.active_batches().await.unwrap().remove(0);
    let is_left = |id: &str| root.join(id).exists();
    // The error file can't be written.
    std::fs::write(root.join("file-err"), b"").unwrap();
    store.end_batch(batch.clone(), ids()).await.unwrap_err();
    assert!(!is_left("file-out"), "the output file isn't kept without a record");
    // The database refuses the change.
    let other = Connection::open(root.join(DATABASE)).unwrap();
    other.pragma_update(None, "user_version", 99).unwrap();
    store.end_batch(batch.clone(), ids()).await.unwrap_err();
    assert!(!is_left("file-out") && !is_left("file-err"));
    other.pragma_update(None, "user_version", 1).unwrap();
    store.end_batch(batch.clone(), ids()).await.unwrap();
    // Another call ends it only once.
    store.end_batch(batch, OutputIds { output: "file-9".to_owned(), error: "file-8".to_owned() }).await.unwrap();
    assert!(!is_left("file-9") && !is_left("file-8"));
    assert_eq!(read(&store, &ann(), "file-out").await.unwrap(), b"{1}\n");
    assert_eq!(read(&store, &ann(), "file-err").await.unwrap(), b"{2}\n");
}

#[tokio::test]
async fn files_that_killed_processes_left_are_deleted_and_an_upload_in_progress_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("files");
    let (mut stores, clock) = stores(directory.path()).await;
    let store = stores.remove(0);
    put(&store, "file-1", b"x", None).await.unwrap();
    let mut upload = store.upload("file-2".to_owned()).await.unwrap();
    upload.write(b"y").await.unwrap();
    for abandoned in ["file-3", ".file-3-x7.tmp"] {
        std::fs::write(root.join(abandoned), b"z").unwrap();
    }
    *clock.0.lock().unwrap() = SystemClock.now();
    store.0.delete_orphans().unwrap();
    assert!(root.join("file-3").exists(), "another process may be writing it");
    *clock.0.lock().unwrap() = SystemClock.now() + HOUR;
    store.0.delete_orphans().unwrap();
    assert!(!root.join("file-3").exists() && !root.join(".file-3-x7.tmp").exists());
    let file = NewFile { filename: "b".to_owned(), purpose: "user_data".to_owned(), lifetime: None };
    upload.finish(&ann(), file).await.unwrap();
    assert_eq!(read(&store, &ann(), "file-2").await.unwrap(), b"y");
    assert_eq!(read(&store, &ann(), "file-1").await.unwrap(), b"x");
}

#[tokio::test]
async fn results_count_against_the_maximum_size_until_the_batch_has_ended() {
    let directory = tempfile::tempdir().unwrap();
    for store in stores(directory.path()).await.0 {
        put(&store, "file-1", &[b'a'; 100], None).await.unwrap();
        let batch = store.create_batch(&ann(), new_batch("batch_1", "file-1")).await.unwrap();
        store.start_batch(batch.number, 1).await.unwrap();
        assert!(store.has_room().await.unwrap());
        let text = "x".repeat(900);
        store.record_line(batch.number, 1, at(2, 100), result(LineOutcome::Completed, &text)).await.unwrap();
        assert!(!store.has_room().await.unwrap());
        store.finalize_batch(batch.number).await.unwrap();
        store.end_batch(store.active_batches().await.unwrap().remove(0), ids()).await.unwrap();
        assert!(!store.has_room().await.unwrap(), "the output file has them now");
        store.remove(&ann(), "file-out").await.unwrap();
        assert!(store.has_room().await.unwrap());
        let left: i64 = store.0.lock().query_row("SELECT count(*) FROM results", [], |row| row.get(0)).unwrap();
        assert_eq!(left, 0);
    }
}

#[tokio::test]
async fn a_batch_is_kept_for_the_lifetime_after_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let (stores, clock) = stores(directory.path()).await;
    for store in stores {
        put(&store, "file-1", b"x", None).await.unwrap();
        let batch = store.create_batch(&ann(), new_batch("batch_1", "file-1")).await.unwrap();
        *clock.0.lock().unwrap() += 100 * HOUR;
        store.0.expire().unwrap();
        store.fail_batch(batch.number, "[]".to_owned()).await.unwrap();
        store.0.expire().unwrap();
        assert_eq!(store.find_batch(&ann(), "batch_1").await.unwrap().status, BatchStatus::Failed);
        *clock.0.lock().unwrap() += 24 * HOUR;
        store.0.expire().unwrap();
        assert_eq!(store.find_batch(&ann(), "batch_1").await, Err(FileError::NotFound));
    }
}

#[tokio::test]
async fn the_number_of_active_batches_is_limited() {
    let directory = tempfile::tempdir().unwrap();
    let store = stores(directory.path()).await.0.remove(1);
    put(&store, "file-1", b"x", None).await.unwrap();
    for number in 0..MAX_ACTIVE_BATCHES {
        store.create_batch(&ann(), new_batch(&format!("batch_{number}"), "file-1")).await.unwrap();
    }
    let refused = store.create_batch(&ann(), new_batch("batch_x", "file-1")).await;
    assert_eq!(refused, Err(FileError::TooManyBatches(MAX_ACTIVE_BATCHES)));
    let first = store.active_batches().await.unwrap().remove(0);
    store.fail_batch(first.number, "[]".to_owned()).await.unwrap();
    store.create_batch(&ann(), new_batch("batch_x", "file-1")).await.unwrap();
}

#[tokio::test]
async fn one_process_has_the_right_to_run_batches() {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (stores(directory.path()).await.0.remove(0), stores(directory.path()).await.0.remove(0));
    let lock = one.lock_batches().await.unwrap();
    assert!(other.lock_batches().await.is_none());
    drop(lock);
    assert!(other.lock_batches().await.is_some());
}
