//! Batches in adverse conditions: results that can't be stored, cancellation at any time, removed keys, changed
//! settings, and failures of the backend.

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::batches::{
    KEYS, USAGE, cancel, create, ended, find, input_file, line, lines, request, restartable, results, until, usage,
};
use crate::fake::{Gate, Script};
use crate::files::{by, upload, uploaded};
use crate::proxy::{Launch, TestProxy};
use crate::wire::Ask;
use crate::{BEGUN, Bench, COMPLETED, SECOND, WHOLE, begun, chat, with};

/// Sets the version of the schema of the file store, as another release would.
fn set_schema(launch: &Launch, version: u32) {
    let mut files = vec![launch.home().to_owned()];
    let database = loop {
        let directory = files.pop().expect("the file store exists");
        let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        for path in entries {
            if path.is_dir() {
                files.push(path);
            } else if path.ends_with("files.sqlite3") {
                files = vec![path];
                break;
            }
        }
        if let [path] = files.as_slice()
            && path.is_file()
        {
            break path.clone();
        }
    };
    Connection::open(database).unwrap().pragma_update(None, "user_version", version).unwrap();
}

/// Why the first batch is paused.
async fn pause(proxy: &TestProxy) -> String {
    let batches = Ask::get("/usage").send(proxy).await.json()["batches"].clone();
    batches[0]["paused"]["reason"].as_str().unwrap_or_else(|| panic!("{batches}")).to_owned()
}

#[tokio::test]
async fn a_line_whose_result_can_not_be_stored_is_not_sent_again() {
    let (bench, launch) = restartable().await;
    let gate = Gate::default();
    bench.upstream.replace("/responses", begun(&BEGUN).gate(&gate).event(COMPLETED).end());
    let id = create(&bench.proxy, &lines(2)).await;
    bench.upstream.received("/responses", 1).await;
    bench.upstream.replace("/responses", Script::events(&WHOLE));
    set_schema(&launch, 99);
    gate.open();
    bench.proxy.says("batch paused", 10 * SECOND).await;
    assert!(pause(&bench.proxy).await.contains("another release"), "{}", bench.proxy.log());
    let other = Ask::get("/v1/batches").send(&bench.proxy).await;
    assert_eq!((other.status, bench.request_count()), (200, 1));
    set_schema(&launch, 1);
    let batch = ended(&bench.proxy, &id).await;
    assert_eq!(batch["request_counts"], json!({"total": 2, "completed": 2, "failed": 0}));
    assert_eq!(bench.request_count(), 2, "each line is sent once");
}

#[tokio::test]
async fn other_batches_are_checked_and_cancelled_while_a_line_runs() {
    let bench = Bench::with(|launch| launch).await;
    let gate = Gate::default();
    bench.upstream.on("/responses", begun(&BEGUN).gate(&gate).event(COMPLETED).end());
    let running = create(&bench.proxy, &lines(1)).await;
    bench.upstream.received("/responses", 1).await;
    let invalid = create(&bench.proxy, &["no JSON".to_owned()]).await;
    assert_eq!(ended(&bench.proxy, &invalid).await["status"], "failed");
    let other = create(&bench.proxy, &lines(3)).await;
    until(&bench.proxy, &other, |batch| batch["status"] == "in_progress").await;
    cancel(&bench.proxy, &other).await;
    let cancelled = ended(&bench.proxy, &other).await;
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(cancelled["request_counts"], json!({"total": 3, "completed": 0, "failed": 0}));
    assert_eq!(find(&bench.proxy, &running).await["status"], "in_progress");
    gate.open();
    assert_eq!(ended(&bench.proxy, &running).await["status"], "completed");
    assert_eq!(bench.request_count(), 1, "no line of the cancelled batch is sent");
}

#[tokio::test]
async fn a_batch_created_during_a_line_that_fails_for_long_starts_at_once() {
    let bench = Bench::with(|launch| launch.setting("upstream.max_retries", "0")).await;
    let gate = Gate::default();
    let failed = r#"{"type":"response.failed","response":{"id":"resp_1","error":{"code":"rate_limit_exceeded","message":"Try again in 60s."}}}"#;
    bench.upstream.on("/responses", Script::stream(&[]).gate(&gate).event(failed).end());
    bench.upstream.on("/responses", Script::events(&WHOLE));
    create(&bench.proxy, &lines(1)).await;
    bench.upstream.received("/responses", 1).await;
    let other = create(&bench.proxy, &lines(1)).await;
    until(&bench.proxy, &other, |batch| batch["status"] == "in_progress").await;
    gate.open();
    assert_eq!(ended(&bench.proxy, &other).await["status"], "completed");
}

