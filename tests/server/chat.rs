//! Replies over HTTP: golden cases, split streams, truncated streams, headers.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cases::{Case, answered_cases};
use crate::fake::{Gate, Script};
use crate::wire::Ask;
use crate::{ADDED, BEGUN, Bench, COMPLETED, CREATED, DELTA, SECOND, WHOLE, begun, chat, streaming, with};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/chat")
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The events of a case, in pieces of this many bytes.
fn pieces(sse: &[u8], size: usize) -> Script {
    sse.chunks(size).fold(Script::stream(&[]), Script::chunk).end()
}

fn zeroed_usage(case: &Case, mut value: Value) -> Value {
    if case.meta["placeholder_usage"] == true && value["usage"].is_object() {
        for member in ["prompt_tokens", "completion_tokens", "total_tokens"] {
            value["usage"][member] = json!(0);
        }
    }
    value
}

fn frames(stream: &str) -> Vec<Value> {
    let frame = |block: &str| block.strip_prefix("data: ").unwrap().to_owned();
    let frames = stream.split_terminator("\n\n").map(frame);
    frames.map(|data| serde_json::from_str(&data).unwrap_or(Value::from(data))).collect()
}

async fn assert_streams(bench: &Bench, case: &Case) {
    let answer = Ask::chat(&with(case.request.clone(), "stream", json!(true))).send(&bench.proxy).await;
    let Some(expected) = &case.client_sse else {
        assert_eq!(
            (Some(u64::from(answer.status)), answer.json()),
            (case.meta["http_status"].as_u64(), case.client_json.clone())
        );
        return;
    };
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, "text/event-stream; charset=utf-8"),
        "{}",
        case.name
    );
    let plain = |frames: Vec<Value>| frames.into_iter().map(|frame| zeroed_usage(case, frame)).collect::<Vec<_>>();
    assert_eq!(plain(answer.frames()), plain(frames(expected)), "{}", case.name);
    crate::assert_warned(&case.name, &case.meta, &answer);
}

async fn assert_documents(bench: &Bench, case: &Case) {
    let mut request = with(case.request.clone(), "stream", json!(false));
    request.as_object_mut().unwrap().remove("stream_options");
    let answer = Ask::chat(&request).send(&bench.proxy).await;
    let status = ["http_status", "http_status_nonstream"].iter().find_map(|key| case.meta[*key].as_u64());
    let reported = zeroed_usage(case, answer.json());
    assert_eq!((u64::from(answer.status), &reported), (status.unwrap_or(200), &case.client_json), "{}", case.name);
    if answer.status == 200 {
        crate::assert_warned(&case.name, &case.meta, &answer);
    }
}

/// Whether the last upstream request matches the case.
fn assert_left_as_written(bench: &Bench, name: &str) {
    let mut expected = read(&folder().join(name).join("upstream.json"));
    let sent = bench.upstream.requests("/responses").pop().unwrap().json();
    if expected["prompt_cache_key"] == "<PROMPT_CACHE_KEY>" {
        let key = sent["prompt_cache_key"].as_str().unwrap();
        assert!(uuid::Uuid::parse_str(key).is_ok(), "{name}: {key}");
        expected["prompt_cache_key"] = json!(key);
    }
    assert_eq!(sent, expected, "{name}");
}

#[tokio::test]
async fn every_case_is_sent_and_returned_as_expected() {
    let usual = Bench::new().await;
    let enforcing = Bench::with(|launch| launch.setting("chat.token_limit", "enforce")).await;
    for case in &answered_cases() {
        let bench = if case.meta["options"]["token_limit"] == "enforce" { &enforcing } else { &usual };
        bench.upstream.replace("/responses", pieces(&case.upstream_sse, usize::MAX));
        assert_streams(bench, case).await;
        assert_left_as_written(bench, &case.name);
        assert_documents(bench, case).await;
        assert_left_as_written(bench, &case.name);
    }
}

#[tokio::test]
async fn every_case_without_a_reply_is_sent_as_expected() {
    let bench = Bench::answering(|launch| launch).await;
    let mut count = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let case = entry.unwrap().path();
        if !case.join("upstream.json").exists() || case.join("upstream.sse").exists() {
            continue;
        }
        let name = case.file_name().unwrap().to_str().unwrap();
        let answer = Ask::chat(&read(&case.join("request.json"))).send(&bench.proxy).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        assert_left_as_written(&bench, name);
        crate::assert_warned(name, &read(&case.join("meta.json")), &answer);
        count += 1;
    }
    assert!(count >= 14, "the cases are missing");
}

