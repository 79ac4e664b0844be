//! Anthropic Messages requests: details that no golden case covers.

use codex_proxy::command_hint::CommandHint;
use codex_proxy::error::{Reason, Refusal};
use codex_proxy::protocol::Dialect;
use codex_proxy::protocol::chat::Options;
use codex_proxy::protocol::messages::Messages;
use codex_proxy::protocol::models::{Catalogue, Models};
use codex_proxy::protocol::tokens::TokenLimit;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::{Outcome, Scene, assert_refusal, cases, claude_models, read, refused};

pub(crate) fn asking(member: &str, value: Value) -> Value {
    let mut request = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]});
    request[member] = value;
    request
}

#[expect(clippy::needless_pass_by_value, reason = "blocks are inline")]
pub(crate) fn saying(blocks: Value) -> Value {
    asking("messages", json!([{"role": "user", "content": blocks}]))
}

pub(crate) fn offering(tools: Value) -> Value {
    asking("tools", tools)
}

fn translate(request: &Value) -> Outcome {
    Scene { models: claude_models(), ..Scene::default() }.try_message(request.to_string().as_bytes()).unwrap()
}

fn refusal(request: &Value) -> Refusal {
    refused(Scene::default().try_message(request.to_string().as_bytes()))
}

fn input(messages: Value) -> Value {
    translate(&asking("messages", messages)).upstream["input"].clone()
}

pub(crate) fn tool_use(id: &str) -> Value {
    json!({"type": "tool_use", "id": id, "name": "f", "input": {}})
}

#[expect(clippy::needless_pass_by_value, reason = "content is inline")]
pub(crate) fn tool_result(id: &str, content: Value) -> Value {
    json!({"type": "tool_result", "tool_use_id": id, "content": content})
}

#[test]
fn every_error_case_gives_the_expected_error() {
    let cases = cases("messages").into_iter().find(|case| case.ends_with("99-refused")).unwrap();
    for case in read(&cases.join("cases.json")).as_array().unwrap() {
        let body = case["request"].to_string();
        let error = Scene::default().try_message(body.as_bytes()).unwrap_err();
        let (status, _, answer) = Messages::to_error_response(&error, "req_1", CommandHint::default());
        let mut answer: Value = serde_json::from_slice(&answer).unwrap();
        answer["request_id"] = json!("<REQUEST_ID>");
        assert_eq!((json!(status.as_u16()), &answer), (case["status"].clone(), &case["response"]), "{}", case["case"]);
    }
}

#[test]
fn unsupported_values_are_rejected_by_name() {
    let block = |block: Value| saying(json!([block]));
    for (request, param, code) in [
        (asking("model", Value::Null), "model", "missing_required_parameter"),
        (asking("max_tokens", Value::Null), "max_tokens", "missing_required_parameter"),
        (asking("max_tokens", json!(0)), "max_tokens", "invalid_type"),
        (asking("max_tokens", json!(1.5)), "max_tokens", "invalid_type"),
        (asking("messages", json!([])), "messages", "invalid_value"),
        (asking("messages", json!("x")), "messages", "invalid_type"),
        (saying(json!("")), "messages", "invalid_value"),
        (saying(json!(5)), "messages[0].content", "invalid_type"),
        (asking("messages", json!([{"role": "tool", "content": ""}])), "messages[0].role", "invalid_value"),
        (asking("stop_sequences", json!("END")), "stop_sequences", "invalid_type"),
        (asking("container", json!("c")), "container", "unsupported_parameter"),
        (asking("mcp_servers", json!([{}])), "mcp_servers", "unsupported_parameter"),
        (asking("tool_choice", json!({"type": "any"})), "tool_choice", "invalid_value"),
        (asking("tool_choice", json!({"type": "tool", "name": "f"})), "tool_choice", "invalid_value"),
        (asking("tool_choice", json!({"type": "some"})), "tool_choice.type", "invalid_value"),
        (asking("output_config", json!({"format": {"type": "xml"}})), "output_config.format.type", "invalid_value"),
        (asking("output_format", json!({"type": "json_schema"})), "output_format.schema", "missing_required_parameter"),
        (offering(json!([{"name": ""}])), "tools[0].name", "invalid_value"),
        (offering(json!([{"type": "code_execution_20250825", "name": "c"}])), "tools[0].type", "unsupported_value"),
        (
            block(json!({"type": "container_upload", "file_id": "f"})),
            "messages[0].content[0].type",
            "unsupported_value",
        ),
        (block(json!({"type": "mcp_tool_use"})), "messages[0].content[0].type", "unsupported_value"),
        (block(json!({"text": "x"})), "messages[0].content[0].type", "missing_required_parameter"),
        (block(json!({"type": "image"})), "messages[0].content[0].source", "missing_required_parameter"),
        (
            block(json!({"type": "document", "source": {"type": "file", "file_id": "f"}})),
            "messages[0].content[0].source.type",
            "unsupported_value",
        ),
        (
            block(tool_result("a", json!([{"type": "audio"}]))),
            "messages[0].content[0].content[0].type",
            "unsupported_value",
        ),
    ] {
        assert_refusal(&refusal(&request), &request, param, code);
    }
}

