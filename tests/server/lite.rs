//! The lite form of requests: when it is used, what it contains, and that clients don't see a difference.

use serde_json::{Value, json};

use crate::fake::{Recorded, Script};
use crate::proxy::Launch;
use crate::wire::{Answer, Ask};
use crate::{Bench, COMPLETED, CREATED, WHOLE, chat, with};

const MARK: &str = "x-openai-internal-codex-responses-lite";
const REFUSAL: &str = r#"{"detail":"The 'gpt-5.5' model requires the responses-lite form of requests."}"#;
const CALL: &str = r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"function_call","id":"fc_1","call_id":"call_1","namespace":"functions","name":"look","arguments":""}}"#;
const ARGUMENTS: &str =
    r#"{"type":"response.function_call_arguments.delta","output_index":0,"item_id":"fc_1","delta":"{}"}"#;
const CALLED: &str = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","id":"fc_1","call_id":"call_1","name":"look","namespace":"functions","arguments":"{}"}}"#;
const OWN_CALLED: &str = r#"{"type":"response.output_item.done","output_index":1,"item":{"type":"function_call","id":"fc_2","call_id":"call_2","namespace":"disk","name":"look","arguments":"{}"}}"#;

/// A response that calls a plain tool.
const CALLING: [&str; 5] = [CREATED, CALL, ARGUMENTS, CALLED, COMPLETED];

async fn set_to(body: &str) -> Bench {
    Bench::with(|launch: Launch| launch.setting("upstream.body", body)).await
}

fn is_lite(sent: &Recorded) -> bool {
    let body = sent.json();
    let is_marked = sent.header(MARK) == "true";
    let is_shaped = body.get("instructions").is_none()
        && body.get("tools").is_none()
        && body["reasoning"]["context"] == "all_turns"
        && body["parallel_tool_calls"] == false;
    assert_eq!(is_marked, is_shaped, "{body}");
    is_marked
}

fn forms(bench: &Bench) -> Vec<bool> {
    bench.upstream.requests("/responses").iter().map(is_lite).collect()
}

fn with_tools() -> Value {
    let look = json!({"type": "function", "name": "look", "parameters": {"type": "object"}});
    let disk = json!({"type": "namespace", "name": "disk", "description": "", "tools": [look]});
    json!({"model": "gpt-6.2-sol", "input": "hi", "tools": [look, disk, {"type": "local_shell"}]})
}

async fn respond(bench: &Bench, request: &Value) -> Answer {
    Ask::post("/v1/responses", request).send(&bench.proxy).await
}

#[tokio::test]
async fn a_model_that_requires_the_lite_form_is_learned_once() {
    let bench = Bench::with(|launch| launch.setting("upstream.max_retries", "0")).await;
    bench.upstream.on("/responses", Script::json(400, REFUSAL));
    bench.upstream.on("/responses", Script::events(&WHOLE));
    for _ in 0..2 {
        assert_eq!(Ask::chat(&chat()).send(&bench.proxy).await.status, 200);
    }
    let other = with(chat(), "model", json!("gpt-6-sol"));
    assert_eq!(Ask::chat(&other).send(&bench.proxy).await.status, 200);
    assert_eq!(forms(&bench), [false, true, true, false], "each model separately");
}

#[tokio::test]
async fn a_second_refusal_is_returned_and_not_learned() {
    let bench = Bench::new().await;
    bench.upstream.on("/responses", Script::json(400, REFUSAL));
    let answer = Ask::chat(&chat()).send(&bench.proxy).await;
    assert_eq!((answer.status, answer.error()["type"].as_str()), (400, Some("invalid_request_error")));
    assert_eq!(forms(&bench), [false, true]);
    bench.upstream.replace("/responses", Script::events(&WHOLE));
    assert_eq!(Ask::chat(&chat()).send(&bench.proxy).await.status, 200);
    assert_eq!(forms(&bench), [false, true, false]);
}

