//! Responses requests: golden cases, errors, and repairs.

use codex_proxy::command_hint::CommandHint;
use codex_proxy::protocol::Dialect as _;
use codex_proxy::protocol::responses::{Options, Responses, to_error_response};
use http::HeaderValue;
use serde_json::{Value, json};

use super::stored_refs::resolve_references;
use super::{Outcome, Scene, leaves_as_written, read, refused_cases};

fn outcome(request: &Value) -> Outcome {
    Scene::default().try_translate_as::<Responses>(request.to_string().as_bytes(), &Options::default()).unwrap()
}

fn with(member: &str, value: Value) -> Value {
    let mut request = json!({"model": "m", "input": "x"});
    request[member] = value;
    request
}

fn input(items: Value) -> Value {
    outcome(&with("input", items)).upstream["input"].take()
}

/// Translates a request with stored responses.
fn continued(body: &[u8], store: &Value) -> Outcome {
    let mut request = Responses::decode(body).unwrap();
    let references = Responses::references(&request);
    Responses::resolve_references(&mut request, resolve_references(store, &references));
    Scene::default().try_translate_request::<Responses>(request, &Options::default()).unwrap()
}

#[test]
fn every_case_is_translated_as_expected() {
    let count = leaves_as_written("responses", |case, body| {
        let store = case.join("store.json");
        let mut outcome = continued(body, &if store.exists() { read(&store) } else { json!({}) });
        let key = &mut outcome.upstream["prompt_cache_key"];
        if *key == "earlier-key" {
            // A conversation keeps its key; in the case this one would have been derived.
            *key = json!("00000000-0000-8000-8000-000000000000");
        }
        outcome
    });
    assert!(count >= 9, "the cases are missing");
}

#[test]
fn a_conversation_continued_by_id_keeps_its_cache_key() {
    let store = json!({"resp_1": {"input": [], "output": []}});
    let mut request = with("previous_response_id", json!("resp_1"));
    assert_eq!(continued(request.to_string().as_bytes(), &store).upstream["prompt_cache_key"], "earlier-key");
    request["prompt_cache_key"] = json!("own");
    assert_eq!(continued(request.to_string().as_bytes(), &store).upstream["prompt_cache_key"], "own");
}

#[test]
fn an_item_can_be_referenced_twice() {
    let said = json!({"type": "message", "id": "msg_1", "role": "user", "content": []});
    let store = json!({"resp_1": {"input": [said], "output": []}});
    let reference = json!({"type": "item_reference", "id": "msg_1"});
    let request = with("input", json!([reference, reference]));
    let again = json!({"type": "message", "role": "user", "content": []});
    assert_eq!(continued(request.to_string().as_bytes(), &store).upstream["input"], json!([said, again]));
}

#[test]
fn a_call_of_a_stored_response_can_be_answered() {
    let call = json!({"type": "function_call", "id": "fc_1", "call_id": "a", "name": "f", "arguments": "{}"});
    let output = json!({"type": "function_call_output", "call_id": "a", "output": "r"});
    let store = json!({"resp_1": {"input": [], "output": [call]}});
    let mut request = with("input", json!([output]));
    request["previous_response_id"] = json!("resp_1");
    let outcome = continued(request.to_string().as_bytes(), &store);
    assert_eq!((&outcome.upstream["input"], outcome.warnings.len()), (&json!([call, output]), 0));
}

#[test]
fn every_error_names_its_param() {
    for case in refused_cases("responses") {
        let body = case["request"].to_string();
        let error = Scene::default().try_translate_as::<Responses>(body.as_bytes(), &Options::default()).unwrap_err();
        let (status, _, body) = to_error_response(&error, "req_test", CommandHint::default());
        let mut body: Value = serde_json::from_slice(&body).unwrap();
        assert!(body["error"]["message"].as_str().is_some_and(|message| !message.is_empty()));
        body["error"]["message"] = case["response"]["error"]["message"].clone();
        assert_eq!((json!(status.as_u16()), &body), (case["status"].clone(), &case["response"]), "{}", case["case"]);
    }
}

