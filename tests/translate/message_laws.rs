//! Rules for every Messages request: it never panics, it has a token count, and the backend accepts the output.

use codex_proxy::error::ProxyError;
use codex_proxy::protocol::CommonOptions;
use codex_proxy::protocol::chat::Options;
use codex_proxy::protocol::messages;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::Scene;
use super::messages::{asking, offering, saying, tool_result, tool_use};

fn count(body: &[u8]) -> u64 {
    let options = Options::default();
    let options =
        CommonOptions { default_instructions: options.default_instructions, token_limit: options.token_limit };
    messages::count_tokens(body, &mut Scene::default().context(), &options)
}

#[test]
fn the_token_count_follows_the_upstream_request() {
    let counted = |request: &Value| count(request.to_string().as_bytes());
    let plain = counted(&saying(json!("Hello")));
    let billed = asking("system", json!([{"type": "text", "text": "x-anthropic-billing-header: a b c d e f g"}]));
    assert_eq!(counted(&billed), counted(&saying(json!("x"))), "omitted content has no tokens");
    assert!(counted(&saying(json!("Hello, and how are you today?"))) > plain);
    let result = |content: Value| {
        let messages = json!([{"role": "assistant", "content": [tool_use("a")]}, {"role": "user", "content": [tool_result("a", content)]}]);
        counted(&asking("messages", messages))
    };
    let picture = json!([{"type": "image", "source": {"type": "url", "url": "https://a/b.png"}}]);
    assert_eq!(result(picture) - result(json!("")), 1000);
    let pdf = |bytes: usize| {
        let source = json!({"type": "base64", "media_type": "application/pdf", "data": "A".repeat(bytes)});
        counted(&saying(json!([{"type": "document", "source": source}])))
    };
    assert!(pdf(40_000) > pdf(4_000) + 1000, "a file is counted by its size");
    let thinking = json!([{"role": "user", "content": "x"}, {"role": "assistant", "content": [
        {"type": "thinking", "thinking": "never sent ".repeat(50), "signature": "foreign"},
    ]}]);
    assert_eq!(counted(&asking("messages", thinking)), counted(&saying(json!("x"))));
}

/// Any JSON with names that have a meaning.
fn anything() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec![
        "type",
        "text",
        "content",
        "source",
        "data",
        "media_type",
        "url",
        "signature",
        "id",
        "name",
        "input",
        "tool_use_id",
        "is_error",
        "title",
        "schema",
        "format",
        "effort",
        "budget_tokens",
        "input_schema",
    ]);
    let words = prop::sample::select(vec![
        "text",
        "image",
        "document",
        "tool_use",
        "tool_result",
        "thinking",
        "redacted_thinking",
        "base64",
        "url",
        "content",
        "enabled",
        "disabled",
        "cxr1.x",
        "web_search_20250305",
        "bash_20250124",
        "json_schema",
        "any",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        words.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((names.clone(), inner), 0..5)
                .prop_map(|members| members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

fn any_message() -> impl Strategy<Value = Value> {
    let id = prop::sample::select(vec!["a", "b", "ö", "toolu_1"]);
    let block = prop_oneof![
        id.clone().prop_map(tool_use),
        (id, ".{0,5}").prop_map(|(id, text)| tool_result(id, json!(text))),
        ".{0,5}".prop_map(|text| json!({"type": "text", "text": text})),
        Just(json!({"type": "thinking", "thinking": "t", "signature": "cxr1.abc"})),
        Just(json!({"type": "thinking", "thinking": "t", "signature": "foreign"})),
    ];
    let role = prop::sample::select(vec!["user", "assistant"]);
    (role, prop::collection::vec(block, 0..5)).prop_map(|(role, content)| json!({"role": role, "content": content}))
}

/// The requirements of the backend: calls and outputs pair up, ids are unique, nothing is empty.
fn assert_acceptable(upstream: &Value) {
    let (mut calls, mut answered) = (Vec::new(), Vec::new());
    for item in upstream["input"].as_array().unwrap() {
        match item["type"].as_str().unwrap() {
            "function_call" => calls.push(item["call_id"].clone()),
            "function_call_output" => {
                assert!(calls.contains(&item["call_id"]), "{item} answers nothing before it");
                answered.push(item["call_id"].clone());
            }
            "reasoning" => assert_eq!(item["encrypted_content"], "abc"),
            _ => assert!(!item["content"].as_array().unwrap().is_empty(), "{item}"),
        }
    }
    let unique: std::collections::BTreeSet<_> = answered.iter().map(ToString::to_string).collect();
    assert_eq!((unique.len(), answered.len()), (calls.len(), calls.len()), "one output for each call");
}

proptest! {
    #[test]
    fn no_message_panics(value in anything(), member in "system|messages|thinking|output_config|tools|tool_choice|metadata|stop_sequences|max_tokens") {
        let scene = Scene::default();
        for request in [
            asking(&member, value.clone()),
            saying(json!([value])),
            asking("messages", json!([{"role": "assistant", "content": [value]}])),
            saying(json!([tool_result("a", json!([value]))])),
            offering(json!([value])),
            value,
        ] {
            let _ = scene.try_message(request.to_string().as_bytes());
            count(request.to_string().as_bytes());
        }
    }

    #[test]
    fn any_bytes_have_a_count(body in prop::collection::vec(any::<u8>(), 0..200)) {
        count(&body);
    }

    #[test]
    fn any_history_of_blocks_becomes_one_that_the_backend_accepts(messages in prop::collection::vec(any_message(), 1..12)) {
        let body = asking("messages", json!(messages)).to_string();
        match Scene::default().try_message(body.as_bytes()) {
            Ok(outcome) => {
                assert_acceptable(&outcome.upstream);
                let again = Scene::default().try_message(body.as_bytes()).unwrap();
                prop_assert_eq!(outcome, again, "the same request gives the same bytes");
            }
            Err(ProxyError::Refused(refusal)) => prop_assert_eq!(refusal.param.as_deref(), Some("messages")),
            Err(other) => prop_assert!(false, "{other:?}"),
        }
    }
}
