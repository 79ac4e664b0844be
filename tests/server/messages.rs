//! The Messages API over HTTP: the requests of its clients, and the parts of a response they rely on.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::cases::{Case, answered_cases_of};
use crate::fake::{Gate, Script};
use crate::wire::{Answer, Ask};
use crate::{ADDED, BEGUN, Bench, COMPLETED, CREATED, DELTA, SECOND, WHOLE, assert_warned, begun, with};

pub(crate) const PATH: &str = "/v1/messages?beta=true";

pub(crate) fn hello() -> Value {
    json!({"model": "claude-opus-4-8", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]})
}

fn streaming() -> Value {
    with(hello(), "stream", json!(true))
}

pub(crate) fn ask(request: &Value) -> Ask {
    Ask::post(PATH, request).header("anthropic-version", "2023-06-01")
}

/// The events of a stream; the `event` line of each must equal the type in its data.
fn events(answer: &Answer) -> Vec<Value> {
    let event = |block: &str| {
        let (name, data) = block.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["type"], name);
        data
    };
    answer.text().split_terminator("\n\n").map(event).collect()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

/// Type and message of an error, which must have a request id.
pub(crate) fn error(answer: &Answer) -> (String, String) {
    let body = answer.json();
    assert_eq!((body["type"].as_str(), &body["request_id"]), (Some("error"), &json!(answer.header("request-id"))));
    let member = |name: &str| body["error"][name].as_str().unwrap().to_owned();
    (member("type"), member("message"))
}

pub(crate) fn sent(bench: &Bench) -> Value {
    bench.upstream.requests("/responses").pop().unwrap().json()
}

/// Without estimates and pings.
fn comparable(case: &Case, mut event: Value) -> Value {
    let place = if event["type"] == "message_start" { "/message/usage" } else { "/usage" };
    let is_guess = event["type"] == "message_start" || case.has_guess();
    if let Some(usage) = event.pointer_mut(place).filter(|usage| is_guess && usage.is_object()) {
        usage["input_tokens"] = json!(0);
        usage["output_tokens"] = json!(0);
    }
    if event["request_id"].is_string() {
        event["request_id"] = json!("<REQUEST_ID>");
    }
    event
}

async fn assert_comes_back(bench: &Bench, case: &Case) {
    let headers = case.meta["headers"].as_object().into_iter().flatten();
    let asking = |mode: bool| {
        let ask = ask(&with(case.request.clone(), "stream", json!(mode)));
        headers.clone().fold(ask, |ask, (name, value)| ask.header(name, value.as_str().unwrap()))
    };
    let answer = asking(true).send(&bench.proxy).await;
    match &case.client_sse {
        Some(expected) => {
            let written = Answer { status: 200, headers: answer.headers.clone(), body: expected.clone().into_bytes() };
            let plain = |answer: &Answer| -> Vec<Value> {
                let spoken = events(answer).into_iter().filter(|event| event["type"] != "ping");
                spoken.map(|event| comparable(case, event)).collect()
            };
            assert_eq!(plain(&answer), plain(&written), "{}", case.name);
        }
        None => assert_eq!(Some(u64::from(answer.status)), case.meta["http_status"].as_u64(), "{}", case.name),
    }
    let whole = asking(false).send(&bench.proxy).await;
    assert_eq!(u64::from(whole.status), case.document_status(), "{}", case.name);
    assert_eq!(comparable(case, whole.json()), case.client_json, "{}", case.name);
    if whole.status == 200 {
        assert_warned(&case.name, &case.meta, &whole);
    }
}

#[tokio::test]
async fn every_case_is_returned_as_expected() {
    let models = |launch: crate::proxy::Launch| {
        launch.setting("default_model", "gpt-5.4").setting("routes", "claude-*haiku*=gpt-5.4-mini")
    };
    let usual = Bench::with(models).await;
    let enforcing = Bench::with(|launch| models(launch).setting("chat.token_limit", "enforce")).await;
    for case in answered_cases_of("messages", 25) {
        let bench = if case.meta["options"]["token_limit"] == "enforce" { &enforcing } else { &usual };
        let script = Script::stream(&[]).chunk(&case.upstream_sse).end();
        bench.upstream.replace("/responses", script);
        assert_comes_back(bench, &case).await;
        let model = if case.request["model"].as_str().unwrap().contains("haiku") { "gpt-5.4-mini" } else { "gpt-5.4" };
        assert_eq!(sent(bench)["model"], model, "{}", case.name);
    }
}

