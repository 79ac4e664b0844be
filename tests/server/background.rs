//! Responses in the background: queued, followed, cancelled, and after a restart.

mod restarts;

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::fake::{Gate, Script};
use crate::proxy::{Launch, TestProxy};
use crate::wire::{Answer, Ask};
use crate::{BEGUN, Bench, COMPLETED, CREATED, SECOND, WHOLE, begun};

const KEYS: &str = "[[keys]]\nname = 'ann'\nkey = 'sk-ann'\n[[keys]]\nname = 'bob'\nkey = 'sk-bob'\n";

fn request(members: &Value) -> Ask {
    let mut request = json!({"model": "gpt-5.5", "input": "hi", "background": true});
    request.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    Ask::post("/v1/responses", &request)
}

/// Creates a response and returns its id.
async fn create(proxy: &TestProxy) -> String {
    let created = request(&json!({})).send(proxy).await;
    assert_eq!(created.status, 200, "{}", created.text());
    created.json()["id"].as_str().unwrap().to_owned()
}

async fn get(proxy: &TestProxy, id: &str) -> Value {
    Ask::get(&format!("/v1/responses/{id}")).send(proxy).await.json()
}

async fn cancel(proxy: &TestProxy, id: &str) -> Answer {
    cancelling(id).send(proxy).await
}

/// A request to cancel a response, as OpenAI's Node library sends it: without a body and a content type.
fn cancelling(id: &str) -> Ask {
    Ask::new("POST", &format!("/v1/responses/{id}/cancel"))
}

/// Waits until a response has this status, and returns it.
async fn becomes(proxy: &TestProxy, id: &str, status: &str) -> Value {
    let reached = async {
        loop {
            let response = get(proxy, id).await;
            if response["status"] == status {
                return response;
            }
            tokio::task::yield_now().await;
        }
    };
    let Ok(response) = timeout(10 * SECOND, reached).await else { panic!("not {status}: {}", get(proxy, id).await) };
    response
}

/// The events of a stream, which must be consecutive and have the id of the response.
fn events(text: &str, id: &str) -> Vec<Value> {
    let blocks = text.split_terminator("\n\n").filter(|block| !block.starts_with(':'));
    let data = blocks.map(|block| block.split_once("\ndata: ").unwrap().1);
    let events: Vec<Value> = data.map(|data| serde_json::from_str(data).unwrap()).collect();
    let first = events[0]["sequence_number"].as_u64().unwrap();
    for (number, event) in (first..).zip(&events) {
        assert_eq!(event["sequence_number"], number, "{event}");
        let response = event.get("response").map_or(id, |response| response["id"].as_str().unwrap());
        assert_eq!(response, id, "{event}");
    }
    events
}

async fn stream(proxy: &TestProxy, id: &str, after: &str) -> Answer {
    Ask::get(&format!("/v1/responses/{id}?stream=true{after}")).send(proxy).await
}

/// A backend whose first response waits for the gate after its first delta, and whose next ones are complete.
async fn gated(change: impl FnOnce(Launch) -> Launch) -> (Bench, Gate) {
    let bench = Bench::with(change).await;
    let gate = Gate::default();
    bench.upstream.on("/responses", begun(&BEGUN).gate(&gate).event(COMPLETED).end());
    bench.upstream.on("/responses", Script::events(&WHOLE));
    (bench, gate)
}

