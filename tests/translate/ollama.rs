//! Ollama requests: rejected members, translated conversations, and requests that need no backend.

use codex_proxy::error::ProxyError;
use codex_proxy::protocol::CommonOptions;
use codex_proxy::protocol::models::{Catalogue, Models};
use codex_proxy::protocol::ollama::{Chat, Form, Generate};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::laws::{anything, assert_acceptable};
use super::{Outcome, Scene, assert_refusals, options, refused};

pub(crate) fn form(meta: &Value) -> Form {
    if meta["form"] == "generate" { Form::Generate } else { Form::Chat }
}

pub(crate) fn translate(scene: &Scene, form: Form, body: &[u8]) -> Result<Outcome, ProxyError> {
    let options = CommonOptions {
        default_instructions: scene.options.default_instructions.clone(),
        token_limit: scene.options.token_limit,
    };
    match form {
        Form::Chat => scene.try_translate_as::<Chat>(body, &options),
        Form::Generate => scene.try_translate_as::<Generate>(body, &options),
    }
}

fn sent(scene: &Scene, request: &Value) -> Outcome {
    translate(scene, Form::Chat, request.to_string().as_bytes()).unwrap()
}

#[test]
fn every_error_names_its_param() {
    assert_refusals("ollama", |case| {
        let scene = Scene { options: options(&case["options"]), ..Scene::default() };
        refused(translate(&scene, form(case), case["request"].to_string().as_bytes()))
    });
}

#[test]
fn thinking_becomes_a_supported_effort() {
    let json = br#"{"models":[{"slug":"m","supported_reasoning_levels":["low","medium","high"]}]}"#;
    let catalogue = Catalogue::parse(json).unwrap().into();
    let scene = Scene { models: Models { catalogue, ..Models::default() }, ..Scene::default() };
    for (think, effort, warnings) in [
        (json!(null), Value::Null, &[][..]),
        (json!(true), Value::Null, &[]),
        (json!(""), Value::Null, &[]),
        (json!(false), json!("low"), &[]),
        (json!("none"), json!("low"), &[]),
        (json!("medium"), json!("medium"), &[]),
        (json!("max"), json!("high"), &["clamped:reasoning_effort"]),
    ] {
        let outcome =
            sent(&scene, &json!({"model": "m", "messages": [{"role": "USER", "content": "x"}], "think": think}));
        assert_eq!(outcome.upstream["reasoning"]["effort"], effort, "{think}");
        assert_eq!(outcome.warnings, warnings, "{think}");
    }
}

#[test]
fn an_empty_request_needs_no_backend() {
    for (form, request, reason) in [
        (Form::Chat, json!({"model": "m"}), "Some(Load)"),
        (Form::Chat, json!({"model": "m", "messages": [], "keep_alive": "5m"}), "Some(Load)"),
        (Form::Chat, json!({"model": "m", "messages": [], "keep_alive": 0}), "Some(Unload)"),
        (Form::Generate, json!({"model": "m", "prompt": "", "system": "x"}), "Some(Load)"),
        (Form::Generate, json!({"model": "m", "keep_alive": "0s"}), "Some(Unload)"),
        (Form::Generate, json!({"model": "m", "prompt": "x", "keep_alive": 0}), "None"),
        (Form::Generate, json!({"model": "m", "images": ["iVBORw0KGgo"]}), "None"),
    ] {
        let outcome = translate(&Scene::default(), form, request.to_string().as_bytes()).unwrap();
        assert!(outcome.reply.contains(&format!("without_backend: {reason}")), "{request}: {}", outcome.reply);
    }
}

/// A message that is valid by type, with calls without outputs.
fn message() -> impl Strategy<Value = Value> {
    let id = prop::sample::select(vec!["", "a", "b", "ö", "call_ollama_1"]);
    let name = prop::sample::select(vec!["f", "g", "fs.read", ""]);
    let call = (id.clone(), name.clone())
        .prop_map(|(id, name)| json!({"id": id, "function": {"name": name, "arguments": {"a": [1, 2]}}}));
    prop_oneof![
        ".{0,8}".prop_map(|text| json!({"role": "system", "content": text})),
        ".{0,8}".prop_map(|text| json!({"role": "user", "content": text})),
        (".{0,8}", prop::collection::vec(call, 0..4))
            .prop_map(|(text, calls)| json!({"role": "assistant", "content": text, "tool_calls": calls})),
        (id, name, ".{0,8}").prop_map(
            |(id, name, text)| json!({"role": "tool", "tool_call_id": id, "tool_name": name, "content": text})
        ),
    ]
}

proptest! {
    #[test]
    fn no_json_panics(value in anything(), member in prop::sample::select(vec!["messages", "tools", "options", "format", "images"])) {
        for form in [Form::Chat, Form::Generate] {
            for value in [value.clone(), json!([value])] {
                let mut request = json!({"model": "m", "prompt": "x", "messages": [{"role": "user", "content": "x"}]});
                request[member] = value;
                let _ = translate(&Scene::default(), form, request.to_string().as_bytes());
            }
        }
    }

    #[test]
    fn any_history_becomes_one_that_the_backend_accepts(messages in prop::collection::vec(message(), 1..14)) {
        let body = json!({"model": "m", "messages": messages}).to_string();
        match translate(&Scene::default(), Form::Chat, body.as_bytes()) {
            Ok(outcome) => {
                assert_acceptable(&outcome.upstream);
                let again = translate(&Scene::default(), Form::Chat, body.as_bytes()).unwrap();
                prop_assert_eq!(outcome, again, "the same request gives the same bytes");
            }
            Err(ProxyError::Refused(refusal)) => prop_assert_eq!(refusal.param.as_deref(), Some("messages")),
            Err(other) => prop_assert!(false, "{other:?}"),
        }
    }
}
