//! Responses in the background that are stored on disk: the disk fails, or the daemon stops.

use serde_json::{Value, json};

use super::{becomes, cancel, create, gated, get, request, stream};
use crate::fake::Gate;
use crate::proxy::Launch;
use crate::wire::Ask;
use crate::{BEGUN, Bench, begun};

/// A daemon that stores responses on disk and runs one at a time, and how to start the next one.
async fn on_disk() -> (Bench, Gate, Launch) {
    let mut kept = None;
    let change = |launch: Launch| {
        let launch = launch.setting("responses.store", "disk").setting("timing.drain", "0s");
        let launch = launch.setting("responses.background_concurrency", "1");
        kept = Some(launch.clone());
        launch
    };
    let (bench, gate) = gated(change).await;
    (bench, gate, kept.unwrap())
}

fn change_file(launch: &Launch, statements: &str) {
    let file = rusqlite::Connection::open(launch.home().join("responses.sqlite3")).unwrap();
    file.execute_batch(statements).unwrap();
}

#[tokio::test]
async fn a_request_that_can_not_be_recorded_is_not_sent() {
    let (bench, _gate, launch) = on_disk().await;
    change_file(&launch, "CREATE TRIGGER full BEFORE INSERT ON runs BEGIN SELECT raise(ABORT, 'full'); END");
    let refused = request(&json!({})).send(&bench.proxy).await;
    assert_eq!((refused.status, &refused.error()["code"]), (503, &json!("store_unavailable")));
    change_file(
        &launch,
        "DROP TRIGGER full; CREATE TRIGGER full BEFORE UPDATE ON runs BEGIN SELECT raise(ABORT, 'full'); END",
    );
    let id = create(&bench.proxy).await;
    let failed = becomes(&bench.proxy, &id, "failed").await;
    assert_eq!(failed["error"]["code"], "store_unavailable");
    assert_eq!(bench.request_count(), 0);
}

#[tokio::test]
async fn a_stored_request_that_can_not_be_read_fails_and_others_keep_their_conversation_locked() {
    let (mut bench, _gate, launch) = on_disk().await;
    let running = create(&bench.proxy).await;
    becomes(&bench.proxy, &running, "in_progress").await;
    bench.upstream.received("/responses", 1).await;
    let conversation = Ask::post("/v1/conversations", &json!({})).send(&bench.proxy).await.json();
    let unreadable = create(&bench.proxy).await;
    create(&bench.proxy).await;
    let waiting = request(&json!({"conversation": conversation["id"]})).send(&bench.proxy).await.json();
    let waiting = waiting["id"].as_str().unwrap();
    bench.proxy.signal("KILL");
    bench.proxy.ended().await;
    change_file(&launch, &format!("UPDATE runs SET request = '?' WHERE id = '{unreadable}'"));
    bench.upstream.replace("/responses", begun(&BEGUN).hang());
    let next = launch.start();
    let failed = get(&next, &unreadable).await;
    assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("failed"), &json!("request_unreadable")));
    assert_eq!(get(&next, waiting).await["status"], "queued");
    let items = format!("/v1/conversations/{}/items", conversation["id"].as_str().unwrap());
    let adding = Ask::post(&items, &json!({"items": [{"role": "user", "content": "x"}]}));
    assert_eq!(adding.send(&next).await.error()["code"], "conversation_locked");
    assert_eq!(cancel(&next, waiting).await.json()["status"], "cancelled");
    assert_eq!(adding.send(&next).await.status, 200, "a cancelled response unlocks it at once");
    let unknown = Ask::get(&format!("/v1/responses/{running}/input_items")).send(&next).await;
    assert_eq!((unknown.status, &unknown.error()["code"]), (400, &json!("input_items_unavailable")));
}

#[tokio::test]
async fn a_stop_ends_the_stream_of_a_waiting_response_with_an_error() {
    let (mut bench, _gate, launch) = on_disk().await;
    let running = create(&bench.proxy).await;
    becomes(&bench.proxy, &running, "in_progress").await;
    let mut waiting = request(&json!({"stream": true})).open(&bench.proxy).await;
    waiting.until("response.queued").await;
    bench.proxy.signal("TERM");
    let rest = waiting.rest().await;
    let last = rest.text().rsplit("data: ").next().unwrap();
    let last: Value = serde_json::from_str(last.trim_end()).unwrap();
    assert_eq!(
        (&last["type"], &last["code"], &last["sequence_number"]),
        (&json!("error"), &json!("interrupted"), &json!(2))
    );
    bench.proxy.ended().await;
    drop(launch);
}

#[tokio::test]
async fn a_stop_interrupts_running_responses_and_the_next_process_runs_queued_ones() {
    for signal in ["TERM", "KILL"] {
        let (mut bench, _gate, launch) = on_disk().await;
        let running = create(&bench.proxy).await;
        becomes(&bench.proxy, &running, "in_progress").await;
        bench.upstream.received("/responses", 1).await;
        let waiting = create(&bench.proxy).await;
        bench.proxy.signal(signal);
        bench.proxy.ended().await;
        let next = launch.start();
        let interrupted = get(&next, &running).await;
        assert_eq!((&interrupted["status"], &interrupted["error"]["code"]), (&json!("failed"), &json!("interrupted")));
        let done = becomes(&next, &waiting, "completed").await;
        assert_eq!((&done["id"], &done["background"]), (&json!(waiting), &json!(true)), "{signal}");
        assert_eq!(bench.request_count(), 2, "each was sent once");
        let refused = stream(&next, &running, "").await;
        assert_eq!((refused.status, &refused.error()["param"]), (400, &json!("stream")));
        assert_eq!(cancel(&next, &running).await.json(), interrupted);
    }
}
