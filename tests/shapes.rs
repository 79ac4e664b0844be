//! Endpoints besides chat, with the real binary and its demo: text completions, Responses bodies on the chat
//! path, unsupported endpoints, and all spellings of paths.

#![expect(clippy::unwrap_used, reason = "a test that can't continue has failed")]

#[path = "support/proxy.rs"]
#[expect(dead_code, reason = "these tests only need it started")]
mod proxy;

use std::time::Duration;

use codex_proxy::endpoint::{Endpoint, Trust};
use codex_proxy::net::{HttpClient, Settings};
use http::{HeaderMap, Method};
use proxy::{Launch, TestProxy};
use serde_json::{Value, json};

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
        serde_json::from_str(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// The data of each frame, without comments.
    fn frames(&self) -> Vec<&str> {
        self.body.split_terminator("\n\n").filter_map(|block| block.strip_prefix("data: ")).collect()
    }

    fn chunks(&self) -> Vec<Value> {
        self.frames()
            .into_iter()
            .filter(|data| *data != "[DONE]")
            .map(|data| serde_json::from_str(data).unwrap())
            .collect()
    }
}

impl Bench {
    async fn new(launch: Launch) -> Self {
        let proxy = launch.start();
        let settings = Settings { connect_timeout: Duration::from_secs(5), ca_file: None, proxy: None };
        let endpoint = Endpoint::parse(&format!("http://{}", proxy.authority()), Trust::KnownHosts).unwrap();
        let http = HttpClient::new(settings).client_for(&endpoint).await.unwrap().clone();
        Self { proxy, http }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.proxy.authority()))
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        let request = self.request(Method::POST, path).header("content-type", "application/json");
        answer(request.body(body.to_string())).await
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, body: response.text().await.unwrap() }
}

#[tokio::test]
async fn a_text_completion_is_available_as_stream_and_document() {
    let bench = Bench::new(Launch::demo()).await;
    let mut request = json!({"model": "gpt-5.5", "prompt": "Once upon a time", "max_tokens": 64});
    let document = bench.post("/v1/completions", &request).await;
    assert_eq!(document.status, 200, "{}", document.body);
    assert_eq!(document.header("x-proxy-warnings"), "ignored:max_tokens");
    let document = document.json();
    assert_eq!(document["object"], "text_completion");
    assert!(document["id"].as_str().unwrap().starts_with("cmpl-"));
    let choice = &document["choices"][0];
    assert!(!choice["text"].as_str().unwrap().is_empty());
    assert_eq!(
        (&choice["index"], &choice["logprobs"], &choice["finish_reason"]),
        (&json!(0), &Value::Null, &json!("stop"))
    );
    assert!(document["usage"]["total_tokens"].as_u64().unwrap() > 0);

    request["stream"] = json!(true);
    request["stream_options"] = json!({"include_usage": true});
    let stream = bench.post("/v1/completions", &request).await;
    assert_eq!(stream.header("content-type"), "text/event-stream; charset=utf-8");
    assert_eq!(stream.header("cache-control"), "no-cache");
    assert_eq!(stream.header("x-accel-buffering"), "no");
    assert!(!stream.header("x-request-id").is_empty());
    assert_eq!(stream.frames().last(), Some(&"[DONE]"));
    let chunks = stream.chunks();
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
    assert_eq!(json!(text), choice["text"], "the demo gives the same answer to the same prompt");
    assert!(chunks.last().unwrap()["usage"]["total_tokens"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn a_completion_fails_like_a_chat_completion() {
    let bench = Bench::new(Launch::demo()).await;
    let asking = |prompt: &str| json!({"model": "gpt-5.5", "prompt": prompt, "stream": true});
    let refused = bench.post("/v1/completions", &json!({"model": "gpt-5.5", "prompt": ["a", "b"]})).await;
    assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!("prompt")));
    assert!(!refused.headers.contains_key("x-should-retry"));
    let long = bench.post("/v1/completions", &asking("demo:context")).await;
    assert_eq!((long.status, &long.json()["error"]["param"]), (400, &json!("prompt")));
    for path in ["/v1/completions", "/v1/chat/completions"] {
        let mut request = asking("demo:usage-limit");
        request["messages"] = json!([{"role": "user", "content": "demo:usage-limit"}]);
        let spent = bench.post(path, &request).await;
        assert_eq!((spent.status, spent.header("x-should-retry")), (429, "false"), "{path}: {}", spent.body);
    }
    let broken = bench.post("/v1/completions", &asking("demo:error")).await;
    let frames = broken.frames();
    assert!(frames.last().unwrap().starts_with("{\"error\":"), "{}", broken.body);
    assert!(!frames.contains(&"[DONE]"));
}

#[tokio::test]
async fn a_responses_body_on_the_chat_path_is_answered_in_chat_format() {
    let bench = Bench::new(Launch::demo()).await;
    let mut request = json!({
        "model": "gpt-5.5", "instructions": "Be brief.", "reasoning": {"effort": "low"}, "text": {"verbosity": "low"},
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "What is the weather in Oslo?"}]}],
        "tools": [{"type": "function", "name": "get_weather", "parameters": {
            "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}],
        "tool_choice": {"type": "function", "name": "get_weather"}, "metadata": {"a": "b"},
    });
    let document = bench.post("/v1/chat/completions", &request).await;
    assert_eq!(document.status, 200, "{}", document.body);
    assert!(!document.headers.contains_key("x-proxy-warnings"));
    let choice = &document.json()["choices"][0];
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!((&choice["finish_reason"], &call["function"]["name"]), (&json!("tool_calls"), &json!("get_weather")));

    let input = request["input"].as_array_mut().unwrap();
    input.push(json!({"type": "function_call", "id": "fc_1", "call_id": call["id"], "name": "get_weather", "arguments": call["function"]["arguments"]}));
    input.push(json!({"type": "function_call_output", "call_id": call["id"], "output": "4 degrees"}));
    request["tool_choice"] = json!("auto");
    request["stream"] = json!(true);
    let stream = bench.post("/chat/completions", &request).await;
    assert_eq!(stream.status, 200, "{}", stream.body);
    assert!(stream.chunks().iter().all(|chunk| chunk["object"] == "chat.completion.chunk"));
    assert_eq!(stream.frames().last(), Some(&"[DONE]"));

    let refused = bench.post("/v1/chat/completions", &json!({"model": "gpt-5.5", "input": [{"role": "robot"}]})).await;
    assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!("input[0].role")));
}