/// Positions at which a parser may fail: inside characters, CRLFs and field names.
fn awkward() -> Vec<u8> {
    let text = WHOLE.map(|event| format!("event: x\r\ndata: {event}\r\n\r\n")).concat();
    format!(": Grüße 👋\r\n\r\n{text}").into_bytes()
}

#[tokio::test]
async fn a_stream_in_any_pieces_gives_the_same_bytes() {
    let bench = Bench::new().await;
    let cases = answered_cases();
    let named = |start: &str| cases.iter().find(|case| case.name.starts_with(start)).unwrap();
    let streams = [awkward(), named("05-").upstream_sse.clone(), named("03-").upstream_sse.clone()];
    for stream in &streams {
        bench.upstream.replace("/responses", pieces(stream, usize::MAX));
        let whole = Ask::chat(&streaming()).send(&bench.proxy).await.body;
        assert!(whole.ends_with(b"data: [DONE]\n\n"), "{}", String::from_utf8_lossy(&whole));
        for size in 1..=5 {
            bench.upstream.replace("/responses", pieces(stream, size));
            assert_eq!(Ask::chat(&streaming()).send(&bench.proxy).await.body, whole, "{size}");
        }
    }
}

#[tokio::test]
async fn a_stream_cut_inside_a_character_or_a_line_end_gives_the_same_bytes() {
    let bench = Bench::new().await;
    let stream = awkward();
    bench.upstream.on("/responses", pieces(&stream, usize::MAX));
    let whole = Ask::chat(&streaming()).send(&bench.proxy).await.body;
    let is_awkward = |at: &usize| !stream[*at].is_ascii() || stream[*at] == b'\n' || stream[at - 1] == b'\n';
    let places: Vec<usize> = (1..stream.len()).filter(is_awkward).collect();
    assert!(places.len() > 30);
    for at in places {
        let (left, right) = stream.split_at(at);
        let gate = Gate::default();
        gate.open();
        bench.upstream.replace("/responses", Script::stream(&[]).chunk(left).gate(&gate).chunk(right).end());
        assert_eq!(Ask::chat(&streaming()).send(&bench.proxy).await.body, whole, "{at}");
    }
}

#[tokio::test]
async fn a_truncated_stream_never_looks_complete() {
    // Each attempt at a document would wait for its gate.
    let bench = Bench::with(|launch| launch.setting("upstream.max_retries", "0")).await;
    let stream = WHOLE.map(|event| format!("data: {event}\n\n")).concat().into_bytes();
    let committed = BEGUN.map(|event| format!("data: {event}\n\n")).concat().len();
    let ends: [fn(Script) -> Script; 3] = [Script::cut, Script::end, Script::reset];
    for at in [committed, committed + 1, committed + 7, stream.len() - 40, stream.len() - 2, stream.len() - 1] {
        for end in ends {
            let gate = Gate::default();
            bench.upstream.replace("/responses", end(Script::stream(&[]).chunk(&stream[..at]).gate(&gate)));
            let mut open = Ask::chat(&streaming()).open(&bench.proxy).await;
            open.until("Grüße").await;
            gate.open();
            let answer = open.rest().await;
            let frames = answer.frames();
            assert_eq!(frames.last().unwrap()["error"]["code"], "upstream_stream_truncated", "{at}: {}", answer.text());
            assert!(!answer.text().contains("[DONE]"), "{at}");
            let is_finished = |frame: &Value| frame["choices"][0]["finish_reason"].is_string();
            assert!(!frames.iter().any(is_finished), "{at}: {}", answer.text());

            gate.open();
            let answer = Ask::chat(&chat()).send(&bench.proxy).await;
            assert_eq!(
                (answer.status, answer.error()["code"].as_str()),
                (502, Some("upstream_stream_truncated")),
                "{at}"
            );
        }
    }
}

#[tokio::test]
async fn an_unreadable_event_of_a_responses_stream_is_harmless_if_the_item_arrives() {
    let bench = Bench::new().await;
    let lost = DELTA.split_at(DELTA.len() / 2).0;
    let item = |text: &str| {
        let item = json!({"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": text}]});
        json!({"type": "response.output_item.done", "output_index": 0, "item": item}).to_string()
    };
    let (more, same) = (item("Grüße 👋Grüße 👋"), item("Grüße 👋"));
    let ask = Ask::post("/v1/responses", &json!({"model": "gpt-5.5", "input": "hi", "stream": true}));
    for (end, last) in [
        (&[more.as_str(), COMPLETED][..], "response.completed"),
        (&[same.as_str(), COMPLETED], "response.completed"),
        (&[COMPLETED], "response.failed"),
    ] {
        let events = [&[CREATED, ADDED, DELTA, lost][..], end].concat();
        bench.upstream.replace("/responses", Script::events(&events));
        let reported = ask.send(&bench.proxy).await;
        let kinds: Vec<&str> = reported.text().lines().filter_map(|line| line.strip_prefix("event: ")).collect();
        assert_eq!(kinds.last(), Some(&last), "{}", reported.text());
    }
}