#[tokio::test]
async fn two_batches_take_turns() {
    let bench = Bench::with(|launch| launch).await;
    let gate = Gate::default();
    bench.upstream.on("/responses", begun(&BEGUN).gate(&gate).event(COMPLETED).end());
    bench.upstream.on("/responses", Script::events(&WHOLE));
    let texts = |name: &str| -> Vec<String> {
        let body = |text: &str| json!({"model": "gpt-5.5", "messages": [{"role": "user", "content": text}]});
        (1..=3).map(|number| line(&format!("{name}{number}"), &body(name))).collect()
    };
    let first = create(&bench.proxy, &texts("one")).await;
    bench.upstream.received("/responses", 1).await;
    let second = create(&bench.proxy, &texts("two")).await;
    until(&bench.proxy, &second, |batch| batch["status"] == "in_progress").await;
    gate.open();
    for id in [&first, &second] {
        assert_eq!(ended(&bench.proxy, id).await["request_counts"]["completed"], 3);
    }
    let sent = bench.upstream.requests("/responses");
    let order: Vec<_> =
        sent.iter().map(|sent| if sent.json().to_string().contains("\"one\"") { 1 } else { 2 }).collect();
    assert_eq!(order, [1, 2, 1, 2, 1, 2]);
}

#[cfg(unix)]
#[tokio::test]
async fn a_batch_of_a_removed_key_is_paused_and_keeps_its_results() {
    let mut kept = None;
    let bench = Bench::with(|launch| {
        let launch = launch.file("config.toml", KEYS);
        kept = Some(launch.clone());
        launch
    });
    let (bench, launch) = (bench.await, kept.unwrap());
    let gate = Gate::default();
    bench.upstream.on("/responses", begun(&BEGUN).gate(&gate).event(COMPLETED).end());
    let file = by("sk-ann", upload("batch", "a.jsonl", lines(2).join("\n").as_bytes())).send(&bench.proxy).await;
    let created = Ask::post("/v1/batches", &request(file.json()["id"].as_str().unwrap()));
    let id = by("sk-ann", created).send(&bench.proxy).await.json()["id"].as_str().unwrap().to_owned();
    bench.upstream.received("/responses", 1).await;
    crate::reloads::reload(&launch, &bench.proxy, "[[keys]]\nname = 'bob'\nkey = 'sk-bob'\n").await;
    gate.open();
    bench.proxy.says("the client key of the batch was removed", 10 * SECOND).await;
    assert!(bench.proxy.log().contains("the batch is cancelled after 10 minutes"), "{}", bench.proxy.log());
    assert_eq!(bench.request_count(), 1);
    crate::reloads::reload(&launch, &bench.proxy, KEYS).await;
    let batch = by("sk-ann", Ask::get(&format!("/v1/batches/{id}"))).send(&bench.proxy).await.json();
    assert_eq!(batch["request_counts"], json!({"total": 2, "completed": 1, "failed": 0}), "it keeps its results");
}

#[tokio::test]
async fn a_line_that_is_longer_than_a_lowered_limit_is_a_failed_one() {
    let (mut bench, launch) = restartable().await;
    bench.upstream.replace("/responses", begun(&BEGUN).hang());
    let long = with(chat(), "user", json!("x".repeat(600_000)));
    let id = create(&bench.proxy, &[line("short", &chat()), line("long", &long)]).await;
    bench.upstream.received("/responses", 1).await;
    bench.proxy.signal("TERM");
    assert_eq!(bench.proxy.ended().await, Some(0));
    bench.upstream.replace("/responses", Script::events(&WHOLE));
    let later = launch.setting("limits.body", "100KB").start();
    let batch = ended(&later, &id).await;
    assert_eq!(batch["request_counts"], json!({"total": 2, "completed": 1, "failed": 1}));
    let failed = results(&later, &batch["error_file_id"]).await;
    assert_eq!(failed["long"]["response"]["status_code"], 413, "{failed:?}");
}

#[tokio::test]
async fn a_deactivated_workspace_pauses_a_batch_and_fails_no_line() {
    let bench = Bench::with(|launch| launch).await;
    let refused = r#"{"error":{"code":"deactivated_workspace","message":"This workspace is deactivated: hi"}}"#;
    bench.upstream.on("/responses", Script::json(402, refused));
    bench.upstream.on("/responses", Script::events(&WHOLE));
    let id = create(&bench.proxy, &lines(2)).await;
    bench.proxy.says("its workspace is deactivated", 10 * SECOND).await;
    let batch = ended(&bench.proxy, &id).await;
    assert_eq!(batch["request_counts"], json!({"total": 2, "completed": 2, "failed": 0}));
}

