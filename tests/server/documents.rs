//! Non-streaming responses: nothing is sent before they are complete, so a failure in the middle is hidden by a
//! retry, and nothing of the failed attempt remains.

use serde_json::{Value, json};

use crate::fake::Script;
use crate::wire::{Answer, Ask};
use crate::{ADDED, BEGUN, Bench, CREATED, SECOND, WHOLE, begun, chat, with};

const LEAK: &str =
    r#"{"type":"response.output_text.delta","output_index":0,"content_index":0,"item_id":"msg_0","delta":"LEAK"}"#;
const THOUGHT: &str = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"reasoning","id":"rs_0","summary":[],"encrypted_content":"LEAK"}}"#;
const FAILED: &str = r#"{"type":"response.failed","response":{"id":"resp_0","status":"failed","error":{"code":"server_error","message":"You can retry your request."},"usage":{"input_tokens":40,"output_tokens":7,"total_tokens":47}}}"#;
const FILTERED: &str = r#"{"type":"response.failed","response":{"id":"resp_0","status":"failed","error":{"code":"content_policy_violation","message":"No."}}}"#;

/// A complete response, including the item events that the Responses API requires.
const SPOKEN: [&str; 5] = [CREATED, ADDED, WHOLE[2], SAID, WHOLE[3]];
const SAID: &str = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"message","id":"msg_1","role":"assistant","content":[{"type":"output_text","text":"Grüße 👋","annotations":[]}]}}"#;

fn created() -> String {
    CREATED.replace("resp_1", "resp_0")
}

/// A response that fails after some output.
fn failing() -> Script {
    begun(&[&created(), THOUGHT, ADDED, LEAK]).event(FAILED).end()
}

fn cut() -> Script {
    begun(&[&created(), ADDED, LEAK]).cut()
}

fn requests() -> [Ask; 7] {
    let messages = json!([{"role": "user", "content": "hi"}]);
    [
        Ask::chat(&chat()),
        Ask::chat(&with(chat(), "stream", json!(false))),
        Ask::post("/v1/completions", &json!({"model": "gpt-5.5", "prompt": "hi"})),
        Ask::post("/v1/responses", &json!({"model": "gpt-5.5", "input": "hi"})),
        Ask::post("/v1/messages", &json!({"model": "gpt-5.5", "messages": messages, "max_tokens": 100})),
        Ask::post("/api/chat", &json!({"model": "gpt-5.5", "messages": messages, "stream": false})),
        Ask::post("/api/generate", &json!({"model": "gpt-5.5", "prompt": "hi", "stream": false})),
    ]
}

async fn clean(ask: &Ask) -> Answer {
    let bench = Bench::new().await;
    bench.upstream.on("/responses", Script::events(&SPOKEN));
    bench.send(ask).await
}

impl Bench {
    async fn send(&self, ask: &Ask) -> Answer {
        ask.clone().send(&self.proxy).await
    }
}

#[tokio::test]
async fn a_failure_in_mid_response_is_hidden_by_a_retry() {
    let bench = Bench::new().await;
    for ask in requests() {
        bench.upstream.replace("/responses", failing());
        bench.upstream.on("/responses", cut());
        bench.upstream.on("/responses", Script::events(&SPOKEN));
        let before = bench.request_count();
        let answer = bench.send(&ask).await;
        assert_eq!((answer.status, bench.request_count() - before), (200, 3), "{}", answer.text());
        assert_eq!(answer.json(), clean(&ask).await.json());
        assert_eq!(answer.header("x-should-retry"), "");
    }
}

#[tokio::test]
async fn silence_in_mid_response_is_hidden_by_a_retry() {
    let bench = Bench::with(|launch| launch.setting("upstream.idle_timeout", "200ms")).await;
    bench.upstream.on("/responses", begun(&[&created(), ADDED, LEAK]).hang());
    bench.upstream.on("/responses", Script::events(&SPOKEN));
    let ask = Ask::chat(&chat());
    assert_eq!(bench.send(&ask).await.json(), clean(&ask).await.json());
    assert!(bench.upstream.hung_up(1, SECOND).await, "the silent attempt is dropped");
}

#[tokio::test]
async fn clients_are_asked_not_to_retry_after_the_last_attempt() {
    for (retries, attempts) in [("0", 1), ("1", 2), ("2", 3)] {
        let bench = Bench::with(|launch| launch.setting("upstream.max_retries", retries)).await;
        for ask in requests() {
            bench.upstream.replace("/responses", failing());
            let before = bench.request_count();
            let answer = bench.send(&ask).await;
            assert!(matches!(answer.status, 500 | 502), "{}", answer.text());
            assert_eq!((bench.request_count() - before, answer.header("x-should-retry")), (attempts, "false"));
            assert!(!answer.text().contains("LEAK"), "{}", answer.text());
        }
    }
}

