//! Rules for every request: translation never panics, and the backend accepts the output.

use codex_proxy::error::ProxyError;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Scene, saying, with};

/// Any JSON.
pub(crate) fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((member(), inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Names with a meaning somewhere in a request.
fn member() -> impl Strategy<Value = String> {
    let known = [
        "role",
        "content",
        "type",
        "text",
        "name",
        "id",
        "tool_calls",
        "function",
        "arguments",
        "custom",
        "input",
        "tool_call_id",
        "image_url",
        "url",
        "detail",
        "file",
        "file_data",
        "filename",
        "parameters",
        "format",
        "grammar",
        "mode",
        "tools",
        "allowed_tools",
        "json_schema",
        "schema",
        "strict",
        "effort",
        "properties",
        "user_location",
    ];
    prop::sample::select(known.to_vec()).prop_map(str::to_owned)
}

fn top_level_member() -> impl Strategy<Value = String> {
    let known = [
        "model",
        "messages",
        "stream",
        "stream_options",
        "tools",
        "functions",
        "tool_choice",
        "function_call",
        "response_format",
        "reasoning_effort",
        "reasoning",
        "stop",
        "service_tier",
        "web_search_options",
        "n",
        "user",
        "prompt_cache_key",
        "logit_bias",
        "temperature",
        "whatever",
    ];
    prop::sample::select(known.to_vec()).prop_map(str::to_owned)
}

/// A message that is valid by type, with ids that collide and calls without outputs.
fn message() -> impl Strategy<Value = Value> {
    let id = prop::sample::select(vec!["", "a", "a_2", "b", "ö", "call_m0_0", "call_legacy_1"]);
    let name = prop::sample::select(vec!["f", "patch", "fs.read", ""]);
    let call = (id.clone(), name.clone(), any::<bool>()).prop_map(|(id, name, is_custom)| {
        if is_custom {
            json!({"id": id, "type": "custom", "custom": {"name": name, "input": "x"}})
        } else {
            json!({"id": id, "type": "function", "function": {"name": name, "arguments": {"a": [1, 2]}}})
        }
    });
    prop_oneof![
        ".{0,8}".prop_map(|text| json!({"role": "system", "content": text})),
        ".{0,8}".prop_map(|text| json!({"role": "user", "content": [{"type": "text", "text": text}]})),
        (".{0,8}", prop::collection::vec(call, 0..4))
            .prop_map(|(text, calls)| json!({"role": "assistant", "content": text, "tool_calls": calls})),
        (id, ".{0,8}").prop_map(|(id, text)| json!({"role": "tool", "tool_call_id": id, "content": text})),
        name.clone().prop_map(|name| json!({"role": "function", "name": name, "content": "r"})),
        name.prop_map(|name| json!({"role": "assistant", "function_call": {"name": name, "arguments": ""}})),
    ]
}

/// The requirements of the backend.
pub(crate) fn assert_acceptable(upstream: &Value) {
    let input = upstream["input"].as_array().unwrap();
    assert!(!input.is_empty());
    assert!(!upstream["instructions"].as_str().unwrap().is_empty());
    let valid = |name: &Value| {
        let name = name.as_str().unwrap();
        (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    let (mut calls, mut answered) = (Vec::new(), Vec::new());
    for item in input {
        match item["type"].as_str().unwrap() {
            kind @ ("function_call" | "custom_tool_call") => {
                assert!(valid(&item["call_id"]) && valid(&item["name"]), "{item}");
                calls.push((item["call_id"].clone(), format!("{kind}_output")));
            }
            kind @ ("function_call_output" | "custom_tool_call_output") => {
                let answer = (item["call_id"].clone(), kind.to_owned());
                assert!(calls.contains(&answer), "{item} answers nothing before it");
                assert!(!answered.contains(&answer), "{item} answers a second time");
                answered.push(answer);
            }
            "reasoning" => assert!(item["encrypted_content"].is_string(), "{item}"),
            _ => assert!(!item["content"].as_array().unwrap().is_empty(), "{item}"),
        }
    }
    assert_eq!(calls.len(), answered.len(), "every call is answered");
    let mut ids: Vec<_> = calls.iter().map(|(id, _)| id.as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), calls.len(), "every id is used once");
}

proptest! {
    #[test]
    fn no_body_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Scene::default().try_translate(&body);
    }

    #[test]
    fn no_json_panics(value in anything(), member in top_level_member()) {
        let _ = Scene::default().try_translate(value.to_string().as_bytes());
        let _ = Scene::default().try_translate(with(&member, value).to_string().as_bytes());
    }

    #[test]
    fn no_part_or_tool_panics(value in anything()) {
        let scene = Scene::default();
        for request in [
            saying(json!([{"role": "user", "content": [value]}])),
            saying(json!([{"role": "assistant", "content": value, "tool_calls": [value]}])),
            with("tools", json!([value])),
            with("tools", json!([{"type": "function", "function": {"name": "f", "parameters": value}}])),
        ] {
            let _ = scene.try_translate(request.to_string().as_bytes());
        }
    }

    #[test]
    fn any_history_becomes_one_that_the_backend_accepts(messages in prop::collection::vec(message(), 1..14)) {
        let mut request = saying(json!(messages));
        request["tools"] = json!([{"type": "custom", "name": "patch"}, {"type": "function", "name": "f"}]);
        let body = request.to_string();
        match Scene::default().try_translate(body.as_bytes()) {
            Ok(outcome) => {
                assert_acceptable(&outcome.upstream);
                let again = Scene::default().try_translate(body.as_bytes()).unwrap();
                prop_assert_eq!(outcome, again, "the same request gives the same bytes");
            }
            Err(ProxyError::Refused(refusal)) => prop_assert_eq!(refusal.param.as_deref(), Some("messages")),
            Err(other) => prop_assert!(false, "{other:?}"),
        }
    }
}