const ABSENT: [(&str, &str); 6] = [
    ("embeddings", "local embedding model"),
    ("audio/speech", "speech program"),
    ("audio/translations", "/v1/audio/transcriptions"),
    ("images/variations", "/v1/images/edits"),
    ("images", "/v1/images/generations"),
    ("moderations", "another provider"),
];

#[tokio::test]
async fn unsupported_endpoints_are_reported_for_any_method_and_spelling() {
    let bench = Bench::new(Launch::demo()).await;
    for (name, advice) in ABSENT {
        for prefix in ["/v1", "", "/openai/v1", "/openai/deployments/gpt-5.5"] {
            let path = format!("{prefix}/{name}?api-version=2025-01-01");
            let posted = bench.post(&path, &json!({"model": "x", "input": "y"})).await;
            let error = &posted.json()["error"];
            assert_eq!((posted.status, posted.header("x-should-retry")), (501, "false"), "{path}");
            assert_eq!(error["type"], "invalid_request_error", "{path}");
            assert_eq!((&error["code"], &error["param"]), (&json!("unsupported_endpoint"), &Value::Null), "{path}");
            assert!(error["message"].as_str().unwrap().contains(advice), "{error}");
        }
        for method in [Method::GET, Method::DELETE, Method::PUT] {
            let path = format!("/v1/{name}");
            assert_eq!(answer(bench.request(method, &path)).await.status, 501, "{path}");
        }
    }
}

#[tokio::test]
async fn an_upload_to_an_unsupported_endpoint_gets_the_error() {
    let bench = Bench::new(Launch::demo()).await;
    let upload = |path: &str| {
        let form = bench.request(Method::POST, path).header("content-type", "multipart/form-data; boundary=b");
        answer(form.body("--b--\r\n"))
    };
    for path in ["/v1/audio/speech", "/audio/translations", "/v1/images", "/openai/v1/images/variations"] {
        assert_eq!(upload(path).await.status, 501, "{path}");
    }
    for path in ["/v1/chat/completions", "/v1/completions", "/v1/images/generations", "/v1/audiobooks"] {
        assert_eq!(upload(path).await.status, 415, "{path}");
    }
}

