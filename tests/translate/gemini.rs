//! Gemini requests: rejected members, both spellings, and translated conversations.

use codex_proxy::error::ProxyError;
use codex_proxy::protocol::CommonOptions;
use codex_proxy::protocol::gemini::Generate;
use codex_proxy::protocol::models::{Catalogue, Models};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::laws::{anything, assert_acceptable};
use super::{Outcome, Scene, assert_refusals, options, refused};

pub(crate) fn translate(scene: &Scene, body: &[u8]) -> Result<Outcome, ProxyError> {
    let options = CommonOptions {
        default_instructions: scene.options.default_instructions.clone(),
        token_limit: scene.options.token_limit,
    };
    scene.try_translate_as::<Generate>(body, &options)
}

/// The context of a request for this model.
pub(crate) fn scene() -> Scene {
    Scene { path_model: Some("gpt-5.4"), ..Scene::default() }
}

fn sent(scene: &Scene, request: &Value) -> Outcome {
    translate(scene, request.to_string().as_bytes()).unwrap()
}

fn with(member: &str, value: Value) -> Value {
    let mut request = json!({"contents": [{"parts": [{"text": "x"}]}]});
    request[member] = value;
    request
}

#[test]
fn every_error_names_its_field() {
    assert_refusals("gemini", |case| {
        let scene = Scene { options: options(&case["options"]), ..scene() };
        refused(translate(&scene, case["request"].to_string().as_bytes()))
    });
}

#[test]
fn the_path_names_the_model() {
    let request = with("model", json!("models/other"));
    assert_eq!(sent(&scene(), &request).upstream["model"], "gpt-5.4");
    assert_eq!(refused(translate(&Scene::default(), request.to_string().as_bytes())).param.as_deref(), Some("model"));
}

#[test]
fn thinking_becomes_a_supported_effort() {
    let json = br#"{"models":[{"slug":"gpt-5.4","supported_reasoning_levels":["low","medium","high"]}]}"#;
    let catalogue = Catalogue::parse(json).unwrap().into();
    let scene = Scene { models: Models { catalogue, ..Models::default() }, ..scene() };
    for (thinking, effort, warnings) in [
        (json!({}), Value::Null, &[][..]),
        (json!({"thinkingBudget": -1}), Value::Null, &[]),
        (json!({"thinkingBudget": 0}), json!("low"), &[]),
        (json!({"thinkingBudget": 2048}), json!("low"), &[]),
        (json!({"thinkingBudget": 8192.0}), json!("medium"), &[]),
        (json!({"thinking_budget": 24576}), json!("high"), &[]),
        (json!({"thinkingLevel": "THINKING_LEVEL_UNSPECIFIED"}), Value::Null, &[]),
        (json!({"thinkingLevel": "medium", "thinkingBudget": 0}), json!("medium"), &[]),
        (json!({"thinkingLevel": 3}), json!("high"), &[]),
        (json!({"thinkingLevel": "XHIGH"}), json!("high"), &["clamped:reasoning_effort"]),
    ] {
        let outcome = sent(&scene, &with("generationConfig", json!({"thinkingConfig": thinking})));
        assert_eq!(outcome.upstream["reasoning"]["effort"], effort, "{thinking}");
        assert_eq!(outcome.warnings, warnings, "{thinking}");
    }
}

#[test]
fn a_service_tier_of_google_has_its_counterpart() {
    for (tier, expected, warnings) in [
        ("priority", json!("priority"), &[][..]),
        ("PRIORITY", json!("priority"), &[]),
        ("standard", Value::Null, &[]),
        ("flex", Value::Null, &["ignored:serviceTier"]),
    ] {
        let outcome = sent(&scene(), &with("serviceTier", json!(tier)));
        assert_eq!(outcome.upstream["service_tier"], expected, "{tier}");
        assert_eq!(outcome.warnings, warnings, "{tier}");
    }
}

