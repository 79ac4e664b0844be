//! Ollama's API over HTTP: discovery requests of its clients, and replies in its format.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::cases::{Case, answered_cases_of};
use crate::fake::{Gate, Script};
use crate::wire::{Answer, Ask};
use crate::{ADDED, BEGUN, Bench, COMPLETED, CREATED, DELTA, SECOND, assert_warned, begun, with};

fn hello() -> Value {
    json!({"model": "gpt-5.5", "messages": [{"role": "user", "content": "hi"}]})
}

fn ask(request: &Value) -> Ask {
    Ask::post("/api/chat", request)
}

/// The lines of a stream, each complete.
fn lines(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    assert!(answer.text().ends_with('\n'), "{}", answer.text());
    answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The message of an error, which must be the only member of its body.
fn error(answer: &Answer) -> String {
    let body = answer.json();
    assert_eq!((answer.header("content-type"), body.as_object().unwrap().len()), ("application/json", 1), "{body}");
    assert!(answer.header("x-request-id").starts_with("req_"));
    body["error"].as_str().unwrap().to_owned()
}

/// A line without estimated values.
fn comparable(case: &Case, mut line: Value) -> Value {
    for member in ["prompt_eval_count", "eval_count"] {
        if let Some(count) = line.get_mut(member).filter(|count| case.has_guess() && count.is_u64()) {
            *count = json!(0);
        }
    }
    line
}

async fn assert_comes_back(bench: &Bench, case: &Case) {
    let path = if case.meta["form"] == "generate" { "/api/generate" } else { "/api/chat" };
    let asking = |mode: bool| Ask::post(path, &with(case.request.clone(), "stream", json!(mode)));
    let answer = asking(true).send(&bench.proxy).await;
    let written = case.client_sse.as_deref().unwrap().lines().map(|line| serde_json::from_str(line).unwrap());
    let reported: Vec<Value> = lines(&answer).into_iter().map(|line| comparable(case, line)).collect();
    assert_eq!(reported, written.collect::<Vec<Value>>(), "{}", case.name);
    let whole = asking(false).send(&bench.proxy).await;
    assert_eq!(u64::from(whole.status), case.document_status(), "{}", case.name);
    assert_eq!(comparable(case, whole.json()), case.client_json, "{}", case.name);
    if whole.status == 200 {
        assert_warned(&case.name, &case.meta, &whole);
    }
}

#[tokio::test]
async fn every_case_is_returned_as_expected() {
    let usual = Bench::new().await;
    let enforcing = Bench::with(|launch| launch.setting("chat.token_limit", "enforce")).await;
    for case in answered_cases_of("ollama", 20) {
        let bench = if case.meta["options"]["token_limit"] == "enforce" { &enforcing } else { &usual };
        bench.upstream.replace("/responses", Script::stream(&[]).chunk(&case.upstream_sse).end());
        assert_comes_back(bench, &case).await;
        let sent = bench.upstream.requests("/responses").pop().unwrap().json();
        assert_eq!(sent["model"], "gpt-5.4", "{}: the tag is taken off", case.name);
    }
}

#[tokio::test]
async fn streaming_is_the_default_and_sends_lines() {
    let bench = Bench::answering(|launch| launch).await;
    let answer = ask(&hello()).send(&bench.proxy).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, "no-cache"));
    let lines = lines(&answer);
    assert_eq!(lines[0]["message"], json!({"role": "assistant", "content": "Grüße 👋"}));
    assert_eq!((lines.len(), &lines[1]["done"]), (2, &json!(true)));
    let document = ask(&with(hello(), "stream", json!(false))).send(&bench.proxy).await;
    assert_eq!(
        (document.header("content-type"), &document.json()["message"]["content"]),
        ("application/json", &json!("Grüße 👋"))
    );
}

#[tokio::test]
async fn silence_is_filled_with_empty_lines_of_text() {
    let settings = [("timing.keepalive", "40ms"), ("timing.commit_after", "40ms")];
    let bench =
        Bench::with(|launch| settings.iter().fold(launch, |launch, (key, value)| launch.setting(key, value))).await;
    let gate = Gate::default();
    bench.upstream.on("/responses", begun(&[CREATED]).gate(&gate).event(ADDED).event(DELTA).event(COMPLETED).end());
    let mut open = ask(&hello()).open(&bench.proxy).await;
    let sign = r#""message":{"role":"assistant","content":""},"done":false}"#;
    open.until(&format!("{sign}\n\r\n")).await;
    gate.open();
    let lines = lines(&open.rest().await);
    let head = |line: &Value| (line["model"].clone(), line["created_at"].clone());
    assert!(lines.len() >= 3 && lines.iter().all(|line| head(line) == head(&lines[0])), "{lines:?}");
    assert_eq!(lines.last().unwrap()["done"], true);
}

