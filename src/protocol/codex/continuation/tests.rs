use serde_json::{Value, json};

use super::{Memory, Outgoing, Purpose, Thread};

fn body(input: &Value) -> String {
    json!({"model": "gpt-5.5", "instructions": "Be brief.", "input": input, "store": false}).to_string()
}

fn user(text: &str) -> Value {
    json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]})
}

/// The thread after a request was answered with these items.
fn thread(input: &Value, outputs: &[Value]) -> Thread {
    let body = body(input);
    let mut memory = Memory::new(&Outgoing::read(body.as_bytes()).unwrap(), None);
    for item in outputs {
        memory.note("response.output_item.done", &json!({"output_index": 0, "item": item}).to_string());
    }
    memory.note("response.completed", r#"{"response":{"id":"resp_1"}}"#);
    memory.thread().unwrap()
}

/// How many items of the input the thread has, when it goes on from there.
fn known(thread: &Thread, input: &Value) -> Option<usize> {
    let body = body(input);
    thread.continued_by(&Outgoing::read(body.as_bytes()).unwrap()).map(|from| from.known())
}

#[test]
fn an_answer_is_known_again_in_any_dialect_s_words() {
    let outputs = [
        json!({"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "e"}),
        json!({"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "phase": "commentary",
            "content": [{"type": "output_text", "text": "Grü", "annotations": []}, {"type": "output_text", "text": "ße"}]}),
        json!({"id": "fc_1", "type": "function_call", "call_id": "c", "name": "f", "arguments": "{\"b\":1, \"a\":2}"}),
        json!({"id": "ctc_1", "type": "custom_tool_call", "call_id": "d", "name": "g", "input": "x"}),
        json!({"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search"}}),
    ];
    let thread = thread(&json!([user("hi")]), &outputs);
    let given_back = [
        json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Grüße"}]}),
        json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{\"a\":2,\"b\":1}"}),
        json!({"type": "custom_tool_call", "call_id": "d", "name": "g", "input": "x"}),
        json!({"type": "web_search_call", "action": {"type": "search"}}),
        json!({"type": "function_call_output", "call_id": "c", "output": "3"}),
    ];
    let input: Vec<Value> = [user("hi")].into_iter().chain(given_back).collect();
    assert_eq!(known(&thread, &json!(input)), Some(5), "all but the tool's output");
    let verbatim: Vec<Value> = [user("hi")].into_iter().chain(outputs).chain([user("go on")]).collect();
    assert_eq!(known(&thread, &json!(verbatim)), Some(6));
}

#[test]
fn another_conversation_is_sent_whole() {
    let said = json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "yes"}]});
    let thread = thread(&json!([user("hi"), user("there")]), std::slice::from_ref(&said));
    let longer = |items: &[Value]| known(&thread, &json!(items));
    assert_eq!(longer(&[user("hi"), user("there"), said.clone(), user("more")]), Some(3));
    assert_eq!(longer(&[user("hi"), user("there"), said.clone()]), None, "nothing new");
    assert_eq!(longer(&[user("hi"), user("there"), user("more")]), None, "the answer is gone");
    assert_eq!(longer(&[user("hi"), user("There"), said.clone(), user("more")]), None, "the past is another");
    assert_eq!(longer(&[user("hi"), said, user("more")]), None, "the past is shorter");
    assert_eq!(longer(&[user("more")]), None);
}

#[test]
fn other_members_have_to_be_the_same_but_for_the_metadata() {
    let thread = thread(&json!([user("hi")]), &[]);
    let mut next: Value = serde_json::from_str(&body(&json!([user("hi"), user("more")]))).unwrap();
    next["client_metadata"] = json!({"turn_id": "2"});
    let goes_on = |next: &Value| {
        let text = next.to_string();
        thread.continued_by(&Outgoing::read(text.as_bytes()).unwrap()).is_some()
    };
    assert!(goes_on(&next));
    next["model"] = json!("gpt-6-sol");
    assert!(!goes_on(&next));
}

#[test]
fn reasoning_may_be_missing_until_it_was_given_back() {
    let thought = json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e"});
    let first = thread(&json!([user("hi")]), std::slice::from_ref(&thought));
    let next = |thread: &Thread, input: Value| {
        let body = body(&input);
        let outgoing = Outgoing::read(body.as_bytes()).unwrap();
        let mut memory = Memory::new(&outgoing, thread.continued_by(&outgoing));
        memory.note("response.completed", r#"{"response":{"id":"resp_2"}}"#);
        memory.thread().unwrap()
    };
    let without = next(&first, json!([user("hi"), user("two")]));
    assert_eq!(known(&without, &json!([user("hi"), user("two"), user("three")])), Some(2));
    let with = next(&first, json!([user("hi"), thought, user("two")]));
    assert_eq!(known(&with, &json!([user("hi"), user("two"), user("three")])), None, "the client took it out");
}

#[test]
fn only_a_completed_response_is_gone_on_from() {
    let body = body(&json!([user("hi")]));
    for kind in ["response.incomplete", "response.failed", "response.created"] {
        let mut memory = Memory::new(&Outgoing::read(body.as_bytes()).unwrap(), None);
        memory.note(kind, r#"{"response":{"id":"resp_1"}}"#);
        assert!(memory.thread().is_none(), "{kind}");
    }
}

#[test]
fn a_frame_carries_the_body_and_leaves_out_what_is_known() {
    let spelled = r#"{"model":"m","input":[{"type":"message","role":"user","content":"\u0041","n":1.0e2},{"b":1,"a":2}],"store":false,"client_metadata":{"a":"1","b":"2"}}"#;
    let outgoing = Outgoing::read(spelled.as_bytes()).unwrap();
    let whole = outgoing.frame(Purpose::Answer, &[], None);
    assert_eq!(whole, spelled.replacen('{', r#"{"type":"response.create","#, 1));
    let added = outgoing.frame(Purpose::Prewarm, &[("b", "3")], None);
    assert!(added.ends_with(r#""store":false,"generate":false,"client_metadata":{"a":"1","b":"3"}}"#), "{added}");

    let shorter = spelled.replace(r#",{"b":1,"a":2}"#, "");
    let mut memory = Memory::new(&Outgoing::read(shorter.as_bytes()).unwrap(), None);
    memory.note("response.completed", r#"{"response":{"id":"resp_1"}}"#);
    let goes_on = memory.thread().unwrap().continued_by(&outgoing);
    let rest = outgoing.frame(Purpose::Answer, &[], goes_on.as_ref());
    let want = r#"{"type":"response.create","model":"m","previous_response_id":"resp_1","input":[{"b":1,"a":2}],"#;
    assert!(rest.starts_with(want), "{rest}");
}

#[test]
fn a_body_that_is_none_is_not_read() {
    for body in ["", "[]", "{}", r#"{"input":"hi"}"#] {
        assert!(Outgoing::read(body.as_bytes()).is_none(), "{body}");
    }
}
