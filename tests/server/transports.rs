//! A conversation with upstream responses over a WebSocket.

use serde_json::{Value, json};

use crate::fake::Script;
use crate::proxy::Launch;
use crate::wire::Ask;
use crate::{Bench, CREATED, SECOND, chat, with};

const SPOKEN: &str = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"message","id":"msg_1","role":"assistant","content":[{"type":"output_text","text":"Hello."}]}}"#;
const COMPLETED: &str = r#"{"type":"response.completed","response":{"id":"resp_1","created_at":1700000000,"model":"gpt-5.5","status":"completed","usage":null}}"#;

fn going_on(answer: &Value, said: &str) -> Value {
    let earlier = chat()["messages"][0].clone();
    let messages = json!([earlier, answer["choices"][0]["message"], {"role": "user", "content": said}]);
    with(chat(), "messages", messages)
}

#[tokio::test]
async fn a_second_turn_sends_only_what_is_new() {
    for (transport, connections) in [("websocket", 1), ("auto", 1), ("sse", 0)] {
        let bench = Bench::with(|launch| launch.setting("upstream.transport", transport)).await;
        bench.upstream.on("/responses", Script::events(&[CREATED, SPOKEN, COMPLETED]));
        let first = Ask::chat(&chat()).send(&bench.proxy).await;
        assert_eq!(first.json()["choices"][0]["message"]["content"], "Hello.", "{transport}");
        let second = Ask::chat(&going_on(&first.json(), "More.")).send(&bench.proxy).await;
        assert_eq!(second.status, 200, "{transport}");
        let sent = bench.upstream.requests("/responses").pop().unwrap();
        assert_eq!(sent.json()["input"].as_array().unwrap().len(), 3, "{transport}");
        assert_eq!(sent.wire_bytes < sent.body.len(), transport != "sse", "{transport}");
        assert_eq!(bench.upstream.handshakes().len(), connections, "{transport}");
    }
}

#[tokio::test]
async fn a_message_that_is_too_large_is_sent_once_and_reported() {
    let messages = json!([{"role": "user", "content": "hi"}]);
    let requests = [
        Ask::chat(&chat()),
        Ask::chat(&with(chat(), "stream", json!(true))),
        Ask::post("/v1/responses", &json!({"model": "gpt-5.5", "input": "hi"})),
        Ask::post("/v1/messages", &json!({"model": "gpt-5.5", "messages": messages, "max_tokens": 9})),
        Ask::post("/api/chat", &json!({"model": "gpt-5.5", "messages": messages})),
    ];
    let bench = Bench::with(|launch| launch.setting("upstream.transport", "websocket")).await;
    bench.upstream.on("/responses", Script::default().close(1009, "message too big"));
    for (number, ask) in requests.iter().enumerate() {
        let answer = ask.clone().send(&bench.proxy).await;
        assert_eq!((answer.status, answer.header("x-should-retry")), (413, "false"), "{}", answer.text());
        assert!(answer.text().contains("close code 1009: message too big"), "{}", answer.text());
        assert!(answer.text().contains("upstream.transport"), "{}", answer.text());
        assert_eq!(bench.request_count(), number + 1, "it is not sent again");
    }
    let answer = requests[0].clone().send(&bench.proxy).await;
    assert_eq!(answer.error()["code"], "request_too_large");
}

#[tokio::test]
async fn a_message_that_is_too_large_is_posted_if_allowed() {
    let bench = Bench::with(|launch| launch.setting("upstream.transport", "auto")).await;
    bench.upstream.on("/responses", Script::default().close(1009, "message too big"));
    bench.upstream.on("/responses", Script::events(&[CREATED, SPOKEN, COMPLETED]));
    assert_eq!(Ask::chat(&chat()).send(&bench.proxy).await.status, 200);
    assert_eq!((bench.upstream.handshakes().len(), bench.request_count()), (1, 2));
    assert!(!bench.proxy.log().contains("retrying the backend request"), "it doesn't count as an attempt");
}

#[tokio::test]
async fn a_close_frame_is_reported_with_its_code_and_reason() {
    let bench = Bench::with(|launch| launch.setting("upstream.transport", "websocket")).await;
    bench.upstream.on("/responses", Script::default().event(CREATED).close(1011, "internal\u{7} error"));
    let answer = Ask::chat(&chat()).send(&bench.proxy).await;
    assert_eq!((answer.status, bench.request_count()), (502, 3));
    assert!(answer.text().contains("(close code 1011: internal error)"), "{}", answer.text());
}

#[tokio::test]
async fn a_backend_without_websockets_is_an_error_or_falls_back() {
    for (transport, status) in [("websocket", 502), ("auto", 200)] {
        let bench = Bench::with(|launch| launch.setting("upstream.transport", transport)).await;
        bench.upstream.on("/responses", Script::answer(426, &[], ""));
        bench.upstream.on("/responses", Script::events(&[CREATED, SPOKEN, COMPLETED]));
        let answer = Ask::chat(&chat()).send(&bench.proxy).await;
        assert_eq!(answer.status, status, "{transport}: {}", answer.text());
        if status == 502 {
            assert_eq!(answer.error()["code"], "upstream_unexpected_answer");
            assert!(answer.error()["message"].as_str().unwrap().contains("upstream.transport"));
        }
    }
}

#[tokio::test]
async fn a_client_that_disconnects_closes_the_upstream_connection() {
    let bench = Bench::with(|launch| launch.setting("upstream.transport", "websocket")).await;
    bench.upstream.on("/responses", Script::stream(&[]).event(CREATED).event(SPOKEN).hang());
    let sent = Ask::chat(&with(chat(), "stream", json!(true))).fire(&bench.proxy).await;
    bench.upstream.received("/responses", 1).await;
    drop(sent);
    assert!(bench.upstream.hung_up(1, 5 * SECOND).await);
}

#[tokio::test]
async fn the_demo_continues_a_conversation_and_may_close_an_old_connection() {
    let proxy = Launch::demo().setting("upstream.transport", "websocket").setting("log.level", "debug").start();
    let first = Ask::chat(&chat()).send(&proxy).await;
    let second = Ask::chat(&going_on(&first.json(), "Tell me more.")).send(&proxy).await;
    let said = second.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    assert!(said.contains("You said: Tell me more."), "{said}");
    let answer = Ask::chat(&going_on(&first.json(), "demo:connection-limit")).send(&proxy).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-codex-plan-type"), "pro");
    proxy.says("an idle connection was stale", SECOND).await;
}
