//! Tools that the proxy runs: rounds, limits, failures, cancellation.

mod images;

use codex_proxy::error::{Fault, ProxyError};
use codex_proxy::protocol::codex::proxy_tools::OutputPlace;
use codex_proxy::protocol::codex::request::{Request, Tool, WireFormat};
use codex_proxy::upstream::{BackendResponse, ForwardedHeaders};
use futures_util::StreamExt as _;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::fake::{Gate, Script};
use crate::transport;
use crate::{Bench, COMPLETED, SECOND, drain, request};

const SEARCH: &str = "/alpha/search";
const FOUND: &str = r#"{"output":"Rust 1.99 is out: https://rust.example/1"}"#;

/// A request in the lite form that asks for web search.
fn searching() -> Request<'static> {
    let tool = to_raw_value(&json!({"type": "web_search"})).unwrap();
    let look = to_raw_value(&json!({"type": "function", "name": "look", "parameters": {}})).unwrap();
    let tools = vec![Tool::raw(std::borrow::Cow::Owned(look)), Tool::raw(std::borrow::Cow::Owned(tool))];
    Request { format: WireFormat::Lite, tools, ..request() }
}

fn created(round: usize) -> String {
    json!({"type": "response.created", "response": {"id": format!("resp_{round}")}}).to_string()
}

fn call(index: usize, call_id: &str, query: &str) -> String {
    let arguments = json!({"search_query": [{"q": query}]}).to_string();
    let item = json!({
        "type": "function_call", "id": format!("fc_{call_id}"), "call_id": call_id, "namespace": "web", "name": "run",
        "arguments": arguments,
    });
    json!({"type": "response.output_item.done", "output_index": index, "item": item}).to_string()
}

fn client_call(index: usize) -> String {
    let item = json!({
        "type": "function_call", "call_id": "call_client", "namespace": "functions", "name": "look", "arguments": "{}",
    });
    json!({"type": "response.output_item.done", "output_index": index, "item": item}).to_string()
}

fn message() -> String {
    let content = json!([{"type": "output_text", "text": "Done.", "annotations": []}]);
    let item = json!({"type": "message", "id": "msg_1", "role": "assistant", "content": content});
    json!({"type": "response.output_item.done", "output_index": 0, "item": item}).to_string()
}

fn round(number: usize, items: &[String]) -> Script {
    let first = created(number);
    let mut events = vec![first.as_str()];
    events.extend(items.iter().map(String::as_str));
    events.push(COMPLETED);
    Script::events(&events)
}

async fn open(bench: &Bench) -> Result<BackendResponse, ProxyError> {
    open_request(bench, searching()).await
}

async fn open_request(bench: &Bench, request: Request<'_>) -> Result<BackendResponse, ProxyError> {
    timeout(10 * SECOND, crate::open(&bench.upstream, request, &ForwardedHeaders::default())).await.expect("it ends")
}

async fn events(bench: &Bench) -> (Vec<Value>, Option<ProxyError>) {
    let (texts, error) = drain(open(bench).await.unwrap()).await;
    (texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect(), error)
}

fn inputs(bench: &Bench) -> Vec<Vec<Value>> {
    let sent = bench.fake.requests("/responses");
    sent.iter().map(|sent| sent.json()["input"].as_array().cloned().unwrap_or_default()).collect()
}

fn outputs(input: &[Value]) -> Vec<&str> {
    let outputs = input.iter().filter(|item| item["type"] == "function_call_output");
    outputs.map(|item| item["output"].as_str().unwrap()).collect()
}

fn items(events: &[Value]) -> Vec<(u64, &str, &str)> {
    let done = events.iter().filter(|event| event["type"] == "response.output_item.done");
    done.map(|event| {
        let item = &event["item"];
        (
            event["output_index"].as_u64().unwrap(),
            item["type"].as_str().unwrap(),
            item["status"].as_str().unwrap_or_default(),
        )
    })
    .collect()
}