#[tokio::test]
async fn responses_of_a_batch_are_stored_only_if_a_line_says_so() {
    let bench = Bench::answering(|launch| launch).await;
    let line = |id: &str, body: Value| {
        json!({"custom_id": id, "method": "POST", "url": "/v1/responses", "body": body}).to_string()
    };
    let body = json!({"model": "gpt-5.5", "input": "hi"});
    let lines = [line("a", body.clone()), line("b", with(body, "store", json!(true)))];
    let file = input_file(&bench.proxy, &lines).await;
    let request = with(request(&file), "endpoint", json!("/v1/responses"));
    let id = Ask::post("/v1/batches", &request).send(&bench.proxy).await.json()["id"].as_str().unwrap().to_owned();
    let output = results(&bench.proxy, &ended(&bench.proxy, &id).await["output_file_id"]).await;
    let stored = ["a", "b"].map(|id| &output[id]["response"]["body"]["store"]);
    assert_eq!(stored, [&json!(false), &json!(true)]);
}

#[tokio::test]
async fn warnings_about_a_line_are_in_its_result() {
    let bench = Bench::answering(|launch| launch).await;
    let id = create(&bench.proxy, &[line("a", &with(chat(), "color", json!("red")))]).await;
    let output = results(&bench.proxy, &ended(&bench.proxy, &id).await["output_file_id"]).await;
    let warnings = &output["a"]["response"]["proxy_warnings"];
    assert!(warnings.as_str().is_some_and(|warnings| warnings.contains("ignored:color")), "{output:?}");
}

#[tokio::test]
async fn a_batch_pauses_while_the_file_store_is_full() {
    let bench = Bench::answering(|launch| launch.setting("files.max_bytes", "2KB")).await;
    let content = lines(2).join("\n");
    let file = uploaded(&bench.proxy, "batch", "a.jsonl", content.as_bytes()).await;
    uploaded(&bench.proxy, "user_data", "b.txt", &vec![b'x'; 2000 - content.len()]).await;
    let created = Ask::post("/v1/batches", &request(&file)).send(&bench.proxy).await.json();
    bench.proxy.says("batch paused", 10 * SECOND).await;
    assert!(pause(&bench.proxy).await.contains("files.max_bytes"));
    assert_eq!(bench.request_count(), 0);
    let id = created["id"].as_str().unwrap();
    cancel(&bench.proxy, id).await;
    assert_eq!(ended(&bench.proxy, id).await["status"], "cancelled");
}

#[tokio::test]
async fn a_lifetime_beyond_the_setting_is_limited_with_a_warning() {
    let bench = Bench::answering(|launch| launch.setting("files.expires", "1d")).await;
    let file = input_file(&bench.proxy, &lines(1)).await;
    let lifetime = json!({"anchor": "created_at", "seconds": 7 * 24 * 3600});
    let created =
        Ask::post("/v1/batches", &with(request(&file), "output_expires_after", lifetime)).send(&bench.proxy).await;
    assert_eq!((created.status, created.header("x-proxy-warnings")), (200, "clamped:output_expires_after"));
}

#[tokio::test]
async fn a_pause_names_the_reset_of_the_window() {
    let bench = Bench::answering(|launch| launch).await;
    bench.upstream.on(USAGE, usage(60, 3600));
    let id = create(&bench.proxy, &lines(1)).await;
    bench.proxy.says("batch paused", 10 * SECOND).await;
    assert!(pause(&bench.proxy).await.contains("it resets at"));
    cancel(&bench.proxy, &id).await;
    assert_eq!(ended(&bench.proxy, &id).await["status"], "cancelled", "a paused batch is cancelled at once");
    assert!(!bench.proxy.log().contains("batch resumed"));
}

#[tokio::test]
async fn a_daemon_killed_while_it_checks_and_completes_a_batch_loses_nothing() {
    const LINES: usize = 20;
    let (bench, launch) = restartable().await;
    let id = create(&bench.proxy, &lines(LINES)).await;
    let mut proxy = bench.proxy;
    for requests in [0, LINES, LINES] {
        bench.upstream.received("/responses", requests).await;
        proxy.signal("KILL");
        proxy.ended().await;
        proxy = launch.start();
    }
    let batch = ended(&proxy, &id).await;
    assert_eq!(batch["request_counts"], json!({"total": LINES, "completed": LINES, "failed": 0}));
    assert_eq!(results(&proxy, &batch["output_file_id"]).await.len(), LINES);
    let listed = Ask::get("/v1/files?purpose=batch_output").send(&proxy).await.json();
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(1), "the results are in one file");
}
