//! The simulated backend and sign-in service over loopback.

#![expect(clippy::unwrap_used, reason = "shared test functions may panic like tests")]

mod sign_in;

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use codex_proxy::clock::SystemClock;
use codex_proxy::demo::{Demo, DemoLogin, FAULT_WORDS};
use codex_proxy::endpoint::{Endpoint, Trust};
use codex_proxy::net::{HttpClient, Settings};
use serde_json::{Value, json};

struct Client {
    demo: Demo,
    login: DemoLogin,
    http: reqwest::Client,
}

struct Reply {
    status: u16,
    headers: http::HeaderMap,
    body: String,
    is_cut: bool,
}

impl Client {
    async fn start() -> Self {
        let demo = Demo::start(Arc::new(SystemClock)).await.unwrap();
        let settings = Settings { connect_timeout: Duration::from_secs(5), ca_file: None, proxy: None };
        let endpoint = Endpoint::parse(&demo.backend_url(), Trust::KnownHosts).unwrap();
        let http = HttpClient::new(settings).client_for(&endpoint).await.unwrap().clone();
        Self { login: demo.signed_in(), demo, http }
    }

    async fn get(&self, path: &str) -> Reply {
        let url = format!("{}{path}", self.demo.issuer_url());
        Reply::read(self.signed(self.http.get(url)).send().await.unwrap()).await
    }

    async fn post(&self, path: &str, kind: &str, body: String) -> Reply {
        let url = format!("{}{path}", self.demo.issuer_url());
        Reply::read(self.http.post(url).header("content-type", kind).body(body).send().await.unwrap()).await
    }

    async fn refresh(&self, token: &str) -> Reply {
        let body = json!({ "client_id": "app", "grant_type": "refresh_token", "refresh_token": token });
        self.post("/oauth/token", "application/json", body.to_string()).await
    }

    async fn open(&self, body: &Value) -> reqwest::Response {
        let url = format!("{}/responses", self.demo.backend_url());
        let request = self.http.post(url).header("content-type", "application/json").body(body.to_string());
        self.signed(request).send().await.unwrap()
    }

    async fn open_accepting(&self, encodings: &str, body: &Value) -> reqwest::Response {
        let url = format!("{}/responses", self.demo.backend_url());
        let request = self.http.post(url).header("accept-encoding", encodings).body(body.to_string());
        self.signed(request).send().await.unwrap()
    }

    async fn respond(&self, body: &Value) -> Reply {
        Reply::read(self.open(body).await).await
    }

    async fn say(&self, text: &str) -> Reply {
        self.respond(&request(text)).await
    }

    fn signed(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        request.bearer_auth(self.login.access_token.expose()).header("chatgpt-account-id", &self.login.account_id)
    }
}

