//! Details that golden cases can't cover: model names, the catalog, ordering, reply options.

use codex_proxy::protocol::Mode;
use codex_proxy::protocol::chat::{self, Options};
use codex_proxy::protocol::codex::{Item, Part};
use codex_proxy::protocol::models::{Catalogue, Models, Rules};
use codex_proxy::protocol::responses::{self, Responses};
use serde_json::{Value, json};

use super::{Scene, saying, translate, with};

#[test]
fn the_last_of_two_members_counts() {
    let body = br#"{"model":"a","messages":[{"role":"user","content":"x","content":"y"}],"model":"b","zip":1,"zip":2}"#;
    let outcome = Scene::default().try_translate(body).unwrap();
    assert_eq!(outcome.upstream["model"], "b");
    assert_eq!(outcome.upstream["input"][0]["content"][0]["text"], "y");
    assert_eq!(outcome.warnings, ["ignored:zip"]);
}

#[test]
fn warnings_are_in_the_order_of_the_request() {
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
    let mut context = scene.context();
    let request = chat::request::decode(body.as_bytes()).unwrap();
    let plan = chat::translate::translate(request, &mut context, &Options::default()).unwrap();
    let Item::Message { content, .. } = &plan.upstream.input[0] else { panic!() };
    let Part::InputImage { image_url, .. } = &content[0] else { panic!() };
    let literal = image_url.escaped().expect("the client's own literal");
    assert!(body.as_bytes().as_ptr_range().contains(&literal.as_ptr()), "the URL borrows from the body");
}

#[test]
fn a_request_with_a_lone_surrogate_is_accepted() {
    let body = br#"{"model":"m","messages":[{"role":"user","content":"cut \ud83d"}]}"#;
    let outcome = Scene::default().try_translate(body).unwrap();
    assert_eq!(outcome.upstream["input"][0]["content"][0]["text"], "cut \u{fffd}");
}

fn catalogue() -> Models {
    let json = br#"{"models":[{"slug":"sol","supported_reasoning_levels":[{"effort":"low"},{"effort":"high"}]}]}"#;
    let catalogue = Catalogue::parse(json).unwrap();
    Models { catalogue: catalogue.into(), rules: Rules::default().into() }
}

#[test]
fn verbosity_is_omitted_for_a_model_without_it() {
    let json = br#"{"models":[{"slug":"terse","support_verbosity":false},{"slug":"sol","support_verbosity":true},{"slug":"old"}]}"#;
    let models = Models { catalogue: Catalogue::parse(json).unwrap().into(), rules: Rules::default().into() };
    let scene = Scene { models, ..Scene::default() };
    let format = json!({"type": "json_schema", "name": "n", "schema": {}, "strict": false});
    for (model, is_taken) in [("terse", false), ("terse-high", false), ("sol", true), ("old", true), ("unknown", true)]
    {
        let warnings: &[&str] = if is_taken { &[] } else { &["ignored:verbosity"] };
        let text = if is_taken { json!({"verbosity": "low", "format": format}) } else { json!({"format": format}) };
        let shape = json!({"verbosity": "low", "format": format});
        let mut chat = saying(json!([{"role": "user", "content": "x"}]));
        (chat["model"], chat["verbosity"]) = (json!(model), json!("low"));
        chat["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {}}});
        let input = json!({"model": model, "input": "x", "text": shape});
        for body in [&chat, &input] {
            let outcome = scene.translate(body);
            assert_eq!(
                (&outcome.upstream["text"], &outcome.warnings[..]),
                (&text, &warnings.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>()[..]),
                "{body}"
            );
        }
        let body = input.to_string();
        let outcome = scene.try_translate_as::<Responses>(body.as_bytes(), &responses::Options::default()).unwrap();
        assert_eq!((&outcome.upstream["text"], outcome.warnings.len()), (&text, warnings.len()), "{body}");
    }
    let body = json!({"model": "terse", "input": "x", "text": {"verbosity": "low"}}).to_string();
    let outcome = scene.try_translate_as::<Responses>(body.as_bytes(), &responses::Options::default()).unwrap();
    assert_eq!(outcome.upstream.get("text"), None, "nothing is left of it");
}

#[test]
fn an_effort_is_clamped_to_what_the_model_supports() {
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
fn the_service_tier_member_takes_precedence_over_the_suffix() {
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
fn the_model_in_the_path_applies_if_the_body_has_none() {
    let scene = Scene { path_model: Some("deployed-low"), ..Scene::default() };
    let mut request = with("model", Value::Null);
    let outcome = scene.translate(&request);
    assert_eq!(outcome.upstream["model"], "deployed");
    assert!(outcome.reply.contains("model: \"deployed-low\""), "the client's own name is echoed");
    request["model"] = json!("m");
    assert_eq!(scene.translate(&request).upstream["model"], "m");
}

#[test]
fn the_reply_options_reflect_the_request() {
    let request = json!({
        "model": "m-high", "messages": [{"role": "user", "content": "x"}], "stream": true,
        "stream_options": {"include_usage": true}, "service_tier": "auto", "stop": ["END", ""],
        "tools": [{"type": "custom", "name": "patch"}, {"type": "function", "function": {"name": "fs.read"}}],
    });
    let body = request.to_string();
    let scene = Scene::default();
    let mut context = scene.context();
    let decoded = chat::request::decode(body.as_bytes()).unwrap();
    let plan = chat::translate::translate(decoded, &mut context, &Options::default()).unwrap();
    assert_eq!(plan.mode, Mode::Stream);
    let options = plan.reply.options();
    assert_eq!(options.model, "m-high");
    assert!(options.api.includes_usage && options.api.shows_service_tier);
    assert_eq!(options.stop, ["END"]);
    assert!(options.prompt_characters > "You are a helpful assistant.".len());
    assert_eq!(options.api.calls, chat::CallStyle::Tools);
    assert_eq!(options.names.get("fs_read_4074bc02").map(String::as_str), Some("fs.read"));
    assert_eq!((options.names.len(), options.api.flat_custom_tools.len()), (1, 1));
    assert!(options.api.flat_custom_tools.contains("patch"));
}
