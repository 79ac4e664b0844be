use http::{HeaderMap, HeaderValue};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{HEADER, Wrapping, is_marked, marked};

const MARK: &str = r#""ws_request_header_x_openai_internal_codex_responses_lite":"true""#;

fn unwrapped(data: &str) -> Option<String> {
    Wrapping::new("functions".into()).taken_off(data)
}

#[test]
fn our_namespace_goes_wherever_an_item_names_it_and_nothing_else_changes() {
    let table = [
        (
            r#"{"type":"response.output_item.added","item":{ "namespace" : "functions" , "n":1.0e2}}"#,
            r#"{"type":"response.output_item.added","item":{ "n":1.0e2}}"#,
        ),
        (
            r#"{"type":"x.tomorrow","item":{"a":[],"namespace":"functions"},"namespace":"functions"}"#,
            r#"{"type":"x.tomorrow","item":{"a":[]}}"#,
        ),
        (
            r#"{"response":{"output":[{"namespace":"disk"},{"name":"f","namespace":"functions"},{"namespace":"functions"}]}}"#,
            r#"{"response":{"output":[{"namespace":"disk"},{"name":"f"},{}]}}"#,
        ),
    ];
    for (wrapped, plain) in table {
        assert_eq!(unwrapped(wrapped).as_deref(), Some(plain));
    }
}

#[test]
fn other_namespaces_and_mere_mentions_stay() {
    for data in [
        r#"{"item":{"namespace":"disk","name":"f"}}"#,
        r#"{"item":{"namespace":"functions_2"}}"#,
        r#"{"item":{"namespace":null,"arguments":"{\"namespace\":\"functions\"}"}}"#,
        r#"{"type":"response.output_text.delta","delta":"\"namespace\":\"functions\""}"#,
        r#"{"item":{"nested":{"namespace":"functions"}}}"#,
        r#"{"item":"namespace","response":[]}"#,
        r#"{"namespace":"functions""#,
        "namespace",
        "",
    ] {
        assert_eq!(unwrapped(data), None, "{data}");
    }
}

#[test]
fn a_frame_is_marked_among_its_client_metadata() {
    let set = format!("{{{MARK}}}");
    let table = [
        ("{}".to_owned(), format!(r#"{{"client_metadata":{set}}}"#)),
        (r#"{"a": 1.0 }"#.to_owned(), format!(r#"{{"a": 1.0 ,"client_metadata":{set}}}"#)),
        (
            r#"{"client_metadata":{"b":"c"},"d":2}"#.to_owned(),
            format!(r#"{{"client_metadata":{{"b":"c",{MARK}}},"d":2}}"#),
        ),
        (r#"{"client_metadata":null}"#.to_owned(), format!(r#"{{"client_metadata":{set}}}"#)),
        (
            format!(r#"{{"client_metadata":{{{}}}}}"#, MARK.replace("true", "no")),
            format!(r#"{{"client_metadata":{set}}}"#),
        ),
        ("[]".to_owned(), "[]".to_owned()),
    ];
    for (body, want) in table {
        let got = marked(&body);
        assert_eq!(got, want);
        assert_eq!(marked(&got), got, "once is enough");
        let metadata = serde_json::from_str::<Value>(&got).unwrap()["client_metadata"].to_string();
        let metadata = RawValue::from_string(metadata).unwrap();
        assert_eq!(is_marked(&HeaderMap::new(), Some(&metadata)), got.starts_with('{'));
    }
}

#[test]
fn only_a_clear_yes_marks_a_body() {
    for (value, is_yes) in [("true", true), ("True", true), ("false", false), ("", false), ("1", false)] {
        let headers = HeaderMap::from_iter([(HEADER, HeaderValue::from_static(value))]);
        assert_eq!(is_marked(&headers, None), is_yes, "{value}");
    }
    let odd =
        RawValue::from_string(json!({"ws_request_header_x_openai_internal_codex_responses_lite": true}).to_string());
    assert!(!is_marked(&HeaderMap::new(), Some(&odd.unwrap())));
}
