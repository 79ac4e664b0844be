use serde_json::json;

use super::*;

fn check(body: &Value) -> Result<&Map<String, Value>, Refusal> {
    super::check(body, WireFormat::Classic)
}

fn request() -> Value {
    json!({
        "model": "gpt-6.2-sol", "instructions": "Be brief.", "store": false, "stream": true,
        "input": [{ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "hi" }] }],
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut request = request();
    request[name] = value;
    request
}

fn refusal(body: &Value) -> Refusal {
    check(body).expect_err("the body is refused")
}

fn detail(body: &Value) -> String {
    refusal(body).body["detail"].as_str().expect("the gateway's shape").to_owned()
}

fn error(body: &Value) -> (String, String, Value) {
    let error = refusal(body).body["error"].clone();
    let text = |name: &str| error[name].as_str().expect("a text").to_owned();
    (text("param"), text("message"), error["code"].clone())
}

fn call(id: &str) -> Value {
    json!({ "type": "function_call", "call_id": id, "name": "f", "arguments": "{}" })
}

fn output(id: &str) -> Value {
    json!({ "type": "function_call_output", "call_id": id, "output": "done" })
}

#[test]
fn a_plain_request_passes() {
    assert!(check(&request()).is_ok());
    assert!(check(&with("model", json!("gpt-99-of-next-year"))).is_ok());
}

#[test]
fn members_outside_the_allowlist_are_named() {
    for name in ["temperature", "max_output_tokens", "metadata", "user", "previous_response_id", "made_up"] {
        assert_eq!(detail(&with(name, json!(1))), format!("Unsupported parameter: {name}"));
    }
    assert_eq!(detail(&with("service_tier", json!("flex"))), "Unsupported parameter: service_tier");
    assert_eq!(
        detail(&with("stream_options", json!({ "include_usage": true }))),
        "Unsupported parameter: stream_options.include_usage"
    );
}

#[test]
fn forced_members_have_one_value() {
    assert_eq!(detail(&with("store", json!(true))), "Store must be set to false");
    assert_eq!(detail(&with("stream", json!(false))), "Stream must be set to true");
    assert_eq!(detail(&with("instructions", Value::Null)), "Instructions are required");
    assert_eq!(detail(&with("input", json!("hi"))), "Input must be a list");
    assert_eq!(detail(&with("input", json!([]))), "Input must not be empty");
    assert_eq!(detail(&json!([])), "Request body must be a JSON object");
}

#[test]
fn models_and_efforts_must_be_in_the_catalog() {
    assert!(detail(&with("model", json!("claude-9"))).starts_with("The 'claude-9' model is not supported"));
    assert!(check(&with("reasoning", json!({ "effort": "max", "summary": "auto" }))).is_ok());
    for effort in ["none", "minimal"] {
        assert_eq!(error(&with("reasoning", json!({ "effort": effort }))).0, "reasoning.effort");
    }
    assert_eq!(error(&with("reasoning", json!({ "effort": "ultra" }))).2, "invalid_value");
    let mut old = with("reasoning", json!({ "effort": "max" }));
    old["model"] = json!("gpt-5.5");
    assert_eq!(error(&old).2, "unsupported_value");
    assert_eq!(error(&with("reasoning", json!({ "generate_summary": "auto" }))).2, "unknown_parameter");
}

#[test]
fn system_messages_are_rejected() {
    let system = json!([{ "type": "message", "role": "system", "content": "x" }]);
    assert_eq!(detail(&with("input", system)), "System messages are not allowed");
}

#[test]
fn calls_and_outputs_must_be_paired() {
    assert!(check(&with("input", json!([call("a"), call("b"), output("b"), output("a")]))).is_ok());
    let (param, message, _) = error(&with("input", json!([call("a")])));
    assert_eq!((param.as_str(), message.as_str()), ("input", "No tool output found for function call a."));
    for orphaned in
        [json!([output("a")]), json!([output("a"), call("a")]), json!([call("a"), output("a"), output("a")])]
    {
        let message = error(&with("input", orphaned)).1;
        assert_eq!(message, "No tool call found for function call output with call_id a.");
    }
    let custom = json!({ "type": "custom_tool_call_output", "call_id": "a", "output": "x" });
    assert!(error(&with("input", json!([call("a"), custom, output("a")]))).1.contains("custom tool call output"));
}

#[test]
fn long_ids_and_keys_are_rejected() {
    let long = "x".repeat(65);
    assert_eq!(error(&with("input", json!([call(&long), output(&long)]))).0, "input[0].call_id");
    assert_eq!(error(&with("prompt_cache_key", json!(long))).2, "string_above_max_length");
    assert!(check(&with("prompt_cache_key", json!("x".repeat(64)))).is_ok());
}