#[tokio::test]
async fn a_client_gets_keepalives_while_the_backend_is_silent() {
    let settings = [("timing.keepalive", "40ms"), ("timing.commit_after", "40ms")];
    let bench =
        Bench::with(|launch| settings.iter().fold(launch, |launch, (key, value)| launch.setting(key, value))).await;
    let gate = Gate::default();
    bench.upstream.on("/responses", begun(&[CREATED]).gate(&gate).event(ADDED).event(DELTA).event(COMPLETED).end());
    let mut open = Ask::chat(&streaming()).open(&bench.proxy).await;
    assert_eq!(open.status, 200, "the head is sent although there is no output");
    for (name, value) in [
        ("content-type", "text/event-stream; charset=utf-8"),
        ("cache-control", "no-cache"),
        ("x-accel-buffering", "no"),
    ] {
        assert_eq!(open.headers[name], value);
    }
    assert!(!open.headers.contains_key("content-length") && !open.headers.contains_key("content-encoding"));
    open.until("\"role\":\"assistant\"").await;
    open.until(": keepalive\n\n").await;
    open.until(": keepalive\n\n\r\n").await;
    gate.open();
    let answer = open.rest().await;
    assert_eq!(answer.frames().last().unwrap(), "[DONE]");
}

#[tokio::test]
async fn a_backend_that_stays_silent_times_out_with_an_error() {
    let bench = Bench::with(|launch| launch.setting("upstream.first_event_timeout", "150ms")).await;
    bench.upstream.on("/responses", Script::silence());
    let answer = Ask::chat(&streaming()).send(&bench.proxy).await;
    assert_eq!((answer.status, answer.error()["code"].as_str()), (504, Some("upstream_timeout")));
    // The first event of this one may be late on a busy machine.
    let bench = Bench::with(|launch| launch.setting("upstream.idle_timeout", "150ms")).await;
    bench.upstream.on("/responses", begun(&BEGUN).hang());
    let answer = Ask::chat(&streaming()).send(&bench.proxy).await;
    assert_eq!(answer.frames().last().unwrap()["error"]["code"], "upstream_timeout");
    assert_eq!(Ask::chat(&chat()).send(&bench.proxy).await.status, 504);
}

#[tokio::test]
async fn responses_and_errors_have_quota_headers() {
    let bench = Bench::new().await;
    let headers = [("x-codex-primary-used-percent", "97"), ("x-codex-turn-state", "private"), ("set-cookie", "a=b")];
    let whole = || WHOLE.iter().fold(Script::stream(&headers), |script, event| script.event(event)).end();
    let failed = r#"{"type":"response.failed","response":{"error":{"code":"invalid_prompt","message":"no"}}}"#;
    let limit = r#"{"error":{"type":"usage_limit_reached","resets_in_seconds":90,"plan_type":"plus"}}"#;
    let early = || Script::stream(&headers).event(CREATED).event(failed).end();
    let late = || BEGUN.iter().fold(Script::stream(&headers), |script, event| script.event(event)).event(failed).end();
    let refused = || Script::answer(429, &headers, limit);
    for (script, request, status) in [
        (whole(), streaming(), 200),
        (whole(), chat(), 200),
        (early(), streaming(), 400),
        (late(), chat(), 400),
        (refused(), streaming(), 429),
        (refused(), chat(), 429),
    ] {
        bench.upstream.replace("/responses", script);
        let answer = Ask::chat(&request).send(&bench.proxy).await;
        assert_eq!((answer.status, answer.header("x-codex-primary-used-percent")), (status, "97"), "{}", answer.text());
        assert!(!answer.headers.contains_key("x-codex-turn-state") && !answer.headers.contains_key("set-cookie"));
        if status == 429 {
            assert_eq!((answer.header("retry-after"), answer.header("x-should-retry")), ("90", "false"));
        }
    }
}