#[test]
fn top_level_members_are_an_allowlist() {
    let request = json!({
        "model": "m", "input": "x", "max_output_tokens": 5, "max_tool_calls": 1, "temperature": 1, "top_p": 0.5,
        "top_logprobs": 0, "truncation": "auto", "context_management": [], "seed": 1, "stop": "x", "n": 1,
        "presence_penalty": 0, "frequency_penalty": 0.1, "metadata": {}, "user": "u", "safety_identifier": "s",
        "prompt_cache_retention": "24h", "prompt_cache_options": {}, "background": false, "tomorrow": 1,
        "stream_options": {"include_obfuscation": false, "reasoning_summary_delivery": "x"},
    });
    let outcome = outcome(&request);
    let ignored =
        "context_management frequency_penalty max_output_tokens max_tool_calls seed stop tomorrow top_p truncation";
    let ignored: Vec<String> = ignored.split(' ').map(|name| format!("ignored:{name}")).collect();
    assert_eq!(outcome.warnings, ignored);
    assert_eq!(outcome.upstream["stream_options"], json!({"reasoning_summary_delivery": "x"}));
    let members: Vec<&str> = outcome.upstream.as_object().unwrap().keys().map(String::as_str).collect();
    let allowed = "include input instructions model parallel_tool_calls prompt_cache_key reasoning store stream stream_options tool_choice tools";
    assert_eq!(members.join(" "), allowed);
}

#[test]
fn reasoning_is_merged_over_the_defaults() {
    let reported = |reasoning: Value| outcome(&with("reasoning", reasoning)).upstream["reasoning"].take();
    assert_eq!(reported(json!({"summary": null, "effort": "high"})), json!({"effort": "high"}));
    assert_eq!(reported(json!({"generate_summary": "detailed"})), json!({"summary": "detailed"}));
    assert_eq!(
        reported(json!({"context": "all_turns", "effort": 7})),
        json!({"summary": "auto", "context": "all_turns", "effort": 7})
    );
}

#[test]
fn tools_have_the_backends_format() {
    let tools = json!([
        {"type": "web_search_preview_2025_03_11", "external_web_access": true},
        {"type": "function", "function": {"name": "f", "parameters": {}}},
        {"type": "function", "name": "g", "parameters": {}},
    ]);
    let mut request = with("tools", tools);
    request["tool_choice"] = json!({"type": "function", "function": {"name": "f"}});
    let upstream = outcome(&request).upstream;
    assert_eq!(
        upstream["tools"],
        json!([
            {"type": "web_search", "external_web_access": true},
            {"type": "function", "name": "f", "parameters": {}, "strict": false},
            {"type": "function", "name": "g", "parameters": {}},
        ])
    );
    assert_eq!(upstream["tool_choice"], json!({"type": "function", "name": "f"}));
    request["tool_choice"] =
        json!({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search_preview"}, {"type": "mcp"}]});
    assert_eq!(outcome(&request).upstream["tool_choice"]["tools"], json!([{"type": "web_search"}, {"type": "mcp"}]));
}

#[test]
fn an_output_finds_its_call_at_any_distance() {
    let call = json!({"type": "custom_tool_call", "call_id": "a", "name": "p", "input": ""});
    let said = json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]});
    let odd = json!({"type": "tomorrow", "x": 1});
    let output =
        json!({"type": "function_call_output", "call_id": "a", "output": [{"type": "input_text", "text": "r"}]});
    let mut answered = output.clone();
    answered["type"] = json!("custom_tool_call_output");
    assert_eq!(input(json!([call, said, odd, output])), json!([call, said, odd, answered]));
}

#[test]
fn an_output_without_a_call_keeps_its_parts() {
    let picture = json!({"type": "input_image", "image_url": "data:image/png;base64,AA"});
    let orphans = input(json!([
        {"type": "function_call_output", "output": [picture]},
        {"type": "function_call_output", "call_id": "b", "output": "say \"hi\""},
    ]));
    let lead = |id: &str| format!("[Output of tool call {id}, whose call is not in this conversation]\n");
    assert_eq!(orphans[0]["content"], json!([{"type": "input_text", "text": lead("unknown")}, picture]));
    assert_eq!(orphans[1]["content"], json!([{"type": "input_text", "text": lead("b") + "say \"hi\""}]));
}

