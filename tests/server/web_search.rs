//! Web search and image generation on models in the lite form: the proxy runs them, and every API shows one response.

mod failures;
mod history;

use serde_json::{Value, json};

use crate::fake::Script;
use crate::proxy::Launch;
use crate::websocket::Socket;
use crate::wire::{Answer, Ask};
use crate::{Bench, chat, with};

const SEARCH: &str = "/alpha/search";
const URL: &str = "https://rust.example/1";
const MODEL: &str = "gpt-6.2-sol";

/// A proxy in the lite form whose model searches once, and then answers.
async fn searching() -> Bench {
    let bench = lite().await;
    bench.upstream.on("/responses", round("resp_1", &[search_call()], 10));
    bench.upstream.on("/responses", round("resp_2", &[message()], 20));
    bench
}

async fn lite() -> Bench {
    lite_with(|launch| launch).await
}

async fn lite_with(settings: impl FnOnce(Launch) -> Launch) -> Bench {
    let bench = Bench::with(|launch: Launch| settings(launch.setting("upstream.body", "lite"))).await;
    bench.upstream.on(SEARCH, Script::json(200, &json!({"output": format!("Found {URL}")}).to_string()));
    bench
}

fn search_call() -> Value {
    let arguments = json!({"search_query": [{"q": "rust release"}]}).to_string();
    json!({
        "type": "function_call", "id": "fc_1", "call_id": "call_1", "namespace": "web", "name": "run",
        "arguments": arguments,
    })
}

fn second_search() -> Value {
    with(with(search_call(), "id", json!("fc_3")), "call_id", json!("call_3"))
}

fn client_call() -> Value {
    json!({
        "type": "function_call", "id": "fc_2", "call_id": "call_2", "namespace": "functions", "name": "look",
        "arguments": "{}",
    })
}

fn message() -> Value {
    let content = json!([{"type": "output_text", "text": format!("Rust 1.99 ({URL})."), "annotations": []}]);
    json!({"type": "message", "id": "msg_1", "role": "assistant", "content": content})
}

fn round(id: &str, items: &[Value], input_tokens: u64) -> Script {
    let mut events = vec![json!({"type": "response.created", "response": {"id": id, "created_at": 7}})];
    for (index, item) in items.iter().enumerate() {
        events.push(json!({"type": "response.output_item.done", "output_index": index, "item": item}));
    }
    let usage = json!({"input_tokens": input_tokens, "output_tokens": 5, "total_tokens": input_tokens + 5});
    events.push(json!({"type": "response.completed", "response": {"id": id, "output": [], "usage": usage}}));
    let events: Vec<String> = events.iter().map(Value::to_string).collect();
    Script::events(&events.iter().map(String::as_str).collect::<Vec<_>>())
}