#[tokio::test]
async fn searches_run_between_the_rounds_of_one_response() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", round(1, &[call(0, "call_1", "rust"), call(1, "call_2", "cargo")]));
    bench.fake.on("/responses", round(2, &[message()]));
    bench.fake.on(SEARCH, Script::json(200, FOUND));
    let (events, error) = events(&bench).await;
    assert!(error.is_none(), "{error:?}");
    let searches = [(0, "web_search_call", "completed"), (1, "web_search_call", "completed")];
    assert_eq!(items(&events), [&searches[..], &[(2, "message", "")]].concat());
    assert_eq!(events.iter().filter(|event| event["type"] == "response.completed").count(), 1);
    assert_eq!(events.last().unwrap()["response"]["id"], "resp_1");
    let sent = bench.fake.requests(SEARCH);
    let mut queries: Vec<_> = sent.iter().map(|sent| sent.json()["commands"]["search_query"][0]["q"].clone()).collect();
    queries.sort_by_key(Value::to_string);
    assert_eq!(queries, ["cargo", "rust"]);
    assert_eq!((&sent[0].json()["id"], &sent[0].json()["model"]), (&json!("key-1"), &json!("gpt-5.5")));
    assert_eq!(sent[0].header("content-type"), "application/json");
    assert_eq!(sent[0].header("authorization"), "Bearer at_0");
    if transport::chosen().is_some() {
        assert_eq!(bench.fake.handshakes().len(), 1, "the rounds share a connection");
    }
    let inputs = inputs(&bench);
    let kinds: Vec<_> =
        inputs.last().unwrap().iter().rev().take(4).map(|item| item["call_id"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["call_2", "call_1", "call_2", "call_1"]);
    assert_eq!(outputs(inputs.last().unwrap()).len(), 2);
}

#[tokio::test]
async fn the_output_of_a_failed_search_is_the_reason() {
    let bench = Bench::with(|settings| settings.max_retries = 0).await;
    bench.fake.on("/responses", round(1, &[call(0, "call_1", "rust")]));
    bench.fake.on("/responses", round(2, &[message()]));
    bench.fake.on(SEARCH, Script::json(500, r#"{"detail":"secret at_0"}"#));
    let (events, error) = events(&bench).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(items(&events)[0], (0, "web_search_call", "failed"));
    assert_eq!(outputs(&inputs(&bench)[1]), ["The call failed: the backend answered with status 500."]);
}

#[tokio::test]
async fn the_ninth_round_offers_no_tools_of_the_proxy() {
    let bench = Bench::new().await;
    for number in 1..=8 {
        bench.fake.on("/responses", round(number, &[call(0, &format!("call_{number}"), "rust")]));
    }
    bench.fake.on("/responses", round(9, &[message()]));
    bench.fake.on(SEARCH, Script::json(200, FOUND));
    let (events, error) = events(&bench).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(items(&events).last(), Some(&(8, "message", "")));
    let inputs = inputs(&bench);
    assert_eq!((inputs.len(), bench.fake.requests(SEARCH).len()), (9, 8));
    let offers = |input: &[Value]| {
        let tools = input[0]["tools"].as_array().unwrap();
        tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(offers(&inputs[7]), ["functions", "web"]);
    assert_eq!(offers(&inputs[8]), ["functions"]);
    assert!(outputs(&inputs[8])[7].contains("No further calls"), "{:?}", outputs(&inputs[8]));
    assert!(!outputs(&inputs[8])[6].contains("No further calls"));
}

#[tokio::test]
async fn a_model_that_never_stops_searching_gets_no_tenth_round() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", round(1, &[call(0, "call_1", "rust")]));
    bench.fake.on(SEARCH, Script::json(200, FOUND));
    let (events, error) = events(&bench).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!((bench.calls(), bench.fake.requests(SEARCH).len()), (9, 8));
    assert_eq!(items(&events).last(), Some(&(8, "web_search_call", "failed")));
    assert_eq!(events.last().unwrap()["type"], "response.completed");
}

#[tokio::test]
async fn calls_of_the_client_end_the_response_after_the_searches() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", round(1, &[call(0, "call_1", "rust"), client_call(1)]));
    bench.fake.on(SEARCH, Script::json(200, FOUND));
    let mut response = open(&bench).await.unwrap();
    let mut kinds = Vec::new();
    while let Some(event) = response.events.next().await {
        let event: Value = serde_json::from_slice(&event.unwrap()).unwrap();
        kinds.push(event["type"].as_str().unwrap().to_owned());
        assert_ne!(event["item"]["namespace"], "functions");
    }
    assert_eq!(kinds.last().unwrap(), "response.completed");
    assert_eq!(bench.calls(), 1);
    let hidden = response.events.take_hidden();
    assert_eq!(
        (hidden.len(), hidden[0].item_id.as_str(), hidden[0].place),
        (1, "ws_1", OutputPlace::BesideClientOutputs)
    );
}

#[tokio::test]
async fn a_dropped_response_cancels_its_searches() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", round(1, &[call(0, "call_1", "rust")]));
    bench.fake.on(SEARCH, Script::silence());
    let mut response = open(&bench).await.unwrap();
    let reading = async { while response.events.next().await.is_some() {} };
    tokio::select! {
        () = reading => panic!("the search never ends"),
        _ = bench.fake.received(SEARCH, 1) => {}
    }
    drop(response);
    assert!(bench.fake.hung_up(1, 5 * SECOND).await);
}

