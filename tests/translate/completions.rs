//! Text completions: rejected and ignored members.

use codex_proxy::error::Refusal;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Scene, assert_refusal, refused};

fn completing(member: &str, value: Value) -> Value {
    let mut request = json!({"model": "m", "prompt": "x"});
    request[member] = value;
    request
}

fn refusal(request: &Value) -> Refusal {
    refused(Scene::default().try_complete(request.to_string().as_bytes()))
}

#[test]
fn members_that_need_several_completions_are_rejected_by_name() {
    for (request, param, code) in [
        (completing("model", Value::Null), "model", "missing_required_parameter"),
        (json!({"model": "m"}), "prompt", "missing_required_parameter"),
        (completing("prompt", Value::Null), "prompt", "missing_required_parameter"),
        (completing("prompt", json!("")), "prompt", "invalid_value"),
        (completing("prompt", json!([])), "prompt", "invalid_value"),
        (completing("prompt", json!([""])), "prompt", "invalid_value"),
        (completing("prompt", json!(["a", "b"])), "prompt", "unsupported_value"),
        (completing("prompt", json!([1, 2, 3])), "prompt", "unsupported_value"),
        (completing("prompt", json!([[1, 2], [3]])), "prompt", "unsupported_value"),
        (completing("prompt", json!([{}])), "prompt[0]", "invalid_type"),
        (completing("prompt", json!(5)), "prompt", "invalid_type"),
        (completing("suffix", json!("end")), "suffix", "unsupported_parameter"),
        (completing("suffix", json!(5)), "suffix", "invalid_type"),
        (completing("echo", json!(true)), "echo", "unsupported_parameter"),
        (completing("logprobs", json!(0)), "logprobs", "unsupported_parameter"),
        (completing("n", json!(2)), "n", "unsupported_value"),
        (completing("best_of", json!(3)), "best_of", "unsupported_value"),
        (completing("stop", json!(["a", "b", "c", "d", "e"])), "stop", "array_above_max_length"),
        (completing("stream_options", json!({"include_usage": true})), "stream_options", "invalid_value"),
        (completing("max_tokens", json!("many")), "max_tokens", "invalid_type"),
    ] {
        assert_refusal(&refusal(&request), &request, param, code);
    }
    let body = refused(Scene::default().try_complete(b"[]"));
    assert_eq!((body.param, body.code), (None, None));
}

#[test]
fn members_without_effect_are_dropped_silently_and_others_with_a_warning() {
    let request = json!({
        "model": "m", "prompt": "x", "logprobs": false, "echo": false, "metadata": {}, "top_p": 1,
        "presence_penalty": 0.5, "logit_bias": {}, "seed": 3, "language": "rust",
    });
    let outcome = Scene::default().try_complete(request.to_string().as_bytes()).unwrap();
    let mut warnings = outcome.warnings;
    warnings.sort();
    assert_eq!(warnings, ["ignored:language", "ignored:presence_penalty", "ignored:seed"]);
}

#[test]
fn a_model_name_can_carry_effort_and_tier() {
    let scene = Scene { path_model: Some("deployed-high-fast"), ..Scene::default() };
    let outcome = scene.try_complete(completing("model", Value::Null).to_string().as_bytes()).unwrap();
    assert_eq!(outcome.upstream["model"], "deployed");
    assert_eq!(outcome.upstream["reasoning"]["effort"], "high");
    assert_eq!(outcome.upstream["service_tier"], "priority");
}

#[test]
fn an_editor_keeps_its_cache_key_if_it_names_a_session() {
    let key = |prompt: &str, session: &str| {
        let mut request = completing("prompt", json!(prompt));
        request["prompt_cache_key"] = json!(session);
        Scene::default().try_complete(request.to_string().as_bytes()).unwrap().upstream["prompt_cache_key"].clone()
    };
    assert_eq!(key("a", "s"), key("ab", "s"));
    assert_ne!(key("a", ""), key("b", ""), "without a session, a prompt is its own conversation");
}

proptest! {
    #[test]
    fn no_completion_panics(member in "prompt|stop|suffix|n|logprobs|stream_options|user", text in ".{0,12}", number in any::<f64>()) {
        for value in [json!(text), json!(number), json!([text, number]), json!([[text]]), json!({"a": text})] {
            let _ = Scene::default().try_complete(completing(&member, value).to_string().as_bytes());
        }
        let _ = Scene::default().try_complete(text.as_bytes());
    }
}
