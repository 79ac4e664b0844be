//! Batches: their endpoints, their results, when their lines run, and what survives a killed daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::fake::{Gate, Script};
use crate::files::{by, content, upload, uploaded};
use crate::proxy::{Launch, TestProxy};
use crate::wire::{Answer, Ask};
use crate::{BEGUN, Bench, COMPLETED, SECOND, WHOLE, begun, chat, with};

pub(crate) const USAGE: &str = "/backend-api/wham/usage";
pub(crate) const CHAT: &str = "/v1/chat/completions";
pub(crate) const KEYS: &str = "[[keys]]\nname = 'ann'\nkey = 'sk-ann'\n[[keys]]\nname = 'bob'\nkey = 'sk-bob'\n";

/// A line for Chat.
pub(crate) fn line(id: &str, body: &Value) -> String {
    json!({"custom_id": id, "method": "POST", "url": CHAT, "body": body}).to_string()
}

/// This many valid lines, `r1` and so on.
pub(crate) fn lines(count: usize) -> Vec<String> {
    (1..=count).map(|number| line(&format!("r{number}"), &chat())).collect()
}

pub(crate) async fn input_file(proxy: &TestProxy, lines: &[String]) -> String {
    uploaded(proxy, "batch", "requests.jsonl", lines.join("\n").as_bytes()).await
}

pub(crate) fn request(file: &str) -> Value {
    json!({"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"})
}

/// Creates a batch of these lines and returns its id.
pub(crate) async fn create(proxy: &TestProxy, lines: &[String]) -> String {
    let file = input_file(proxy, lines).await;
    let created = Ask::post("/v1/batches", &request(&file)).send(proxy).await;
    assert_eq!(created.status, 200, "{}", created.text());
    assert_eq!(created.json()["status"], "validating");
    created.json()["id"].as_str().unwrap().to_owned()
}

pub(crate) async fn find(proxy: &TestProxy, id: &str) -> Value {
    Ask::get(&format!("/v1/batches/{id}")).send(proxy).await.json()
}

