//! Chat requests with a Responses body: errors, and differences from messages.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::laws::{anything, assert_acceptable};
use super::{Scene, assert_refused, translate};

#[expect(clippy::needless_pass_by_value, reason = "items are inline")]
fn sending(input: Value) -> Value {
    json!({"model": "m", "input": input})
}

fn with(member: &str, value: Value) -> Value {
    let mut request = sending(json!("x"));
    request[member] = value;
    request
}

#[test]
fn an_error_in_an_item_is_reported_with_its_path() {
    let item = |item: Value| sending(json!([item]));
    let saying = |parts: Value| item(json!({"role": "user", "content": parts}));
    for (request, param, code) in [
        (sending(json!([])), "input", "invalid_value"),
        (sending(json!(5)), "input", "invalid_type"),
        (sending(json!([{"type": "reasoning", "id": "rs_1"}])), "input", "invalid_value"),
        (sending(json!([{"role": "system", "content": " "}])), "input", "invalid_value"),
        (item(json!(5)), "input[0]", "invalid_type"),
        (item(json!({"role": "robot"})), "input[0].role", "invalid_value"),
        (item(json!({"type": "message"})), "input[0].role", "missing_required_parameter"),
        (
            saying(json!([{"type": "input_text", "text": "x"}, {"type": "input_video"}])),
            "input[0].content[1].type",
            "invalid_value",
        ),
        (saying(json!([{"type": "input_text", "text": 1}])), "input[0].content[0].text", "invalid_type"),
        (saying(json!([{"type": "input_file", "file_id": "f"}])), "input[0].content[0].file_id", "invalid_value"),
        (item(json!({"type": "function_call", "call_id": "c"})), "input[0].name", "missing_required_parameter"),
        (item(json!({"type": "function_call", "name": "f", "arguments": 5})), "input[0].arguments", "invalid_type"),
        (
            item(json!({"type": "function_call_output", "call_id": "c", "output": {}})),
            "input[0].output",
            "invalid_type",
        ),
        (item(json!({"type": "item_reference", "id": "msg_1"})), "input[0]", "unsupported_value"),
        (item(json!({"id": "msg_1"})), "input[0]", "unsupported_value"),
        (with("instructions", json!(5)), "instructions", "invalid_type"),
        (with("text", json!({"verbosity": "loud"})), "text.verbosity", "invalid_value"),
        (with("text", json!({"format": {"type": "xml"}})), "text.format.type", "invalid_value"),
        (
            with("text", json!({"format": {"type": "json_schema", "name": "n"}})),
            "text.format.schema",
            "missing_required_parameter",
        ),
        (with("reasoning", json!({"effort": "huge"})), "reasoning.effort", "invalid_value"),
        (with("previous_response_id", json!("resp_1")), "previous_response_id", "previous_response_not_found"),
        (with("prompt", json!({"id": "p"})), "prompt", "unsupported_parameter"),
    ] {
        assert_refused(&request, param, code);
    }
}

#[test]
fn members_without_effect_are_dropped_silently() {
    let mut request = sending(json!("x"));
    for (member, value) in [
        ("background", json!(false)),
        ("truncation", json!("disabled")),
        ("include", json!(["reasoning.encrypted_content"])),
        ("client_metadata", json!({})),
        ("metadata", json!({"a": "b"})),
        ("previous_response_id", Value::Null),
    ] {
        request[member] = value;
    }
    assert_eq!(translate(&request).warnings, [""; 0]);
}

#[test]
fn a_json_object_format_is_requested_in_the_input() {
    let outcome = translate(&with("text", json!({"format": {"type": "json_object"}})));
    assert_eq!(outcome.upstream["text"]["format"]["type"], "json_object");
    assert_eq!(outcome.upstream["input"][0]["content"][0]["text"], "Respond with a single valid JSON object.");
}

#[test]
fn an_output_may_be_far_from_its_call() {
    let call = |id: &str| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"});
    let output = |id: &str| json!({"type": "function_call_output", "call_id": id, "output": "1"});
    let outcome = translate(&sending(json!([call("a"), {"role": "user", "content": "wait"}, output("a")])));
    assert_eq!(outcome.warnings, [""; 0]);
    assert_eq!(outcome.upstream["input"][2]["call_id"], "a");
}

#[test]
fn lost_reasoning_does_not_separate_parallel_calls() {
    let call = |id: &str| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"});
    let outcome =
        translate(&sending(json!([call("a"), {"type": "reasoning", "id": "rs_1", "summary": []}, call("b")])));
    let kinds: Vec<_> =
        outcome.upstream["input"].as_array().unwrap().iter().map(|item| item["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["function_call", "function_call", "function_call_output", "function_call_output"]);
}

/// An item that is valid by type, with ids that collide and calls without outputs.
fn item() -> impl Strategy<Value = Value> {
    let id = prop::sample::select(vec!["", "a", "a_2", "b", "ö", "call_m0_0"]);
    let name = prop::sample::select(vec!["f", "patch", "fs.read"]);
    let role = prop::sample::select(vec!["user", "assistant", "system", "developer"]);
    prop_oneof![
        (role, "[a-z ]{0,8}").prop_map(|(role, text)| json!({"role": role, "content": text})),
        (id.clone(), name.clone())
            .prop_map(|(id, name)| json!({"type": "function_call", "call_id": id, "name": name, "arguments": ""})),
        (id.clone(), name)
            .prop_map(|(id, name)| json!({"type": "custom_tool_call", "call_id": id, "name": name, "input": "x"})),
        (id.clone(), ".{0,8}")
            .prop_map(|(id, text)| json!({"type": "function_call_output", "call_id": id, "output": text})),
        id.prop_map(|id| json!({"type": "custom_tool_call_output", "call_id": id, "output": []})),
        Just(json!({"type": "reasoning", "id": "rs_1", "summary": []})),
    ]
}

proptest! {
    #[test]
    fn any_items_become_an_input_that_the_backend_accepts(items in prop::collection::vec(item(), 1..14)) {
        let mut request = sending(json!(items));
        request["tools"] = json!([{"type": "custom", "name": "patch"}]);
        if let Ok(outcome) = Scene::default().try_translate(request.to_string().as_bytes()) {
            assert_acceptable(&outcome.upstream);
        }
    }

    #[test]
    fn no_item_panics(value in anything()) {
        for request in [sending(value.clone()), sending(json!([value])), with("text", value.clone()), with("text", json!({"format": value}))] {
            let _ = Scene::default().try_translate(request.to_string().as_bytes());
        }
    }
}