fn look() -> Value {
    json!({"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}})
}

fn chat_request() -> Value {
    let request = with(with(chat(), "model", json!(MODEL)), "tools", json!([look()]));
    with(request, "web_search_options", json!({"search_context_size": "high"}))
}

fn responses_request() -> Value {
    let look = json!({"type": "function", "name": "look", "parameters": {"type": "object"}});
    json!({"model": MODEL, "input": "hi", "tools": [{"type": "web_search"}, look]})
}

fn messages_request() -> Value {
    let tools = json!([
        {"type": "web_search_20250305", "name": "web_search"},
        {"name": "look", "input_schema": {"type": "object"}},
    ]);
    json!({"model": MODEL, "max_tokens": 99, "messages": [{"role": "user", "content": "hi"}], "tools": tools})
}

fn ollama_request() -> Value {
    let tools = json!([{"type": "web_search"}, look()]);
    json!({"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "tools": tools, "stream": false})
}

async fn send(bench: &Bench, path: &str, request: &Value) -> Answer {
    let answer = Ask::post(path, request).send(&bench.proxy).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-proxy-warnings"), "", "{path}");
    answer
}

#[tokio::test]
async fn chat_clients_get_the_answer_with_citations() {
    let bench = searching().await;
    let answer = send(&bench, "/v1/chat/completions", &chat_request()).await.json();
    let message = &answer["choices"][0]["message"];
    assert_eq!((&answer["id"], &message["content"]), (&json!("chatcmpl-1"), &json!(format!("Rust 1.99 ({URL})."))));
    let citation = json!({"start_index": 11, "end_index": 33, "url": URL, "title": "rust.example"});
    assert_eq!(message["annotations"], json!([{"type": "url_citation", "url_citation": citation}]));
    assert_eq!(message["tool_calls"], Value::Null);
    assert_eq!((&answer["usage"]["prompt_tokens"], &answer["usage"]["completion_tokens"]), (&json!(30), &json!(10)));
    let search = bench.upstream.requests(SEARCH).remove(0);
    let session = bench.upstream.requests("/responses")[0].header("session-id").to_owned();
    assert_eq!(search.json()["id"], session);
    let expected = json!({"allowed_callers": ["direct"], "external_web_access": true, "search_context_size": "high"});
    assert_eq!(search.json()["settings"], expected);
}

#[tokio::test]
async fn a_chat_stream_has_one_id_and_one_end() {
    let bench = searching().await;
    let answer = send(&bench, "/v1/chat/completions", &with(chat_request(), "stream", json!(true))).await;
    let mut frames = answer.frames();
    assert_eq!(frames.pop(), Some(json!("[DONE]")));
    assert!(frames.iter().all(|frame| frame["id"] == "chatcmpl-1"), "{}", answer.text());
    assert_eq!(frames.iter().filter(|frame| frame["choices"][0]["finish_reason"] == "stop").count(), 1);
    assert!(answer.text().contains(r#""annotations""#), "{}", answer.text());
}

#[tokio::test]
async fn responses_clients_get_a_search_item() {
    let bench = searching().await;
    let answer = send(&bench, "/v1/responses", &responses_request()).await.json();
    let action = json!({"type": "search", "query": "rust release", "sources": [{"type": "url", "url": URL}]});
    let search = json!({"id": "ws_1", "type": "web_search_call", "status": "completed", "action": action});
    assert_eq!((&answer["id"], &answer["output"][0]), (&json!("resp_1"), &search));
    assert_eq!(answer["output"][1]["content"][0]["annotations"][0]["url"], URL);
    assert_eq!(answer["usage"]["total_tokens"], 40);
    let streaming = with(responses_request(), "stream", json!(true));
    let stream = send(&searching().await, "/v1/responses", &streaming).await;
    let data = stream.text().lines().filter_map(|line| line.strip_prefix("data: "));
    let events: Vec<Value> = data.map(|data| serde_json::from_str(data).unwrap()).collect();
    assert_eq!(events.iter().filter(|event| event["type"] == "response.created").count(), 1);
    let numbers: Vec<_> = events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn websocket_clients_get_the_same_events() {
    let bench = searching().await;
    let mut socket = Socket::open_as(&bench.proxy, &[]).await;
    socket.create(&responses_request()).await;
    let events = socket.answer().await;
    let done = events.iter().filter(|event| event["type"] == "response.output_item.done");
    let kinds: Vec<_> = done.map(|event| &event["item"]["type"]).collect();
    assert_eq!(kinds, ["web_search_call", "message"]);
    assert_eq!(events.last().unwrap()["response"]["usage"]["total_tokens"], 40);
}

#[tokio::test]
async fn a_message_between_searches_leaves_the_citations_to_the_answer() {
    let bench = lite().await;
    let between = with(message(), "content", json!([{"type": "output_text", "text": "I look on.", "annotations": []}]));
    bench.upstream.on("/responses", round("resp_1", &[search_call()], 10));
    bench.upstream.on("/responses", round("resp_2", &[between, second_search()], 10));
    bench.upstream.on("/responses", round("resp_3", &[message()], 20));
    let answer = send(&bench, "/v1/responses", &responses_request()).await.json();
    let annotations = |item: usize| &answer["output"][item]["content"][0]["annotations"];
    assert_eq!((annotations(1), &annotations(3)[0]["start_index"]), (&json!([]), &json!(11)), "{answer}");
}

#[tokio::test]
async fn messages_clients_get_a_server_tool_and_its_results() {
    let answer = send(&searching().await, "/v1/messages", &messages_request()).await.json();
    let blocks = &answer["content"];
    let kinds: Vec<_> = blocks.as_array().unwrap().iter().map(|block| &block["type"]).collect();
    assert_eq!(kinds, ["server_tool_use", "web_search_tool_result", "text"]);
    assert_eq!(blocks[0]["input"], json!({"query": "rust release"}));
    assert_eq!((&blocks[1]["content"][0]["url"], &blocks[2]["citations"][0]["url"]), (&json!(URL), &json!(URL)));
    assert_eq!(answer["usage"]["server_tool_use"]["web_search_requests"], 1);
    let streaming = with(messages_request(), "stream", json!(true));
    let stream = send(&searching().await, "/v1/messages", &streaming).await;
    for kind in kinds {
        assert_eq!(
            stream.text().matches(&format!(r#""content_block":{{"type":{kind}"#)).count(),
            1,
            "{}",
            stream.text()
        );
    }
}

#[tokio::test]
async fn a_forced_search_is_offered_and_the_rest_is_not() {
    let bench = searching().await;
    let request = with(messages_request(), "tool_choice", json!({"type": "tool", "name": "web_search"}));
    let answer = Ask::post("/v1/messages", &request).send(&bench.proxy).await;
    assert_eq!((answer.status, answer.header("x-proxy-warnings")), (200, "clamped:tool_choice"));
    let tools = bench.upstream.requests("/responses").remove(0).json()["input"][0]["tools"].clone();
    assert_eq!(tools.as_array().unwrap().iter().map(|tool| &tool["name"]).collect::<Vec<_>>(), ["web"]);
}

#[tokio::test]
async fn ollama_clients_ask_with_a_tool_of_type_web_search() {
    let bench = searching().await;
    let answer = send(&bench, "/api/chat", &ollama_request()).await.json();
    assert_eq!(answer["message"]["content"], format!("Rust 1.99 ({URL})."));
    assert_eq!((&answer["message"]["tool_calls"], &answer["prompt_eval_count"]), (&Value::Null, &json!(30)));
    assert_eq!(bench.upstream.requests(SEARCH).len(), 1);
}

#[tokio::test]
async fn a_client_with_a_namespace_web_of_its_own_keeps_it() {
    let bench = lite().await;
    bench.upstream.on("/responses", round("resp_1", &[search_call()], 10));
    let run = json!({"type": "function", "name": "run", "parameters": {"type": "object"}});
    let own = json!({"type": "namespace", "name": "web", "description": "mine", "tools": [run]});
    let request = json!({"model": MODEL, "input": "hi", "tools": [{"type": "web_search"}, own]});
    let answer = Ask::post("/v1/responses", &request).send(&bench.proxy).await;
    assert_eq!((answer.status, answer.header("x-proxy-warnings")), (200, "ignored:tools.web_search"));
    assert_eq!(answer.json()["output"][0], search_call());
    assert!(bench.upstream.requests(SEARCH).is_empty());
}

#[tokio::test]
async fn the_classic_form_leaves_web_search_to_the_backend() {
    let bench = Bench::new().await;
    bench.upstream.on("/responses", round("resp_1", &[message()], 10));
    send(&bench, "/v1/responses", &with(responses_request(), "model", json!("gpt-5.5"))).await;
    let sent = bench.upstream.requests("/responses").remove(0).json();
    assert_eq!(sent["tools"][0], json!({"type": "web_search"}));
}

#[tokio::test]
async fn images_are_generated_for_chat_and_responses_clients() {
    let call = json!({
        "type": "function_call", "id": "fc_1", "call_id": "call_1", "namespace": "image_gen", "name": "imagegen",
        "arguments": r#"{"prompt":"a fox"}"#,
    });
    let tools = json!([{"type": "image_generation", "size": "1024x1024"}]);
    let chat = with(with(chat(), "model", json!(MODEL)), "tools", tools.clone());
    let responses = json!({"model": MODEL, "input": "Draw a fox", "tools": tools});
    for (path, request) in [("/v1/chat/completions", chat), ("/v1/responses", responses)] {
        let bench = lite_with(|launch| launch.setting("images.model", "gpt-image-9")).await;
        bench.upstream.on("/responses", round("resp_1", std::slice::from_ref(&call), 10));
        bench.upstream.on("/responses", round("resp_2", &[message()], 20));
        let image = json!({"created": 1, "data": [{"b64_json": "iVBORw0KGgo="}], "output_format": "png"});
        bench.upstream.on("/images/generations", Script::json(200, &image.to_string()));
        let answer = send(&bench, path, &request).await;
        assert!(answer.text().contains("iVBORw0KGgo="), "{}", answer.text());
        let sent = bench.upstream.requests("/images/generations").remove(0).json();
        assert_eq!(
            [&sent["prompt"], &sent["size"], &sent["quality"], &sent["model"]],
            ["a fox", "1024x1024", "auto", "gpt-image-9"]
        );
        let second = String::from_utf8(bench.upstream.requests("/responses").remove(1).body).unwrap();
        assert!(!second.contains("iVBORw0KGgo="), "the model gets no image");
    }
}

#[tokio::test]
async fn members_of_a_hosted_tool_without_an_equivalent_are_named() {
    let bench = lite().await;
    bench.upstream.on("/responses", round("resp_1", &[message()], 10));
    let tools = json!([{"type": "image_generation", "output_format": "jpeg", "moderation": null, "quality": "low"}]);
    let request = json!({"model": MODEL, "input": "hi", "tools": tools});
    let answer = Ask::post("/v1/responses", &request).send(&bench.proxy).await;
    assert_eq!(answer.header("x-proxy-warnings"), "ignored:tools.image_generation.output_format");
}

#[tokio::test]
async fn the_demo_generates_images_in_the_lite_form() {
    let proxy = Launch::demo().setting("upstream.body", "lite").start();
    let tools = json!([{"type": "image_generation"}]);
    let request = json!({"model": MODEL, "input": "Draw an image of a fox", "tools": tools});
    let answer = Ask::post("/v1/responses", &request).send(&proxy).await.json();
    let item = answer["output"].as_array().unwrap().iter().find(|item| item["type"] == "image_generation_call");
    let item = item.unwrap_or_else(|| panic!("{answer}"));
    assert!(item["result"].as_str().unwrap().starts_with("iVBOR") && item["size"] == "64x64", "{item}");
}

#[tokio::test]
async fn the_demo_searches_in_the_lite_form() {
    let proxy = Launch::demo().setting("upstream.body", "lite").start();
    let ask = "Search the web for the latest Rust release";
    let chat = with(chat_request(), "messages", json!([{"role": "user", "content": ask}]));
    let answer = Ask::chat(&chat).send(&proxy).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let message = &answer.json()["choices"][0]["message"];
    assert!(message["annotations"][0]["url_citation"]["url"].as_str().unwrap().starts_with("https://example.com/"));
    let messages = with(messages_request(), "messages", json!([{"role": "user", "content": ask}]));
    let answer = Ask::post("/v1/messages", &messages).send(&proxy).await.json();
    assert_eq!(answer["usage"]["server_tool_use"]["web_search_requests"], 1, "{answer}");
}
