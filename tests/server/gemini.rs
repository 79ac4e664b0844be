//! The Gemini API over HTTP: keys, errors, both forms of streams, models and token counts.

use serde_json::{Value, json};

use crate::cases::{Case, answered_cases_of};
use crate::fake::{Gate, Script};
use crate::wire::{Answer, Ask};
use crate::{ADDED, BEGUN, Bench, COMPLETED, CREATED, DELTA, SECOND, WHOLE, assert_warned, begun, with};

const GENERATE: &str = "/v1beta/models/gpt-5.5:generateContent";
const STREAM: &str = "/v1beta/models/gpt-5.5:streamGenerateContent";
const EVENTS: &str = "/v1beta/models/gpt-5.5:streamGenerateContent?alt=sse";
const COUNT: &str = "/v1beta/models/gpt-5.5:countTokens";

fn hello() -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]})
}

/// The error of a response, which must be the only member of its body.
fn error(answer: &Answer) -> Value {
    let body = answer.json();
    assert_eq!((answer.header("content-type"), body.as_object().unwrap().len()), ("application/json", 1), "{body}");
    assert_eq!(body["error"]["code"], answer.status, "{body}");
    assert!(answer.header("x-request-id").starts_with("req_"));
    body["error"].clone()
}

/// The chunks of a stream in either form.
fn chunks(answer: &Answer) -> Vec<Value> {
    if answer.header("content-type") == "text/event-stream; charset=utf-8" {
        let data = |event: &str| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
        assert!(answer.text().ends_with("\n\n"));
        return answer.text().split_terminator("\n\n").map(data).collect();
    }
    assert_eq!(answer.header("content-type"), "application/json; charset=utf-8");
    serde_json::from_str(answer.text()).unwrap()
}

fn text(chunk: &Value) -> &str {
    chunk["candidates"][0]["content"]["parts"][0]["text"].as_str().unwrap()
}

fn sent(bench: &Bench) -> Value {
    bench.upstream.requests("/responses").pop().unwrap().json()
}

#[tokio::test]
async fn each_spelling_of_the_path_gives_the_document() {
    let bench = Bench::answering(|launch| launch).await;
    for path in [
        GENERATE,
        "/v1/models/gpt-5.5:generateContent",
        "/models/gpt-5.5:generateContent",
        "/v1beta/v1beta/models/gpt%2D5.5:generateContent",
        "/v1alpha/models/gpt-5.5:generateContent",
    ] {
        let answer = Ask::post(path, &hello()).send(&bench.proxy).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"), "{}", answer.text());
        assert_eq!(
            answer.json(),
            json!({
                "candidates": [{
                    "content": {"parts": [{"text": "Grüße 👋"}], "role": "model"},
                    "finishReason": "STOP",
                    "index": 0,
                }],
                "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5},
                "modelVersion": "gpt-5.5",
                "responseId": "1",
            })
        );
        let sent = sent(&bench);
        assert_eq!((&sent["model"], &sent["input"][0]["content"][0]["text"]), (&json!("gpt-5.5"), &json!("hi")));
    }
}

/// A chunk or document without estimated values.
fn comparable(case: &Case, mut value: Value) -> Value {
    for member in ["promptTokenCount", "candidatesTokenCount", "totalTokenCount"] {
        let count = value.get_mut("usageMetadata").and_then(|usage| usage.get_mut(member));
        if let Some(count) = count.filter(|count| case.has_guess() && count.is_u64()) {
            *count = json!(0);
        }
    }
    value
}