#[tokio::test]
async fn a_stream_opens_with_usage_and_a_ping_and_ends_without_a_marker() {
    let bench = Bench::answering(|launch| launch).await;
    let answer = ask(&streaming()).send(&bench.proxy).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/event-stream; charset=utf-8"));
    assert!(answer.header("request-id").starts_with("req_"));
    assert_eq!(answer.header("request-id"), answer.header("x-request-id"));
    let events = events(&answer);
    let expected = [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(kinds(&events), expected);
    let usage = &events[0]["message"]["usage"];
    assert!(usage["input_tokens"].is_u64() && usage["output_tokens"].is_u64(), "{usage}");
    assert_eq!(events[5]["usage"]["output_tokens"], 2);
}

#[tokio::test]
async fn silence_is_filled_with_pings() {
    let settings = [("timing.keepalive", "40ms"), ("timing.commit_after", "40ms")];
    let bench =
        Bench::with(|launch| settings.iter().fold(launch, |launch, (key, value)| launch.setting(key, value))).await;
    let gate = Gate::default();
    bench.upstream.on("/responses", begun(&[CREATED]).gate(&gate).event(ADDED).event(DELTA).event(COMPLETED).end());
    let mut open = ask(&streaming()).open(&bench.proxy).await;
    let ping = "event: ping\ndata: {\"type\":\"ping\"}\n\n";
    open.until(&format!("{ping}\r\n")).await;
    open.until(&format!("\r\n{ping}\r\n")).await;
    gate.open();
    let events = events(&open.rest().await);
    assert!(kinds(&events).iter().filter(|kind| **kind == "ping").count() >= 2);
    assert_eq!(events.last().unwrap()["type"], "message_stop");
}

#[tokio::test]
async fn a_failure_before_any_output_is_an_http_status() {
    let settings = [("upstream.max_retries", "0"), ("timing.quota_probe", "0s")];
    let bench =
        Bench::with(|launch| settings.iter().fold(launch, |launch, (key, value)| launch.setting(key, value))).await;
    let failed = |code: &str| {
        let event = json!({"type": "response.failed", "response": {"error": {"code": code, "message": "no luck"}}});
        begun(&[CREATED]).event(&event.to_string()).end()
    };
    let quota =
        r#"{"error":{"type":"usage_limit_reached","plan_type":"plus","resets_at":4102444800,"resets_in_seconds":90}}"#;
    for (script, status, kind, message) in [
        (failed("context_length_exceeded"), 400, "invalid_request_error", "prompt is too long: no luck"),
        (failed("server_is_overloaded"), 529, "overloaded_error", "no luck"),
        (Script::json(429, quota), 429, "rate_limit_error", "plan plus"),
        (failed("insufficient_quota"), 429, "rate_limit_error", "no luck"),
        (failed("usage_not_included"), 403, "permission_error", "no luck"),
        (Script::json(404, r#"{"detail":"Model not found x"}"#), 404, "not_found_error", "Model not found"),
        (Script::json(413, "{}"), 413, "request_too_large", ""),
        (Script::answer(500, &[], ""), 500, "api_error", ""),
        (Script::stream(&[]).cut(), 500, "api_error", "incomplete"),
    ] {
        bench.upstream.replace("/responses", script);
        for request in [streaming(), hello()] {
            let answer = ask(&request).send(&bench.proxy).await;
            let (reported, words) = error(&answer);
            assert_eq!((answer.status, reported.as_str()), (status, kind), "{words}");
            assert!(words.contains(message), "{words}");
            assert_eq!(answer.header("x-should-retry"), "false", "{kind}: our own tries are spent");
            if words.contains("plan plus") {
                assert_eq!(answer.header("retry-after"), "90");
                assert_eq!(answer.header("anthropic-ratelimit-unified-reset"), "4102444800");
            }
        }
    }
    let answer = ask(&with(hello(), "max_tokens", Value::Null)).send(&bench.proxy).await;
    assert_eq!((answer.status, error(&answer).1.as_str()), (400, "max_tokens: Field required"));
}

#[tokio::test]
async fn a_failure_after_output_is_an_event_and_no_end() {
    let bench = Bench::new().await;
    let failed = r#"{"type":"response.failed","response":{"error":{"code":"server_is_overloaded","message":"busy"}}}"#;
    for (script, kind) in [
        (begun(&BEGUN).event(failed).end(), "overloaded_error"),
        (begun(&BEGUN).cut(), "api_error"),
        (begun(&BEGUN).end(), "api_error"),
    ] {
        bench.upstream.replace("/responses", script);
        let answer = ask(&streaming()).send(&bench.proxy).await;
        let events = events(&answer);
        assert_eq!(answer.status, 200);
        assert_eq!(events.last().unwrap()["error"]["type"], kind, "{}", answer.text());
        assert!(!kinds(&events).contains(&"message_stop") && !kinds(&events).contains(&"message_delta"));
        assert_eq!(bench.upstream.requests("/responses").len(), bench.request_count());
    }
    assert_eq!(bench.request_count(), 3, "no request is repeated");
}

/// A second turn: our thinking, thinking of another service, a call and its result.
fn second_turn() -> Value {
    let thinking = |signature: &str| json!({"type": "thinking", "thinking": "t", "signature": signature});
    let call = json!({"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}});
    let result = json!({"type": "tool_result", "tool_use_id": "toolu_1", "content": "done"});
    let mut request = with(hello(), "thinking", json!({"type": "adaptive"}));
    request["messages"] = json!([
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [thinking("EqQBforeign"), thinking("cxr1.gAAAAold"), call]},
        {"role": "user", "content": [result]},
    ]);
    request
}

fn kinds_sent(request: &Value) -> Vec<String> {
    let items = request["input"].as_array().unwrap();
    items.iter().map(|item| item["type"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn reasoning_that_the_backend_rejects_is_omitted_once() {
    let bench = Bench::new().await;
    let unreadable =
        r#"{"error":{"code":"invalid_encrypted_content","message":"The encrypted content could not be verified."}}"#;
    bench.upstream.on("/responses", Script::json(400, unreadable));
    bench.upstream.on("/responses", Script::events(&WHOLE));
    let answer = ask(&second_turn()).send(&bench.proxy).await;
    assert_eq!((answer.status, answer.header("x-proxy-warnings")), (200, "repaired:dropped_reasoning"));
    let bodies: Vec<Value> = bench.upstream.requests("/responses").iter().map(crate::fake::Recorded::json).collect();
    assert_eq!(bodies.len(), 2);
    assert_eq!(kinds_sent(&bodies[0]), ["message", "reasoning", "function_call", "function_call_output"]);
    assert_eq!(bodies[0]["input"][1], json!({"type": "reasoning", "summary": [], "encrypted_content": "gAAAAold"}));
    assert_eq!(kinds_sent(&bodies[1]), ["message", "function_call", "function_call_output"]);
    assert_eq!(bodies[0]["prompt_cache_key"], bodies[1]["prompt_cache_key"]);

    bench.upstream.replace("/responses", Script::json(400, unreadable));
    let answer = ask(&second_turn()).send(&bench.proxy).await;
    assert_eq!((answer.status, error(&answer).0.as_str()), (500, "api_error"));
    assert_eq!(bench.request_count(), 4, "once more, and no more");
}

#[tokio::test]
async fn thinking_round_trips_in_its_signature() {
    let bench = Bench::new().await;
    let reasoning = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"reasoning","summary":[{"type":"summary_text","text":"Hm."}],"encrypted_content":"gAAAAthis"}}"#;
    let call = r#"{"type":"response.output_item.done","output_index":1,"item":{"type":"function_call","call_id":"call_1","name":"f","arguments":"{\"a\":1}"}}"#;
    bench.upstream.on("/responses", Script::events(&[CREATED, reasoning, call, COMPLETED]));
    let mut request = with(hello(), "thinking", json!({"type": "adaptive"}));
    request["tools"] = json!([{"name": "f", "input_schema": {"type": "object"}}]);
    let content = ask(&request).send(&bench.proxy).await.json()["content"].clone();
    assert_eq!(content[0], json!({"type": "thinking", "thinking": "Hm.", "signature": "cxr1.gAAAAthis"}));
    let messages = request["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": content}));
    messages
        .push(json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "x"}]}));
    bench.upstream.replace("/responses", Script::events(&WHOLE));
    assert_eq!(ask(&request).send(&bench.proxy).await.status, 200);
    let input = sent(&bench)["input"].clone();
    assert_eq!(input[1], json!({"type": "reasoning", "summary": [], "encrypted_content": "gAAAAthis"}));
    assert_eq!(input[2]["arguments"], r#"{"a":1}"#);
    assert!(!input.to_string().contains("Hm."), "recorded reasoning is not replayed");
}