#[tokio::test]
async fn a_failure_is_a_status_before_the_first_line_and_the_last_line_after_it() {
    let bench = Bench::with(|launch| launch.setting("upstream.max_retries", "0")).await;
    let failed = r#"{"type":"response.failed","response":{"error":{"code":"server_is_overloaded","message":"busy"}}}"#;
    for (script, status, words) in [
        (begun(&[CREATED]).event(failed).end(), 503, "busy"),
        (Script::json(404, r#"{"detail":"Model not found x"}"#), 404, "Model not found"),
        (Script::answer(500, &[], ""), 502, ""),
        (Script::stream(&[]).cut(), 502, "incomplete"),
    ] {
        bench.upstream.replace("/responses", script);
        for request in [hello(), with(hello(), "stream", json!(false))] {
            let answer = ask(&request).send(&bench.proxy).await;
            let message = error(&answer);
            assert_eq!(answer.status, status, "{message}");
            assert!(message.contains(words), "{message}");
        }
    }
    for (script, words) in [
        (begun(&BEGUN).event(failed).end(), "busy"),
        (begun(&BEGUN).cut(), "the response is incomplete"),
        (begun(&BEGUN).end(), "the response is incomplete"),
    ] {
        bench.upstream.replace("/responses", script);
        let answer = ask(&hello()).send(&bench.proxy).await;
        let lines = lines(&answer);
        assert_eq!(answer.status, 200);
        assert!(lines.iter().all(|line| line["done"] != true), "a truncated response never looks complete: {lines:?}");
        assert!(lines.last().unwrap()["error"].as_str().unwrap().starts_with(words), "{lines:?}");
    }
}

#[tokio::test]
async fn a_client_that_disconnects_ends_the_upstream_request() {
    let bench = Bench::new().await;
    bench.upstream.on("/responses", begun(&BEGUN).hang());
    let mut open = ask(&hello()).open(&bench.proxy).await;
    open.until("Grüße").await;
    drop(open);
    assert!(bench.upstream.hung_up(1, 5 * SECOND).await);
}

#[tokio::test]
async fn an_empty_request_is_answered_without_the_backend() {
    let bench = Bench::answering(|launch| launch).await;
    for (path, request, reason) in [
        ("/api/chat", json!({"model": "gpt-5.5", "messages": []}), "load"),
        ("/api/chat", json!({"model": "gpt-5.5", "messages": [], "keep_alive": 0}), "unload"),
        ("/api/generate", json!({"model": "gpt-5.5"}), "load"),
        ("/api/generate", json!({"model": "gpt-5.5", "prompt": "", "stream": false}), "load"),
    ] {
        let answer = Ask::post(path, &request).send(&bench.proxy).await;
        let reported = answer.json();
        assert_eq!(
            (answer.status, &reported["done"], &reported["done_reason"]),
            (200, &json!(true), &json!(reason)),
            "{reported}"
        );
        assert_eq!(reported["model"], "gpt-5.5");
    }
    assert_eq!(bench.request_count(), 0);
}

#[tokio::test]
async fn models_are_listed_and_described_from_the_catalogue() {
    let bench = Bench::with(|launch| launch.setting("model_aliases", "mine=gpt-5.5-low")).await;
    let offered = Ask::get("/v1/models").send(&bench.proxy).await.json()["data"].clone();
    let tags = Ask::get("/api/tags").send(&bench.proxy).await.json()["models"].clone();
    let names = |list: &Value, member: &str| -> Vec<Value> {
        list.as_array().unwrap().iter().map(|model| model[member].clone()).collect()
    };
    assert_eq!(names(&tags, "name"), names(&offered, "id"));
    assert_eq!(names(&tags, "model"), names(&tags, "name"));
    let digests: BTreeSet<String> = names(&tags, "digest").iter().map(Value::to_string).collect();
    assert_eq!(digests.len(), tags.as_array().unwrap().len());

    let show = |request: Value| Ask::post("/api/show", &request);
    for model in offered.as_array().unwrap() {
        let name = model["id"].as_str().unwrap();
        let shown = show(json!({"model": format!("{name}:latest")})).send(&bench.proxy).await.json();
        let older = show(json!({"name": name, "verbose": true})).send(&bench.proxy).await.json();
        assert_eq!(shown, older, "by either name of the member");
        let sees = model["input_modalities"].as_array().unwrap().contains(&json!("image"));
        let capabilities: Vec<&str> =
            ["completion", "tools", "thinking"].into_iter().chain(sees.then_some("vision")).collect();
        assert_eq!(shown["capabilities"], json!(capabilities), "{name}");
        let information = &shown["model_info"];
        let architecture = information["general.architecture"].as_str().unwrap();
        assert_eq!(information[format!("{architecture}.context_length")], model["context_window"], "{name}");
        assert_eq!(information["general.basename"], model["display_name"]);
        assert_eq!(shown["parameters"], format!("num_ctx {}", model["context_window"]));
    }
    let unknown = show(json!({"model": "llama3"})).send(&bench.proxy).await;
    assert_eq!((unknown.status, error(&unknown).contains("'llama3'")), (404, true));
    let none = show(json!({})).send(&bench.proxy).await;
    assert_eq!((none.status, error(&none)), (400, "missing required parameter: 'model'".to_owned()));

    let version = Ask::get("/api/version").send(&bench.proxy).await.json();
    let major: Vec<u32> = version["version"].as_str().unwrap().split('.').map(|part| part.parse().unwrap()).collect();
    assert!(major >= vec![0, 14, 2], "clients require at least this version");
    assert_eq!(Ask::get("/api/ps").send(&bench.proxy).await.json(), json!({"models": []}));
}

#[tokio::test]
async fn missing_models_and_paths_have_ollamas_errors() {
    let bench = Bench::answering(|launch| launch).await;
    let nothing = json!({});
    for (ask, status, words) in [
        (Ask::post("/api/embed", &nothing), 501, "embeddings"),
        (Ask::post("/api/embeddings", &nothing), 501, "embeddings"),
        (Ask::post("/api/pull", &nothing), 501, "/api/tags"),
        (Ask::post("/api/push", &nothing), 501, "/api/tags"),
        (Ask::post("/api/create", &nothing), 501, "/api/tags"),
        (Ask::post("/api/copy", &nothing), 501, "/api/tags"),
        (Ask::new("DELETE", "/api/delete"), 501, "/api/tags"),
        (Ask::post("/api/blobs/sha256:00", &nothing), 501, "/api/tags"),
        (Ask::post("/api/nothing", &nothing), 404, "unknown path: POST /api/nothing"),
        (Ask::get("/api/chat"), 405, "use POST"),
        (Ask::post("/api/tags", &nothing), 405, "use GET"),
        (Ask::raw("/api/chat", "{"), 400, ""),
        (Ask::post("/api/chat", &json!({"messages": []})), 400, "'model'"),
        (Ask::post("/api/generate", &json!({"model": "m", "prompt": "x", "raw": true})), 400, "raw: "),
        (ask(&hello()).header("origin", "https://evil.invalid"), 403, "evil.invalid"),
        (ask(&hello()).header("host", "rebound.invalid"), 403, "rebound.invalid"),
        (ask(&hello()).without("content-type"), 415, "application/json"),
    ] {
        let answer = ask.send(&bench.proxy).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(error(&answer).contains(words), "{}", answer.text());
    }
    assert_eq!(bench.request_count(), 0);
}

#[tokio::test]
async fn a_key_is_required_in_every_path_if_keys_are_set() {
    let bench = Bench::answering(|launch| launch.setting("api_keys", "sk-local")).await;
    for ask in [ask(&hello()), Ask::get("/api/tags"), Ask::get("/api/version")] {
        let refused = ask.clone().send(&bench.proxy).await;
        assert_eq!((refused.status, error(&refused).contains("API key")), (401, true));
        assert_eq!(ask.header("authorization", "Bearer sk-local").send(&bench.proxy).await.status, 200);
    }
}

#[tokio::test]
async fn reasoning_is_replayed_with_the_call_it_led_to() {
    let bench = Bench::with(|launch| launch.setting("chat.reasoning_replay", "true")).await;
    let reasoning = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"reasoning","summary":[],"encrypted_content":"gAAAA"}}"#;
    let call = r#"{"type":"response.output_item.done","output_index":1,"item":{"type":"function_call","call_id":"call_1","name":"f","arguments":"{}"}}"#;
    bench.upstream.on("/responses", Script::events(&[CREATED, reasoning, call, COMPLETED]));
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let first = with(with(hello(), "tools", tools), "stream", json!(false));
    let mut message = ask(&first).send(&bench.proxy).await.json()["message"].clone();
    message["role"] = json!("assistant");
    let messages = json!([first["messages"][0], message, {"role": "tool", "tool_name": "f", "content": "done"}]);
    ask(&with(first, "messages", messages)).send(&bench.proxy).await;
    let sent = bench.upstream.requests("/responses").pop().unwrap().json();
    let kinds: Vec<&str> =
        sent["input"].as_array().unwrap().iter().map(|item| item["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["message", "reasoning", "function_call", "function_call_output"], "{sent}");
    assert_eq!((&sent["input"][2]["call_id"], &sent["input"][3]["call_id"]), (&json!("call_1"), &json!("call_1")));
}
