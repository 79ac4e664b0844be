use http::{HeaderMap, HeaderValue};
use serde_json::json;
use serde_json::value::RawValue;

use super::{HEADER, ToolNamespace, is_marked};

fn stripped(data: &str) -> Option<String> {
    ToolNamespace::new("functions".into()).strip_from(data)
}

#[test]
fn the_added_namespace_is_removed_from_items_and_nothing_else_changes() {
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
    for (data, expected) in table {
        assert_eq!(stripped(data).as_deref(), Some(expected));
    }
}

#[test]
fn other_namespaces_and_text_that_mentions_them_stay() {
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
        assert_eq!(stripped(data), None, "{data}");
    }
}

#[test]
fn only_the_string_true_marks_a_body() {
    for (value, expected) in [("true", true), ("True", true), ("false", false), ("", false), ("1", false)] {
        let headers = HeaderMap::from_iter([(HEADER, HeaderValue::from_static(value))]);
        assert_eq!(is_marked(&headers, None), expected, "{value}");
    }
    for (value, expected) in [(json!("true"), true), (json!("no"), false), (json!(true), false)] {
        let metadata = json!({"ws_request_header_x_openai_internal_codex_responses_lite": value}).to_string();
        let metadata = RawValue::from_string(metadata).unwrap();
        assert_eq!(is_marked(&HeaderMap::new(), Some(&metadata)), expected, "{value}");
    }
}