#[tokio::test]
async fn other_refusals_do_not_change_the_form() {
    for refusal in [
        r#"{"detail":"The 'gpt-7-lite' model is not known."}"#,
        r#"{"error":{"code":"unsupported_value","param":"reasoning.effort","message":"Unsupported value: 'max'"}}"#,
        r#"{"detail":"Instructions are not valid"}"#,
    ] {
        let bench = Bench::new().await;
        bench.upstream.on("/responses", Script::json(400, refusal));
        assert_eq!(Ask::chat(&chat()).send(&bench.proxy).await.status, 400);
        assert_eq!(forms(&bench), [false], "{refusal}");
    }
}

#[tokio::test]
async fn a_lite_model_that_rejects_a_classic_member_gets_one_lite_request() {
    for member in ["instructions", "tools"] {
        let bench = Bench::with(|launch| launch.setting("upstream.max_retries", "0")).await;
        let refusal = format!(r#"{{"detail":"Unsupported parameter: {member}"}}"#);
        bench.upstream.on("/responses", Script::json(400, &refusal));
        bench.upstream.on("/responses", Script::events(&WHOLE));
        let lite = with(chat(), "model", json!("gpt-6.2-sol"));
        for _ in 0..2 {
            assert_eq!(Ask::chat(&lite).send(&bench.proxy).await.status, 200, "{member}");
        }
        assert_eq!(forms(&bench), [false, true, true], "{member}: it is learnt");

        bench.upstream.replace("/responses", Script::json(400, &refusal));
        let other = with(chat(), "model", json!("gpt-5.5"));
        let answer = Ask::chat(&other).send(&bench.proxy).await;
        assert_eq!((answer.status, answer.error()["param"].as_str()), (400, Some(member)), "no lite model");
        assert_eq!(bench.request_count(), 4, "{member}");
    }
}

#[tokio::test]
async fn with_the_classic_setting_the_form_never_changes() {
    let bench = set_to("classic").await;
    bench.upstream.on("/responses", Script::json(400, REFUSAL));
    assert_eq!(Ask::chat(&chat()).send(&bench.proxy).await.status, 400);
    assert_eq!(forms(&bench), [false]);
}

#[tokio::test]
async fn lite_is_sent_to_all_models_except_those_known_as_classic() {
    let bench = set_to("lite").await;
    bench.upstream.on("/responses", Script::events(&WHOLE));
    for model in ["gpt-6.2-sol", "gpt-9-of-tomorrow", "gpt-5.5"] {
        let request = with(chat(), "model", json!(model));
        assert_eq!(Ask::chat(&request).send(&bench.proxy).await.status, 200);
    }
    assert_eq!(forms(&bench), [true, true, false]);
}

#[tokio::test]
async fn members_that_the_lite_form_lacks_are_named() {
    let bench = set_to("lite").await;
    bench.upstream.on("/responses", Script::events(&CALLING));
    let mut request = with_tools();
    request["tool_choice"] = json!({"type": "function", "name": "look"});
    let answer = respond(&bench, &request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-proxy-warnings"), "ignored:tools.local_shell, clamped:tool_choice");
    let sent = bench.upstream.requests("/responses").remove(0).json();
    let names: Vec<_> = sent["input"][0]["tools"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
    assert_eq!(names, ["functions", "disk"]);
}

#[tokio::test]
async fn the_wrapping_namespace_reaches_no_client() {
    let bench = set_to("lite").await;
    bench.upstream.on("/responses", Script::events(&[CREATED, CALL, ARGUMENTS, CALLED, OWN_CALLED, COMPLETED]));
    let mut streaming = with_tools();
    streaming["stream"] = json!(true);
    let look = json!({"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}});
    let chat = with(with(chat(), "model", json!("gpt-6.2-sol")), "tools", json!([look]));
    let asks = [
        Ask::post("/v1/responses", &with_tools()),
        Ask::post("/v1/responses", &streaming),
        Ask::post("/v1/responses", &streaming).header("originator", "codex_exec"),
        Ask::chat(&chat),
        Ask::chat(&with(chat.clone(), "stream", json!(true))),
    ];
    for ask in asks {
        let answer = ask.send(&bench.proxy).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.text().contains("look"), "{}", answer.text());
        assert!(!answer.text().contains(r#""namespace":"functions""#), "{}", answer.text());
    }
    let answer = respond(&bench, &with_tools()).await.json();
    assert_eq!(answer["output"][1]["namespace"], "disk", "the client's own value is kept");
    assert_eq!(answer["tools"], with_tools()["tools"], "the client's own view");
    assert_eq!((&answer["parallel_tool_calls"], &answer["tool_choice"]), (&json!(true), &json!("auto")));
}

#[tokio::test]
async fn a_conversation_continues_by_id_in_the_lite_form() {
    let bench = set_to("lite").await;
    bench.upstream.on("/responses", Script::events(&CALLING));
    let first = respond(&bench, &with_tools()).await.json();
    let mut request = with_tools();
    request["previous_response_id"] = first["id"].clone();
    request["input"] = json!([{"type": "function_call_output", "call_id": "call_1", "output": "seen"}]);
    assert_eq!(respond(&bench, &request).await.status, 200);
    let kept = Ask::get("/v1/responses/resp_1").send(&bench.proxy).await;
    assert!(!kept.text().contains("functions"), "{}", kept.text());
    let sent = bench.upstream.requests("/responses").remove(1).json();
    let call = sent["input"].as_array().unwrap().iter().find(|item| item["type"] == "function_call").unwrap();
    assert_eq!((&call["name"], &call["namespace"]), (&json!("look"), &json!("functions")));
}

#[tokio::test]
async fn a_lite_body_of_a_clients_own_is_not_wrapped_again() {
    for setting in ["auto", "lite", "classic"] {
        let bench = set_to(setting).await;
        bench.upstream.on("/responses", Script::events(&CALLING));
        let tools = json!([{"type": "namespace", "name": "functions", "description": "", "tools": []}]);
        let input = json!([
            {"type": "additional_tools", "id": "at_1", "role": "developer", "tools": tools},
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        ]);
        let request = json!({
            "model": "gpt-6.2-sol", "stream": true, "store": false, "input": input, "parallel_tool_calls": false,
            "reasoning": {"effort": "low", "context": "all_turns"},
        });
        let ask = Ask::post("/v1/responses", &request).header("originator", "codex_exec").header(MARK, "true");
        let answer = ask.send(&bench.proxy).await;
        assert!(answer.text().contains(CALLED), "its own namespaces are its own: {}", answer.text());
        let sent = bench.upstream.requests("/responses").remove(0);
        assert!(is_lite(&sent));
        assert_eq!(sent.json()["input"], input);
    }
}

#[tokio::test]
async fn the_demo_has_a_model_that_requires_the_lite_form() {
    let proxy = Launch::demo().start();
    let look = json!({"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}});
    let ask = |text: &str| {
        let request = with(with(chat(), "tools", json!([look])), "model", json!("gpt-6.2-sol"));
        with(request, "messages", json!([{"role": "user", "content": text}]))
    };
    let first = Ask::chat(&ask("demo:lite call look_up")).send(&proxy).await;
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(first.json()["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "look_up");
    assert!(proxy.log().contains("requires the lite form"), "{}", proxy.log());
    let again = Ask::chat(&ask("demo:lite once more")).send(&proxy).await;
    assert_eq!(
        (again.status, proxy.log().matches("retrying the backend request").count()),
        (200, 1),
        "{}",
        proxy.log()
    );
}

#[tokio::test]
async fn the_demo_accepts_the_lite_form_in_every_api() {
    let proxy = Launch::demo().setting("upstream.body", "lite").start();
    let image = "data:image/png;base64,iVBORw0KGgo=";
    let parts = json!([{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": image}}]);
    let chat = json!({"model": "gpt-6.2-sol", "messages": [{"role": "user", "content": parts}]});
    let messages = json!({"model": "gpt-6.2-sol", "max_tokens": 99, "messages": [{"role": "user", "content": "hi"}]});
    let mut responses = with_tools();
    responses["tool_choice"] = json!("required");
    let ollama = json!({"model": "gpt-6.2-sol", "messages": [{"role": "user", "content": "hi"}]});
    let gemini = json!({"contents": [{"parts": [{"text": "hi"}]}], "tools": [{"googleSearch": {}}]});
    for (path, body) in [
        ("/v1/chat/completions", &chat),
        ("/v1/messages", &messages),
        ("/v1/responses", &responses),
        ("/api/chat", &ollama),
        ("/v1beta/models/gpt-6.2-sol:generateContent", &gemini),
    ] {
        let answer = Ask::post(path, body).send(&proxy).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}