#[tokio::test]
async fn each_conversation_and_agent_has_its_own_cache_key() {
    let bench = Bench::answering(|launch| launch).await;
    let (mut main, mut agent, mut bare) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for turn in [hello(), second_turn()] {
        let billing = format!("x-anthropic-billing-header: cc_version={};", turn["messages"].as_array().unwrap().len());
        let system = json!([{"type": "text", "text": billing}, {"type": "text", "text": "Be brief."}]);
        let turn = with(turn, "system", system);
        let session = ask(&turn).header("x-claude-code-session-id", "s-1");
        let of_agent = session.clone().header("x-claude-code-agent-id", "a-1");
        for (ask, keys) in [(session, &mut main), (of_agent, &mut agent), (ask(&turn), &mut bare)] {
            assert_eq!(ask.send(&bench.proxy).await.status, 200);
            let sent = bench.upstream.requests("/responses").pop().unwrap();
            let key = sent.json()["prompt_cache_key"].as_str().unwrap().to_owned();
            assert_eq!(sent.json()["instructions"], "Be brief.", "the line that changes is left out");
            assert_eq!(sent.header("session-id"), key);
            keys.insert(key);
        }
    }
    assert_eq!((main.len(), agent.len(), bare.len()), (1, 1, 1), "each stays the same for all turns");
    assert_eq!(main.union(&agent).chain(&bare).collect::<BTreeSet<_>>().len(), 3, "they differ");
}

#[tokio::test]
async fn a_client_that_disconnects_ends_the_upstream_request() {
    let bench = Bench::new().await;
    bench.upstream.on("/responses", begun(&BEGUN).hang());
    let mut open = ask(&streaming()).open(&bench.proxy).await;
    open.until("content_block_delta").await;
    drop(open);
    assert!(bench.upstream.hung_up(1, 5 * SECOND).await);
    let waiting = ask(&hello()).fire(&bench.proxy).await;
    bench.upstream.received("/responses", 2).await;
    drop(waiting);
    assert!(bench.upstream.hung_up(2, 5 * SECOND).await);
}