async fn assert_comes_back(bench: &Bench, case: &Case) {
    let path = |method: &str| format!("/v1beta/models/gpt-5.4:{method}");
    let written = case.client_sse.as_deref().unwrap().split_terminator("\n\n");
    let written: Vec<Value> =
        written.map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap()).collect();
    for method in ["streamGenerateContent", "streamGenerateContent?alt=sse"] {
        let answer = Ask::post(&path(method), &case.request).send(&bench.proxy).await;
        let reported: Vec<Value> = chunks(&answer).into_iter().map(|chunk| comparable(case, chunk)).collect();
        assert_eq!(reported, written, "{} {method}", case.name);
    }
    let whole = Ask::post(&path("generateContent"), &case.request).send(&bench.proxy).await;
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
    for case in answered_cases_of("gemini", 18) {
        let bench = if case.meta["options"]["token_limit"] == "enforce" { &enforcing } else { &usual };
        bench.upstream.replace("/responses", Script::stream(&[]).chunk(&case.upstream_sse).end());
        assert_comes_back(bench, &case).await;
        assert_eq!(sent(bench)["model"], "gpt-5.4", "{}: the path names the model", case.name);
    }
}

#[tokio::test]
async fn a_stream_is_an_array_or_events() {
    let bench = Bench::answering(|launch| launch).await;
    let rest = "/v1beta/models/gpt-5.5:streamGenerateContent?%24alt=json%3Benum-encoding%3Dint";
    for path in [STREAM, EVENTS, rest, "/v1/models/gpt-5.5:streamGenerateContent?$alt=sse"] {
        let answer = Ask::post(path, &hello()).send(&bench.proxy).await;
        assert_eq!((answer.status, answer.header("cache-control")), (200, "no-cache"));
        let chunks = chunks(&answer);
        assert_eq!(chunks.iter().map(text).collect::<Vec<_>>(), ["Grüße 👋", ""], "{path}");
        assert!(chunks[0]["candidates"][0].get("finishReason").is_none() && chunks[0].get("usageMetadata").is_none());
        assert_eq!(chunks[1]["candidates"][0]["finishReason"], "STOP");
        assert_eq!(chunks[1]["usageMetadata"]["totalTokenCount"], 5);
        assert!(chunks.iter().all(|chunk| chunk["responseId"] == "1" && chunk["modelVersion"] == "gpt-5.5"));
    }
    let answer = Ask::post(&format!("{STREAM}?alt=proto;x=1"), &hello()).send(&bench.proxy).await;
    assert_eq!(
        (answer.status, error(&answer)["details"][0]["fieldViolations"][0]["field"].as_str()),
        (400, Some("alt"))
    );
}

#[tokio::test]
async fn enumerations_may_be_numbers() {
    let bench = Bench::answering(|launch| launch).await;
    let request = json!({
        "contents": hello()["contents"],
        "tools": [{"functionDeclarations": [{"name": "f", "parameters": {"type": 6, "properties": {"a": {"type": 1}}}}]}],
        "toolConfig": {"functionCallingConfig": {"mode": 2}},
        "generationConfig": {"responseModalities": [1]},
    });
    let answer = Ask::post(&format!("{GENERATE}?$alt=json;enum-encoding=int"), &request).send(&bench.proxy).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let sent = sent(&bench);
    assert_eq!(sent["tool_choice"], "required");
    assert_eq!(sent["tools"][0]["parameters"], json!({"type": "object", "properties": {"a": {"type": "string"}}}));
}