#[tokio::test]
async fn access_rules_apply_to_unsupported_endpoints() {
    let launch = Launch::demo().file("config.toml", "[[keys]]\nname = 'laptop'\nkey = 'sk-1'\n");
    let bench = Bench::new(launch).await;
    for path in ["/v1/embeddings", "/v1/completions"] {
        let without_key = bench.post(path, &json!({})).await;
        assert_eq!(
            (without_key.status, &without_key.json()["error"]["code"]),
            (401, &json!("invalid_api_key")),
            "{path}"
        );
        let from_a_page =
            bench.request(Method::POST, path).header("api-key", "sk-1").header("origin", "https://a.invalid");
        assert_eq!(answer(from_a_page).await.status, 403, "{path}");
        let form = bench.request(Method::POST, path).header("api-key", "sk-1").header("content-type", "text/plain");
        assert_eq!(answer(form.body("{}")).await.status, 415, "{path}");
    }
}

#[tokio::test]
async fn every_spelling_of_a_completion_is_served() {
    let bench = Bench::new(Launch::demo()).await;
    let request = json!({"model": "gpt-5.5", "prompt": "Hi"});
    for path in ["/completions", "/openai/completions", "/openai/v1/completions", "//v1//completions/"] {
        assert_eq!(bench.post(path, &request).await.status, 200, "{path}");
    }
    let path = "/openai/deployments/gpt-5.5-low/completions?api-version=2024-06-01";
    let named_by_path = bench.post(path, &json!({"prompt": "Hi"})).await;
    assert_eq!(named_by_path.json()["model"], "gpt-5.5-low", "{}", named_by_path.body);
    let wrong_method = answer(bench.request(Method::GET, "/v1/completions")).await;
    assert_eq!((wrong_method.status, wrong_method.header("allow")), (405, "POST"));
}

#[tokio::test]
async fn a_silent_stream_is_kept_alive_by_comments() {
    let bench = Bench::new(Launch::demo().file("config.toml", "[timing]\nkeepalive = '20ms'\n")).await;
    for (path, prompt) in [
        ("/v1/chat/completions", json!({"messages": [{"role": "user", "content": "demo:slow"}]})),
        ("/v1/completions", json!({"prompt": "demo:slow"})),
    ] {
        let mut request = prompt;
        request["model"] = json!("gpt-5.5");
        request["stream"] = json!(true);
        let body = request.to_string();
        let request = bench.request(Method::POST, path).header("content-type", "application/json");
        let mut response = request.body(body).send().await.unwrap();
        let mut reported = String::new();
        while !reported.contains("data: ") || !reported.contains("\n\n: keepalive\n\n") {
            let piece = response.chunk().await.unwrap().unwrap_or_else(|| panic!("{path} ended: {reported}"));
            reported.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }
}

#[tokio::test]
async fn messages_errors_have_their_own_format() {
    let bench = Bench::new(Launch::demo()).await;
    let body = |stream: bool| json!({"model": "claude-sonnet-4", "max_tokens": 50, "stream": stream, "messages": [{"role": "user", "content": "hi"}]});
    let whole = bench.post("/v1/messages?beta=true", &body(false)).await;
    assert_eq!((whole.status, whole.json()["stop_reason"].as_str()), (200, Some("end_turn")));
    assert!(whole.header("request-id").starts_with("req_"));
    let text = whole.json()["content"][0]["text"].clone();

    let stream = bench.post("/v1/messages", &body(true)).await;
    assert_eq!((stream.status, stream.header("content-type")), (200, "text/event-stream; charset=utf-8"));
    let data = stream.body.lines().filter_map(|line| line.strip_prefix("data: "));
    let events: Vec<Value> = data.map(|data| serde_json::from_str(data).unwrap()).collect();
    let reported: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!(json!(reported), text);
    assert_eq!(events.last().unwrap()["type"], "message_stop");

    let wrong = bench.post("/v1/messages", &json!({"model": "m", "max_tokens": 1})).await;
    assert_eq!((wrong.status, &wrong.json()["type"]), (400, &json!("error")));
    assert_eq!(wrong.json()["error"]["type"], "invalid_request_error");
}

#[test]
fn both_transports_pass_the_same_tests() {
    proxy::transport::repeat_over_websocket(&[]);
}
