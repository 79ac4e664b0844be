//! Requests, from the client's bytes to the bytes that leave: worked cases, refusals and laws.

use std::fs;
use std::path::{Path, PathBuf};

use codex_proxy::error::{ProxyError, Refusal};
use codex_proxy::protocol::chat::{self, Options, Translation};
use codex_proxy::protocol::codex::request::Omissions;
use codex_proxy::protocol::model::{Catalogue, Models, Rules};
use codex_proxy::protocol::{Context, Warnings};
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};

/// The surroundings of a translation: no catalogue, no headers, no key, unless a test says otherwise.
#[derive(Default)]
struct Scene {
    models: Models,
    headers: HeaderMap,
    key: Option<&'static str>,
    path_model: Option<&'static str>,
}

/// What came out, apart from the borrowed parts.
#[derive(Debug, PartialEq)]
struct Outcome {
    upstream: Value,
    bytes: Vec<u8>,
    shape: String,
    warnings: Vec<String>,
}

impl Scene {
    fn try_translate(&self, body: &[u8]) -> Result<Outcome, ProxyError> {
        let mut context = Context {
            headers: &self.headers,
            key: self.key,
            path_model: self.path_model,
            models: &self.models,
            warnings: Warnings::default(),
        };
        let request = chat::request::decode(body)?;
        let Translation { upstream, shape, .. } =
            chat::translate::translate(request, &mut context, &Options::default())?;
        let bytes = upstream.encode(&Omissions::new()).to_vec();
        Ok(Outcome {
            upstream: serde_json::from_slice(&bytes).expect("the body that leaves is JSON"),
            bytes,
            shape: format!("{shape:?}"),
            warnings: context.warnings.tokens().to_vec(),
        })
    }

    fn translate(&self, request: &Value) -> Outcome {
        self.try_translate(request.to_string().as_bytes()).unwrap()
    }

    fn cache_key(&self, request: &Value) -> String {
        self.translate(request).upstream["prompt_cache_key"].as_str().unwrap().to_owned()
    }
}

fn translate(request: &Value) -> Outcome {
    Scene::default().translate(request)
}

fn refusal(body: &[u8]) -> Refusal {
    match Scene::default().try_translate(body) {
        Err(ProxyError::Refused(refusal)) => refusal,
        other => panic!("{} gave {other:?}", String::from_utf8_lossy(body)),
    }
}

/// Whether a request is refused for this field, with this code.
fn assert_refused(request: &Value, param: &str, code: &str) {
    let refusal = refusal(request.to_string().as_bytes());
    assert_eq!((refusal.param.as_deref(), refusal.code), (Some(param), Some(code)), "{request}");
    assert!(!refusal.message.is_empty());
}

fn with(member: &str, value: Value) -> Value {
    let mut request = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
    request[member] = value;
    request
}

fn saying(messages: Value) -> Value {
    with("messages", messages)
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/chat");
    let mut found: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn sorted(list: &Value) -> Vec<String> {
    let mut texts: Vec<_> = list.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect();
    texts.sort();
    texts
}

#[test]
fn every_case_leaves_as_written() {
    let mut count = 0;
    for case in cases().iter().filter(|case| case.join("upstream.json").exists()) {
        let body = fs::read(case.join("request.json")).unwrap();
        let outcome = Scene::default().try_translate(&body).unwrap();
        let mut expected = read(&case.join("upstream.json"));
        if expected["prompt_cache_key"] == "<PROMPT_CACHE_KEY>" {
            let key = outcome.upstream["prompt_cache_key"].as_str().unwrap();
            assert!(uuid::Uuid::parse_str(key).is_ok(), "{}: {key}", case.display());
            expected["prompt_cache_key"] = json!(key);
        }
        assert_eq!(outcome.upstream, expected, "{}", case.display());
        let mut warnings = outcome.warnings;
        warnings.sort();
        assert_eq!(warnings, sorted(&read(&case.join("meta.json"))["warnings"]), "{}", case.display());
        count += 1;
    }
    assert!(count >= 21, "the cases are not there");
}

#[test]
fn every_refusal_names_its_field() {
    let cases = read(&cases().into_iter().find(|case| case.ends_with("99-refused")).unwrap().join("cases.json"));
    for case in cases.as_array().unwrap() {
        let refusal = refusal(case["request"].to_string().as_bytes());
        let error = &case["response"]["error"];
        assert_eq!(json!(refusal.param), error["param"], "{}", case["case"]);
        assert_eq!(json!(refusal.code), error["code"], "{}", case["case"]);
    }
}

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
fn a_wrong_type_deep_inside_is_named_by_its_path() {
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
fn a_missing_or_impossible_value_is_named_by_its_path() {
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
fn a_body_that_is_no_object_is_refused_without_a_field() {
    for body in ["", "{", "[]", "5", "\"secret\"", "{\"a\":1}x", "{\"a\" 1}", "null"] {
        let refusal = refusal(body.as_bytes());
        assert_eq!((refusal.param, refusal.code), (None, None), "{body}");
        assert!(!refusal.message.contains("secret"), "an error may be logged, a body may not");
    }
    assert_eq!(refusal(b"{\"model\":\"\xff\"}").param, None);
}

#[test]
fn the_last_of_two_members_counts() {
    let body = br#"{"model":"a","messages":[{"role":"user","content":"x","content":"y"}],"model":"b","zip":1,"zip":2}"#;
    let outcome = Scene::default().try_translate(body).unwrap();
    assert_eq!(outcome.upstream["model"], "b");
    assert_eq!(outcome.upstream["input"][0]["content"][0]["text"], "y");
    assert_eq!(outcome.warnings, ["ignored:zip"]);
}

#[test]
fn warnings_come_in_the_order_of_the_request() {
    let body =
        br#"{"top_k":1,"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}],"provider":{},"seed":1}"#;
    let outcome = Scene::default().try_translate(body).unwrap();
    assert_eq!(outcome.warnings, ["ignored:top_k", "ignored:max_tokens", "ignored:provider", "ignored:seed"]);
}

#[test]
fn a_large_data_url_is_not_copied() {
    let url = format!("data:image/png;base64,{}", "A".repeat(1 << 20));
    let body =
        saying(json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}])).to_string();
    let scene = Scene::default();
    let mut context = Context {
        headers: &scene.headers,
        key: None,
        path_model: None,
        models: &scene.models,
        warnings: Warnings::default(),
    };
    let request = chat::request::decode(body.as_bytes()).unwrap();
    let plan = chat::translate::translate(request, &mut context, &Options::default()).unwrap();
    let codex_proxy::protocol::codex::Item::Message { content, .. } = &plan.upstream.input[0] else { panic!() };
    let codex_proxy::protocol::codex::Part::InputImage { image_url, .. } = &content[0] else { panic!() };
    assert!(body.as_bytes().as_ptr_range().contains(&image_url.as_ptr()), "the URL lies in the body");
}