/// The state of the active requests, as `/usage` lists them.
async fn states(proxy: &TestProxy) -> Vec<String> {
    let usage = Ask::get("/usage").send(proxy).await.json();
    let requests = usage["requests"].as_array().unwrap().iter();
    requests.map(|request| request["state"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_background_response_is_queued_and_can_be_polled_and_continued() {
    let (bench, gate) = gated(|launch| launch).await;
    let created = request(&json!({"metadata": {"k": "v"}, "temperature": 0.5})).send(&bench.proxy).await;
    let object = created.json();
    assert_eq!((&object["status"], &object["background"]), (&json!("queued"), &json!(true)));
    assert_eq!(
        (&object["object"], &object["model"], &object["output"]),
        (&json!("response"), &json!("gpt-5.5"), &json!([]))
    );
    assert_eq!((&object["metadata"], &object["error"]), (&json!({"k": "v"}), &Value::Null));
    assert_eq!(created.header("x-proxy-warnings"), "ignored:temperature");
    let id = object["id"].as_str().unwrap();
    assert!(id.starts_with("resp_") && object["created_at"].as_u64() > Some(1_700_000_000), "{object}");
    becomes(&bench.proxy, id, "in_progress").await;
    gate.open();
    let done = becomes(&bench.proxy, id, "completed").await;
    assert_eq!(done["output"][0]["content"][0]["text"], "Grüße 👋");
    for member in ["id", "created_at", "background", "metadata", "model"] {
        assert_eq!(done[member], object[member], "{member}");
    }
    let polled = Ask::get(&format!("/v1/responses/{id}")).send(&bench.proxy).await;
    assert_eq!(polled.header("x-proxy-warnings"), "ignored:temperature");
    let items = Ask::get(&format!("/v1/responses/{id}/input_items")).send(&bench.proxy).await.json();
    assert_eq!(items["data"][0]["content"][0]["text"], "hi");
    let next = Ask::post("/v1/responses", &json!({"model": "gpt-5.5", "input": "And?", "previous_response_id": id}));
    assert_eq!(next.send(&bench.proxy).await.status, 200);
    let sent = bench.upstream.requests("/responses");
    assert_eq!(sent[1].json()["input"].as_array().unwrap().len(), 3);
    assert_eq!((&sent[0].json()["stream"], sent[0].json().get("background")), (&json!(true), None));
}

#[tokio::test]
async fn a_cut_stream_is_resumed_after_any_event() {
    let (bench, gate) = gated(|launch| launch).await;
    let mut open = request(&json!({"stream": true})).open(&bench.proxy).await;
    open.until("Grüße").await;
    let first = String::from_utf8(open.taken().0).unwrap();
    drop(open);
    let object: Value = serde_json::from_str(first.split_once("data: ").unwrap().1.lines().next().unwrap()).unwrap();
    let id = object["response"]["id"].as_str().unwrap().to_owned();
    let seen = events(&first, &id);
    let kinds: Vec<_> = seen.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds[..3], ["response.created", "response.queued", "response.in_progress"]);
    assert_eq!(seen[0]["response"]["status"], "queued");
    let after = format!("&starting_after={}", seen.len() - 1);
    let mut resumed = Ask::get(&format!("/v1/responses/{id}?stream=true{after}")).open(&bench.proxy).await;
    gate.open();
    resumed.until("response.completed").await;
    let rest = resumed.rest().await;
    assert!(rest.header("content-type").starts_with("text/event-stream"));
    let rest = events(rest.text(), &id);
    assert_eq!(rest[0]["sequence_number"], seen.len());
    assert_eq!(rest.last().unwrap()["type"], "response.completed");
    assert_eq!(rest.last().unwrap()["response"], get(&bench.proxy, &id).await);
    let whole = events(stream(&bench.proxy, &id, "").await.text(), &id);
    assert_eq!(whole, [seen, rest].concat());
    assert_eq!(stream(&bench.proxy, &id, "&starting_after=99").await.text(), "");
    assert_eq!(stream(&bench.proxy, &id, "&starting_after=x").await.error()["param"], "starting_after");
    assert_eq!(bench.request_count(), 1);
}

#[tokio::test]
async fn a_cancelled_response_drops_its_upstream_call() {
    let (bench, _gate) = gated(|launch| launch).await;
    let id = create(&bench.proxy).await;
    let mut followed = Ask::get(&format!("/v1/responses/{id}?stream=true")).open(&bench.proxy).await;
    followed.until("Grüße").await;
    for (name, value) in [("origin", "https://evil.invalid"), ("origin", "null"), ("sec-fetch-site", "cross-site")] {
        let refused = cancelling(&id).header(name, value).send(&bench.proxy).await;
        assert_eq!(refused.status, 403, "a web page can't cancel: {name}");
    }
    let typed = cancelling(&id).header("content-type", "text/plain").send(&bench.proxy).await;
    assert_eq!(typed.status, 415);
    assert_eq!(get(&bench.proxy, &id).await["status"], "in_progress");
    let input = Ask::get(&format!("/v1/responses/{id}/input_items"));
    let items = input.send(&bench.proxy).await.json();
    assert_eq!(items["data"][0]["content"][0]["text"], "hi", "an open response has its input");
    let cancelled = cancel(&bench.proxy, &id).await;
    assert_eq!((cancelled.status, &cancelled.json()["status"]), (200, &json!("cancelled")));
    assert!(bench.upstream.hung_up(1, 10 * SECOND).await);
    let rest = followed.rest().await;
    let last = events(rest.text(), &id).pop().unwrap();
    assert_eq!((&last["type"], &last["response"]["status"]), (&json!("response.failed"), &json!("cancelled")));
    assert_eq!(cancel(&bench.proxy, &id).await.json(), cancelled.json(), "cancelling twice changes nothing");
    assert_eq!(get(&bench.proxy, &id).await, cancelled.json());
    assert_eq!(input.send(&bench.proxy).await.json(), items, "and so has a cancelled one");
    bench.proxy.says("outcome=\"cancelled\"", SECOND).await;
    let metrics = Ask::get("/metrics").send(&bench.proxy).await;
    assert!(!metrics.text().contains("client_left"), "{}", metrics.text());
    let next = Ask::post("/v1/responses", &json!({"model": "gpt-5.5", "input": "And?", "previous_response_id": id}));
    assert_eq!(next.send(&bench.proxy).await.error()["code"], "previous_response_not_found");
    let foreground = Ask::post("/v1/responses", &json!({"model": "gpt-5.5", "input": "hi"})).send(&bench.proxy).await;
    let refused = cancel(&bench.proxy, foreground.json()["id"].as_str().unwrap()).await;
    assert_eq!((refused.status, &refused.error()["message"]), (400, &json!("Cannot cancel a synchronous response.")));
    assert_eq!(cancel(&bench.proxy, "resp_x").await.status, 404);
}

#[tokio::test]
async fn a_deleted_response_is_cancelled_and_leaves_nothing() {
    let (bench, _gate) = gated(|launch| launch).await;
    let id = create(&bench.proxy).await;
    bench.upstream.received("/responses", 1).await;
    let path = format!("/v1/responses/{id}");
    assert_eq!(Ask::new("DELETE", &path).send(&bench.proxy).await.json()["deleted"], true);
    assert!(bench.upstream.hung_up(1, 10 * SECOND).await);
    for target in [path.clone(), format!("{path}?stream=true")] {
        assert_eq!(Ask::get(&target).send(&bench.proxy).await.status, 404);
    }
    assert_eq!(Ask::new("DELETE", &path).send(&bench.proxy).await.status, 404);
}

#[tokio::test]
async fn responses_over_the_limit_wait_in_order() {
    let (bench, gate) = gated(|launch| launch.setting("responses.background_concurrency", "1")).await;
    let first = create(&bench.proxy).await;
    becomes(&bench.proxy, &first, "in_progress").await;
    let second = create(&bench.proxy).await;
    let third = create(&bench.proxy).await;
    assert_eq!(states(&bench.proxy).await.iter().filter(|state| *state == "queued").count(), 2);
    assert_eq!(cancel(&bench.proxy, &second).await.json()["status"], "cancelled");
    assert_eq!(get(&bench.proxy, &third).await["status"], "queued");
    assert_eq!(bench.upstream.received("/responses", 1).await.len(), 1);
    gate.open();
    becomes(&bench.proxy, &third, "completed").await;
    assert_eq!(get(&bench.proxy, &first).await["status"], "completed");
    assert_eq!(bench.request_count(), 2, "the cancelled one was never sent");
}

#[tokio::test]
async fn a_failed_response_has_the_error_of_the_backend() {
    let bench = Bench::with(|launch| launch.setting("upstream.max_retries", "0")).await;
    let refusal = r#"{"error":{"message":"bad picture","type":"invalid_request_error","code":"invalid_image"}}"#;
    bench.upstream.on("/responses", Script::json(400, refusal));
    let refused = create(&bench.proxy).await;
    let failed = becomes(&bench.proxy, &refused, "failed").await;
    assert_eq!(failed["error"], json!({"code": "invalid_image", "message": "bad picture"}));
    let failure = r#"{"type":"response.failed","response":{"id":"resp_1","status":"failed","error":{"code":"server_error","message":"oh no"}}}"#;
    bench.upstream.replace("/responses", Script::events(&[CREATED, failure]));
    let broken = create(&bench.proxy).await;
    let failed = becomes(&bench.proxy, &broken, "failed").await;
    assert_eq!((&failed["error"]["message"], &failed["id"]), (&json!("oh no"), &json!(broken)));
    bench.upstream.replace("/responses", begun(&BEGUN).cut());
    let cut = create(&bench.proxy).await;
    let last = events(stream(&bench.proxy, &cut, "").await.text(), &cut).pop().unwrap();
    assert_eq!((&last["type"], &last["response"]["status"]), (&json!("response.failed"), &json!("failed")));
}

#[tokio::test]
async fn a_background_response_belongs_to_its_key() {
    let (bench, _gate) = gated(|launch| launch.file("config.toml", KEYS)).await;
    let by = |key: &str, ask: Ask| ask.header("authorization", &format!("Bearer {key}"));
    let created = by("sk-ann", request(&json!({}))).send(&bench.proxy).await.json();
    let path = format!("/v1/responses/{}", created["id"].as_str().unwrap());
    let cancelling = Ask::new("POST", &format!("{path}/cancel"));
    for ask in
        [Ask::get(&path), Ask::get(&format!("{path}?stream=true")), cancelling.clone(), Ask::new("DELETE", &path)]
    {
        assert_eq!(by("sk-bob", ask).send(&bench.proxy).await.status, 404);
    }
    assert_eq!(by("sk-ann", cancelling).send(&bench.proxy).await.json()["status"], "cancelled");
}

#[tokio::test]
async fn a_request_that_can_not_be_kept_is_refused() {
    let bench = Bench::answering(|launch| launch).await;
    let unstored = request(&json!({"store": false})).send(&bench.proxy).await;
    assert_eq!((unstored.status, &unstored.error()["param"]), (400, &json!("store")));
    let invalid = request(&json!({"previous_response_id": "resp_x"})).send(&bench.proxy).await;
    assert_eq!((invalid.status, &invalid.error()["param"]), (400, &json!("previous_response_id")));
    let off = Bench::answering(|launch| launch.setting("responses.store", "off")).await;
    let refused = request(&json!({})).send(&off.proxy).await;
    assert_eq!((refused.status, &refused.error()["param"]), (400, &json!("background")));
    assert!(refused.error()["message"].as_str().unwrap().contains("responses.store"), "{}", refused.text());
    assert_eq!(bench.request_count() + off.request_count(), 0);
}

#[tokio::test]
async fn events_that_dont_fit_into_memory_are_named_and_the_response_is_complete() {
    let limits = |launch: Launch| launch.setting("limits.body", "64KiB").setting("limits.memory", "256KiB");
    let bench = Bench::with(limits).await;
    let delta = json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "item_id": "msg_1",
        "delta": "x".repeat(100_000)});
    bench.upstream.on("/responses", Script::events(&[CREATED, crate::ADDED, &delta.to_string(), COMPLETED]));
    let id = create(&bench.proxy).await;
    let done = becomes(&bench.proxy, &id, "completed").await;
    assert_eq!(done["output"][0]["content"][0]["text"].as_str().unwrap().len(), 100_000);
    let refused = stream(&bench.proxy, &id, "").await;
    assert_eq!((refused.status, &refused.error()["code"]), (400, &json!("events_unavailable")));
}

