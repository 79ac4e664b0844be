//! Frames for the running response: `response.steer` and `response.interrupt`.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{DONE, RESPONSE, hello, kinds};
use crate::fake::{Gate, Script};
use crate::proxy::Launch;
use crate::websocket::Socket;
use crate::{BEGUN, Bench, COMPLETED, CREATED, begun, with};

const INTERRUPT: &str = r#"{ "type": "response.interrupt","response_id" : "resp_1","mode":"discard_partial_items" }"#;
const STEER: &str = r#"{"type":"response.steer", "previous_response_id":"resp_1","input":"be \u0062rief"}"#;
const ACCEPTED: &str = r#"{"type":"response.interrupt.accepted","response_id":"resp_1","sequence_number":4}"#;
const DISCARDED: &str = r#"{"type":"response.output_item.interrupted","response_id":"resp_1","item_id":"msg_1","output_index":0,"sequence_number":5}"#;
const INTERRUPTED: &str = r#"{"type":"response.incomplete","response":{"id":"resp_1","status":"incomplete","incomplete_details":{"reason":"interrupted"},"output":[],"usage":{"input_tokens":3,"output_tokens":2,"total_tokens":5}}}"#;
const QUEUED: &str = r#"{"type":"response.steer.accepted","steer":{"id":"steer_1","previous_response_id":"resp_1"}}"#;
const STEERED: &str = r#"{"type":"response.incomplete","response":{"id":"resp_1","status":"incomplete","incomplete_details":{"reason":"steered"},"output":[],"usage":{"input_tokens":3,"output_tokens":2,"total_tokens":5}}}"#;

async fn over(transport: &str) -> Bench {
    Bench::with(|launch| launch.setting("upstream.transport", transport)).await
}

async fn running(bench: &Bench) -> Socket {
    let mut socket = Socket::open(&bench.proxy).await;
    socket.create(&hello()).await;
    socket.until("response.output_text.delta").await;
    socket
}

/// Another response.
fn successor() -> [String; 3] {
    [CREATED, DONE, COMPLETED].map(|event| event.replace("resp_1", "resp_2"))
}

#[tokio::test]
async fn a_frame_reaches_the_backend_unchanged_while_no_event_arrives() {
    let bench = over("websocket").await;
    let script = begun(&BEGUN).frame().event(ACCEPTED).event(DISCARDED).event(INTERRUPTED).end();
    bench.upstream.on("/responses", script);
    bench.upstream.on("/responses", Script::events(&RESPONSE));
    let mut socket = running(&bench).await;
    socket.say(Message::text(INTERRUPT)).await;
    let events = socket.answer().await;
    assert_eq!(
        kinds(&events),
        ["response.interrupt.accepted", "response.output_item.interrupted", "response.incomplete"]
    );
    let ended = &events[2]["response"];
    assert_eq!((&ended["incomplete_details"]["reason"], &ended["output"]), (&json!("interrupted"), &json!([])));
    assert_eq!(bench.upstream.frames(), [INTERRUPT]);

    let next = with(hello(), "previous_response_id", json!("resp_1"));
    socket.create(&next).await;
    assert_eq!(socket.answer().await.last().unwrap()["type"], "response.completed", "it can be continued");
    let input = bench.upstream.requests("/responses")[1].json()["input"].clone();
    assert_eq!(input.as_array().unwrap().len(), 2, "without the interrupted item: {input}");
    assert_eq!(bench.upstream.handshakes().len(), 1, "the connection is used again");
}

#[tokio::test]
async fn a_connection_with_an_unanswered_frame_is_not_used_again() {
    let bench = over("websocket").await;
    bench.upstream.on("/responses", begun(&BEGUN).frame().event(DONE).event(COMPLETED).end());
    bench.upstream.on("/responses", Script::events(&RESPONSE));
    let mut socket = running(&bench).await;
    socket.say(Message::text(INTERRUPT)).await;
    assert_eq!(socket.answer().await.last().unwrap()["type"], "response.completed");
    socket.create(&hello()).await;
    assert_eq!(socket.answer().await.last().unwrap()["type"], "response.completed");
    assert_eq!(bench.upstream.handshakes().len(), 2);
}

#[tokio::test]
async fn a_steered_response_is_followed_by_the_one_with_the_input() {
    let bench = over("websocket").await;
    let script = begun(&BEGUN).frame().event(QUEUED).event(DONE).event(STEERED);
    let script = successor().iter().fold(script, |script, event| script.event(event));
    bench.upstream.on("/responses", script.end());
    bench.upstream.on("/responses", Script::events(&RESPONSE));
    let mut socket = running(&bench).await;
    socket.say(Message::text(STEER)).await;
    let first = socket.answer().await;
    assert_eq!(
        kinds(&first),
        ["response.steer.accepted", "response.output_item.done", "response.incomplete"],
        "{first:?}"
    );
    let second = socket.answer().await;
    assert_eq!(kinds(&second), ["response.created", "response.output_item.done", "response.completed"]);
    assert_eq!(second[2]["response"]["id"], "resp_2");
    assert_eq!(bench.upstream.frames(), [STEER]);
    assert_eq!(bench.request_count(), 1);
    socket.create(&hello()).await;
    assert_eq!(socket.answer().await.last().unwrap()["type"], "response.completed");
    bench.proxy.says("tokens.in=6 tokens.out=4", 5 * crate::SECOND).await;
}

