use serde_json::{Map, Value, json};

use super::super::fault::Fault;
use super::super::output::{Output, Payload, outputs};
use super::super::prompt::Prompt;

const SCRIPT: &str = "Please do this.\ndemo:call read {\"path\": \"a\"} and no more\n\
    demo:call patch *** Begin\n-old\n\n+new\ndemo:call space.deep\ndemo:call unheard {\"a\": 1}";

/// A request with the script, a function, a plain-text tool, and a function in a namespace.
fn body(script: &str) -> Map<String, Value> {
    let body = json!({
        "input": [{ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": script }] }],
        "tools": [
            { "type": "function", "name": "read", "parameters": { "type": "object" } },
            { "type": "custom", "name": "patch" },
            { "type": "namespace", "name": "space", "tools": [{ "type": "function", "name": "deep" }] },
        ],
        "reasoning": { "effort": "none" },
    });
    body.as_object().unwrap().clone()
}

fn push(body: &mut Map<String, Value>, item: Value) {
    body["input"].as_array_mut().unwrap().push(item);
}

/// Makes one turn: appends the output item and the client's response to the conversation.
fn step(body: &mut Map<String, Value>, returned: &str) -> Output {
    let mut outputs = outputs(&Prompt::read(body), None);
    assert_eq!(outputs.len(), 1, "one thing in each turn: {outputs:?}");
    let output = outputs.remove(0);
    let call_id = format!("call_{}", body["input"].as_array().unwrap().len());
    if let Output::Call { namespace, name, payload } = &output {
        let kind = match payload {
            Payload::Arguments(_) => "function_call",
            Payload::Input(_) => "custom_tool_call",
        };
        push(body, json!({ "type": kind, "call_id": call_id, "name": name, "namespace": namespace }));
        push(body, json!({ "type": format!("{kind}_output"), "call_id": call_id, "output": returned }));
    }
    output
}

fn call(namespace: Option<&str>, name: &str, payload: Payload) -> Output {
    Output::Call { namespace: namespace.map(str::to_owned), name: name.to_owned(), payload }
}

#[test]
fn calls_are_made_in_order_and_then_reported() {
    let mut body = body(SCRIPT);
    assert_eq!(step(&mut body, "A"), call(None, "read", Payload::Arguments(r#"{"path": "a"}"#.to_owned())));
    assert_eq!(step(&mut body, "B"), call(None, "patch", Payload::Input("*** Begin\n-old\n\n+new".to_owned())));
    assert_eq!(step(&mut body, "C"), call(Some("space"), "deep", Payload::Arguments("{}".to_owned())));
    let Output::Message { text, .. } = step(&mut body, "") else { panic!("more calls than lines") };
    assert_eq!(
        text,
        "This is a simulated response from the codex-proxy demo: no model wrote this. The tool read returned: A The tool patch returned: B \
         The tool deep returned: C The tool unheard is not available."
    );
}

#[test]
fn client_messages_between_the_calls_do_not_end_a_script() {
    let mut body = body(SCRIPT);
    step(&mut body, "A");
    push(&mut body, json!({ "type": "message", "role": "user", "content": "<reminder>search the web</reminder>" }));
    assert!(matches!(step(&mut body, "B"), Output::Call { name, .. } if name == "patch"));
}

#[test]
fn a_script_that_was_reported_is_finished() {
    let mut body = body("demo:call read {}");
    step(&mut body, "A");
    push(&mut body, json!({ "type": "message", "role": "assistant", "content": "reported" }));
    push(&mut body, json!({ "type": "message", "role": "user", "content": "The tool read is done" }));
    assert!(matches!(step(&mut body, ""), Output::Message { text, .. } if text.ends_with("The tool read is done")));
    push(&mut body, json!({ "type": "message", "role": "user", "content": "demo:call read {\"n\": 2}" }));
    assert!(matches!(step(&mut body, ""), Output::Call { .. }));
}

#[test]
fn a_script_inside_a_payload_is_passed_on_unchanged() {
    let inner = r#"{"prompt": "Do:\ndemo:call patch x"}"#;
    let mut body = body(&format!("demo:call read {inner}"));
    assert_eq!(step(&mut body, "done"), call(None, "read", Payload::Arguments(inner.to_owned())));
    assert!(matches!(step(&mut body, ""), Output::Message { text, .. } if text.ends_with("returned: done")));
}

#[test]
fn a_tool_choice_and_a_format_take_precedence_over_a_script() {
    let mut never = body(SCRIPT);
    never.insert("tool_choice".to_owned(), json!("none"));
    assert!(matches!(step(&mut never, ""), Output::Message { .. }));
    let mut titled = body(SCRIPT);
    titled.remove("tools");
    let schema = json!({ "type": "object", "properties": { "title": { "type": "string" } }, "required": ["title"] });
    titled.insert("text".to_owned(), json!({ "format": { "type": "json_schema", "name": "t", "schema": schema } }));
    assert!(matches!(step(&mut titled, ""), Output::Message { text, .. } if text.starts_with(r#"{"title""#)));
}

#[test]
fn a_summary_contains_the_remaining_steps_and_can_be_continued() {
    let mut body = body("demo:call read {\"n\": 1}\ndemo:call read {\"n\": 2}\ndemo:call patch\n+line");
    step(&mut body, "A");
    let ask = json!({ "type": "message", "role": "user", "content": "Now an <analysis> and a <summary>, no calls." });
    push(&mut body, ask);
    let Output::Message { text, .. } = step(&mut body, "") else { panic!("a call where a summary was wanted") };
    assert!(text.ends_with("demo:call read {\"n\": 2}\ndemo:call patch +line\n</summary>"), "{text}");
    let inside = text.split_once("<summary>").and_then(|(_, rest)| rest.strip_suffix("</summary>")).unwrap();
    let mut compacted = self::body(&format!("Continue from:{inside}"));
    assert_eq!(step(&mut compacted, "B"), call(None, "read", Payload::Arguments("{\"n\": 2}".to_owned())));
    assert_eq!(step(&mut compacted, "C"), call(None, "patch", Payload::Input("+line".to_owned())));
}

/// Compacts the conversation as a client does: keeps the user messages and adds the backend's item.
fn compact(body: &mut Map<String, Value>) {
    push(body, json!({ "type": "compaction_trigger" }));
    let [Output::Compaction { progress }] = outputs(&Prompt::read(body), None)[..] else { panic!("a compaction") };
    let content = progress.expect("a script").add_to("opaque");
    body["input"].as_array_mut().unwrap().retain(|item| item["role"] == "user" || item["type"] == "compaction");
    push(body, json!({ "type": "compaction", "encrypted_content": content }));
}

#[test]
fn a_script_continues_after_a_compaction_by_the_backend() {
    let mut body = body("demo:call read {\"n\": 1}\ndemo:call read {\"n\": 2}\ndemo:call patch\n+line");
    step(&mut body, "A");
    compact(&mut body);
    assert_eq!(step(&mut body, "B"), call(None, "read", Payload::Arguments("{\"n\": 2}".to_owned())));
    compact(&mut body);
    assert_eq!(step(&mut body, "C"), call(None, "patch", Payload::Input("+line".to_owned())));
    assert!(matches!(step(&mut body, ""), Output::Message { text, .. } if text.ends_with("patch returned: C")));
    push(&mut body, json!({ "type": "message", "role": "assistant", "content": "reported" }));
    compact(&mut body);
    push(&mut body, json!({ "type": "message", "role": "user", "content": "And now?" }));
    assert!(matches!(step(&mut body, ""), Output::Message { text, .. } if text.ends_with("And now?")));
}

#[test]
fn a_conversation_overflows_until_it_is_compacted() {
    let mut body = body("With demo:overflow\ndemo:call read {}\ndemo:call read {}\ndemo:call read {}");
    for outputs in 0..2 {
        assert_eq!(Fault::find(&Prompt::read(&body)), None, "{outputs}");
        step(&mut body, "A");
    }
    assert_eq!(Fault::find(&Prompt::read(&body)), Some(Fault::Overflow));
    push(&mut body, json!({ "type": "message", "role": "user", "content": "Write a <summary>" }));
    assert_eq!(Fault::find(&Prompt::read(&body)), None, "the way out is open");
}
