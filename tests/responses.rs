//! The Responses API over HTTP: the real binary with the demo backend.

#![expect(clippy::unwrap_used, reason = "shared test functions may panic like tests")]

#[path = "support/proxy.rs"]
#[expect(dead_code, reason = "shared with tests that need more of it")]
mod proxy;

use std::time::Duration;

use codex_proxy::endpoint::{Endpoint, Trust};
use codex_proxy::net::{HttpClient, Settings};
use http::{HeaderMap, Method};
use proxy::{Launch, TestProxy};
use serde_json::{Value, json};

const MODEL: &str = "gpt-5.5";

/// A daemon, and a client for it.
struct Bench {
    proxy: TestProxy,
    http: reqwest::Client,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }

    fn events(&self) -> Vec<Value> {
        let data = self.body.lines().filter_map(|line| line.strip_prefix("data: "));
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    fn error(&self) -> (u16, Value, Value) {
        let error = self.json()["error"].take();
        (self.status, error["param"].clone(), error["code"].clone())
    }
}

impl Bench {
    async fn start() -> Self {
        Self::with(Launch::demo()).await
    }

    async fn with(launch: Launch) -> Self {
        let proxy = launch.start();
        let settings = Settings { connect_timeout: Duration::from_secs(5), ca_file: None, proxy: None };
        let endpoint = Endpoint::parse(&format!("http://{}", proxy.authority()), Trust::KnownHosts).unwrap();
        let http = HttpClient::new(settings).client_for(&endpoint).await.unwrap().clone();
        Self { proxy, http }
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Answer {
        let mut request = self.http.request(method, format!("http://{}{path}", self.proxy.authority()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, body: response.text().await.unwrap() }
    }

    async fn create(&self, request: Value) -> Answer {
        self.send(Method::POST, "/v1/responses", &[], Some(&request)).await
    }
}

fn text(response: &Value) -> String {
    let messages = response["output"].as_array().unwrap().iter().filter(|item| item["type"] == "message");
    messages.map(|message| message["content"][0]["text"].as_str().unwrap()).collect()
}

fn weather() -> Value {
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    json!([{"type": "function", "name": "get_weather", "description": "The weather in a city.", "parameters": parameters}])
}

#[tokio::test]
async fn a_response_is_available_as_document_and_stream() {
    let bench = Bench::start().await;
    let request = json!({"model": MODEL, "input": "Hello", "metadata": {"k": "v"}, "temperature": 0.2});
    let whole = bench.create(request.clone()).await;
    assert_eq!((whole.status, &whole.headers["x-proxy-warnings"]), (200, &"ignored:temperature".parse().unwrap()));
    let whole = whole.json();
    assert_eq!((&whole["status"], &whole["metadata"]), (&json!("completed"), &json!({"k": "v"})));
    let mut request = request;
    request["stream"] = json!(true);
    let stream = bench.create(request).await;
    assert!(!stream.body.contains("[DONE]"));
    let events = stream.events();
    assert_eq!(events[0]["type"], "response.created");
    let last = events.last().unwrap();
    assert_eq!((last["type"].as_str(), text(&last["response"])), (Some("response.completed"), text(&whole)));
    let deltas = events.iter().filter(|event| event["type"] == "response.output_text.delta");
    assert_eq!(deltas.map(|event| event["delta"].as_str().unwrap()).collect::<String>(), text(&whole));
    assert!(events.iter().enumerate().all(|(number, event)| event["sequence_number"] == json!(number)));
}

#[tokio::test]
async fn a_tool_is_called_and_its_output_is_used() {
    let bench = Bench::start().await;
    let question = json!({"role": "user", "content": "Use the tool: what is the weather in Oslo?"});
    let called = bench.create(json!({"model": MODEL, "input": [question], "tools": weather()})).await.json();
    let output = called["output"].as_array().unwrap();
    let call = output.iter().find(|item| item["type"] == "function_call").unwrap();
    let mut input = vec![question];
    input.extend(output.iter().cloned());
    input.push(json!({"type": "function_call_output", "call_id": call["call_id"], "output": "12 degrees"}));
    let answer = bench.create(json!({"model": MODEL, "input": input, "tools": weather()})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(text(&answer.json()).contains("12 degrees"), "{}", answer.body);
    assert!(!answer.headers.contains_key("x-proxy-warnings"), "{:?}", answer.headers);
}

#[tokio::test]
async fn every_spelling_of_the_path_is_served() {
    let bench = Bench::start().await;
    let request = json!({"model": MODEL, "input": "Hello"});
    for path in ["/responses", "/openai/v1/responses", "/backend-api/codex/responses"] {
        assert_eq!(bench.send(Method::POST, path, &[], Some(&request)).await.json()["object"], "response", "{path}");
    }
    let deployed = json!({"input": "Hello"});
    let path = format!("/openai/deployments/{MODEL}/responses?api-version=1");
    assert_eq!(bench.send(Method::POST, &path, &[], Some(&deployed)).await.json()["model"], MODEL);
}

#[tokio::test]
async fn the_rules_of_every_api_apply() {
    let bench = Bench::start().await;
    let deep = (0..300).fold(json!(1), |inner, _| json!([inner]));
    let nested = json!({"model": MODEL, "input": "Hello", "unknown": deep});
    for path in ["/v1/responses", "/v1/responses/input_tokens"] {
        let refused = bench.send(Method::POST, path, &[], Some(&nested)).await;
        assert!(refused.status == 400 && refused.body.contains("nests deeper"), "{path}: {}", refused.body);
    }
    let request = json!({"model": MODEL, "input": "Hello"});
    let account = [("x-proxy-account", "acct-nobody")];
    let refused = bench.send(Method::POST, "/v1/responses", &account, Some(&request)).await;
    assert_eq!(refused.error(), (400, json!("x-proxy-account"), json!("unknown_account")));
    let absent = bench.send(Method::POST, "/v1/embeddings", &[], Some(&request)).await;
    assert_eq!(absent.status, 501);
}

#[tokio::test]
async fn an_invalid_websocket_handshake_is_rejected_at_once() {
    let bench = Bench::start().await;
    let upgrade = [("connection", "Upgrade"), ("upgrade", "websocket")];
    assert_eq!(bench.send(Method::GET, "/v1/responses", &upgrade, None).await.status, 426);
    assert_eq!(bench.send(Method::GET, "/v1/responses", &[], None).await.status, 426);
    assert_eq!(bench.send(Method::PUT, "/v1/responses", &[], None).await.status, 405);
}

#[tokio::test]
async fn an_unknown_response_id_is_not_found() {
    let bench = Bench::start().await;
    for path in ["/v1/responses/resp_1", "/v1/conversations/conv_1", "/v1/responses/conv_1"] {
        let answer = bench.send(Method::GET, path, &[], None).await;
        assert_eq!(answer.error(), (404, Value::Null, Value::Null), "{path}");
    }
}

#[tokio::test]
async fn an_error_names_its_param() {
    let bench = Bench::start().await;
    let refused = bench.create(json!({"model": MODEL, "input": "x", "background": true, "store": false})).await;
    assert_eq!(refused.error(), (400, json!("store"), json!("invalid_value")));
    let unknown = bench.create(json!({"model": MODEL, "input": "x", "previous_response_id": "resp_x"})).await;
    assert_eq!(unknown.error(), (400, json!("previous_response_id"), json!("previous_response_not_found")));
}

#[tokio::test]
async fn a_codex_client_gets_the_stream_unchanged() {
    let bench = Bench::start().await;
    let request = json!({
        "model": format!("openai/{MODEL}"), "stream": true, "store": false,
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}],
    });
    let cli = [("originator", "codex_exec"), ("session-id", "s-1")];
    let answer = bench.send(Method::POST, "/v1/responses", &cli, Some(&request)).await;
    let last = answer.events().pop().unwrap();
    assert_eq!((&last["type"], &last["response"]["model"]), (&json!("response.completed"), &json!(MODEL)));
    let other = bench.create(request).await.events().pop().unwrap();
    assert_eq!(other["response"]["model"], format!("openai/{MODEL}"), "any other client gets its own error");
}

#[tokio::test]
async fn a_conversation_continues_by_id() {
    let bench = Bench::start().await;
    let question = "Use the tool: what is the weather in Oslo?";
    let called = bench.create(json!({"model": MODEL, "input": question, "tools": weather()})).await.json();
    let output = called["output"].as_array().unwrap();
    let call = output.iter().find(|item| item["type"] == "function_call").unwrap();
    let result = json!({"type": "function_call_output", "call_id": call["call_id"], "output": "12 degrees"});
    let answer = bench
        .create(json!({"model": MODEL, "input": [result], "previous_response_id": called["id"], "tools": weather(), "stream": true}))
        .await
        .events()
        .pop()
        .unwrap();
    assert_eq!(answer["response"]["previous_response_id"], called["id"]);
    assert!(text(&answer["response"]).contains("12 degrees"), "{answer}");
    let mut input = vec![json!({"role": "user", "content": question})];
    input.extend(output.iter().map(|item| json!({"type": "item_reference", "id": item["id"]})));
    input.push(result);
    let referred = bench.create(json!({"model": MODEL, "input": input, "tools": weather()})).await;
    assert!(text(&referred.json()).contains("12 degrees"), "{}", referred.body);
}

#[tokio::test]
async fn a_stored_response_can_be_retrieved_and_deleted() {
    let bench = Bench::start().await;
    let items = json!([{"role": "user", "content": "One"}, {"role": "user", "content": "Two"}, {"role": "user", "content": "Three"}]);
    let created = bench.create(json!({"model": MODEL, "input": items})).await.json();
    let path = format!("/v1/responses/{}", created["id"].as_str().unwrap());
    let get = async |path: String| bench.send(Method::GET, &path, &[], None).await;
    assert_eq!(get(path.clone()).await.json(), created);
    assert_eq!(get(format!("{path}?stream=true")).await.status, 400);

    let page = get(format!("{path}/input_items?limit=2")).await.json();
    assert_eq!((&page["object"], &page["has_more"]), (&json!("list"), &json!(true)));
    assert_eq!(page["data"][0]["content"][0]["text"], "Three", "the newest is first");
    let rest = get(format!("{path}/input_items?after={}", page["last_id"].as_str().unwrap())).await.json();
    assert_eq!((rest["data"].as_array().map(Vec::len), &rest["has_more"]), (Some(1), &json!(false)));
    assert_eq!(get(format!("{path}/input_items?order=asc")).await.json()["data"][0], rest["data"][0]);
    for fault in ["limit=0", "limit=101", "order=up", "after=nothing"] {
        assert_eq!(get(format!("{path}/input_items?{fault}")).await.status, 400, "{fault}");
    }

    let cancelled = bench.send(Method::POST, &format!("{path}/cancel"), &[], Some(&json!({}))).await;
    assert_eq!(
        (cancelled.status, cancelled.json()["error"]["message"].clone()),
        (400, json!("Cannot cancel a synchronous response."))
    );
    let deleted = bench.send(Method::DELETE, &path, &[], None).await;
    assert_eq!(deleted.json(), json!({"id": created["id"], "object": "response", "deleted": true}));
    for (method, path) in [
        (Method::GET, path.clone()),
        (Method::DELETE, path.clone()),
        (Method::GET, format!("{path}/input_items")),
        (Method::POST, format!("{path}/cancel")),
    ] {
        let body = (method == Method::POST).then(|| json!({}));
        let gone = bench.send(method.clone(), &path, &[], body.as_ref()).await;
        assert_eq!(gone.error(), (404, Value::Null, Value::Null), "{method} {path}");
    }
}

#[tokio::test]
async fn a_response_with_store_false_is_not_stored() {
    let bench = Bench::start().await;
    let created = bench.create(json!({"model": MODEL, "input": "Hello", "store": false})).await.json();
    let next = json!({"model": MODEL, "input": "And?", "previous_response_id": created["id"]});
    assert_eq!(bench.create(next).await.error().2, "previous_response_not_found");
    let off = Bench::with(Launch::demo().setting("responses.store", "off")).await;
    let created = off.create(json!({"model": MODEL, "input": "Hello"})).await.json();
    assert_eq!(
        off.send(Method::GET, &format!("/v1/responses/{}", created["id"].as_str().unwrap()), &[], None).await.status,
        404
    );
}

#[tokio::test]
async fn a_key_sees_only_its_own_responses() {
    let bench = Bench::with(Launch::demo().setting("api_keys", "one,two")).await;
    let (one, two) = ([("authorization", "Bearer one")], [("authorization", "Bearer two")]);
    let request = json!({"model": MODEL, "input": "Hello"});
    let created = bench.send(Method::POST, "/v1/responses", &one, Some(&request)).await.json();
    let path = format!("/v1/responses/{}", created["id"].as_str().unwrap());
    assert_eq!(bench.send(Method::GET, &path, &two, None).await.status, 404);
    assert_eq!(bench.send(Method::DELETE, &path, &two, None).await.status, 404);
    assert_eq!(bench.send(Method::GET, &path, &one, None).await.status, 200);
}

#[tokio::test]
async fn input_tokens_are_counted_without_the_backend() {
    let bench = Bench::start().await;
    let count = async |input: String| {
        let request = json!({"input": input});
        let counted = bench.send(Method::POST, "/v1/responses/input_tokens", &[], Some(&request)).await.json();
        assert_eq!(counted["object"], "response.input_tokens");
        counted["input_tokens"].as_u64().unwrap()
    };
    let nothing = count(String::new()).await;
    assert_eq!(count("hello world".to_owned()).await - nothing, 2);
    assert_eq!(count("hello world ".repeat(500)).await - nothing, 1001, "and not a token for four characters");
}

#[tokio::test]
async fn the_done_marker_is_sent_if_configured() {
    let bench = Bench::with(Launch::demo().setting("responses.done_marker", "true")).await;
    let answer = bench.create(json!({"model": MODEL, "input": "Hello", "stream": true})).await;
    assert!(answer.body.ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn a_conversation_is_compacted_and_continues() {
    let bench = Bench::start().await;
    let first = bench.create(json!({"model": MODEL, "input": "My name is Ann."})).await.json();
    let compact = json!({"model": MODEL, "previous_response_id": first["id"], "input": "And yours?"});
    let compacted = bench.send(Method::POST, "/v1/responses/compact", &[], Some(&compact)).await;
    assert_eq!(compacted.status, 200, "{}", compacted.body);
    let compacted = compacted.json();
    let kinds: Vec<_> = compacted["output"].as_array().unwrap().iter().map(|item| item["type"].clone()).collect();
    assert_eq!(kinds, ["message", "message", "compaction"], "the user's messages, and one item for the rest");
    assert!(compacted["usage"]["total_tokens"].as_u64().unwrap() > 0 && compacted["created_at"].is_u64());
    let mut input = compacted["output"].as_array().unwrap().clone();
    input.push(json!({"role": "user", "content": "Hello again"}));
    let next = bench.create(json!({"model": MODEL, "input": input})).await;
    assert_eq!(next.status, 200, "{}", next.body);
    assert!(text(&next.json()).contains("Hello again"));
    let refused = bench.send(Method::POST, "/v1/responses/compact", &[], Some(&json!({"model": MODEL}))).await;
    assert_eq!(refused.error(), (400, json!("input"), json!("missing_required_parameter")));
}

#[test]
fn both_transports_pass_the_same_tests() {
    proxy::transport::repeat_over_websocket(&[]);
}
