//! The content of a Responses request below its top level is sent byte for byte.

use std::path::Path;

use codex_proxy::protocol::json::raw_object::RawObject;
use codex_proxy::protocol::responses::{Options, Responses};
use http::HeaderValue;
use proptest::prelude::*;
use serde_json::value::RawValue;

use super::Scene;
use super::bodies::{any_body, any_json};

/// Requests of the Codex CLI, one body per line; long texts are replaced by a note of their length.
fn captured() -> Vec<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/captured/codex-cli.jsonl");
    std::fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}

fn member<'b>(body: &RawObject<'b>, name: &str) -> Option<&'b str> {
    body.get(name).map(RawValue::get)
}

#[test]
fn requests_of_the_codex_cli_are_sent_byte_for_byte() {
    let mut as_codex = Scene::default();
    as_codex.headers.insert("originator", HeaderValue::from_static("codex_exec"));
    let bodies = captured();
    assert_eq!(bodies.len(), 12);
    for body in &bodies {
        let sent = RawObject::parse(body).unwrap();
        for scene in [&as_codex, &Scene::default()] {
            let outcome = scene.try_translate_as::<Responses>(body.as_bytes(), &Options::default()).unwrap();
            let text = String::from_utf8(outcome.bytes).unwrap();
            let left = RawObject::parse(&text).unwrap();
            assert!(outcome.warnings.is_empty(), "{:?}", outcome.warnings);
            for name in ["tools", "tool_choice", "client_metadata", "prompt_cache_key", "parallel_tool_calls"] {
                if let Some(sent) = member(&sent, name) {
                    assert_eq!(member(&left, name), Some(sent), "{name}");
                }
            }
        }
        let left = as_codex.try_translate_as::<Responses>(body.as_bytes(), &Options::default()).unwrap().bytes;
        let left: RawObject<'_> = serde_json::from_slice(&left).unwrap();
        assert_eq!(member(&left, "input"), member(&sent, "input"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn everything_below_the_top_level_is_sent_byte_for_byte(generated in any_body()) {
        let outcome = Scene::default().try_translate_as::<Responses>(generated.body.as_bytes(), &Options::default()).unwrap();
        let upstream = String::from_utf8(outcome.bytes).unwrap();
        for kept in &generated.kept {
            prop_assert!(upstream.contains(kept), "{kept}\nis not in\n{upstream}");
        }
    }

    #[test]
    fn no_json_panics(one in any_json(), member in prop::sample::select(vec!["input", "tools", "tool_choice", "text", "reasoning", "include", "stream_options", "store", "metadata"])) {
        let scene = Scene::default();
        for value in [one.clone(), format!("[{one}]"), format!(r#"[{{"type":"message","role":{one},"content":{one}}},{{"type":"function_call_output","call_id":{one},"output":{one}}},{{"type":"function","function":{one}}}]"#)] {
            let body = format!(r#"{{"model":"m","input":"x","{member}":{value}}}"#);
            let _ = scene.try_translate_as::<Responses>(body.as_bytes(), &Options::default());
        }
    }
}