#[test]
fn beta_members_are_dropped_and_lost_settings_are_named() {
    let mut request = saying(json!([{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]));
    for (member, value) in [
        ("context_management", json!({"edits": []})),
        ("service_tier", json!("auto")),
        ("inference_geo", json!("eu")),
        ("a_beta", json!([1])),
        ("mcp_servers", json!([])),
        ("temperature", json!(1)),
        ("top_p", json!(0.9)),
        ("top_k", json!(40)),
        ("output_config", json!({"effort": "extreme"})),
    ] {
        request[member] = value;
    }
    let outcome = translate(&request);
    let mut warnings = outcome.warnings;
    warnings.sort();
    assert_eq!(warnings, ["ignored:output_config.effort", "ignored:top_k", "ignored:top_p"]);
    assert!(outcome.upstream.get("service_tier").is_none());
    assert_eq!(translate(&asking("speed", json!("fast"))).upstream["service_tier"], "priority");
}

#[test]
fn a_limit_follows_the_setting_and_gives_no_warning() {
    for (token_limit, shown) in
        [(TokenLimit::Ignore, "token_limit: None"), (TokenLimit::Enforce, "token_limit: Some(9)")]
    {
        let scene = Scene { options: Options { token_limit, ..Options::default() }, ..Scene::default() };
        let outcome = scene.try_message(saying(json!("x")).to_string().as_bytes()).unwrap();
        assert!(outcome.reply.contains(shown) && outcome.warnings.is_empty(), "{}", outcome.reply);
    }
    let options = Options { token_limit: TokenLimit::Reject, ..Options::default() };
    let refusal = refused(Scene { options, ..Scene::default() }.try_message(saying(json!("x")).to_string().as_bytes()));
    assert_eq!((refusal.param.as_deref(), refusal.code), (Some("max_tokens"), Some("unsupported_parameter")));
}

#[test]
fn a_conversation_stored_by_the_service_is_rejected() {
    assert!(translate(&asking("thread", json!({"type": "create"}))).warnings.is_empty());
    let refusal = refusal(&asking("thread", json!({"type": "continue", "previous_message_id": "msg_1"})));
    assert_eq!((refusal.reason, refusal.code), (Reason::NotFound, Some("thread_not_found")));
}

#[test]
fn the_effort_follows_the_first_matching_row() {
    let tools = json!([{"name": "f", "input_schema": {"type": "object"}}]);
    for (thinking, effort, tools, expected) in [
        (json!({"type": "disabled"}), json!("high"), tools.clone(), json!("low")),
        (json!({"type": "disabled"}), json!("high"), json!([]), json!("none")),
        (json!({"type": "adaptive"}), json!("max"), json!([]), json!("max")),
        (Value::Null, json!("ultra"), json!([]), json!("xhigh")),
        (json!({"type": "enabled", "budget_tokens": 1024}), json!("high"), json!([]), json!("high")),
        (json!({"type": "enabled", "budget_tokens": 2048}), Value::Null, json!([]), json!("low")),
        (json!({"type": "enabled", "budget_tokens": 8192}), Value::Null, json!([]), json!("medium")),
        (json!({"type": "enabled", "budget_tokens": 8193}), Value::Null, json!([]), json!("high")),
        (json!({"type": "enabled"}), Value::Null, json!([]), Value::Null),
        (json!({"type": "between_tools"}), Value::Null, tools, Value::Null),
        (Value::Null, Value::Null, json!([]), Value::Null),
    ] {
        let mut request = offering(tools);
        request["thinking"] = thinking;
        request["output_config"] = json!({"effort": effort});
        assert_eq!(translate(&request).upstream["reasoning"]["effort"], expected, "{request}");
    }
}

#[test]
fn only_an_effort_of_the_client_gives_a_clamping_warning() {
    let json = br#"{"models":[{"slug":"sol","supported_reasoning_levels":[{"effort":"low"},{"effort":"high"}]}]}"#;
    let models = Models { catalogue: Catalogue::parse(json).unwrap().into(), ..Models::default() };
    let scene = Scene { models, ..Scene::default() };
    for (member, value, effort, warnings) in [
        ("output_config", json!({"effort": "max"}), "high", vec!["clamped:reasoning_effort"]),
        ("thinking", json!({"type": "disabled"}), "low", vec![]),
        ("thinking", json!({"type": "enabled", "budget_tokens": 4000}), "low", vec![]),
    ] {
        let mut request = asking(member, value);
        request["model"] = json!("sol");
        let outcome = scene.try_message(request.to_string().as_bytes()).unwrap();
        assert_eq!(
            (outcome.upstream["reasoning"]["effort"].as_str(), outcome.warnings),
            (Some(effort), warnings.into_iter().map(str::to_owned).collect()),
            "{request}"
        );
    }
}

#[test]
fn the_context_window_suffix_is_not_part_of_the_model() {
    for (name, slug) in
        [("claude-opus-4-8[1m]", "gpt-5.4"), ("gpt-9[1m]", "gpt-9"), ("claude-haiku-4-5", "gpt-5.4-mini")]
    {
        let outcome = translate(&asking("model", json!(name)));
        assert_eq!(outcome.upstream["model"], slug);
        assert!(outcome.reply.contains(&format!("model: \"{name}\"")), "the client's own name is echoed");
    }
}

#[test]
fn the_billing_line_is_not_an_instruction() {
    let billing = "x-anthropic-billing-header: cc_version=1;";
    for (system, expected) in [
        (json!(billing), "You are a helpful assistant."),
        (json!(format!("{billing}\nBe kind.")), "Be kind."),
        (
            json!([{"type": "text", "text": billing}, {"type": "text", "text": " "}, {"type": "text", "text": "Be kind."}]),
            "Be kind.",
        ),
        (json!([]), "You are a helpful assistant."),
    ] {
        assert_eq!(translate(&asking("system", system)).upstream["instructions"], expected);
    }
}

#[test]
fn documents_and_search_results_are_translated() {
    let input = input(json!([{"role": "user", "content": [
        {"type": "image", "source": {"type": "url", "url": "https://a/b.png"}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}},
        {"type": "document", "title": "say \"x\"", "source": {"type": "text", "media_type": "text/plain", "data": "d"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d"}},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "in"}, {"type": "image", "source": {"type": "url", "url": "https://c"}}]}},
        {"type": "document", "source": {"type": "content", "content": "inner"}},
        {"type": "document", "source": {"type": "url", "url": "https://a/b.pdf"}},
        {"type": "search_result", "title": "T", "source": "S", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
        {"type": "text", "text": ""},
    ]}]));
    let image = |url: &str| json!({"type": "input_image", "image_url": url, "detail": "auto"});
    let text = |text: &str| json!({"type": "input_text", "text": text});
    assert_eq!(
        input[0]["content"],
        json!([
            image("https://a/b.png"),
            {"type": "input_file", "filename": "document.pdf", "file_data": "data:application/pdf;base64,AAAA"},
            text("<document title=\"say &quot;x&quot;\">\nd\n</document>"),
            text("<document>\nd\n</document>"),
            text("in"),
            image("https://c"),
            text("inner"),
            {"type": "input_file", "file_url": "https://a/b.pdf"},
            text("T\nS\none\ntwo"),
        ])
    );
}

#[test]
fn tool_results_keep_their_format_and_their_failures() {
    let outputs = |content: Value, is_error: bool| {
        let mut result = tool_result("a", content);
        result["is_error"] = json!(is_error);
        let messages =
            json!([{"role": "assistant", "content": [tool_use("a")]}, {"role": "user", "content": [result]}]);
        input(messages)[1]["output"].clone()
    };
    let text = |text: &str| json!({"type": "text", "text": text});
    let reported = |text: &str| json!({"type": "input_text", "text": text});
    for (content, is_error, expected) in [
        (json!("x"), false, json!("x")),
        (Value::Null, false, json!("")),
        (json!([]), true, json!("Error: ")),
        (json!([text("x")]), true, json!("Error: x")),
        (json!("ERROR: no"), true, json!("ERROR: no")),
        (json!("<tool_use_error>no"), true, json!("<tool_use_error>no")),
        (json!([text("x"), text("y")]), false, json!([reported("x"), reported("y")])),
        (
            json!([text("x"), {"type": "tool_reference", "tool_name": "g"}]),
            true,
            json!([reported("Error:"), reported("x"), reported("[tool reference: g]")]),
        ),
    ] {
        assert_eq!(outputs(content.clone(), is_error), expected, "{content}");
    }
}

#[test]
fn a_history_is_repaired_and_results_may_arrive_late() {
    let messages = json!([
        {"role": "assistant", "content": [tool_use("a"), tool_use("b")]},
        {"role": "user", "content": [tool_result("b", json!("B")), {"type": "text", "text": "go on"}]},
        {"role": "user", "content": [tool_result("a", json!("A"))]},
        {"role": "assistant", "content": [tool_use("c"), {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}]},
        {"role": "user", "content": [tool_result("zzz", json!("lost"))]},
    ]);
    let outcome = translate(&asking("messages", messages));
    let reported: Vec<String> = outcome.upstream["input"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| format!("{} {}", item["type"].as_str().unwrap(), item["call_id"].as_str().unwrap_or_default()))
        .collect();
    let expected = [
        "function_call a",
        "function_call b",
        "function_call_output b",
        "message ",
        "function_call_output a",
        "function_call c",
        "function_call_output c",
        "message ",
    ];
    assert_eq!(reported, expected);
    assert_eq!(outcome.warnings, ["repaired:orphan_tool_output", "repaired:missing_tool_output"]);
}

#[test]
fn tools_run_by_the_client_are_functions_with_its_names() {
    let tools = json!([
        {"type": "bash_20250124", "name": "bash"},
        {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
        {"type": "memory_20250818", "name": "memory"},
        {"type": "tool_search_tool_regex_20251119", "name": "find"},
        {"type": "custom", "name": "plain", "strict": true, "defer_loading": true, "input_examples": []},
        {"type": "web_search_20250305", "name": "search", "blocked_domains": ["a"], "user_location": {"type": "approximate", "city": "Oslo"}},
        {"type": "web_fetch_20250910", "name": "fetch", "allowed_domains": ["b"]},
    ]);
    let outcome = translate(&offering(tools));
    let tools = outcome.upstream["tools"].as_array().unwrap();
    let names: Vec<_> =
        tools.iter().map(|tool| tool["name"].as_str().unwrap_or(tool["type"].as_str().unwrap())).collect();
    assert_eq!(names, ["bash", "str_replace_based_edit_tool", "memory", "plain", "web_search"]);
    assert_eq!(tools[0]["parameters"]["properties"]["command"]["type"], "string");
    assert!(tools[1]["parameters"]["properties"]["command"]["enum"].as_array().unwrap().contains(&json!("insert")));
    assert!(tools[2]["parameters"]["properties"]["command"]["enum"].as_array().unwrap().contains(&json!("rename")));
    assert_eq!(
        tools[3],
        json!({"type": "function", "name": "plain", "parameters": {"type": "object", "properties": {}}, "strict": true})
    );
    assert_eq!(tools[4], json!({"type": "web_search", "user_location": {"type": "approximate", "city": "Oslo"}}));
    assert_eq!(outcome.warnings, ["ignored:blocked_domains"]);
}

#[test]
fn a_tool_choice_is_translated() {
    let function = json!({"name": "fs.read", "input_schema": {"type": "object"}});
    let search = json!({"type": "web_search_20250305", "name": "web"});
    for (tools, choice, expected) in [
        (json!([function]), json!({"type": "auto"}), json!("auto")),
        (json!([function]), json!({"type": "none"}), json!("none")),
        (json!([function]), json!({"type": "any"}), json!("required")),
        (
            json!([function]),
            json!({"type": "tool", "name": "fs.read"}),
            json!({"type": "function", "name": "fs_read_4074bc02"}),
        ),
        (json!([search]), json!({"type": "tool", "name": "web"}), json!("required")),
        (json!([search, function]), json!({"type": "tool", "name": "web"}), json!({"type": "web_search"})),
    ] {
        let mut request = offering(tools);
        request["tool_choice"] = choice;
        assert_eq!(translate(&request).upstream["tool_choice"], expected, "{request}");
    }
}

#[test]
fn the_cache_key_is_derived_from_the_session_and_its_agent() {
    let key = |user_id: Value, headers: &[(&'static str, &'static str)]| {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        let scene = Scene { headers: headers.collect::<HeaderMap>(), ..Scene::default() };
        let request = asking("metadata", json!({"user_id": user_id}));
        scene.try_message(request.to_string().as_bytes()).unwrap().upstream["prompt_cache_key"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let session = key(json!(r#"{"device_id":"d","session_id":"s"}"#), &[]);
    assert!(uuid::Uuid::parse_str(&session).is_ok());
    assert_eq!(key(json!("user_x_account__session_s"), &[]), session);
    assert_eq!(key(json!("whoever"), &[("x-claude-code-session-id", "s")]), session);
    assert_ne!(key(json!("another"), &[]), session);
    let agent = [("x-claude-code-session-id", "s"), ("x-claude-code-agent-id", "a")];
    assert_ne!(key(Value::Null, &agent), session);
    assert_eq!(key(Value::Null, &[("session-id", "named")]), "named", "as in every API, without a session");
}

#[test]
fn a_reminder_does_not_change_the_key_of_a_conversation() {
    let key = |reminder: &str| {
        let content = json!([{"type": "text", "text": reminder}, {"type": "text", "text": "hi"}]);
        translate(&saying(content)).upstream["prompt_cache_key"].clone()
    };
    assert_eq!(key("<system-reminder>a</system-reminder>\n"), key("<system-reminder>b</system-reminder>\n"));
    assert_ne!(key("a"), key("b"));
}