#[test]
fn parts_must_match_the_role_and_images_must_be_valid() {
    let message =
        |role: &str, part: Value| with("input", json!([{ "type": "message", "role": role, "content": [part] }]));
    let text = |kind: &str| json!({ "type": kind, "text": "x" });
    assert!(check(&message("assistant", text("output_text"))).is_ok());
    assert_eq!(error(&message("user", text("output_text"))).0, "input[0].content[0].type");
    assert_eq!(error(&message("assistant", text("input_text"))).0, "input[0].content[0].type");
    let image = |address: &str| message("user", json!({ "type": "input_image", "image_url": address }));
    assert!(check(&image("https://example.invalid/a.png")).is_ok());
    assert!(check(&image("data:image/png;base64,iVBORw0KGgo=")).is_ok());
    for bad in ["data:image/png;base64,!!!", "file:///a.png", ""] {
        assert_eq!(error(&image(bad)).0, "input[0].content[0].image_url", "{bad}");
    }
}

#[test]
fn tools_have_valid_names_and_object_schemas() {
    let tool = |name: &str, parameters: Value| {
        with("tools", json!([{ "type": "function", "name": name, "parameters": parameters }]))
    };
    assert!(check(&tool("get_weather-2", json!({ "type": "object" }))).is_ok());
    for name in ["fs.read", "", "ä", &"x".repeat(65)] {
        assert_eq!(error(&tool(name, json!({ "type": "object" }))).0, "tools[0].name", "{name}");
    }
    for schema in [json!({}), json!({ "type": "string" })] {
        assert_eq!(error(&tool("f", schema)).2, "invalid_function_parameters");
    }
    assert_eq!(error(&with("tools", json!([{ "type": "code_interpreter" }]))).0, "tools[0].type");
}

#[test]
fn a_choice_must_name_a_listed_tool() {
    let mut body = with("tools", json!([{ "type": "function", "name": "f", "parameters": { "type": "object" } }]));
    for good in [json!("auto"), json!("required"), json!({ "type": "function", "name": "f" })] {
        body["tool_choice"] = good;
        assert!(check(&body).is_ok());
    }
    body["tool_choice"] = json!({ "type": "function", "name": "g" });
    assert_eq!(error(&body).1, "Tool choice 'g' not found in 'tools' parameter.");
    assert_eq!(error(&with("tool_choice", json!("required"))).0, "tool_choice");
}

#[test]
fn json_mode_requires_the_word_in_the_input() {
    let mut body = with("text", json!({ "format": { "type": "json_object" } }));
    assert_eq!(error(&body).0, "input");
    body["input"][0]["content"][0]["text"] = json!("Answer in JSON");
    assert!(check(&body).is_ok());
}

#[test]
fn a_schema_format_has_a_name_and_a_schema() {
    let format = |format: Value| with("text", json!({ "format": format }));
    assert!(check(&format(json!({ "type": "json_schema", "name": "x", "schema": {} }))).is_ok());
    assert_eq!(error(&format(json!({ "type": "json_schema", "schema": {} }))).0, "text.format.name");
    assert_eq!(error(&format(json!({ "type": "json_schema", "name": "x" }))).0, "text.format.schema");
    assert_eq!(error(&format(json!({ "type": "yaml" }))).0, "text.format.type");
}

fn lite() -> Value {
    let mut request = request();
    request.as_object_mut().expect("an object").remove("instructions");
    request["reasoning"] = json!({ "context": "all_turns" });
    request["parallel_tool_calls"] = json!(false);
    let tools = json!([{ "type": "namespace", "name": "functions", "tools": [{ "type": "function", "name": "f" }] }]);
    let items = request["input"].as_array_mut().expect("a list");
    items.insert(0, json!({ "type": "additional_tools", "role": "developer", "tools": tools }));
    request
}

#[test]
fn the_lite_form_has_its_own_rules() {
    assert!(super::check(&lite(), WireFormat::Lite).is_ok());
    assert_eq!(detail(&lite()), "Instructions are required");
    let search = json!([{ "type": "web_search" }]);
    let tool_search =
        json!([{ "type": "tool_search", "description": "Finds tools.", "parameters": { "type": "object" } }]);
    for (path, value, param) in [
        ("/reasoning/context", Value::Null, "reasoning.context"),
        ("/parallel_tool_calls", json!(true), "parallel_tool_calls"),
        ("/input/0/tools", search, "input[0].tools"),
        ("/input/0/tools", tool_search, "input[0].tools"),
    ] {
        let mut body = lite();
        *body.pointer_mut(path).expect("it is there") = value;
        let refusal = super::check(&body, WireFormat::Lite).expect_err("the body is refused");
        let error = &refusal.body["error"];
        assert_eq!((&error["code"], &error["param"]), (&json!("unsupported_value"), &json!(param)));
    }
    let mut body = lite();
    body["input"][0]["tools"] = json!([{ "type": "tool_search", "execution": "client", "parameters": {} }]);
    assert!(super::check(&body, WireFormat::Lite).is_ok(), "the client runs this one");
    let mut body = lite();
    body["tools"] = json!([]);
    let refusal = super::check(&body, WireFormat::Lite).expect_err("the body is refused");
    assert_eq!(refusal.body["detail"], "Unsupported parameter: tools");
}