#[tokio::test]
async fn an_unknown_model_is_rejected_with_the_nearest_name() {
    let bench = Bench::new().await;
    let detail = r#"{"detail":"Model not found gpt-5.55"}"#;
    bench.upstream.on("/responses", Script::json(404, detail));
    let answer = Ask::chat(&with(chat(), "model", json!("gpt-5.55"))).send(&bench.proxy).await;
    let error = answer.error();
    assert_eq!((answer.status, error["code"].as_str()), (404, Some("model_not_found")));
    assert_eq!(error["message"], "Model not found gpt-5.55; did you mean 'gpt-5.5'?");
    let answer = Ask::chat(&chat()).send(&bench.proxy).await;
    assert_eq!(answer.error()["message"], "Model not found gpt-5.55", "a known name gets no suggestion");
    bench.upstream.replace("/responses", Script::json(404, r#"{"detail":"Model not found."}"#));
    for name in ["codex-proxy/gpt-5.5", "models/gpt-5.5", "GPT-5.5"] {
        let answer = Ask::chat(&with(chat(), "model", json!(name))).send(&bench.proxy).await;
        assert_eq!(answer.error()["message"], "Model not found. Did you mean 'gpt-5.5'?", "{name}");
    }
}

#[tokio::test]
async fn each_spelling_of_a_path_is_served() {
    let bench = Bench::answering(|launch| launch).await;
    for path in [
        "/v1/chat/completions",
        "/chat/completions",
        "//v1//chat/completions",
        "/v1/chat/completions/",
        "/openai/v1/chat/completions",
        "/backend-api/codex/chat/completions",
        "/v1/chat/completions?api-version=2024-10-21",
    ] {
        assert_eq!(Ask::post(path, &chat()).send(&bench.proxy).await.status, 200, "{path}");
        let sent = bench.upstream.requests("/responses").pop().unwrap();
        assert_eq!((sent.target.as_str(), &sent.json()["model"]), ("/backend-api/codex/responses", &json!("gpt-5.5")));
    }
    let mut azure = chat();
    azure.as_object_mut().unwrap().remove("model");
    let path = "/openai/deployments/gpt-6-sol/chat/completions?api-version=2024-10-21";
    assert_eq!(Ask::post(path, &azure).send(&bench.proxy).await.status, 200);
    assert_eq!(bench.upstream.requests("/responses").pop().unwrap().json()["model"], "gpt-6-sol");
    for path in ["/v1/models", "/models", "/openai/v1/models/", "/backend-api/codex/models"] {
        let answer = Ask::get(path).send(&bench.proxy).await;
        let is_list = answer.status == 200 && answer.json()["object"] == "list";
        assert!(is_list, "{path}: {}", answer.status);
    }
}

#[tokio::test]
async fn a_client_that_disconnects_ends_the_upstream_request_in_every_phase() {
    let bench = Bench::with(|launch| launch.setting("timing.commit_after", "20s")).await;
    let failing = r#"{"type":"response.failed","response":{"error":{"code":"server_is_overloaded","message":"busy"}}}"#;
    let phases = [
        (streaming(), Script::silence()),
        (streaming(), begun(&[]).hang()),
        (streaming(), begun(&[CREATED]).hang()),
        (chat(), begun(&BEGUN).hang()),
        (chat(), Script::silence()),
    ];
    let mut gone = 0;
    for (request, script) in phases {
        bench.upstream.replace("/responses", script);
        let sent = Ask::chat(&request).fire(&bench.proxy).await;
        bench.upstream.received("/responses", gone + 1).await;
        drop(sent);
        gone += 1;
        assert!(bench.upstream.hung_up(gone, 5 * SECOND).await, "phase {gone}");
    }
    bench.upstream.replace("/responses", begun(&BEGUN).hang());
    let mut open = Ask::chat(&streaming()).open(&bench.proxy).await;
    open.until("Grüße").await;
    drop(open);
    assert!(bench.upstream.hung_up(gone + 1, 5 * SECOND).await, "in the middle of the stream");

    for script in [Script::answer(503, &[("retry-after", "15")], ""), begun(&[CREATED]).event(failing).end()] {
        let asked = bench.request_count();
        let ended = bench.proxy.log().matches("client_left").count();
        bench.upstream.replace("/responses", script);
        let sent = Ask::chat(&chat()).fire(&bench.proxy).await;
        bench.upstream.received("/responses", asked + 1).await;
        drop(sent);
        bench.proxy.says_times("client_left", ended + 1, SECOND).await;
        assert_eq!(bench.request_count(), asked + 1, "no request is repeated");
    }
}