#[tokio::test]
async fn a_response_without_room_evicts_the_events_of_ended_ones_only_if_that_helps() {
    let limits = |launch: Launch| launch.setting("limits.body", "64KiB").setting("limits.memory", "256KiB");
    let bench = Bench::with(limits).await;
    let with_text = |bytes: usize| {
        let delta = json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0,
            "item_id": "msg_1", "delta": "x".repeat(bytes)});
        Script::events(&[CREATED, crate::ADDED, &delta.to_string(), COMPLETED])
    };
    bench.upstream.on("/responses", with_text(15_000));
    let first = create(&bench.proxy).await;
    becomes(&bench.proxy, &first, "completed").await;
    assert_eq!(stream(&bench.proxy, &first, "").await.status, 200);
    let streamed = request(&json!({"stream": true})).send(&bench.proxy).await;
    let second = streamed.text().split_once(r#""id":""#).unwrap().1.split('"').next().unwrap();
    assert_eq!(events(streamed.text(), second).last().unwrap()["type"], "response.completed");
    assert_eq!(stream(&bench.proxy, &first, "").await.error()["code"], "events_unavailable");
    bench.upstream.replace("/responses", with_text(100_000));
    let large = create(&bench.proxy).await;
    becomes(&bench.proxy, &large, "completed").await;
    assert_eq!(stream(&bench.proxy, &large, "").await.error()["code"], "events_unavailable");
    assert_eq!(
        stream(&bench.proxy, second, "").await.status,
        200,
        "no room for these events would ever have been enough"
    );
}