#[test]
fn foreign_ids_are_removed_and_our_own_are_kept() {
    let message = |id: &str| json!({"type": "message", "id": id, "role": "user", "content": []});
    let items = input(
        json!([message("msg_1"), message("x"), message(&format!("msg_{}", "x".repeat(61))), {"type": "web_search_call", "id": "x"}]),
    );
    let ids: Vec<&Value> = items.as_array().unwrap().iter().map(|item| &item["id"]).collect();
    assert_eq!(ids, [&json!("msg_1"), &Value::Null, &Value::Null, &json!("x")]);
}

#[test]
fn a_stored_response_that_is_sent_again_has_each_id_once() {
    let said = json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": "x", "annotations": [], "logprobs": []}]});
    let kept = json!({"type": "message", "id": "msg_0", "role": "assistant",
        "content": [{"type": "output_text", "text": "y", "parsed": {}, "logprobs": [{}]}]});
    let store = json!({"resp_1": {"input": [kept], "output": [said]}});
    let mut request = with("input", json!([said, {"role": "user", "content": "on"}]));
    request["previous_response_id"] = json!("resp_1");
    let input = continued(request.to_string().as_bytes(), &store).upstream["input"].take();
    assert_eq!(input[0]["content"], json!([{"type": "output_text", "text": "y"}]));
    assert_eq!((&input[1], &input[2]["id"]), (&said, &Value::Null));
    assert_eq!(input[2]["content"], json!([{"type": "output_text", "text": "x", "annotations": []}]));
}

#[test]
fn only_repeated_ids_are_removed_for_a_codex_client() {
    let mut scene = Scene::default();
    scene.headers.insert("originator", HeaderValue::from_static("codex_exec"));
    let reasoning = json!({"type": "reasoning", "id": "rs_1", "summary": [], "content": null, "encrypted_content": "g", "status": null});
    let request = with("input", json!([reasoning, reasoning]));
    let outcome = scene.try_translate_as::<Responses>(request.to_string().as_bytes(), &Options::default()).unwrap();
    let mut again = reasoning.clone();
    again.as_object_mut().unwrap().remove("id");
    assert_eq!(outcome.upstream["input"], json!([reasoning, again]));
}

#[test]
fn system_text_is_hoisted_only_if_alone() {
    let system = json!({"role": "system", "content": "Be terse."});
    let user = json!({"role": "user", "content": "Hi"});
    let both = outcome(&json!({"model": "m", "instructions": "I", "input": [system, user]})).upstream;
    assert_eq!((&both["instructions"], &both["input"][0]["role"]), (&json!("I"), &json!("developer")));
    let alone = outcome(&with("input", json!([system]))).upstream;
    assert_eq!((&alone["input"][0]["role"], alone["input"].as_array().map(Vec::len)), (&json!("developer"), Some(1)));
    let picture = json!({"role": "system", "content": [{"type": "input_image", "image_url": "data:,"}]});
    assert_eq!(input(json!([picture, user]))[0]["role"], "developer");
}

#[test]
fn json_output_is_requested_in_the_input_if_missing() {
    let mut request = with("text", json!({"format": {"type": "json_object"}}));
    assert_eq!(outcome(&request).upstream["input"][0]["role"], "developer");
    request["input"] = json!("Give me JSON");
    assert_eq!(outcome(&request).upstream["input"].as_array().map(Vec::len), Some(1));
}

#[test]
fn requests_of_a_codex_client_are_unchanged() {
    let mut scene = Scene::default();
    scene.headers.insert("originator", HeaderValue::from_static("codex_exec"));
    let items = json!([
        {"type": "message", "role": "developer", "id": "x", "content": [{"type": "input_text", "text": "p"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "g"},
        {"type": "function_call", "id": "own", "call_id": "c", "name": "f", "arguments": "{}"},
    ]);
    let mut request = with("input", items.clone());
    request["include"] = json!(["message.output_text.logprobs"]);
    let outcome = scene.try_translate_as::<Responses>(request.to_string().as_bytes(), &Options::default()).unwrap();
    assert_eq!(outcome.upstream["input"], items);
    assert_eq!(outcome.upstream["include"], json!(["reasoning.encrypted_content", "message.output_text.logprobs"]));
    assert!(outcome.warnings.is_empty());
}

#[test]
fn cache_hints_in_parts_are_dropped() {
    let part = json!({"type": "input_text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit"}});
    let items = input(json!([{"role": "user", "content": [part]}]));
    assert_eq!(items[0]["content"], json!([{"type": "input_text", "text": "x"}]));
}
