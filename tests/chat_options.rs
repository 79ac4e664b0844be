//! Chat settings that involve more than translation: enforced token limits and replayed reasoning.

#![cfg(test)]

#[path = "support/upstream.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod fake;
#[path = "support/proxy.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod proxy;

use std::time::Duration;

use codex_proxy::endpoint::{Endpoint, Trust};
use codex_proxy::net::{HttpClient, Settings};
use fake::{FakeUpstream, Script};
use proxy::{Launch, TestProxy};
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);
const CREDENTIALS: &str = r#"{"version":1,"active":"acct-1","accounts":{
    "acct-1":{"access_token":"at_1","expires_at":"2999-01-01T00:00:00Z"}}}"#;
const CREATED: &str = r#"{"type":"response.created","response":{"id":"resp_1","created_at":7}}"#;
const COMPLETED: &str = r#"{"type":"response.completed","response":{"id":"resp_1","output":[]}}"#;

/// The proxy with a scripted backend.
struct Bench {
    fake: FakeUpstream,
    proxy: TestProxy,
    http: reqwest::Client,
}

impl Bench {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let fake = FakeUpstream::start().await;
        let launch = Launch::new().file("credentials.json", CREDENTIALS).setting("upstream.url", &fake.url());
        let launch = settings.iter().fold(launch, |launch, (name, value)| launch.setting(name, value));
        let proxy = launch.start();
        let endpoint = Endpoint::parse(&format!("http://{}/v1", proxy.authority()), Trust::KnownHosts).unwrap();
        let settings = Settings { connect_timeout: 5 * SECOND, ca_file: None, proxy: None };
        let http = HttpClient::new(settings).client_for(&endpoint).await.unwrap().clone();
        Self { fake, proxy, http }
    }

    async fn ask(&self, request: &Value) -> Answer {
        self.ask_with_key(request, "").await
    }

    async fn ask_with_key(&self, request: &Value, key: &str) -> Answer {
        self.send_with_key("/v1/chat/completions", request, key).await
    }

    async fn send(&self, path: &str, request: &Value) -> Answer {
        self.send_with_key(path, request, "").await
    }

    async fn send_with_key(&self, path: &str, request: &Value, key: &str) -> Answer {
        let url = format!("http://{}{path}", self.proxy.authority());
        let sent = self.http.post(url).bearer_auth(key).header("content-type", "application/json");
        let response = sent.body(request.to_string()).send().await.unwrap();
        let warnings = response.headers().get("x-proxy-warnings").map(|value| value.to_str().unwrap().to_owned());
        Answer { status: response.status().as_u16(), warnings, body: response.text().await.unwrap() }
    }

    /// The input of the last upstream request.
    fn last_input(&self) -> Vec<Value> {
        self.fake.requests("/responses").last().unwrap().json()["input"].as_array().unwrap().clone()
    }
}

struct Answer {
    status: u16,
    warnings: Option<String>,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

fn text(delta: &str) -> String {
    json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": delta}).to_string()
}

fn done(index: u64, item: &str) -> String {
    format!(r#"{{"type":"response.output_item.done","output_index":{index},"item":{item}}}"#)
}

fn call(index: u64, call_id: &str) -> String {
    done(index, &json!({"type": "function_call", "call_id": call_id, "name": "f", "arguments": "{}"}).to_string())
}

fn asking() -> Value {
    json!({"model": "gpt-5.4", "messages": [{"role": "user", "content": "x"}]})
}

/// The turn after the calls, with their outputs.
fn answering(text: Option<&str>, call_ids: &[&str]) -> Value {
    let call = |id: &&str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let calls: Vec<Value> = call_ids.iter().map(call).collect();
    let mut request = asking();
    let messages = request["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": text, "tool_calls": calls}));
    messages.extend(call_ids.iter().map(|id| json!({"role": "tool", "tool_call_id": id, "content": "y"})));
    request
}

fn kinds(input: &[Value]) -> Vec<String> {
    let name = |item: &Value| item.get("call_id").or(item.get("id")).or(item.get("role")).cloned().unwrap_or_default();
    input.iter().map(|item| format!("{} {}", item["type"].as_str().unwrap(), name(item).as_str().unwrap())).collect()
}

