use serde_json::{Value, json};

use super::{KnownConversation, OutgoingBody, ResponseTracker};

fn body(input: &Value) -> String {
    json!({"model": "gpt-5.5", "instructions": "Be brief.", "input": input, "store": false}).to_string()
}

fn user(text: &str) -> Value {
    json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]})
}

/// The state after a response with these output items.
fn conversation(input: &Value, outputs: &[Value]) -> KnownConversation {
    let body = body(input);
    let mut tracker = ResponseTracker::new(&OutgoingBody::read(body.as_bytes()).unwrap(), None);
    for item in outputs {
        tracker.observe("response.output_item.done", &json!({"output_index": 0, "item": item}).to_string());
    }
    tracker.observe("response.completed", r#"{"response":{"id":"resp_1"}}"#);
    tracker.finish().unwrap()
}

/// How many items of the input are known, if it continues the response.
fn known(conversation: &KnownConversation, input: &Value) -> Option<usize> {
    let body = body(input);
    conversation.continuation(&OutgoingBody::read(body.as_bytes()).unwrap()).map(|from| from.known_count())
}

#[test]
fn output_items_match_in_the_form_of_any_api() {
    let outputs = [
        json!({"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "e"}),
        json!({"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "phase": "commentary",
            "content": [{"type": "output_text", "text": "Grü", "annotations": []}, {"type": "output_text", "text": "ße"}]}),
        json!({"id": "fc_1", "type": "function_call", "call_id": "c", "name": "f", "arguments": "{\"b\":1, \"a\":2}"}),
        json!({"id": "ctc_1", "type": "custom_tool_call", "call_id": "d", "name": "g", "input": "x"}),
        json!({"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search"}}),
    ];
    let conversation = conversation(&json!([user("hi")]), &outputs);
    let sent_back = [
        json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Grüße"}]}),
        json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{\"a\":2,\"b\":1}"}),
        json!({"type": "custom_tool_call", "call_id": "d", "name": "g", "input": "x"}),
        json!({"type": "web_search_call", "action": {"type": "search"}}),
        json!({"type": "function_call_output", "call_id": "c", "output": "3"}),
    ];
    let input: Vec<Value> = [user("hi")].into_iter().chain(sent_back).collect();
    assert_eq!(known(&conversation, &json!(input)), Some(5), "all but the tool's output");
    let verbatim: Vec<Value> = [user("hi")].into_iter().chain(outputs).chain([user("go on")]).collect();
    assert_eq!(known(&conversation, &json!(verbatim)), Some(6));
}

#[test]
fn a_different_conversation_is_no_continuation() {
    let answer = json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "yes"}]});
    let conversation = conversation(&json!([user("hi"), user("there")]), std::slice::from_ref(&answer));
    let longer = |items: &[Value]| known(&conversation, &json!(items));
    assert_eq!(longer(&[user("hi"), user("there"), answer.clone(), user("more")]), Some(3));
    assert_eq!(longer(&[user("hi"), user("there"), answer.clone()]), None, "nothing new");
    assert_eq!(longer(&[user("hi"), user("there"), user("more")]), None, "the answer is missing");
    assert_eq!(longer(&[user("hi"), user("There"), answer.clone(), user("more")]), None, "an earlier item differs");
    assert_eq!(longer(&[user("hi"), answer, user("more")]), None, "an earlier item is missing");
    assert_eq!(longer(&[user("more")]), None);
}

#[test]
fn all_other_members_except_the_metadata_have_to_be_equal() {
    let conversation = conversation(&json!([user("hi")]), &[]);
    let mut next: Value = serde_json::from_str(&body(&json!([user("hi"), user("more")]))).unwrap();
    next["client_metadata"] = json!({"turn_id": "2"});
    let is_continued = |next: &Value| {
        let text = next.to_string();
        conversation.continuation(&OutgoingBody::read(text.as_bytes()).unwrap()).is_some()
    };
    assert!(is_continued(&next));
    next["model"] = json!("gpt-6-sol");
    assert!(!is_continued(&next));
}

#[test]
fn reasoning_may_be_missing_unless_an_earlier_request_contained_it() {
    let reasoning = json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e"});
    let first = conversation(&json!([user("hi")]), std::slice::from_ref(&reasoning));
    let next = |conversation: &KnownConversation, input: Value| {
        let body = body(&input);
        let outgoing = OutgoingBody::read(body.as_bytes()).unwrap();
        let mut tracker = ResponseTracker::new(&outgoing, conversation.continuation(&outgoing));
        tracker.observe("response.completed", r#"{"response":{"id":"resp_2"}}"#);
        tracker.finish().unwrap()
    };
    let without = next(&first, json!([user("hi"), user("two")]));
    assert_eq!(known(&without, &json!([user("hi"), user("two"), user("three")])), Some(2));
    let with = next(&first, json!([user("hi"), reasoning, user("two")]));
    assert_eq!(known(&with, &json!([user("hi"), user("two"), user("three")])), None, "the client removed it");
}

#[test]
fn only_a_completed_response_can_be_continued() {
    let body = body(&json!([user("hi")]));
    for kind in ["response.incomplete", "response.failed", "response.created"] {
        let mut tracker = ResponseTracker::new(&OutgoingBody::read(body.as_bytes()).unwrap(), None);
        tracker.observe(kind, r#"{"response":{"id":"resp_1"}}"#);
        assert!(tracker.finish().is_none(), "{kind}");
    }
}

#[test]
fn a_frame_contains_the_body_without_known_items() {
    let spelled = r#"{"model":"m","input":[{"type":"message","role":"user","content":"\u0041","n":1.0e2},{"b":1,"a":2}],"store":false,"client_metadata":{"a":"1","b":"2"}}"#;
    let outgoing = OutgoingBody::read(spelled.as_bytes()).unwrap();
    let whole = outgoing.frame(&[], None);
    assert_eq!(whole, spelled.replacen('{', r#"{"type":"response.create","#, 1));
    let added = outgoing.frame(&[("b", "3")], None);
    assert!(added.ends_with(r#""store":false,"client_metadata":{"a":"1","b":"3"}}"#), "{added}");

    let shorter = spelled.replace(r#",{"b":1,"a":2}"#, "");
    let mut tracker = ResponseTracker::new(&OutgoingBody::read(shorter.as_bytes()).unwrap(), None);
    tracker.observe("response.completed", r#"{"response":{"id":"resp_1"}}"#);
    let continuation = tracker.finish().unwrap().continuation(&outgoing);
    let rest = outgoing.frame(&[], continuation.as_ref());
    let want = r#"{"type":"response.create","model":"m","previous_response_id":"resp_1","input":[{"b":1,"a":2}],"#;
    assert!(rest.starts_with(want), "{rest}");
}

#[test]
fn invalid_bodies_are_rejected() {
    for body in ["", "[]", "{}", r#"{"input":"hi"}"#] {
        assert!(OutgoingBody::read(body.as_bytes()).is_none(), "{body}");
    }
}