#[tokio::test]
async fn a_long_retry_after_in_mid_response_is_passed_to_the_client() {
    let bench = Bench::new().await;
    let failed = r#"{"type":"response.failed","response":{"error":{"code":"rate_limit_exceeded","message":"Please try again in 21s."}}}"#;
    bench.upstream.on("/responses", begun(&BEGUN).event(failed).end());
    let answer = bench.send(&Ask::chat(&chat())).await;
    assert_eq!((answer.status, answer.header("retry-after"), answer.header("x-should-retry")), (429, "21", ""));
    assert_eq!(bench.request_count(), 1);
}

#[tokio::test]
async fn permanent_errors_are_returned_at_once() {
    let bench = Bench::new().await;
    let quota = r#"{"type":"response.failed","response":{"error":{"code":"usage_limit_reached","message":"No."}}}"#;
    let wrong = r#"{"type":"error","error":{"code":"context_length_exceeded","message":"Too long."}}"#;
    for (event, status) in [(FILTERED, 400), (quota, 429), (wrong, 400)] {
        bench.upstream.replace("/responses", begun(&BEGUN).event(event).end());
        let before = bench.request_count();
        let answer = bench.send(&Ask::chat(&chat())).await;
        assert_eq!((answer.status, answer.header("x-should-retry")), (status, "false"));
        assert_eq!(bench.request_count() - before, 1, "{event}");
    }
}

#[tokio::test]
async fn a_client_that_disconnects_ends_the_retries() {
    let bench = Bench::new().await;
    bench.upstream.on("/responses", failing());
    bench.upstream.on("/responses", begun(&BEGUN).hang());
    let sent = Ask::chat(&chat()).fire(&bench.proxy).await;
    bench.upstream.received("/responses", 2).await;
    drop(sent);
    assert!(bench.upstream.hung_up(1, 5 * SECOND).await);
    bench.proxy.says_times("client_left", 1, SECOND).await;
    assert_eq!(bench.request_count(), 2);
}

#[tokio::test]
async fn only_the_response_that_was_sent_is_stored() {
    let bench = Bench::new().await;
    bench.upstream.on("/responses", failing());
    bench.upstream.on("/responses", Script::events(&SPOKEN));
    let answer = bench.send(&Ask::post("/v1/responses", &json!({"model": "gpt-5.5", "input": "hi"}))).await;
    assert_eq!(answer.json()["id"], "resp_1");
    assert_eq!(bench.send(&Ask::get("/v1/responses/resp_0")).await.status, 404);
    let stored = bench.send(&Ask::get("/v1/responses/resp_1")).await;
    assert_eq!(stored.status, 200);
    assert!(!stored.text().contains("LEAK"), "{}", stored.text());
    let items = bench.send(&Ask::get("/v1/responses/resp_1/input_items")).await.json();
    assert_eq!(items["data"].as_array().unwrap().len(), 1, "the input is still there");
}

#[tokio::test]
async fn reasoning_of_a_failed_attempt_is_not_replayed() {
    let bench = Bench::with(|launch| launch.setting("chat.reasoning_replay", "true")).await;
    let call = r#"{"type":"response.output_item.done","output_index":1,"item":{"type":"function_call","id":"fc_1","call_id":"call_1","name":"look","arguments":"{}"}}"#;
    bench.upstream.on("/responses", failing());
    bench.upstream.on("/responses", begun(&[CREATED, call]).event(WHOLE[3]).end());
    let look = json!([{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]);
    let request = with(chat(), "tools", look);
    let message = bench.send(&Ask::chat(&request)).await.json()["choices"][0]["message"].clone();
    let result = json!({"role": "tool", "tool_call_id": "call_1", "content": "seen"});
    let messages = json!([request["messages"][0], message, result]);
    assert_eq!(bench.send(&Ask::chat(&with(request, "messages", messages))).await.status, 200);
    let sent = bench.upstream.requests("/responses").pop().unwrap().json();
    assert!(!sent.to_string().contains("LEAK"), "{sent}");
}

#[tokio::test]
async fn tokens_billed_for_a_failed_attempt_are_counted() {
    let bench = Bench::new().await;
    bench.upstream.on("/responses", failing());
    bench.upstream.on("/responses", Script::events(&SPOKEN));
    let answer = bench.send(&Ask::chat(&chat())).await.json();
    assert_eq!(answer["usage"]["total_tokens"], 5, "the client gets the response of its own attempt");
    let reported: Value = bench.send(&Ask::get("/usage?since=today")).await.json();
    let sum = &reported["totals"]["sum"];
    let counted = [&sum["requests"], &sum["input_tokens"], &sum["output_tokens"]];
    assert_eq!(counted, [&json!(1), &json!(43), &json!(9)]);
}