/// Reasoning in a spelling that any re-serialization would change.
fn thought(id: &str) -> String {
    format!(r#"{{"type":"reasoning","id":"{id}","summary":[ ],"odd":1.50,"encrypted_content":"gA\u0041A="}}"#)
}

fn answer_with_calls() -> Script {
    let message = r#"{"type":"message","content":[{"type":"output_text","text":"Let me see."}]}"#;
    Script::events(&[
        CREATED,
        &done(0, &thought("rs_1")),
        &done(1, message),
        &done(2, &thought("rs_2")),
        &call(3, "call_a"),
        &call(4, "call_b"),
        &done(5, &thought("rs_3")),
        COMPLETED,
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_limit_ends_the_response_and_the_upstream_request() {
    let bench = Bench::start(&[("chat.token_limit", "enforce")]).await;
    let endless = || Script::stream(&[]).event(CREATED).event(&text("one two")).event(&text(" three four")).hang();
    bench.fake.on("/responses", endless());
    let mut request = asking();
    request["max_tokens"] = json!(3);
    let answer = bench.ask(&request).await;
    assert_eq!((answer.status, &answer.warnings), (200, &None), "{}", answer.body);
    let document = answer.json();
    assert_eq!(document["choices"][0]["message"]["content"], "one two three");
    assert_eq!(document["choices"][0]["finish_reason"], "length");
    assert_eq!(document["usage"]["completion_tokens"], 3);
    assert!(bench.fake.hung_up(1, 5 * SECOND).await);

    request["stream"] = json!(true);
    let answer = bench.ask(&request).await;
    assert!(answer.body.contains(r#""content":" three""#) && answer.body.contains(r#""finish_reason":"length""#));
    assert!(answer.body.ends_with("data: [DONE]\n\n"), "{}", answer.body);
    assert!(bench.fake.hung_up(2, 5 * SECOND).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_applies_to_text_completions_and_the_responses_format() {
    let bench = Bench::start(&[("chat.token_limit", "enforce")]).await;
    let endless = || Script::stream(&[]).event(CREATED).event(&text("one two")).event(&text(" three four")).hang();
    bench.fake.on("/responses", endless());
    let completion = json!({"model": "gpt-5.5", "prompt": "hi", "max_tokens": 3});
    let answer = bench.send("/v1/completions", &completion).await;
    assert_eq!((answer.status, &answer.warnings), (200, &None), "{}", answer.body);
    let document = answer.json();
    assert_eq!(document["choices"][0]["text"], "one two three");
    assert_eq!(document["choices"][0]["finish_reason"], "length");
    assert_eq!(document["usage"]["completion_tokens"], 3);
    assert!(bench.fake.hung_up(1, 5 * SECOND).await);

    let items = json!({"model": "gpt-5.5", "input": [{"role": "user", "content": "hi"}], "max_output_tokens": 2});
    let answer = bench.ask(&items).await;
    assert_eq!((answer.status, &answer.warnings), (200, &None), "{}", answer.body);
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "one two");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_rejected_if_configured() {
    let bench = Bench::start(&[("chat.token_limit", "reject")]).await;
    let completion = json!({"model": "gpt-5.5", "prompt": "hi", "max_tokens": 3});
    let refused = bench.send("/v1/completions", &completion).await;
    assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!("max_tokens")));
    let mut request = asking();
    request["max_completion_tokens"] = json!(3);
    let answer = bench.ask(&request).await;
    let error = &answer.json()["error"];
    assert_eq!((answer.status, &error["param"]), (400, &json!("max_completion_tokens")));
    assert_eq!(error["code"], "unsupported_parameter");
    assert!(bench.fake.requests("/responses").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn reasoning_is_replayed_before_the_call_it_led_to() {
    let bench = Bench::start(&[("chat.reasoning_replay", "true")]).await;
    bench.fake.on("/responses", answer_with_calls());
    for mode in [false, true] {
        let mut request = asking();
        request["stream"] = json!(mode);
        assert_eq!(bench.ask(&request).await.status, 200);
        assert_eq!(bench.ask(&answering(Some("Let me see."), &["call_a", "call_b"])).await.status, 200);
        let expected = [
            "message user",
            "reasoning rs_1",
            "message assistant",
            "reasoning rs_2",
            "function_call call_a",
            "function_call call_b",
            "function_call_output call_a",
            "function_call_output call_b",
        ];
        assert_eq!(kinds(&bench.last_input()), expected);
        let body = String::from_utf8(bench.fake.requests("/responses").last().unwrap().body.clone()).unwrap();
        assert!(body.contains(&thought("rs_1")) && body.contains(&thought("rs_2")), "byte for byte: {body}");
    }
    // A client that drops the text of the turn still gets all reasoning, in order.
    bench.ask(&answering(None, &["call_a"])).await;
    assert_eq!(kinds(&bench.last_input())[1..4], ["reasoning rs_1", "reasoning rs_2", "function_call call_a"]);
    // Another model can't read it.
    let mut request = answering(None, &["call_a"]);
    request["model"] = json!("gpt-5.5");
    bench.ask(&request).await;
    assert_eq!(kinds(&bench.last_input())[1], "function_call call_a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_id_that_was_changed_for_the_backend_is_found() {
    let bench = Bench::start(&[("chat.reasoning_replay", "true")]).await;
    let long = format!("call_{}", "x".repeat(70));
    bench.fake.on("/responses", Script::events(&[CREATED, &done(0, &thought("rs_1")), &call(1, &long), COMPLETED]));
    bench.ask(&asking()).await;
    bench.ask(&answering(None, &[&long])).await;
    assert_eq!(kinds(&bench.last_input())[1], "reasoning rs_1");
}

#[tokio::test(flavor = "multi_thread")]
async fn reasoning_is_separate_for_each_client_key() {
    let keys = ("api_keys", "one,two");
    let bench = Bench::start(&[("chat.reasoning_replay", "true"), keys]).await;
    bench.fake.on("/responses", answer_with_calls());
    bench.ask_with_key(&asking(), "one").await;
    bench.ask_with_key(&answering(None, &["call_a"]), "two").await;
    assert_eq!(kinds(&bench.last_input())[1], "function_call call_a");
    bench.ask_with_key(&answering(None, &["call_a"]), "one").await;
    assert_eq!(kinds(&bench.last_input())[1], "reasoning rs_1");
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_reasoning_is_dropped_once_and_deleted() {
    let bench = Bench::start(&[("chat.reasoning_replay", "true")]).await;
    let refusal = Script::json(400, r#"{"error":{"code":"invalid_encrypted_content","message":"no"}}"#);
    bench.fake.on("/responses", answer_with_calls());
    bench.fake.on("/responses", refusal);
    bench.fake.on("/responses", Script::events(&[CREATED, &text("fine"), COMPLETED]));
    bench.ask(&asking()).await;
    let request = answering(None, &["call_a"]);
    let answer = bench.ask(&request).await;
    assert_eq!((answer.status, answer.warnings.as_deref()), (200, Some("repaired:dropped_reasoning")));
    assert_eq!(bench.fake.requests("/responses").len(), 3);
    let answer = bench.ask(&request).await;
    assert_eq!((answer.status, answer.warnings), (200, None));
    assert_eq!(bench.fake.requests("/responses").len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn reasoning_of_a_truncated_response_is_not_stored() {
    // With a retry, the client would not see the truncation.
    let bench = Bench::start(&[("chat.reasoning_replay", "true"), ("upstream.max_retries", "0")]).await;
    let cut = Script::stream(&[]).event(CREATED).event(&done(0, &thought("rs_1"))).event(&call(1, "call_a")).cut();
    bench.fake.on("/responses", cut);
    bench.fake.on("/responses", Script::events(&[CREATED, &text("fine"), COMPLETED]));
    assert_ne!(bench.ask(&asking()).await.status, 200);
    bench.ask(&answering(None, &["call_a"])).await;
    assert_eq!(kinds(&bench.last_input())[1], "function_call call_a");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_reasoning_is_stored_by_default() {
    let bench = Bench::start(&[]).await;
    bench.fake.on("/responses", answer_with_calls());
    bench.ask(&asking()).await;
    bench.ask(&answering(None, &["call_a"])).await;
    assert_eq!(kinds(&bench.last_input())[1], "function_call call_a");
}

#[test]
fn both_transports_pass_the_same_tests() {
    proxy::transport::repeat_over_websocket(&[]);
}