#[test]
fn unsupported_members_are_ignored_with_a_warning() {
    for (request, warnings) in [
        (with("store", json!(false)), &[][..]),
        (with("safetySettings", json!([])), &[]),
        (with("labels", json!({"a": "b"})), &["ignored:labels"]),
        (with("something_new", json!(1)), &["ignored:somethingNew"]),
        (with("generationConfig", json!({"temperature": 1, "topP": 1.0, "presencePenalty": 0})), &[]),
        (with("generationConfig", json!({"frequencyPenalty": 1})), &["ignored:frequencyPenalty"]),
        (with("generationConfig", json!({"mediaResolution": "LOW"})), &["ignored:mediaResolution"]),
        (with("toolConfig", json!({"retrievalConfig": {}})), &["ignored:retrievalConfig"]),
        (
            with("toolConfig", json!({"functionCallingConfig": {"allowedFunctionNames": ["f"]}})),
            &["ignored:allowedFunctionNames"],
        ),
        (with("contents", json!([{"parts": [{"text": "x", "videoMetadata": {}}]}])), &["ignored:videoMetadata"]),
        (with("contents", json!([{"parts": [{"text": "x"}], "extra": 1}])), &["ignored:extra"]),
        (
            with("contents", json!([{"parts": [{"inlineData": {"mimeType": "image/png", "data": "A", "extra": 1}}]}])),
            &["ignored:extra"],
        ),
        (with("systemInstruction", json!({"parts": [{"text": "x", "videoMetadata": {}}]})), &["ignored:videoMetadata"]),
    ] {
        assert_eq!(sent(&scene(), &request).warnings, warnings, "{request}");
    }
}

/// A content that is valid by type, with calls without responses and responses without calls.
fn content() -> impl Strategy<Value = Value> {
    let id = prop::sample::select(vec!["", "a", "b", "ö", "call_gemini_1"]);
    let name = prop::sample::select(vec!["f", "g", "fs.read"]);
    let part = prop_oneof![
        ".{0,8}".prop_map(|text| json!({"text": text})),
        ".{0,8}".prop_map(|text| json!({"text": text, "thought": true, "thoughtSignature": "Y3hyMS5BQUFB"})),
        (id.clone(), name.clone())
            .prop_map(|(id, name)| json!({"functionCall": {"id": id, "name": name, "args": {"a": [1, 2]}}})),
        (id, name, ".{0,8}").prop_map(
            |(id, name, text)| json!({"functionResponse": {"id": id, "name": name, "response": {"output": text}}})
        ),
    ];
    let role = prop::sample::select(vec!["user", "model"]);
    (role, prop::collection::vec(part, 0..4)).prop_map(|(role, parts)| json!({"role": role, "parts": parts}))
}

proptest! {
    #[test]
    fn no_json_panics(
        value in anything(),
        member in prop::sample::select(vec!["contents", "tools", "toolConfig", "generationConfig", "system_instruction"]),
    ) {
        for value in [value.clone(), json!([value])] {
            let _ = translate(&scene(), with(member, value).to_string().as_bytes());
        }
    }

    #[test]
    fn no_schema_panics(value in anything()) {
        let config = json!({"responseSchema": {"type": "OBJECT", "properties": {"a": value}, "nullable": true}});
        let _ = translate(&scene(), with("generationConfig", config).to_string().as_bytes());
    }

    #[test]
    fn any_history_becomes_one_that_the_backend_accepts(contents in prop::collection::vec(content(), 1..14)) {
        let body = json!({"contents": contents}).to_string();
        match translate(&scene(), body.as_bytes()) {
            Ok(outcome) => {
                assert_acceptable(&outcome.upstream);
                let again = translate(&scene(), body.as_bytes()).unwrap();
                prop_assert_eq!(outcome, again, "the same request gives the same bytes");
            }
            Err(ProxyError::Refused(refusal)) => prop_assert_eq!(refusal.param.as_deref(), Some("contents")),
            Err(other) => prop_assert!(false, "{other:?}"),
        }
    }
}
