//! Deviations in requests that every API accepts.

use serde_json::{Value, json};

use crate::fake::Script;
use crate::wire::{Answer, Ask};
use crate::{ADDED, Bench, COMPLETED, CREATED, DELTA, chat};

/// The event that ends the item, from which a Responses document is built.
const DONE: &str = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"message","id":"msg_1","role":"assistant","content":[{"type":"output_text","text":"Grüße 👋"}]}}"#;

/// The paths that call the backend, each with a request whose text is `$`.
const REQUESTS: [(&str, &str); 6] = [
    ("/v1/chat/completions", r#"{"model":"gpt-5.5","messages":[{"role":"user","content":"$"}]}"#),
    ("/v1/completions", r#"{"model":"gpt-5.5","prompt":"$"}"#),
    (
        "/v1/responses",
        r#"{"model":"gpt-5.5","input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"$"}]}]}"#,
    ),
    ("/v1/messages", r#"{"model":"gpt-5.5","max_tokens":9,"messages":[{"role":"user","content":"$"}]}"#),
    ("/api/chat", r#"{"model":"gpt-5.5","stream":false,"messages":[{"role":"user","content":"$"}]}"#),
    ("/api/generate", r#"{"model":"gpt-5.5","stream":false,"prompt":"$"}"#),
];
/// The same for paths that respond without the backend.
const COUNTS: [(&str, &str); 3] = [
    ("/v1/messages/count_tokens", r#"{"model":"gpt-5.5","messages":[{"role":"user","content":"$"}]}"#),
    ("/v1/responses/input_tokens", r#"{"model":"gpt-5.5","input":"$"}"#),
    ("/api/show", r#"{"model":"gpt-5.5","unread":"$"}"#),
];

fn whole() -> Script {
    Script::events(&[CREATED, ADDED, DELTA, DONE, COMPLETED])
}

async fn answering() -> Bench {
    let bench = Bench::new().await;
    bench.upstream.on("/responses", whole());
    bench
}

async fn answered(bench: &Bench, path: &str, body: impl Into<Vec<u8>>) -> Answer {
    let answer = Ask::raw(path, body).send(&bench.proxy).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer
}

/// The body of the last upstream request.
fn sent(bench: &Bench) -> Value {
    bench.upstream.requests("/responses").pop().unwrap().json()
}

#[tokio::test]
async fn a_byte_order_mark_before_a_body_is_skipped() {
    let bench = answering().await;
    for (path, body) in REQUESTS.into_iter().chain(COUNTS) {
        answered(&bench, path, format!("\u{feff}{body}")).await;
    }
    assert_eq!(bench.request_count(), REQUESTS.len());
}

#[tokio::test]
async fn half_a_surrogate_pair_becomes_one_replacement_character() {
    let bench = answering().await;
    for (path, body) in REQUESTS {
        answered(&bench, path, body.replace('$', r"\ud83d \ude00\ud83d\ude00 \\ud83d")).await;
        assert_eq!(sent(&bench)["input"][0]["content"][0]["text"], "\u{fffd} \u{fffd}\u{1f600} \\ud83d", "{path}");
    }
    for (path, body) in COUNTS {
        answered(&bench, path, body.replace('$', r"\ud83d")).await;
    }
    let tool = r#"{"type":"function","name":"f","description":"\udc00","parameters":{"type":"object","properties":{"\ud83d":{}}}}"#;
    for (path, tools) in [
        ("/v1/responses", format!(r#""input":"x","tools":[{tool}]"#)),
        ("/v1/chat/completions", format!(r#""messages":[{{"role":"user","content":"x"}}],"tools":[{tool}]"#)),
    ] {
        answered(&bench, path, format!(r#"{{"model":"gpt-5.5","\ud800":1,{tools}}}"#)).await;
        let tool = sent(&bench)["tools"][0].take();
        assert_eq!(tool["description"], "\u{fffd}", "{path}");
        assert_eq!(tool["parameters"]["properties"], json!({"\u{fffd}": {}}), "{path}");
    }
}

#[tokio::test]
async fn base64_may_contain_line_breaks() {
    let bench = answering().await;
    let (data, url) = ("iVBO\r\nRw0K\n", "data:image/png;base64,iVBO\r\nRw0K\n");
    let (file, whole) = ("data:application/pdf;base64,JVBE\nRi0=\n", "data:application/pdf;base64,JVBERi0=");
    let says = |content: Value| json!([{"role": "user", "content": content}]);
    let image = json!([{"type": "image_url", "image_url": {"url": url}}, {"type": "file", "file": {"file_data": file}},
        {"type": "file", "file": {"file_data": "JVBE\nRi0=", "filename": "a.pdf"}}]);
    let source = |kind: &str, data: &str| json!({"type": "base64", "media_type": kind, "data": data});
    let blocks = json!([{"type": "image", "source": source("image/png", data)},
        {"type": "document", "source": source("application/pdf", "JVBE\nRi0=")}]);
    let parts = json!([{"type": "input_image", "image_url": url}, {"type": "input_file", "filename": "a.pdf", "file_data": file}]);
    let items = json!([{"role": "user", "content": parts}, {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": parts}]);
    for (path, member, value, images, files) in [
        ("/v1/chat/completions", "messages", says(image), 1, 2),
        ("/v1/messages", "messages", says(blocks), 1, 1),
        ("/api/chat", "messages", json!([{"role": "user", "content": "", "images": [data, url]}]), 2, 0),
        ("/v1/responses", "input", items, 2, 2),
    ] {
        let mut request = json!({"model": "gpt-5.5", "stream": false, "max_tokens": 9});
        request[member] = value;
        answered(&bench, path, request.to_string()).await;
        let sent = sent(&bench)["input"].to_string();
        assert_eq!(sent.matches("\"data:image/png;base64,iVBORw0K\"").count(), images, "{path}: {sent}");
        assert_eq!(sent.matches(whole).count(), files, "{path}: {sent}");
    }
}

#[tokio::test]
async fn a_whole_number_may_have_a_fraction_of_zero() {
    let bench = Bench::with(|launch| launch.setting("chat.token_limit", "enforce")).await;
    bench.upstream.on("/responses", whole());
    let numbers: [(&str, &[&str]); 6] = [
        ("/v1/chat/completions", &["max_tokens", "max_completion_tokens", "n", "seed", "top_logprobs"]),
        ("/v1/completions", &["max_tokens", "n", "best_of", "seed"]),
        ("/v1/responses", &["max_output_tokens", "max_tool_calls", "seed"]),
        ("/v1/messages", &["max_tokens", "top_k"]),
        ("/api/chat", &["keep_alive", "top_logprobs"]),
        ("/api/generate", &["keep_alive"]),
    ];
    for ((path, body), (same, names)) in REQUESTS.into_iter().zip(numbers) {
        assert_eq!(path, same);
        for name in names {
            let number = match *name {
                "n" | "best_of" => "1.0",
                "top_logprobs" => "0.0",
                _ => "4096.0",
            };
            let body = body.strip_suffix('}').unwrap();
            answered(&bench, path, format!(r#"{body},"{name}":{number}}}"#)).await;
        }
    }
    for (path, more) in [
        ("/v1/messages", r#""max_tokens":4096.0,"thinking":{"type":"enabled","budget_tokens":2048.0}"#),
        ("/v1/messages/count_tokens", r#""max_tokens":4.096e3"#),
        ("/api/chat", r#""stream":false,"options":{"num_predict":4096.0,"num_ctx":8192.0,"seed":1.0,"top_k":40.0}"#),
    ] {
        answered(&bench, path, format!(r#"{{"model":"gpt-5.5","messages":[{{"role":"user","content":"x"}}],{more}}}"#))
            .await;
    }
    for wrong in ["4096.5", "0.0", "-1.0", r#""4096""#] {
        let body =
            format!(r#"{{"model":"gpt-5.5","max_tokens":{wrong},"messages":[{{"role":"user","content":"x"}}]}}"#);
        assert_eq!(Ask::raw("/v1/messages", body).send(&bench.proxy).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn a_prefix_may_be_in_the_base_url_and_in_the_path() {
    let bench = answering().await;
    for (path, body) in REQUESTS.into_iter().chain(COUNTS) {
        for prefix in ["/v1", "/v1/v1", "/openai/v1"] {
            answered(&bench, &format!("{prefix}{path}"), body).await;
        }
    }
    for path in ["/v1/v1/models", "/v1/v1/models/gpt-5.5", "/v1/api/tags", "/v1/api/version"] {
        assert_eq!(Ask::get(path).send(&bench.proxy).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn an_unknown_path_below_a_doubled_prefix_names_the_base_url_to_set() {
    let bench = Bench::new().await;
    let base = format!("http://{}", bench.proxy.authority());
    for (path, prefix, message) in [
        ("/v1/v1/nothing", "/v1", "/error/message"),
        ("/v1/v1/messages/nothing", "/v1", "/error/message"),
        ("/v1/api/nothing", "/api", "/error"),
    ] {
        let answer = Ask::post(path, &chat()).send(&bench.proxy).await;
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        let expected = format!("Unknown path {path}. Your client adds {prefix} itself: use {base} as its base URL.");
        assert_eq!((answer.status, body.pointer(message)), (404, Some(&json!(expected))), "{path}");
    }
}

#[tokio::test]
async fn long_ids_in_the_headers_of_a_codex_client_are_hashed() {
    let bench = answering().await;
    let long = "s".repeat(100);
    let state = "t".repeat(200);
    let ask = Ask::post("/v1/responses", &json!({"model": "gpt-5.5", "input": "x", "prompt_cache_key": long}));
    let ask = ["session-id", "thread-id", "x-codex-window-id"].iter().fold(ask, |ask, name| ask.header(name, &long));
    let ask = ask.header("originator", "codex_exec").header("x-codex-turn-state", &state);
    assert_eq!(ask.send(&bench.proxy).await.status, 200);
    let request = bench.upstream.requests("/responses").pop().unwrap();
    let key = request.json()["prompt_cache_key"].as_str().unwrap().to_owned();
    assert_eq!(key.len(), 36);
    for name in ["session-id", "thread-id", "x-codex-window-id"] {
        assert_eq!(request.header(name), key, "{name}");
    }
    // Over a WebSocket, the state is in the message instead.
    if crate::proxy::transport::chosen().is_none() {
        assert_eq!(request.header("x-codex-turn-state"), state);
    }
}
