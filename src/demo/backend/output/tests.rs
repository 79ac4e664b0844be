use serde_json::{Map, json};

use super::*;

const WEATHER: &str = r#"{"type":"function","name":"get_weather","parameters":{"type":"object",
    "properties":{"city":{"type":"string"},"unit":{"enum":["celsius","kelvin"]},"days":{"type":"integer"}},
    "required":["city","unit"]}}"#;

fn weather() -> Value {
    serde_json::from_str(WEATHER).unwrap()
}

fn user_message(text: &str) -> Map<String, Value> {
    let body = json!({
        "input": [{ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": text }] }],
        "reasoning": { "effort": "none" },
    });
    body.as_object().unwrap().clone()
}

fn answered(body: &Map<String, Value>) -> Vec<Output> {
    outputs(&Prompt::read(body), None)
}

fn text(body: &Map<String, Value>) -> String {
    match answered(body).as_slice() {
        [Output::Message { text, .. }] => text.clone(),
        other => panic!("not a single message: {other:?}"),
    }
}

fn arguments(body: &Map<String, Value>) -> Vec<(String, Value)> {
    let call = |output: Output| match output {
        Output::Call { name, payload: Payload::Arguments(arguments), .. } => {
            (name, serde_json::from_str(&arguments).unwrap())
        }
        other => panic!("not a call: {other:?}"),
    };
    answered(body).into_iter().map(call).collect()
}

#[test]
fn a_text_quotes_the_prompt_and_says_that_it_is_simulated() {
    let text = text(&user_message("Good morning"));
    assert_eq!(
        text,
        "This is a simulated response from the codex-proxy demo: no model wrote this. You said: Good morning"
    );
}

#[test]
fn a_tool_is_called_if_the_prompt_mentions_it() {
    let mut body = user_message("What's the weather in Bern?");
    body.insert("tools".to_owned(), json!([weather()]));
    assert_eq!(arguments(&body), [("get_weather".to_owned(), json!({ "city": "Bern", "unit": "celsius" }))]);
    let mut hello = user_message("Hello");
    hello.insert("tools".to_owned(), json!([weather()]));
    assert!(text(&hello).contains("You said: Hello"));
}

#[test]
fn two_places_give_two_calls_if_parallel_calls_are_allowed() {
    let mut body = user_message("Weather in Oslo and Rome?");
    body.insert("tools".to_owned(), json!([weather()]));
    let cities: Vec<Value> = arguments(&body).into_iter().map(|(_, arguments)| arguments["city"].clone()).collect();
    assert_eq!(cities, ["Oslo", "Rome"]);
    body.insert("parallel_tool_calls".to_owned(), json!(false));
    assert_eq!(arguments(&body).len(), 1);
}

#[test]
fn the_choice_is_obeyed() {
    let mut body = user_message("Hello");
    body.insert("tools".to_owned(), json!([weather(), { "type": "custom", "name": "note" }]));
    body.insert("tool_choice".to_owned(), json!("required"));
    assert_eq!(arguments(&body)[0].0, "get_weather");
    body.insert("tool_choice".to_owned(), json!({ "type": "custom", "name": "note" }));
    let input = Payload::Input("Hello".to_owned());
    assert_eq!(answered(&body), [Output::Call { namespace: None, name: "note".to_owned(), payload: input }]);
    let mut never = user_message("Use the get_weather tool");
    never.insert("tools".to_owned(), json!([weather()]));
    never.insert("tool_choice".to_owned(), json!("none"));
    assert!(text(&never).contains("You said"));
}

#[test]
fn tool_outputs_are_quoted_in_the_text() {
    let mut body = user_message("Weather in Oslo?");
    body.insert("tools".to_owned(), json!([weather()]));
    let input = body["input"].as_array_mut().unwrap();
    input.push(json!({ "type": "function_call", "call_id": "c", "name": "get_weather", "arguments": "{}" }));
    input.push(json!({ "type": "function_call_output", "call_id": "c", "output": "12 C" }));
    assert!(text(&body).contains("The tool get_weather returned: 12 C"));
}

#[test]
fn the_text_reports_attached_images() {
    let mut body = user_message("What is this?");
    let image = json!({ "type": "input_image", "image_url": "https://example.invalid/a.png" });
    body["input"][0]["content"].as_array_mut().unwrap().push(image);
    assert!(text(&body).ends_with("I see 1 image."));
}

#[test]
fn formats_are_kept() {
    let mut body = user_message("Extract: Bob is 5.");
    let schema = json!({
        "type": "object", "required": ["name", "age"], "additionalProperties": false,
        "properties": { "name": { "type": "string" }, "age": { "type": "integer" } },
    });
    body.insert("text".to_owned(), json!({ "format": { "type": "json_schema", "name": "p", "schema": schema } }));
    assert_eq!(text(&body), r#"{"age":5,"name":"Bob"}"#);
    body.insert("text".to_owned(), json!({ "format": { "type": "json_object" } }));
    let object: Value = serde_json::from_str(&text(&body)).unwrap();
    assert_eq!(object["demo"], true);
}

#[test]
fn hosted_tools_are_used_if_the_prompt_mentions_them() {
    let mut body = user_message("Search the web for Rust");
    body.insert("tools".to_owned(), json!([{ "type": "web_search" }]));
    let outputs = answered(&body);
    assert!(matches!(outputs[0], Output::Search { .. }));
    assert!(matches!(&outputs[1], Output::Message { text, source: Some(source) } if text.contains(source)));
    let mut body = user_message("Draw a dot");
    body.insert("tools".to_owned(), json!([{ "type": "image_generation" }]));
    assert!(matches!(answered(&body)[0], Output::Image { .. }));
}

#[test]
fn reasoning_is_sent_unless_disabled() {
    let mut body = user_message("hi");
    body.insert("reasoning".to_owned(), json!({ "summary": "auto" }));
    assert!(matches!(answered(&body)[0], Output::Reasoning { summary: Some(_) }));
    body.insert("reasoning".to_owned(), json!({}));
    assert_eq!(answered(&body)[0], Output::Reasoning { summary: None });
}