#[tokio::test]
async fn a_waiting_response_reserves_memory_for_its_own_request_only() {
    let (bench, gate) = gated(|launch| launch.setting("responses.background_concurrency", "1")).await;
    let items: Vec<Value> = (0..50).map(|_| json!({"role": "user", "content": "x".repeat(20_000)})).collect();
    gate.open();
    let large = request(&json!({"input": items})).send(&bench.proxy).await.json();
    becomes(&bench.proxy, large["id"].as_str().unwrap(), "completed").await;
    bench.upstream.replace("/responses", begun(&BEGUN).hang());
    let running = create(&bench.proxy).await;
    becomes(&bench.proxy, &running, "in_progress").await;
    let reserved = async || {
        let metrics = Ask::get("/metrics").send(&bench.proxy).await.text().to_owned();
        let line = metrics.lines().find(|line| line.starts_with("codex_proxy_memory_reserved_bytes ")).unwrap();
        line.split_once(' ').unwrap().1.parse::<f64>().unwrap()
    };
    let before = reserved().await;
    let waiting = request(&json!({"previous_response_id": large["id"]})).send(&bench.proxy).await;
    assert_eq!(waiting.json()["status"], "queued");
    let added = reserved().await - before;
    assert!(added < 100_000.0, "the million bytes of the continued response aren't held: {added}");
}

