//! Rejected requests, and the field that the error names.

use serde_json::{Value, json};

use super::{Scene, assert_refused, refusal, saying, with};

#[test]
fn a_known_member_of_the_wrong_type_is_named() {
    for (member, value) in [
        ("model", json!(5)),
        ("stream", json!("yes")),
        ("stream_options", json!([])),
        ("tools", json!({})),
        ("functions", json!("f")),
        ("tool_choice", json!(true)),
        ("parallel_tool_calls", json!(1)),
        ("response_format", json!("json")),
        ("reasoning_effort", json!(3)),
        ("reasoning", json!("high")),
        ("verbosity", json!({})),
        ("prompt_cache_key", json!(7)),
        ("service_tier", json!(false)),
        ("web_search_options", json!(true)),
        ("stop", json!({})),
        ("max_tokens", json!("50")),
        ("temperature", json!("hot")),
        ("logit_bias", json!([])),
        ("n", json!("1")),
        ("logprobs", json!(1)),
        ("modalities", json!("text")),
        ("store", json!("no")),
        ("user", json!({})),
    ] {
        assert_refused(&with(member, value), member, "invalid_type");
    }
}

#[test]
fn a_nested_wrong_type_is_reported_with_its_path() {
    let call = |call: Value| saying(json!([{"role": "assistant", "tool_calls": [call]}]));
    let function = json!({"type": "function", "function": {"name": "f", "arguments": 5}});
    for (request, param) in [
        (saying(json!([5])), "messages[0]"),
        (saying(json!([{"role": 1}])), "messages[0].role"),
        (saying(json!([{"role": "user", "content": 5}])), "messages[0].content"),
        (saying(json!([{"role": "user", "content": ["x"]}])), "messages[0].content[0]"),
        (saying(json!([{"role": "user", "content": [{"type": "text", "text": 1}]}])), "messages[0].content[0].text"),
        (saying(json!([{"role": "system", "content": {}}])), "messages[0].content"),
        (call(function), "messages[0].tool_calls[0].function.arguments"),
        (call(json!(1)), "messages[0].tool_calls[0]"),
        (
            with("tools", json!([{"type": "function", "function": {"name": "f", "parameters": []}}])),
            "tools[0].function.parameters",
        ),
        (with("tools", json!([{"type": "function", "name": "f", "strict": "no"}])), "tools[0].strict"),
        (with("stop", json!(["a", 1])), "stop[1]"),
        (with("reasoning", json!({"effort": 1})), "reasoning.effort"),
    ] {
        assert_refused(&request, param, "invalid_type");
    }
}

#[test]
fn a_missing_or_invalid_value_is_reported_with_its_path() {
    let part = |part: Value| saying(json!([{"role": "user", "content": [part]}]));
    for (request, param, code) in [
        (json!({"model": " ", "messages": [{"role": "user", "content": "x"}]}), "model", "missing_required_parameter"),
        (json!({"model": "m"}), "messages", "invalid_value"),
        (saying(json!("hi")), "messages", "invalid_value"),
        (saying(json!(null)), "messages", "invalid_value"),
        (saying(json!([{"role": "assistant", "content": ""}])), "messages", "invalid_value"),
        (saying(json!([{"role": "system", "content": "  "}])), "messages", "invalid_value"),
        (saying(json!([{"content": "x"}])), "messages[0].role", "missing_required_parameter"),
        (saying(json!([{"role": "user"}])), "messages[0].content", "missing_required_parameter"),
        (part(json!({"text": "x"})), "messages[0].content[0].type", "missing_required_parameter"),
        (part(json!({"type": "video_url"})), "messages[0].content[0].type", "invalid_value"),
        (
            part(json!({"type": "image_url", "image_url": "ftp://x"})),
            "messages[0].content[0].image_url",
            "invalid_value",
        ),
        (
            part(json!({"type": "image_url", "image_url": {}})),
            "messages[0].content[0].image_url.url",
            "missing_required_parameter",
        ),
        (
            part(json!({"type": "file", "file": {}})),
            "messages[0].content[0].file.file_data",
            "missing_required_parameter",
        ),
        (with("verbosity", json!("loud")), "verbosity", "invalid_value"),
        (with("tool_choice", json!("some")), "tool_choice", "invalid_value"),
        (with("tool_choice", json!("any")), "tool_choice", "invalid_value"),
        (with("function_call", json!({"name": "f"})), "function_call", "invalid_value"),
        (with("top_logprobs", json!(2)), "top_logprobs", "unsupported_parameter"),
        (with("moderation", json!({})), "moderation", "unsupported_parameter"),
        (with("response_format", json!({"type": "xml"})), "response_format.type", "invalid_value"),
        (
            with("tools", json!([{"type": "function", "function": {}}])),
            "tools[0].function.name",
            "missing_required_parameter",
        ),
    ] {
        assert_refused(&request, param, code);
    }
}

#[test]
fn a_body_that_is_not_an_object_is_rejected_without_a_param() {
    for body in ["", "{", "[]", "5", "\"secret\"", "{\"a\":1}x", "{\"a\" 1}", "null"] {
        let refusal = refusal(body.as_bytes());
        assert_eq!((refusal.param, refusal.code), (None, None), "{body}");
        assert!(!refusal.message.contains("secret"), "an error may be logged, a body may not");
    }
    assert_eq!(refusal(b"{\"model\":\"\xff\"}").param, None);
}

#[test]
fn a_hostile_body_takes_linear_time() {
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let many = (0..100_000).fold(String::new(), |many, number| many + ",\"x" + &number.to_string() + "\":0");
    let body =
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x","deep":{deep}}}],"deep":{deep}{many}}}"#);
    let outcome = Scene::default().try_translate(body.as_bytes()).unwrap();
    assert!(outcome.warnings.len() <= 64, "warnings go into a header");
}

#[test]
fn a_long_history_with_one_call_id_is_paired_in_order() {
    let call = json!({"role": "assistant", "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f"}}]});
    let output = json!({"role": "tool", "tool_call_id": "a", "content": "1"});
    let turns = 10_000;
    let messages: Vec<_> = (0..turns).flat_map(|_| [call.clone(), output.clone()]).collect();
    let outcome = Scene::default().translate(&saying(json!(messages)));
    assert_eq!(outcome.upstream["input"].as_array().map(Vec::len), Some(2 * turns));
    assert_eq!(outcome.upstream["input"][2 * turns - 1]["call_id"], format!("a_{turns}"));
    assert_eq!(outcome.warnings, ["repaired:duplicate_tool_call_id"]);
}