impl Reply {
    async fn read(mut response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut bytes = Vec::new();
        let is_cut = loop {
            match response.chunk().await {
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        Self { status, headers, body: String::from_utf8(bytes).unwrap(), is_cut }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn events(&self) -> Vec<Value> {
        let data = self.body.lines().filter_map(|line| line.strip_prefix("data: "));
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    fn kinds(&self) -> Vec<String> {
        self.events().iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    }

    fn deltas(&self, kind: &str) -> String {
        let events = self.events();
        events.iter().filter(|event| event["type"] == kind).map(|event| event["delta"].as_str().unwrap()).collect()
    }

    fn last(&self) -> Value {
        self.events().pop().unwrap()
    }
}

fn request(text: &str) -> Value {
    json!({
        "model": "gpt-6.2-sol", "instructions": "Be brief.", "store": false, "stream": true,
        "input": [{ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": text }] }],
        "reasoning": { "summary": "auto" }, "include": ["reasoning.encrypted_content"],
    })
}

#[tokio::test]
async fn a_response_streams_in_the_real_order() {
    let client = Client::start().await;
    let reply = client.say("Hello").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.headers["content-type"], "text/event-stream");
    assert_eq!(reply.headers["x-codex-primary-used-percent"], "12");
    let mut kinds = reply.kinds();
    kinds.dedup();
    assert_eq!(
        kinds,
        [
            "codex.rate_limits",
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.reasoning_summary_part.added",
            "response.reasoning_summary_text.delta",
            "response.reasoning_summary_text.done",
            "response.reasoning_summary_part.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    assert!(reply.deltas("response.output_text.delta").ends_with("You said: Hello"));
    let response = &reply.last()["response"];
    assert_eq!(response["output"], json!([]));
    assert!(response["usage"]["output_tokens"].as_u64().unwrap() > 0);
    let numbers: Vec<u64> = reply.events().iter().filter_map(|event| event["sequence_number"].as_u64()).collect();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn each_event_of_a_compressed_response_is_flushed() {
    let client = Client::start().await;
    let mut decoder = zstd::stream::write::Decoder::new(Vec::new()).unwrap();
    let mut response = client.open_accepting("zstd,gzip", &request("Hello")).await;
    assert_eq!(response.headers()["content-encoding"], "zstd");
    let mut pieces = 0;
    while let Some(chunk) = response.chunk().await.unwrap() {
        decoder.write_all(&chunk).unwrap();
        decoder.flush().unwrap();
        assert!(decoder.get_ref().ends_with(b"\n\n"), "after {pieces} pieces");
        pieces += 1;
    }
    assert!(pieces > 10, "{pieces}");
    let reply = Reply { body: String::from_utf8(decoder.into_inner()).unwrap(), ..Reply::read(response).await };
    assert_eq!(reply.kinds(), client.say("Hello").await.kinds());
}

#[tokio::test]
async fn responses_have_an_encoding_that_the_request_accepts() {
    let client = Client::start().await;
    for (accepted, encoding) in [("gzip", Some("gzip")), ("gzip, zstd", Some("zstd")), ("br", None)] {
        let response = client.open_accepting(accepted, &request("Hello")).await;
        let used = response.headers().get("content-encoding").map(|value| value.to_str().unwrap());
        assert_eq!(used, encoding, "{accepted}");
    }
    let url = format!("{}/models?client_version=1", client.demo.backend_url());
    let response = client.signed(client.http.get(url).header("accept-encoding", "zstd")).send().await.unwrap();
    let catalog = zstd::decode_all(response.bytes().await.unwrap().as_ref()).unwrap();
    assert!(serde_json::from_slice::<Value>(&catalog).unwrap()["models"].is_array());
}

#[tokio::test]
async fn deltas_of_a_call_add_up_to_its_arguments() {
    let client = Client::start().await;
    let mut body = request("Weather in Oslo and Rome?");
    let schema = json!({ "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] });
    body["tools"] = json!([{ "type": "function", "name": "get_weather", "parameters": schema }]);
    let reply = client.respond(&body).await;
    assert_eq!(reply.deltas("response.function_call_arguments.delta"), r#"{"city":"Oslo"}{"city":"Rome"}"#);
    let events = reply.events();
    let items = events.iter().filter(|event| event["type"] == "response.output_item.done").map(|event| &event["item"]);
    let calls: Vec<&Value> = items.filter(|item| item["type"] == "function_call").collect();
    assert_eq!(calls[0]["arguments"], r#"{"city":"Oslo"}"#);
    assert_ne!(calls[0]["call_id"], calls[1]["call_id"]);
}

#[tokio::test]
async fn every_body_of_the_golden_cases_is_accepted() {
    let client = Client::start().await;
    let mut count = 0;
    for case in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases/chat")).unwrap() {
        let path = case.unwrap().path().join("upstream.json");
        let Ok(body) = std::fs::read_to_string(&path) else { continue };
        let response = client.open(&serde_json::from_str(&body).unwrap()).await;
        assert_eq!(response.status(), 200, "{}", path.display());
        count += 1;
    }
    assert!(count > 15, "only {count} cases");
}

#[tokio::test]
async fn each_fault_word_causes_its_fault() {
    let client = Client::start().await;
    let mut outcomes = HashMap::new();
    for (word, _) in FAULT_WORDS.iter().filter(|(word, _)| *word != "demo:slow") {
        let reply = client.say(&format!("Please {word} now")).await;
        let outcome = match reply.status {
            200 if reply.is_cut => "cut".to_owned(),
            200 => {
                let last = reply.last();
                let code = last["response"]["error"]["code"].as_str().unwrap_or_default();
                format!("{} {code}", last["type"].as_str().unwrap())
            }
            status => {
                let error = &reply.json()["error"];
                format!("{status} {}", error["code"].as_str().or(error["type"].as_str()).unwrap())
            }
        };
        outcomes.insert(*word, outcome);
    }
    let wanted = [
        ("demo:usage-limit", "429 usage_limit_reached"),
        ("demo:rate-limit", "429 rate_limit_exceeded"),
        ("demo:unavailable", "503 server_is_overloaded"),
        ("demo:not-in-plan", "403 not_in_plan"),
        ("demo:moderation", "400 moderation_blocked"),
        ("demo:overloaded", "response.failed server_is_overloaded"),
        ("demo:context", "response.failed context_length_exceeded"),
        ("demo:overflow", "response.completed "),
        ("demo:error", "response.failed server_error"),
        ("demo:cut", "cut"),
        ("demo:end", "response.output_text.delta "),
        ("demo:length", "response.incomplete "),
        ("demo:refuse", "response.completed "),
        ("demo:connection-limit", "response.completed "),
        ("demo:lite", "400 unsupported_value"),
    ];
    assert_eq!(outcomes, wanted.map(|(word, outcome)| (word, outcome.to_owned())).into());
}

#[tokio::test]
async fn a_script_runs_call_by_call_until_the_conversation_is_too_long() {
    let client = Client::start().await;
    let mut body = request("Please, with demo:overflow:\ndemo:call apply_patch *** Begin\n+new\ndemo:call run.exec {}");
    let exec = json!({ "type": "function", "name": "exec", "parameters": { "type": "object" } });
    body["tools"] =
        json!([{ "type": "custom", "name": "apply_patch" }, { "type": "namespace", "name": "run", "tools": [exec] }]);
    for (kind, name, member, payload) in
        [("custom_tool_call", "apply_patch", "input", "*** Begin\n+new"), ("function_call", "exec", "arguments", "{}")]
    {
        let reply = client.respond(&body).await;
        let done = reply.events().into_iter().filter(|event| event["type"] == "response.output_item.done");
        let call = done.map(|event| event["item"].clone()).find(|item| item["type"] == kind).unwrap();
        assert_eq!((call["name"].as_str(), call[member].as_str()), (Some(name), Some(payload)));
        let output = json!({ "type": format!("{kind}_output"), "call_id": call["call_id"], "output": "done" });
        body["input"].as_array_mut().unwrap().extend([call, output]);
    }
    assert_eq!(client.respond(&body).await.last()["response"]["error"]["code"], "context_length_exceeded");
    body["input"][0]["content"][0]["text"] = json!("demo:call apply_patch\ndemo:call run.exec\ndemo:call other {}");
    let reported = client.respond(&body).await.deltas("response.output_text.delta");
    assert!(reported.ends_with("The tool exec returned: done The tool other is not available."), "{reported}");
}

#[tokio::test]
async fn dropping_the_demo_closes_its_connections() {
    let client = Client::start().await;
    let mut response = client.open(&request("demo:slow")).await;
    assert!(response.chunk().await.unwrap().is_some());
    let url = client.demo.issuer_url();
    drop(client.demo);
    let rest = loop {
        match response.chunk().await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert!(rest.is_err(), "the response was truncated, and looks truncated");
    assert!(client.http.get(url).send().await.is_err());
}