#[test]
fn a_lone_surrogate_does_not_refuse_a_request() {
    let body = br#"{"model":"m","messages":[{"role":"user","content":"cut \ud83d"}]}"#;
    let outcome = Scene::default().try_translate(body).unwrap();
    assert!(outcome.upstream["input"][0]["content"][0]["text"].as_str().unwrap().starts_with("cut "));
}

fn catalogue() -> Models {
    let json = br#"{"models":[{"slug":"sol","supported_reasoning_levels":[{"effort":"low"},{"effort":"high"}]}]}"#;
    let catalogue = Catalogue::parse(json).unwrap();
    Models { catalogue: catalogue.into(), rules: Rules::default().into() }
}

#[test]
fn an_effort_is_clamped_to_what_the_model_takes() {
    let scene = Scene { models: catalogue(), ..Scene::default() };
    for (request, effort, warnings) in [
        (json!({"model": "sol", "reasoning_effort": "max"}), json!("high"), vec!["clamped:reasoning_effort"]),
        (json!({"model": "sol", "reasoning_effort": "medium"}), json!("low"), vec!["clamped:reasoning_effort"]),
        (json!({"model": "sol", "reasoning_effort": "high"}), json!("high"), vec![]),
        (json!({"model": "sol-low"}), json!("low"), vec![]),
        (json!({"model": "sol-low", "reasoning_effort": "high"}), json!("high"), vec![]),
        (json!({"model": "sol-low", "reasoning": {"effort": "high"}}), json!("high"), vec![]),
        (
            json!({"model": "sol-low", "reasoning": {"effort": "low"}, "reasoning_effort": "high"}),
            json!("high"),
            vec![],
        ),
        (json!({"model": "sol"}), Value::Null, vec![]),
        (json!({"model": "other", "reasoning_effort": "ultra"}), json!("xhigh"), vec![]),
    ] {
        let mut request = request;
        request["messages"] = json!([{"role": "user", "content": "x"}]);
        let outcome = scene.translate(&request);
        assert_eq!(outcome.upstream["reasoning"]["effort"], effort, "{request}");
        assert_eq!(outcome.warnings, warnings, "{request}");
    }
}

#[test]
fn the_tier_of_the_member_wins_over_the_suffix() {
    for (model, tier, expected, warnings) in [
        ("m-fast", Value::Null, json!("priority"), vec![]),
        ("m-fast", json!("default"), Value::Null, vec![]),
        ("m-fast", json!("flex"), Value::Null, vec!["ignored:service_tier"]),
        ("m", json!("fast"), json!("priority"), vec![]),
    ] {
        let mut request = with("service_tier", tier);
        request["model"] = json!(model);
        let outcome = translate(&request);
        assert_eq!(outcome.upstream["service_tier"], expected, "{request}");
        assert_eq!(outcome.upstream["model"], "m");
        assert_eq!(outcome.warnings, warnings);
    }
}