#[tokio::test]
async fn a_refused_token_is_replaced_in_searches_and_later_rounds() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", round(1, &[call(0, "call_1", "rust")]));
    bench.fake.on("/responses", round(2, &[message()]));
    bench.fake.on(SEARCH, Script::json(401, ""));
    bench.fake.on(SEARCH, Script::json(200, FOUND));
    let (events, error) = events(&bench).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(items(&events)[0], (0, "web_search_call", "completed"));
    let tokens: Vec<_> =
        bench.fake.requests(SEARCH).iter().map(|sent| sent.header("authorization").to_owned()).collect();
    assert_eq!(tokens, ["Bearer at_0", "Bearer at_1"]);
    assert_eq!(bench.fake.requests("/responses")[1].header("authorization"), "Bearer at_1");
}

#[tokio::test]
async fn all_searches_together_have_two_minutes() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", round(1, &[call(0, "call_1", "rust")]));
    bench.fake.on("/responses", round(2, &[message()]));
    bench.fake.on(SEARCH, Script::silence());
    let response = open(&bench).await.unwrap();
    // Without a time limit of the test, which the advanced clock would exceed.
    let reading = response.events.map(|event| serde_json::from_slice::<Value>(&event.unwrap()).unwrap()).collect();
    tokio::pin!(reading);
    tokio::select! {
        _ = &mut reading => panic!("the search never ends"),
        _ = bench.fake.received(SEARCH, 1) => {}
    }
    tokio::time::pause();
    tokio::time::advance(120 * SECOND).await;
    tokio::time::resume();
    let events: Vec<Value> = reading.await;
    assert_eq!(items(&events), [(0, "web_search_call", "failed"), (1, "message", "")]);
    let inputs = inputs(&bench);
    assert!(outputs(&inputs[1])[0].starts_with("The call failed: "), "{:?}", outputs(&inputs[1]));
    assert!(outputs(&inputs[1])[0].contains("No further calls"));
}

#[tokio::test]
async fn an_exhausted_quota_ends_the_response() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", round(1, &[call(0, "call_1", "rust")]));
    let spent = r#"{"error":{"type":"usage_limit_reached","message":"The usage limit has been reached","resets_in_seconds":60}}"#;
    bench.fake.on(SEARCH, Script::json(429, spent));
    let (_, error) = events(&bench).await;
    let Some(ProxyError::Upstream(failure)) = error else { panic!("{error:?}") };
    assert_eq!(failure.fault, Fault::UsageLimit);
}

#[tokio::test]
async fn a_later_round_is_retried_until_its_first_event() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", round(1, &[call(0, "call_1", "rust")]));
    bench.fake.on("/responses", Script::events(&[crate::OVERLOADED]));
    bench.fake.on("/responses", round(2, &[message()]));
    bench.fake.on(SEARCH, Script::json(200, FOUND));
    let (events, error) = events(&bench).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(items(&events).last(), Some(&(1, "message", "")));
    assert_eq!(bench.calls(), 3);
}

#[tokio::test]
async fn no_round_is_requested_after_the_quota_is_exhausted() {
    let bench = Bench::new().await;
    let gate = Gate::default();
    bench.fake.on("/responses", round(1, &[call(0, "call_1", "rust")]));
    bench.fake.on("/responses", crate::quota::spent("100"));
    // A search isn't a response: its success doesn't end the refusals.
    bench.fake.on(SEARCH, Script::default().gate(&gate).chained(Script::json(200, FOUND)));
    let response = open(&bench).await.unwrap();
    let other = async {
        bench.fake.received(SEARCH, 1).await;
        assert!(open(&bench).await.is_err());
        gate.open();
    };
    let ((_, error), ()) = tokio::join!(drain(response), other);
    let Some(ProxyError::Upstream(failure)) = error else { panic!("{error:?}") };
    assert_eq!((failure.fault, bench.calls()), (Fault::UsageLimit, 2));
}