#[tokio::test]
async fn silence_is_filled_with_white_space_or_empty_text() {
    let settings = [("timing.keepalive", "40ms"), ("timing.commit_after", "40ms")];
    let bench =
        Bench::with(|launch| settings.iter().fold(launch, |launch, (key, value)| launch.setting(key, value))).await;
    for (path, sign) in [(STREAM, "\n\r\n"), (EVENTS, r#""parts":[{"text":""}]"#)] {
        let gate = Gate::default();
        let script = begun(&[CREATED]).gate(&gate).event(ADDED).event(DELTA).event(COMPLETED).end();
        bench.upstream.replace("/responses", script);
        let mut open = Ask::post(path, &hello()).open(&bench.proxy).await;
        open.until(sign).await;
        gate.open();
        let answer = open.rest().await;
        assert!(path != STREAM || answer.text().starts_with('['), "{}", answer.text());
        let chunks = chunks(&answer);
        let answer: String = chunks.iter().map(text).collect();
        assert_eq!(answer, "Grüße 👋");
        assert_eq!(chunks.last().unwrap()["candidates"][0]["finishReason"], "STOP");
    }
}

#[tokio::test]
async fn a_failure_is_a_status_before_the_first_chunk_and_the_last_chunk_after_it() {
    let bench = Bench::with(|launch| launch.setting("upstream.max_retries", "0")).await;
    let failed = r#"{"type":"response.failed","response":{"error":{"code":"server_is_overloaded","message":"busy"}}}"#;
    for (script, status, name, words) in [
        (begun(&[CREATED]).event(failed).end(), 503, "UNAVAILABLE", "busy"),
        (Script::json(404, r#"{"detail":"Model not found x"}"#), 404, "NOT_FOUND", "Model not found"),
        (Script::answer(500, &[], ""), 502, "UNAVAILABLE", ""),
        (Script::stream(&[]).cut(), 502, "UNAVAILABLE", "incomplete"),
    ] {
        bench.upstream.replace("/responses", script);
        for path in [GENERATE, STREAM, EVENTS] {
            let answer = Ask::post(path, &hello()).send(&bench.proxy).await;
            let error = error(&answer);
            assert_eq!((answer.status, error["status"].as_str()), (status, Some(name)), "{error}");
            assert!(error["message"].as_str().unwrap().contains(words), "{error}");
        }
    }
    for (script, code, words) in [
        (begun(&BEGUN).event(failed).end(), 503, "busy"),
        (begun(&BEGUN).cut(), 502, "the response is incomplete"),
        (begun(&BEGUN).end(), 502, "the response is incomplete"),
    ] {
        bench.upstream.replace("/responses", script);
        for path in [STREAM, EVENTS] {
            let answer = Ask::post(path, &hello()).send(&bench.proxy).await;
            let chunks = chunks(&answer);
            assert_eq!((answer.status, chunks.len()), (200, 2));
            assert!(chunks.iter().all(|chunk| chunk["candidates"][0].get("finishReason").is_none()), "{chunks:?}");
            assert_eq!(chunks[1]["error"]["code"], code);
            assert!(chunks[1]["error"]["message"].as_str().unwrap().starts_with(words), "{chunks:?}");
            assert!(answer.text().contains(r#"{"error":{"#), "the Python SDK looks at the first member");
        }
    }
}

#[tokio::test]
async fn a_used_up_quota_has_the_delay_in_the_details() {
    let bench = Bench::new().await;
    let spent = r#"{"error":{"type":"usage_limit_reached","message":"used up","resets_in_seconds":3600}}"#;
    bench.upstream.on("/responses", Script::json(429, spent));
    for path in [GENERATE, EVENTS] {
        let answer = Ask::post(path, &hello()).send(&bench.proxy).await;
        let error = error(&answer);
        assert_eq!((answer.status, error["status"].as_str()), (429, Some("RESOURCE_EXHAUSTED")));
        let details = error["details"].as_array().unwrap();
        assert_eq!(details[0]["reason"], "USAGE_LIMIT_REACHED");
        let delay = details[1]["retryDelay"].as_str().unwrap().strip_suffix('s').unwrap();
        assert!((3590..=3600).contains(&delay.parse::<u64>().unwrap()), "{delay}");
        assert_eq!(answer.header("retry-after"), delay);
    }
}

#[tokio::test]
async fn a_client_that_disconnects_ends_the_upstream_request() {
    let bench = Bench::new().await;
    bench.upstream.on("/responses", begun(&BEGUN).hang());
    let mut open = Ask::post(STREAM, &hello()).open(&bench.proxy).await;
    open.until("Grüße").await;
    drop(open);
    assert!(bench.upstream.hung_up(1, 5 * SECOND).await);
}

#[tokio::test]
async fn the_key_comes_in_the_header_or_below_v1beta_in_the_query() {
    let bench = Bench::answering(|launch| launch.setting("api_keys", "sk-local")).await;
    for (path, header, status) in [
        (GENERATE, None, 401),
        (GENERATE, Some("sk-local"), 200),
        (GENERATE, Some("sk-other"), 401),
        ("/v1/models/gpt-5.5:generateContent", Some("sk-local"), 200),
        ("/v1beta/models/gpt-5.5:generateContent?key=sk-local", None, 200),
        ("/v1beta/models/gpt-5.5:streamGenerateContent?alt=sse&key=sk%2Dlocal", None, 200),
        ("/v1beta/models/gpt-5.5:generateContent?key=sk-other", None, 401),
        ("/v1/models/gpt-5.5:generateContent?key=sk-local", None, 401),
        ("/v1beta/v1beta/models/gpt-5.5:generateContent?key=sk-local", None, 200),
    ] {
        let ask = Ask::post(path, &hello());
        let ask = header.map_or(ask.clone(), |key| ask.header("x-goog-api-key", key));
        let answer = ask.send(&bench.proxy).await;
        assert_eq!(answer.status, status, "{path} {}", answer.text());
        if status == 401 {
            assert_eq!(error(&answer)["status"], "UNAUTHENTICATED");
            assert!(!answer.text().contains("sk-"), "{}", answer.text());
        }
    }
    let rebound = Ask::post("/v1beta/models/gpt-5.5:generateContent?key=sk-local", &hello());
    let answer = rebound.header("host", "rebound.invalid").send(&bench.proxy).await;
    assert_eq!((answer.status, error(&answer)["status"].as_str()), (403, Some("PERMISSION_DENIED")));
    for path in ["/v1/models?key=sk-local", "/v1beta/openai/models?key=sk-local"] {
        assert_eq!(Ask::get(path).send(&bench.proxy).await.status, 401, "{path}");
    }
    let chat = json!({"model": "gpt-5.5", "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(Ask::post("/v1beta/openai/chat/completions?key=sk-local", &chat).send(&bench.proxy).await.status, 401);
    let log = bench.proxy.log();
    assert!(!log.contains("sk-local") && !log.contains("sk%2Dlocal"), "{log}");
    for request in bench.upstream.requests("/responses") {
        assert!(!format!("{:?}", request.headers).contains("sk-local"));
    }
}

#[tokio::test]
async fn every_error_has_google_s_form() {
    let bench = Bench::answering(|launch| launch.setting("limits.body", "4KiB")).await;
    let nothing = json!({});
    let long = json!({"contents": [{"parts": [{"text": "x".repeat(5000)}]}]});
    for (ask, status, name, words) in [
        (Ask::raw(GENERATE, "{"), 400, "INVALID_ARGUMENT", "not valid JSON"),
        (Ask::post(GENERATE, &nothing), 400, "INVALID_ARGUMENT", "'contents'"),
        (Ask::post(COUNT, &nothing), 400, "INVALID_ARGUMENT", "'contents'"),
        (Ask::post(GENERATE, &long), 413, "INVALID_ARGUMENT", "limits.body"),
        (Ask::get(GENERATE), 405, "UNIMPLEMENTED", "use POST"),
        (Ask::get(STREAM), 405, "UNIMPLEMENTED", "use POST"),
        (Ask::post("/v1beta/models", &nothing), 405, "UNIMPLEMENTED", "use GET"),
        (Ask::post("/v1beta/nothing", &nothing), 404, "NOT_FOUND", "unknown path: POST /v1beta/nothing"),
        (Ask::post("/v1beta/models/gpt-5.5:unknown", &nothing), 404, "NOT_FOUND", "unknown path"),
        (Ask::post("/v1beta/models/gpt-5.5:predict", &nothing), 501, "UNIMPLEMENTED", "generateContent"),
        (Ask::post("/v1/models/gpt-5.5:embedContent", &nothing), 501, "UNIMPLEMENTED", "embeddings"),
        (Ask::post("/v1beta/files", &nothing), 501, "UNIMPLEMENTED", "inlineData"),
        (Ask::post("/v1/models/gpt-5.5:batchGenerateContent", &nothing), 501, "UNIMPLEMENTED", "generateContent"),
        (Ask::post("/v1/models/gpt-5.5:asyncBatchEmbedContent", &nothing), 501, "UNIMPLEMENTED", "embeddings"),
        (Ask::post("/upload/v1/files", &nothing), 501, "UNIMPLEMENTED", "inlineData"),
        (Ask::get("/v1/files").header("x-goog-api-key", "any"), 501, "UNIMPLEMENTED", "inlineData"),
        (Ask::get("/v1/batches/1").header("x-goog-api-client", "google"), 501, "UNIMPLEMENTED", "generateContent"),
        (Ask::get("/v1/agents").header("x-goog-api-key", "any"), 501, "UNIMPLEMENTED", "generateContent"),
        (Ask::get("/v1/cachedContents"), 501, "UNIMPLEMENTED", "inlineData"),
        (Ask::get("/v1beta/models/llama3"), 404, "NOT_FOUND", "'llama3'"),
        (Ask::post(GENERATE, &hello()).header("origin", "https://evil.invalid"), 403, "PERMISSION_DENIED", "evil"),
        (Ask::post(GENERATE, &hello()).header("host", "rebound.invalid"), 403, "PERMISSION_DENIED", "rebound"),
        (Ask::post(GENERATE, &hello()).without("content-type"), 415, "INVALID_ARGUMENT", "application/json"),
    ] {
        let answer = ask.send(&bench.proxy).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        let error = error(&answer);
        assert_eq!(error["status"], name);
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
    }
    let refused =
        Ask::post(GENERATE, &with(hello(), "cachedContent", json!("cachedContents/1"))).send(&bench.proxy).await;
    assert_eq!(error(&refused)["details"][0]["fieldViolations"][0]["field"], "cachedContent");
    assert_eq!(bench.request_count(), 0);
}

#[tokio::test]
async fn ignored_members_are_named_in_the_warnings() {
    let bench = Bench::answering(|launch| launch).await;
    let mut request = with(hello(), "safety_settings", json!([{"category": "X", "threshold": "OFF"}]));
    request["generationConfig"] = json!({"temperature": 0.2, "topK": 40, "maxOutputTokens": 100});
    let answer = Ask::post(GENERATE, &request).send(&bench.proxy).await;
    assert_eq!(
        answer.header("x-proxy-warnings"),
        "ignored:maxOutputTokens, ignored:temperature, ignored:topK, ignored:safetySettings"
    );
}

#[tokio::test]
async fn models_are_listed_in_the_form_of_the_client() {
    let bench = Bench::with(|launch| launch.setting("model_aliases", "mine=gpt-5.5-low")).await;
    let offered = Ask::get("/v1/models").send(&bench.proxy).await.json()["data"].clone();
    let ids: Vec<&str> = offered.as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    for ask in [
        Ask::get("/v1beta/models"),
        Ask::get("/v1/models").header("x-goog-api-key", "any"),
        Ask::get("/v1/models?pageSize=1000").header("x-goog-api-client", "google-genai-sdk/3.6.1"),
    ] {
        let list = ask.send(&bench.proxy).await.json();
        let names: Vec<&str> =
            list["models"].as_array().unwrap().iter().map(|model| model["name"].as_str().unwrap()).collect();
        assert_eq!(names, ids.iter().map(|id| format!("models/{id}")).collect::<Vec<_>>());
        assert!(list.get("nextPageToken").is_none());
    }
    let page = Ask::get("/v1beta/models?pageSize=1").send(&bench.proxy).await.json();
    assert_eq!((page["models"].as_array().unwrap().len(), &page["nextPageToken"]), (1, &json!("1")));
    for (name, of) in [(ids[0], ids[0]), ("mine", "gpt-5.5"), ("gpt-5.5-low", "gpt-5.5")] {
        let window = &offered.as_array().unwrap().iter().find(|model| model["id"] == of).unwrap()["context_window"];
        let model = Ask::get(&format!("/v1beta/models/{name}")).send(&bench.proxy).await.json();
        assert_eq!(model["name"], format!("models/{name}"));
        assert_eq!(&model["inputTokenLimit"], window);
        assert_eq!(model["supportedGenerationMethods"], json!(["generateContent", "countTokens"]));
    }
}

#[tokio::test]
async fn a_gemini_model_is_the_default_model() {
    let bench = Bench::answering(|launch| launch.setting("default_model", "gpt-5.5")).await;
    let answer = Ask::post("/v1beta/models/gemini-9-pro:generateContent", &hello()).send(&bench.proxy).await;
    assert_eq!((answer.status, answer.json()["modelVersion"].as_str()), (200, Some("gemini-9-pro")));
    assert_eq!(sent(&bench)["model"], "gpt-5.5");
}

#[tokio::test]
async fn tokens_are_counted_without_the_backend() {
    let bench = Bench::answering(|launch| launch).await;
    let count = async |request: &Value| {
        let answer = Ask::post(COUNT, request).send(&bench.proxy).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["totalTokens"].as_u64().unwrap()
    };
    let few = count(&hello()).await;
    let more = count(&json!({"contents": {"parts": {"text": "many more words than in a greeting"}}})).await;
    let whole = count(&json!({"generateContentRequest": {"model": "models/gpt-5.5", "contents": hello()["contents"],
        "systemInstruction": {"parts": [{"text": "many more words than in a greeting"}]}}}))
    .await;
    assert!(few > 0 && more > few && whole > few);
    assert_eq!(bench.request_count(), 0);
}

#[tokio::test]
async fn thoughts_round_trip_in_the_signature_of_the_call() {
    let bench = Bench::new().await;
    let reasoning = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"Let me see."}],"encrypted_content":"gAAAA_-"}}"#;
    let call = r#"{"type":"response.output_item.done","output_index":1,"item":{"type":"function_call","call_id":"call_1","name":"f","arguments":"{\"a\":1}"}}"#;
    let whole = [CREATED, reasoning, call, COMPLETED];
    bench.upstream.on("/responses", Script::events(&whole));
    let tools = json!([{"functionDeclarations": [{"name": "f"}]}]);
    let shown = json!({"thinkingConfig": {"includeThoughts": true, "thinkingLevel": "HIGH"}});
    let request = with(with(hello(), "tools", tools), "generationConfig", shown);
    let answer = Ask::post(GENERATE, &request).send(&bench.proxy).await.json();
    let content = answer["candidates"][0]["content"].clone();
    assert_eq!(content["parts"][0], json!({"thought": true, "text": "Let me see."}));
    assert_eq!(content["parts"][1]["functionCall"], json!({"id": "call_1", "name": "f", "args": {"a": 1}}));
    assert_eq!(answer["candidates"][0]["finishReason"], "STOP");
    assert_eq!(
        (&sent(&bench)["reasoning"]["effort"], &sent(&bench)["reasoning"]["summary"]),
        (&json!("high"), &json!("auto"))
    );

    let mut contents = request["contents"].as_array().unwrap().clone();
    contents.push(content);
    contents
        .push(json!({"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"output": "done"}}}]}));
    bench.upstream.replace("/responses", Script::events(&WHOLE));
    assert_eq!(Ask::post(EVENTS, &with(request, "contents", json!(contents))).send(&bench.proxy).await.status, 200);
    let input = sent(&bench)["input"].clone();
    let kinds: Vec<&str> = input.as_array().unwrap().iter().map(|item| item["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["message", "reasoning", "function_call", "function_call_output"], "{input}");
    assert_eq!(input[1]["encrypted_content"], "gAAAA_-");
    assert_eq!((&input[3]["call_id"], &input[3]["output"]), (&json!("call_1"), &json!("done")));
}
