//! The Responses API as a client meets it: the real binary, over HTTP, against the demo.

#![expect(clippy::unwrap_used, reason = "the functions that tests share may panic as tests do")]

#[path = "support/proxy.rs"]
#[expect(dead_code, reason = "shared with tests that need more of it")]
mod proxy;

use std::time::Duration;

use codex_proxy::net::{Endpoint, HttpClient, Settings, Trust};
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
        let http = HttpClient::new(settings).to(&endpoint).await.unwrap().clone();
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
async fn an_answer_comes_whole_and_as_a_stream() {
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
async fn a_tool_is_called_and_its_output_used() {
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
async fn every_spelling_of_the_path_leads_here() {
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
async fn a_websocket_is_refused_at_once() {
    let bench = Bench::start().await;
    let upgrade = [("connection", "Upgrade"), ("upgrade", "websocket")];
    assert_eq!(bench.send(Method::GET, "/v1/responses", &upgrade, None).await.status, 426);
    assert_eq!(bench.send(Method::GET, "/v1/responses", &[], None).await.status, 405);
}

#[tokio::test]
async fn a_refusal_names_its_field() {
    let bench = Bench::start().await;
    let refused = bench.create(json!({"model": MODEL, "input": "x", "background": true})).await;
    assert_eq!(refused.error(), (400, json!("background"), json!("unsupported_value")));
    let unknown = bench.create(json!({"model": MODEL, "input": "x", "previous_response_id": "resp_x"})).await;
    assert_eq!(unknown.error(), (400, json!("previous_response_id"), json!("previous_response_not_found")));
}

#[tokio::test]
async fn a_codex_client_is_told_everything_as_it_is() {
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
    assert_eq!(other["response"]["model"], format!("openai/{MODEL}"), "any other client is told its own words");
}