#[tokio::test]
async fn a_round_runs_sixteen_calls_and_refuses_the_others() {
    let bench = Bench::new().await;
    let calls: Vec<_> = (0..18).map(|index| call(index, &format!("call_{index}"), "rust")).collect();
    bench.fake.on("/responses", round(1, &calls));
    bench.fake.on("/responses", round(2, &[message()]));
    bench.fake.on(SEARCH, Script::json(200, FOUND));
    let (events, error) = events(&bench).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(bench.fake.requests(SEARCH).len(), 16);
    let mut positions: Vec<_> = items(&events).iter().map(|(index, ..)| *index).collect();
    positions.sort_unstable();
    assert_eq!(positions, (0..19).collect::<Vec<_>>());
    let inputs = inputs(&bench);
    let refused = outputs(&inputs[1]).split_off(15);
    assert_eq!(refused[1..], ["The call failed: there are too many calls at a time."; 2]);
    assert!(refused[0].starts_with("Rust 1.99"), "{refused:?}");
}

#[tokio::test]
async fn a_call_of_an_unknown_function_in_the_namespace_fails() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", round(1, &[call(0, "call_1", "rust").replace(r#""name":"run""#, r#""name":"open""#)]));
    bench.fake.on("/responses", round(2, &[message()]));
    let (events, error) = events(&bench).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(items(&events), [(0, "web_search_call", "failed"), (1, "message", "")]);
    assert_eq!(outputs(&inputs(&bench)[1]), ["The call failed: web has only the function run."]);
    assert!(bench.fake.requests(SEARCH).is_empty());
}

#[tokio::test]
async fn reasoning_and_text_of_each_round_arrive_before_its_searches_end() {
    let bench = Bench::new().await;
    let gate = Gate::default();
    bench.fake.on("/responses", round(1, &[message(), call(1, "call_1", "rust")]));
    bench.fake.on("/responses", round(2, &[message()]));
    bench.fake.on(SEARCH, Script::default().gate(&gate));
    let mut response = open(&bench).await.unwrap();
    let mut kinds = Vec::new();
    while kinds.last().is_none_or(|kind| kind != "response.web_search_call.searching") {
        let event: Value = serde_json::from_slice(&response.events.next().await.unwrap().unwrap()).unwrap();
        kinds.push(event["type"].as_str().unwrap().to_owned());
    }
    assert!(kinds.contains(&"response.output_item.done".to_owned()), "{kinds:?}");
}

#[tokio::test]
async fn a_search_is_shown_before_the_others_of_its_round_end() {
    let bench = Bench::new().await;
    let gate = Gate::default();
    bench.fake.on("/responses", round(1, &[call(0, "call_1", "slow"), call(1, "call_2", "fast")]));
    bench.fake.on("/responses", round(2, &[message()]));
    bench.fake.on(SEARCH, Script::default().gate(&gate).chained(Script::json(200, FOUND)));
    bench.fake.on(SEARCH, Script::json(200, r#"{"output":"second"}"#));
    let mut response = open(&bench).await.unwrap();
    let mut shown = Vec::new();
    while let Some(event) = response.events.next().await {
        let event: Value = serde_json::from_slice(&event.unwrap()).unwrap();
        if event["type"] == "response.output_item.done" {
            shown.push(event["item"]["id"].as_str().unwrap().to_owned());
            gate.open();
        }
    }
    assert_eq!(shown.len(), 3, "{shown:?}");
    let inputs = inputs(&bench);
    let calls: Vec<_> = inputs[1].iter().filter(|item| item["type"] == "function_call_output").collect();
    assert_eq!([&calls[0]["call_id"], &calls[1]["call_id"]], ["call_1", "call_2"], "in the order of the calls");
    let first = calls.iter().find(|output| output["output"] == "second").unwrap()["call_id"].as_str().unwrap();
    assert_eq!(shown[0], first.replace("call_", "ws_"), "the fast one first");
}