#[tokio::test]
async fn input_that_waits_for_a_tool_result_ends_the_response() {
    let bench = over("websocket").await;
    let pending = QUEUED.replace("accepted", "pending");
    let script = begun(&BEGUN).frame().event(QUEUED).event(DONE).event(COMPLETED).event(&pending).end();
    bench.upstream.on("/responses", script);
    bench.upstream.on("/responses", Script::events(&RESPONSE));
    let mut socket = running(&bench).await;
    socket.say(Message::text(STEER)).await;
    assert_eq!(socket.answer().await.last().unwrap()["type"], "response.completed");
    assert_eq!(socket.next().await["type"], "response.steer.pending");
    let next = with(hello(), "previous_response_id", json!("resp_1"));
    socket.create(&next).await;
    assert_eq!(socket.answer().await.last().unwrap()["type"], "response.completed");
    let sent = bench.upstream.requests("/responses").pop().unwrap();
    assert!(sent.wire_bytes < sent.body.len(), "it continues on the connection that holds the input");
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_next_response_is_an_error() {
    let bench = over("websocket").await;
    bench.upstream.on("/responses", begun(&BEGUN).frame().event(QUEUED).event(DONE).event(STEERED).cut());
    let mut socket = running(&bench).await;
    socket.say(Message::text(STEER)).await;
    assert_eq!(socket.answer().await.last().unwrap()["type"], "response.incomplete");
    assert_eq!(socket.answer().await.last().unwrap()["type"], "response.failed");
}

#[tokio::test]
async fn without_a_websocket_to_the_backend_a_frame_is_refused_and_the_response_continues() {
    for (frame, kind, code) in [
        (STEER, "response.steer", "steering_not_supported"),
        (INTERRUPT, "response.interrupt", "interrupting_not_supported"),
    ] {
        let bench = over("sse").await;
        let gate = Gate::default();
        bench.upstream.on("/responses", begun(&BEGUN).gate(&gate).event(DONE).event(COMPLETED).end());
        let mut socket = running(&bench).await;
        let mut frame: Value = serde_json::from_str(frame).unwrap();
        socket.send(&frame).await;
        let refused = socket.next().await;
        assert_eq!((&refused["type"], &refused["error"]["code"]), (&json!(format!("{kind}.failed")), &json!(code)));
        let message = refused["error"]["message"].as_str().unwrap();
        assert!(message.contains(kind) && message.contains("upstream.transport = \"websocket\""), "{message}");
        if kind == "response.steer" {
            frame.as_object_mut().unwrap().remove("type");
            assert_eq!(refused["steer"], frame, "the input is returned");
        } else {
            assert_eq!(refused["response_id"], "resp_1");
        }
        gate.open();
        assert_eq!(kinds(&socket.answer().await), ["response.output_item.done", "response.completed"]);
    }
}

#[tokio::test]
async fn without_a_running_response_a_frame_is_refused_and_the_next_request_is_served() {
    let bench = over("websocket").await;
    bench.upstream.on("/responses", Script::events(&RESPONSE));
    let mut socket = Socket::open(&bench.proxy).await;
    for _ in 0..2 {
        for frame in [STEER, INTERRUPT] {
            socket.say(Message::text(frame)).await;
            let refused = socket.next().await;
            assert_eq!(refused["error"]["code"], "response_not_active", "{refused}");
            assert!(refused["type"].as_str().unwrap().ends_with(".failed"), "{refused}");
        }
        socket.create(&hello()).await;
        assert_eq!(socket.answer().await.last().unwrap()["type"], "response.completed");
    }
    assert!(bench.upstream.frames().is_empty());
}

#[tokio::test]
async fn a_frame_for_another_stream_is_refused() {
    let bench = over("websocket").await;
    bench.upstream.on("/responses", begun(&BEGUN).frame().event(DONE).event(COMPLETED).end());
    let mut socket = Socket::open(&bench.proxy).await;
    socket.create(&with(hello(), "stream_id", json!("main"))).await;
    socket.until("response.output_text.delta").await;
    let mut frame: Value = serde_json::from_str(INTERRUPT).unwrap();
    frame["stream_id"] = json!("other");
    socket.send(&frame).await;
    let refused = socket.next().await;
    assert_eq!((&refused["stream_id"], &refused["error"]["code"]), (&json!("other"), &json!("response_not_active")));
    frame["stream_id"] = json!("main");
    socket.send(&frame).await;
    assert_eq!(socket.answer().await.last().unwrap()["type"], "response.completed");
    let sent: Value = serde_json::from_str(&bench.upstream.frames()[0]).unwrap();
    assert_eq!(sent, serde_json::from_str::<Value>(INTERRUPT).unwrap(), "without the stream id");
}

#[tokio::test]
async fn frames_that_arrive_before_the_response_wait_in_a_bounded_queue() {
    let bench = over("websocket").await;
    let gate = Gate::default();
    let script = begun(&[]).gate(&gate);
    let script = BEGUN.iter().fold(script, |script, event| script.event(event));
    let script = (0..8).fold(script, |script, _| script.frame());
    bench.upstream.on("/responses", script.event(DONE).event(COMPLETED).end());
    let mut socket = Socket::open(&bench.proxy).await;
    socket.create(&hello()).await;
    for _ in 0..9 {
        socket.say(Message::text(INTERRUPT)).await;
    }
    assert_eq!(socket.next().await["error"]["code"], "too_many_pending_interrupts");
    gate.open();
    assert_eq!(socket.answer().await.last().unwrap()["type"], "response.completed");
    assert_eq!(bench.upstream.frames(), [INTERRUPT; 8]);
}

#[tokio::test]
async fn a_frame_for_a_response_that_never_starts_is_refused() {
    let bench = over("websocket").await;
    let gate = Gate::default();
    let error = r#"{"type":"error","status":400,"error":{"type":"invalid_request_error","message":"no"}}"#;
    bench.upstream.on("/responses", begun(&[]).gate(&gate).event(error).end());
    let mut socket = Socket::open(&bench.proxy).await;
    socket.create(&hello()).await;
    socket.say(Message::text(STEER)).await;
    socket.ping().await;
    socket.until("pong").await;
    gate.open();
    assert_eq!(socket.next().await["error"]["message"], "no");
    let refused = socket.next().await;
    assert_eq!(
        (&refused["type"], &refused["error"]["code"]),
        (&json!("response.steer.failed"), &json!("response_not_active"))
    );
}

/// A prompt whose answer takes a second to stream.
fn long() -> Value {
    json!({"model": "gpt-5.5", "input": "word ".repeat(250), "store": false})
}

fn id(events: &[Value]) -> Value {
    events.iter().find_map(|event| event["response"].get("id")).unwrap().clone()
}

#[tokio::test]
async fn the_demo_ends_an_interrupted_response() {
    let proxy = Launch::demo().setting("upstream.transport", "websocket").start();
    let mut socket = Socket::open(&proxy).await;
    socket.create(&long()).await;
    let begun = socket.until("response.output_text.delta").await;
    let interrupt = json!({"type": "response.interrupt", "response_id": id(&begun), "mode": "discard_partial_items"});
    socket.send(&interrupt).await;
    socket.until("response.interrupt.accepted").await;
    let ended = socket.answer().await;
    assert_eq!(kinds(&ended), ["response.output_item.interrupted", "response.incomplete"]);
    assert_eq!(ended[1]["response"]["incomplete_details"]["reason"], "interrupted");
    socket.create(&with(hello(), "previous_response_id", id(&begun))).await;
    assert_eq!(socket.answer().await.last().unwrap()["type"], "response.completed");
}

#[tokio::test]
async fn the_demo_answers_the_input_of_a_steered_response() {
    let proxy = Launch::demo().setting("upstream.transport", "websocket").start();
    let mut socket = Socket::open(&proxy).await;
    socket.create(&long()).await;
    let begun = socket.until("response.output_text.delta").await;
    socket.send(&json!({"type": "response.steer", "previous_response_id": id(&begun), "input": "Mind the gap."})).await;
    socket.until("response.steer.accepted").await;
    assert_eq!(id(&socket.answer().await), id(&begun));
    let answer = socket.answer().await;
    let last = answer.last().unwrap();
    assert_eq!((&answer[0]["type"], &last["type"]), (&json!("response.created"), &json!("response.completed")));
    let text = last["response"]["output"].to_string();
    assert!(text.contains("You said: Mind the gap."), "{text}");
}

#[tokio::test]
async fn the_demo_over_http_refuses_frames() {
    let proxy = Launch::demo().setting("upstream.transport", "sse").start();
    let mut socket = Socket::open(&proxy).await;
    socket.create(&long()).await;
    let begun = socket.until("response.output_text.delta").await;
    socket.send(&json!({"type": "response.steer", "previous_response_id": id(&begun), "input": "Stop."})).await;
    let refused = socket.until("response.steer.failed").await.pop().unwrap();
    assert_eq!(refused["error"]["code"], "steering_not_supported");
    assert_eq!(socket.answer().await.last().unwrap()["type"], "response.completed");
}