#[test]
fn the_model_of_the_path_counts_where_the_body_has_none() {
    let scene = Scene { path_model: Some("deployed-low"), ..Scene::default() };
    let mut request = with("model", Value::Null);
    let outcome = scene.translate(&request);
    assert_eq!(outcome.upstream["model"], "deployed");
    assert!(outcome.shape.contains("model: \"deployed-low\""), "the client's own name is echoed");
    request["model"] = json!("m");
    assert_eq!(scene.translate(&request).upstream["model"], "m");
}

#[test]
fn the_shape_tells_the_way_back_what_it_has_to_know() {
    let request = json!({
        "model": "m-high", "messages": [{"role": "user", "content": "x"}], "stream": true,
        "stream_options": {"include_usage": true}, "service_tier": "auto", "stop": ["END", ""],
        "tools": [{"type": "custom", "name": "patch"}, {"type": "function", "function": {"name": "fs.read"}}],
    });
    let body = request.to_string();
    let scene = Scene::default();
    let mut context = Context {
        headers: &scene.headers,
        key: None,
        path_model: None,
        models: &scene.models,
        warnings: Warnings::default(),
    };
    let decoded = chat::request::decode(body.as_bytes()).unwrap();
    let plan = chat::translate::translate(decoded, &mut context, &Options::default()).unwrap();
    assert_eq!(plan.mode, codex_proxy::protocol::Mode::Stream);
    assert_eq!(plan.shape.model, "m-high");
    assert!(plan.shape.includes_usage && plan.shape.shows_service_tier);
    assert_eq!(plan.shape.stop, ["END"]);
    assert_eq!(plan.shape.calls, chat::reply::CallStyle::Tools);
    assert_eq!(
        plan.shape.names.into_iter().collect::<Vec<_>>(),
        [("fs_read_4074bc02".to_owned(), "fs.read".to_owned())]
    );
    assert_eq!(plan.shape.flat_custom_tools.into_iter().collect::<Vec<_>>(), ["patch"]);
}

/// A conversation after each of its turns.
fn turns() -> Vec<Value> {
    let all = [
        json!({"role": "system", "content": "Be kind."}),
        json!({"role": "user", "content": "<system-reminder>today</system-reminder>\nFirst?"}),
        json!({"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}),
        json!({"role": "tool", "tool_call_id": "c1", "content": "1"}),
        json!({"role": "assistant", "content": "One."}),
        json!({"role": "user", "content": "Second?"}),
    ];
    [2, 4, 6]
        .map(|count| {
            json!({"model": "m", "messages": all[..count], "tools": [{"type": "function", "function": {"name": "f"}}]})
        })
        .to_vec()
}

#[test]
fn the_cache_key_stays_the_same_over_the_turns_of_a_conversation() {
    let scene = Scene::default();
    let keys: Vec<_> = turns().iter().map(|request| scene.cache_key(request)).collect();
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    let mut later = turns().remove(2);
    later["messages"][1]["content"] = json!("<system-reminder>tomorrow</system-reminder>First?");
    assert_eq!(scene.cache_key(&later), keys[0], "reminders change from turn to turn");
}

#[test]
fn another_conversation_has_another_cache_key() {
    let scene = Scene::default();
    let first = turns().remove(0);
    let key = scene.cache_key(&first);
    let changes: [(&str, Value); 4] = [
        ("/model", json!("other")),
        ("/messages/0/content", json!("Be rude.")),
        ("/messages/1/content", json!("Another?")),
        ("/tools/0/function/name", json!("g")),
    ];
    for (place, value) in changes {
        let mut changed = first.clone();
        *changed.pointer_mut(place).unwrap() = value;
        assert_ne!(scene.cache_key(&changed), key, "{place}");
    }
    let mut of_user = first.clone();
    of_user["user"] = json!("ann");
    assert_ne!(scene.cache_key(&of_user), key);
    let of_key = Scene { key: Some("laptop"), ..Scene::default() };
    assert_ne!(of_key.cache_key(&first), key);
}

#[test]
fn a_cache_key_of_the_client_wins_over_its_headers() {
    let mut scene = Scene::default();
    scene.headers.insert("x-session-id", HeaderValue::from_static("from-header"));
    let mut request = turns().remove(0);
    assert_eq!(scene.cache_key(&request), "from-header");
    request["prompt_cache_key"] = json!("from-body");
    assert_eq!(scene.cache_key(&request), "from-body");
    request["prompt_cache_key"] = json!("k".repeat(65));
    assert!(uuid::Uuid::parse_str(&scene.cache_key(&request)).is_ok(), "too long for the backend");
}

/// Any JSON.
fn anything() -> impl Strategy<Value = Value> {
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

/// Names that mean something somewhere in a request.
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

/// A message that is right as far as types go, with ids that collide and calls that go unanswered.
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

/// What the backend insists on.
fn assert_acceptable(upstream: &Value) {
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
    fn any_history_becomes_one_that_the_backend_takes(messages in prop::collection::vec(message(), 1..14)) {
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