#[tokio::test]
async fn the_session_of_a_client_reaches_the_backend() {
    let bench = Bench::answering(|launch| launch).await;
    let asked = request(&json!({})).header("x-session-affinity", "session-1").header("user-agent", "codex_cli_rs/1.0");
    let asked = asked.header("x-codex-turn-metadata", "turn").send(&bench.proxy).await.json();
    becomes(&bench.proxy, asked["id"].as_str().unwrap(), "completed").await;
    let sent = bench.upstream.requests("/responses").pop().unwrap();
    assert_eq!(sent.header("x-codex-turn-metadata"), "turn");
    let asked = request(&json!({})).header("x-session-affinity", "session-1").send(&bench.proxy).await.json();
    becomes(&bench.proxy, asked["id"].as_str().unwrap(), "completed").await;
    assert_eq!(bench.upstream.requests("/responses").pop().unwrap().json()["prompt_cache_key"], "session-1");
}

#[tokio::test]
async fn a_stop_ends_the_streams_of_all_responses_in_memory_with_interrupted() {
    let change = |launch: Launch| launch.setting("timing.drain", "0s").setting("responses.background_concurrency", "1");
    let (mut bench, _gate) = gated(change).await;
    let mut running = request(&json!({"stream": true})).open(&bench.proxy).await;
    running.until("Grüße").await;
    let mut waiting = request(&json!({"stream": true})).open(&bench.proxy).await;
    waiting.until("response.queued").await;
    bench.proxy.signal("TERM");
    for open in [running, waiting] {
        let rest = open.rest().await;
        assert!(rest.text().contains(r#""code":"interrupted""#), "{}", rest.text());
    }
    assert_eq!(bench.proxy.ended().await, Some(0));
}