/// Waits until a batch satisfies a condition.
pub(crate) async fn until(proxy: &TestProxy, id: &str, is_met: impl Fn(&Value) -> bool) -> Value {
    let waiting = async {
        loop {
            let batch = find(proxy, id).await;
            if is_met(&batch) {
                return batch;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(30 * SECOND, waiting).await.unwrap_or_else(|_| panic!("the batch doesn't get there: {}", proxy.log()))
}

/// Waits until a batch has ended.
pub(crate) async fn ended(proxy: &TestProxy, id: &str) -> Value {
    until(proxy, id, |batch| ["completed", "failed", "cancelled"].iter().any(|status| batch["status"] == *status)).await
}

/// The results in a file, by the ids of their lines; none without a file.
pub(crate) async fn results(proxy: &TestProxy, file: &Value) -> BTreeMap<String, Value> {
    let Some(id) = file.as_str() else { return BTreeMap::new() };
    let content = content(proxy, id).await;
    assert_eq!(content.status, 200, "{}", content.text());
    let mut results = BTreeMap::new();
    for line in content.text().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let id = line["custom_id"].as_str().unwrap().to_owned();
        assert!(results.insert(id, line).is_none(), "a line has one result");
    }
    results
}

pub(crate) async fn cancel(proxy: &TestProxy, id: &str) -> Answer {
    Ask::raw(&format!("/v1/batches/{id}/cancel"), "").send(proxy).await
}

#[tokio::test]
async fn fifty_lines_with_three_bad_ones_run_to_their_end() {
    let bench = Bench::answering(|launch| launch).await;
    let mut lines = lines(50);
    lines[1] = line("r2", &with(chat(), "temperature", json!(0.5)));
    lines[9] = line("r10", &json!({"model": "gpt-5.5"}));
    lines[19] = line("r20", &json!({"model": "gpt-5.5", "messages": "x"}));
    lines[29] = line("r30", &json!({"model": "gpt-5.5", "messages": chat()["messages"], "stream": true}));
    let file = input_file(&bench.proxy, &lines).await;
    let mut request = request(&file);
    request["metadata"] = json!({"purpose": "test"});
    request["output_expires_after"] = json!({"anchor": "created_at", "seconds": 3600});
    request["color"] = json!("red");
    let created = Ask::post("/v1/batches", &request).send(&bench.proxy).await;
    assert_eq!(created.header("x-proxy-warnings"), "ignored:color");
    let id = created.json()["id"].as_str().unwrap().to_owned();
    let batch = ended(&bench.proxy, &id).await;
    assert_eq!(
        (&batch["status"], &batch["object"], &batch["errors"]),
        (&json!("completed"), &json!("batch"), &Value::Null)
    );
    assert_eq!(batch["request_counts"], json!({"total": 50, "completed": 47, "failed": 3}));
    assert_eq!((&batch["metadata"], &batch["completion_window"]), (&json!({"purpose": "test"}), &json!("24h")));
    assert_eq!((&batch["endpoint"], &batch["input_file_id"]), (&json!(CHAT), &json!(file)));
    for time in ["created_at", "in_progress_at", "finalizing_at", "completed_at"] {
        assert!(batch[time].is_u64(), "{time}: {batch}");
    }
    for absent in ["failed_at", "cancelling_at", "cancelled_at", "expired_at", "expires_at"] {
        assert!(batch[absent].is_null(), "{absent}: {batch}");
    }
    let output = results(&bench.proxy, &batch["output_file_id"]).await;
    assert_eq!(output.len(), 47);
    let first = &output["r1"];
    assert!(first["id"].as_str().unwrap().starts_with("batch_req_") && first["error"].is_null(), "{first}");
    assert_eq!(
        (&first["response"]["status_code"], &first["response"]["body"]["object"]),
        (&json!(200), &json!("chat.completion"))
    );
    assert!(first["response"]["request_id"].as_str().unwrap().starts_with("req_"));
    assert_eq!(first["response"].get("proxy_warnings"), None);
    assert_eq!(output["r2"]["response"]["proxy_warnings"], "ignored:temperature");
    let failed = results(&bench.proxy, &batch["error_file_id"]).await;
    assert_eq!(failed.keys().collect::<Vec<_>>(), ["r10", "r20", "r30"]);
    for (id, param) in [("r10", "messages"), ("r20", "messages"), ("r30", "stream")] {
        let response = &failed[id]["response"];
        assert_eq!((&response["status_code"], &response["body"]["error"]["param"]), (&json!(400), &json!(param)));
    }
    assert_eq!(bench.request_count(), 47);
    let file =
        Ask::get(&format!("/v1/files/{}", batch["output_file_id"].as_str().unwrap())).send(&bench.proxy).await.json();
    assert_eq!((&file["purpose"], &file["filename"]), (&json!("batch_output"), &json!(format!("{id}_output.jsonl"))));
    assert_eq!(file["expires_at"].as_u64().unwrap() - file["created_at"].as_u64().unwrap(), 3600);
    let listed = Ask::get("/v1/batches?limit=1").send(&bench.proxy).await.json();
    assert_eq!(
        (&listed["data"], &listed["has_more"], &listed["first_id"]),
        (&json!([batch]), &json!(false), &json!(id))
    );
    let refused = cancel(&bench.proxy, &id).await;
    assert_eq!((refused.status, refused.error()["code"].as_str()), (400, Some("batch_ended")));
}

#[tokio::test]
async fn lines_for_the_responses_endpoint_are_answered_by_it() {
    let bench = Bench::answering(|launch| launch).await;
    let body = json!({"model": "gpt-5.5", "input": "hi"});
    let line = json!({"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": body}).to_string();
    let file = input_file(&bench.proxy, &[line]).await;
    let request = json!({"input_file_id": file, "endpoint": "/v1/responses", "completion_window": "24h"});
    let id = Ask::post("/v1/batches", &request).send(&bench.proxy).await.json()["id"].as_str().unwrap().to_owned();
    let batch = ended(&bench.proxy, &id).await;
    let output = results(&bench.proxy, &batch["output_file_id"]).await;
    assert_eq!(output["a"]["response"]["body"]["object"], "response");
    assert!(batch["error_file_id"].is_null());
}

#[tokio::test]
async fn an_invalid_input_file_fails_before_any_line_runs() {
    let bench = Bench::answering(|launch| launch).await;
    let mut lines = lines(50);
    lines[3] = "no JSON".to_owned();
    lines[6] = line("r1", &chat());
    lines[8] = json!({"custom_id": "x", "method": "POST", "url": "/v1/responses", "body": {}}).to_string();
    let id = create(&bench.proxy, &lines).await;
    let batch = ended(&bench.proxy, &id).await;
    assert_eq!((&batch["status"], batch["failed_at"].is_u64()), (&json!("failed"), true));
    assert_eq!(batch["errors"]["object"], "list");
    let errors = batch["errors"]["data"].as_array().unwrap();
    let found: Vec<_> =
        errors.iter().map(|error| (error["line"].as_u64().unwrap(), error["code"].as_str().unwrap())).collect();
    assert_eq!(found, [(4, "invalid_json_line"), (7, "duplicate_custom_id"), (9, "mismatched_endpoint")]);
    assert!(batch["output_file_id"].is_null() && batch["error_file_id"].is_null());
    assert_eq!(bench.request_count(), 0);
}

#[tokio::test]
async fn a_request_for_a_batch_is_checked() {
    let bench = Bench::new().await;
    let other = uploaded(&bench.proxy, "user_data", "a.jsonl", b"{}").await;
    let file = input_file(&bench.proxy, &lines(1)).await;
    for (name, value, status, param) in [
        ("input_file_id", json!("file-none"), 404, "input_file_id"),
        ("input_file_id", json!(other), 400, "input_file_id"),
        ("endpoint", json!("/v1/embeddings"), 400, "endpoint"),
        ("completion_window", Value::Null, 400, "completion_window"),
        ("metadata", json!([]), 400, "metadata"),
    ] {
        let mut request = request(&file);
        request[name] = value;
        let refused = Ask::post("/v1/batches", &request).send(&bench.proxy).await;
        assert_eq!((refused.status, refused.error()["param"].as_str()), (status, Some(param)), "{}", refused.text());
    }
    for (method, path) in [("GET", "/v1/batches/batch_x"), ("POST", "/v1/batches/batch_x/cancel")] {
        let ask = Ask::new(method, path).header("content-type", "application/json");
        assert_eq!(ask.send(&bench.proxy).await.status, 404);
    }
    let gateway = Bench::with(|launch| launch.setting("upstream.credentials", "client")).await;
    let refused = Ask::post("/v1/batches", &request(&file)).send(&gateway.proxy).await;
    assert_eq!((refused.status, refused.error()["code"].as_str()), (403, Some("stored_login_required")));
}

#[tokio::test]
async fn a_batch_belongs_to_the_key_that_created_it() {
    let bench = Bench::answering(|launch| launch.file("config.toml", KEYS)).await;
    let file = by("sk-ann", upload("batch", "a.jsonl", lines(2).join("\n").as_bytes())).send(&bench.proxy).await;
    let file = file.json()["id"].as_str().unwrap().to_owned();
    let ask = Ask::post("/v1/batches", &request(&file));
    let refused = by("sk-bob", ask.clone()).send(&bench.proxy).await;
    assert_eq!((refused.status, refused.error()["param"].as_str()), (404, Some("input_file_id")));
    let id = by("sk-ann", ask).send(&bench.proxy).await.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/batches/{id}");
    let done = async {
        while by("sk-ann", Ask::get(&path)).send(&bench.proxy).await.json()["status"] != "completed" {
            tokio::task::yield_now().await;
        }
    };
    timeout(30 * SECOND, done).await.expect("the batch ends");
    assert_eq!(by("sk-bob", Ask::get(&path)).send(&bench.proxy).await.status, 404);
    assert_eq!(by("sk-bob", Ask::get("/v1/batches")).send(&bench.proxy).await.json()["data"], json!([]));
    let usage = by("sk-ann", Ask::get("/usage")).send(&bench.proxy).await.json();
    let keys: BTreeSet<_> =
        usage["requests"].as_array().unwrap().iter().map(|request| request["key"].as_str()).collect();
    assert_eq!(keys, BTreeSet::from([Some("ann")]), "its lines are requests of that key");
}

pub(crate) fn usage(used_percent: u32, reset_seconds: u32) -> Script {
    let window = format!(
        r#"{{"used_percent":{used_percent},"limit_window_seconds":18000,"reset_after_seconds":{reset_seconds}}}"#
    );
    Script::json(200, &format!(r#"{{"plan_type":"plus","rate_limit":{{"primary_window":{window}}}}}"#))
}

#[tokio::test]
async fn a_batch_pauses_above_its_share_of_the_quota_and_resumes_when_the_window_resets() {
    let bench = Bench::answering(|launch| launch.setting("batch.window_percent", "40")).await;
    bench.upstream.on(USAGE, usage(41, 2));
    let id = create(&bench.proxy, &lines(3)).await;
    bench.proxy.says("batch paused", 10 * SECOND).await;
    assert_eq!((find(&bench.proxy, &id).await["status"].as_str(), bench.request_count()), (Some("in_progress"), 0));
    let batches = Ask::get("/usage").send(&bench.proxy).await.json()["batches"].clone();
    assert_eq!((&batches[0]["id"], &batches[0]["status"]), (&json!(id), &json!("in_progress")));
    let reason = batches[0]["paused"]["reason"].as_str().unwrap();
    for part in ["41 %", "5-hour", "at most 40 %", "batch.window_percent"] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    assert!(batches[0]["paused"]["until"].is_string());
    let batch = ended(&bench.proxy, &id).await;
    assert_eq!(batch["request_counts"]["completed"], 3);
    assert!(bench.proxy.log().contains("batch resumed"));
    assert_eq!(Ask::get("/usage").send(&bench.proxy).await.json()["batches"], json!([]));
}

#[tokio::test]
async fn a_used_up_quota_is_not_the_result_of_a_line() {
    let bench = Bench::with(|launch| launch.setting("timing.quota_probe", "0s")).await;
    let spent = r#"{"error":{"type":"usage_limit_reached","resets_in_seconds":1}}"#;
    bench.upstream.on("/responses", Script::json(429, spent));
    bench.upstream.on("/responses", Script::events(&WHOLE));
    let id = create(&bench.proxy, &lines(2)).await;
    let batch = ended(&bench.proxy, &id).await;
    assert_eq!(batch["request_counts"], json!({"total": 2, "completed": 2, "failed": 0}));
    assert_eq!(bench.request_count(), 3);
}

#[tokio::test]
async fn a_line_waits_while_requests_of_clients_wait() {
    let bench = Bench::with(|launch| launch.setting("limits.concurrency", "1")).await;
    let (first, second) = (Gate::default(), Gate::default());
    bench.upstream.on("/responses", begun(&BEGUN).gate(&first).event(COMPLETED).end());
    bench.upstream.on("/responses", begun(&BEGUN).gate(&second).event(COMPLETED).end());
    bench.upstream.on("/responses", begun(&BEGUN).gate(&second).event(COMPLETED).end());
    let running = Ask::chat(&chat()).fire(&bench.proxy).await;
    bench.upstream.received("/responses", 1).await;
    let waiting = Ask::chat(&chat()).fire(&bench.proxy).await;
    let metric = async {
        while !Ask::get("/metrics")
            .send(&bench.proxy)
            .await
            .text()
            .lines()
            .any(|line| line == "codex_proxy_queue_length 1")
        {
            tokio::task::yield_now().await;
        }
    };
    timeout(10 * SECOND, metric).await.expect("the second request waits");
    let id = create(&bench.proxy, &lines(1)).await;
    until(&bench.proxy, &id, |batch| batch["status"] == "in_progress").await;
    for _ in 0..50 {
        find(&bench.proxy, &id).await;
    }
    assert_eq!(bench.request_count(), 1, "the line isn't sent while a client waits");
    bench.proxy.says("requests of clients are waiting", 10 * SECOND).await;
    let other = create(&bench.proxy, &lines(1)).await;
    cancel(&bench.proxy, &other).await;
    assert_eq!(
        ended(&bench.proxy, &other).await["status"],
        "cancelled",
        "a full queue doesn't delay the end of a batch"
    );
    first.open();
    running.open().await.rest().await;
    bench.upstream.received("/responses", 3).await;
    second.open();
    second.open();
    second.open();
    let finished = async {
        while find(&bench.proxy, &id).await["status"] != "completed" {
            second.open();
            tokio::task::yield_now().await;
        }
    };
    timeout(20 * SECOND, finished).await.expect("the line needs no permit");
    assert_eq!(waiting.open().await.rest().await.status, 200);
}

#[tokio::test]
async fn cancelling_ends_the_running_line_and_keeps_the_finished_ones() {
    let bench = Bench::with(|launch| launch).await;
    bench.upstream.on("/responses", Script::events(&WHOLE));
    bench.upstream.on("/responses", Script::events(&WHOLE));
    bench.upstream.on("/responses", begun(&BEGUN).hang());
    let id = create(&bench.proxy, &lines(5)).await;
    bench.upstream.received("/responses", 3).await;
    let cancelled = cancel(&bench.proxy, &id).await;
    assert_eq!((cancelled.status, cancelled.json()["cancelling_at"].is_u64()), (200, true));
    let batch = ended(&bench.proxy, &id).await;
    assert_eq!((&batch["status"], batch["cancelled_at"].is_u64()), (&json!("cancelled"), true));
    assert_eq!(batch["request_counts"], json!({"total": 5, "completed": 2, "failed": 0}));
    let output = results(&bench.proxy, &batch["output_file_id"]).await;
    assert_eq!(output.keys().collect::<Vec<_>>(), ["r1", "r2"]);
    assert!(bench.upstream.hung_up(1, 10 * SECOND).await);
}

#[tokio::test]
async fn a_batch_is_cancelled_without_a_body_and_not_by_a_web_page() {
    let bench = Bench::with(|launch| launch).await;
    bench.upstream.on("/responses", Script::silence());
    let id = create(&bench.proxy, &lines(1)).await;
    let bare = Ask::new("POST", &format!("/v1/batches/{id}/cancel"));
    for (name, value) in [("origin", "https://evil.invalid"), ("origin", "null"), ("sec-fetch-site", "cross-site")] {
        assert_eq!(bare.clone().header(name, value).send(&bench.proxy).await.status, 403, "{name}: {value}");
    }
    let text = bare.clone().header("content-type", "text/plain").with_content(b"x".to_vec());
    assert_eq!(text.send(&bench.proxy).await.status, 415);
    assert_eq!(Ask::new("POST", "/v1/batches").send(&bench.proxy).await.status, 415, "other requests need a body");
    assert_eq!(bare.send(&bench.proxy).await.status, 200);
    assert_eq!(ended(&bench.proxy, &id).await["status"], "cancelled");
}

#[tokio::test]
async fn the_input_file_of_a_running_batch_can_not_be_deleted() {
    let bench = Bench::with(|launch| launch).await;
    bench.upstream.on("/responses", Script::silence());
    let id = create(&bench.proxy, &lines(1)).await;
    let file = find(&bench.proxy, &id).await["input_file_id"].as_str().unwrap().to_owned();
    let refused = Ask::new("DELETE", &format!("/v1/files/{file}")).send(&bench.proxy).await;
    assert_eq!((refused.status, refused.error()["code"].as_str()), (400, Some("file_in_use")));
}

/// A daemon with its settings, to start it again.
pub(crate) async fn restartable() -> (Bench, Launch) {
    let mut kept = None;
    let bench = Bench::answering(|launch| {
        kept = Some(launch.clone());
        launch
    });
    (bench.await, kept.unwrap())
}

#[tokio::test]
async fn a_line_that_runs_at_shutdown_is_run_again_after_the_restart() {
    let (mut bench, launch) = restartable().await;
    bench.upstream.replace("/responses", begun(&BEGUN).hang());
    let id = create(&bench.proxy, &lines(2)).await;
    bench.upstream.received("/responses", 1).await;
    bench.proxy.signal("TERM");
    assert_eq!(bench.proxy.ended().await, Some(0));
    bench.upstream.replace("/responses", Script::events(&WHOLE));
    let later = launch.start();
    let batch = ended(&later, &id).await;
    assert_eq!(batch["request_counts"], json!({"total": 2, "completed": 2, "failed": 0}));
    assert_eq!(bench.request_count(), 3);
}

#[tokio::test]
async fn a_daemon_killed_ten_times_answers_every_line_exactly_once() {
    const LINES: usize = 200;
    const KILLS: usize = 10;
    let (bench, launch) = restartable().await;
    let id = create(&bench.proxy, &lines(LINES)).await;
    let mut proxy = bench.proxy;
    let random = RandomState::new();
    for kill in 0..KILLS {
        let seen = bench.upstream.requests("/responses").len();
        // At most 15 lines per round, so that the batch isn't complete before the last kill.
        let more = 1 + usize::try_from(random.hash_one(kill) % 15).unwrap();
        bench.upstream.received("/responses", seen + more).await;
        proxy.signal("KILL");
        proxy.ended().await;
        proxy = launch.start();
    }
    let batch = ended(&proxy, &id).await;
    assert_eq!(batch["status"], "completed", "{batch}");
    assert_eq!(batch["request_counts"], json!({"total": LINES, "completed": LINES, "failed": 0}));
    let output = results(&proxy, &batch["output_file_id"]).await;
    assert_eq!(output.len(), LINES);
    let sent = bench.upstream.requests("/responses").len();
    assert!((LINES..=LINES + KILLS).contains(&sent), "only a line that was running is sent again: {sent}");
}
