//! What a Responses request holds below its top level leaves byte for byte.

use std::path::Path;

use codex_proxy::protocol::envelope::Envelope;
use codex_proxy::protocol::responses::{Options, Responses};
use http::HeaderValue;
use proptest::prelude::*;
use serde_json::value::RawValue;

use super::Scene;

/// JSON in the spelling of somebody else: white space, digits and escapes of any kind.
fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "null",
        "true",
        "0",
        "-0.0",
        "1.50e+03",
        "1E5",
        "12345678901234567890123",
        r#""""#,
        r#""\u00e9\/\ud83d\ude00""#,
        r#""é \" } ] , :""#,
        "[ ]",
        "{ }",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(3, 16, 4, |inner| {
        let space = prop::sample::select(vec!["", " ", "\n\t"]);
        let member =
            (prop::sample::select(vec!["id", "a", "type2", r"\u0062", "content"]), inner.clone(), space.clone());
        let members = prop::collection::vec(member, 0..4).prop_map(|members| {
            let members: Vec<_> =
                members.iter().map(|(name, value, space)| format!("{space}\"{name}\":{space}{value}{space}")).collect();
            format!("{{{}}}", members.join(","))
        });
        let list = (prop::collection::vec(inner, 0..4), space)
            .prop_map(|(list, space)| format!("[{}]", list.join(&format!("{space},"))));
        prop_oneof![members, list]
    })
}

/// An item that we have no reason to touch.
fn any_item() -> impl Strategy<Value = String> {
    (0_usize..7, any_json(), any_json()).prop_map(|(kind, one, two)| match kind {
        0 => format!(r#"{{ "type":"tomorrow", "x":{one},"call_id":7,"role":"system","y" : {two}}}"#),
        1 => format!(r#"{{"type":"additional_tools","id":"at_1","role":"developer","tools":{one},"z":{two}}}"#),
        2 => format!(r#"{{"role":"user","content":[{{"type":"input_text","text":"x","new":{one}}},{{"type":"new","v":{two}}}],"type":"message"}}"#),
        3 => format!(r#"{{"type":"compaction","id":"odd","encrypted_content":"g","x":{one}}}"#),
        4 => format!(r#"{{"type":"reasoning","summary":[],"encrypted_content":"g","content":{one}}}"#),
        5 => format!(r#"{{"type":"web_search_call","id":"whatever","action":{one}}}"#),
        _ => format!(r#"{{"x":{one},"y":{two}}}"#),
    })
}

fn any_tool() -> impl Strategy<Value = String> {
    (0_usize..4, any_json()).prop_map(|(kind, one)| match kind {
        0 => format!(r#"{{"type":"function","name":"f","parameters":{one}, "defer_loading":true}}"#),
        1 => format!(r#"{{"type":"namespace","name":"n","tools":[{one}]}}"#),
        2 => format!(r#"{{"type":"web_search","external_web_access":false,"new":{one}}}"#),
        _ => format!(r#"{{"type":"tomorrow","x":{one}}}"#),
    })
}

/// What the Codex CLI sent, one body a line; long texts are replaced by a note of their length.
fn captured() -> Vec<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/captured/codex-cli.jsonl");
    std::fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}

fn member<'b>(body: &Envelope<'b>, name: &str) -> Option<&'b str> {
    body.get(name).map(RawValue::get)
}

#[test]
fn what_the_codex_cli_sent_leaves_byte_for_byte() {
    let mut as_codex = Scene::default();
    as_codex.headers.insert("originator", HeaderValue::from_static("codex_exec"));
    let bodies = captured();
    assert_eq!(bodies.len(), 12);
    for body in &bodies {
        let sent = Envelope::parse(body).unwrap();
        for scene in [&as_codex, &Scene::default()] {
            let outcome = scene.try_translate_as::<Responses>(body.as_bytes(), &Options::default()).unwrap();
            let text = String::from_utf8(outcome.bytes).unwrap();
            let left = Envelope::parse(&text).unwrap();
            assert!(outcome.warnings.is_empty(), "{:?}", outcome.warnings);
            for name in ["tools", "tool_choice", "client_metadata", "prompt_cache_key", "parallel_tool_calls"] {
                if let Some(sent) = member(&sent, name) {
                    assert_eq!(member(&left, name), Some(sent), "{name}");
                }
            }
        }
        let left = as_codex.try_translate_as::<Responses>(body.as_bytes(), &Options::default()).unwrap().bytes;
        let left: Envelope<'_> = serde_json::from_slice(&left).unwrap();
        assert_eq!(member(&left, "input"), member(&sent, "input"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn everything_below_the_top_level_leaves_byte_for_byte(
        items in prop::collection::vec(any_item(), 1..6),
        tools in prop::collection::vec(any_tool(), 0..4),
        members in prop::collection::vec(any_json(), 4),
    ) {
        let [metadata, format, later, choice] = members.as_slice() else { unreachable!() };
        let choice = format!(r#"{{"type":"tomorrow","x":{choice}}}"#);
        let format = format!(r#"{{"type":"json_schema","name":"n","schema":{format}}}"#);
        let body = format!(
            r#"{{"model":"m","input":[{}],"tools":[{}],"tool_choice":{choice},"client_metadata":{metadata},"text":{{"format":{format},"later":{later}}},"reasoning":{{"later":{later}}}}}"#,
            items.join(" ,\n"), tools.join(", "),
        );
        let outcome = Scene::default().try_translate_as::<Responses>(body.as_bytes(), &Options::default()).unwrap();
        let upstream = String::from_utf8(outcome.bytes).unwrap();
        for kept in [
            format!(r#""input":[{}]"#, items.join(",")),
            format!(r#""tools":[{}]"#, tools.join(",")),
            format!(r#""tool_choice":{choice},"#),
            format!(r#""text":{{"format":{format},"later":{later}}}"#),
            format!(r#""reasoning":{{"summary":"auto","later":{later}}}"#),
        ] {
            prop_assert!(upstream.contains(&kept), "{kept}\nis not in\n{upstream}");
        }
        if metadata != "null" {
            let kept = format!(r#""client_metadata":{metadata}"#);
            prop_assert!(upstream.contains(&kept));
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
