//! What holds for every stream of a Chat answer.

use std::collections::BTreeSet;

use codex_proxy::protocol::chat::Shape;
use serde_json::{Value, json};

use crate::fold::Frame;

/// What holds for every stream, also for one that failed.
pub(crate) fn assert_laws(shape: &Shape, frames: &[Frame]) {
    let is_done = frames.iter().filter(|frame| **frame == Frame::Done).count();
    let values: Vec<&Value> = frames.iter().filter_map(Frame::json).collect();
    let errors = values.iter().filter(|value| value.get("error").is_some()).count();
    let finishes = values.iter().filter(|value| value["choices"][0]["finish_reason"].is_string()).count();
    let roles = values.iter().filter(|value| value["choices"][0]["delta"].get("role").is_some()).count();
    assert_eq!(errors + is_done, 1, "one end");
    assert_eq!(finishes, is_done, "a finish reason, and a whole end, or neither");
    match frames.last() {
        Some(Frame::Done) => {}
        Some(Frame::Json(value)) => assert!(value.get("error").is_some()),
        None => panic!("no end"),
    }
    if values.len() > errors {
        assert_eq!(roles, 1, "one role chunk");
        assert_eq!(values[0]["choices"][0]["delta"]["role"], "assistant");
        let heads: BTreeSet<String> = values
            .iter()
            .filter(|value| value.get("error").is_none())
            .map(|value| format!("{}{}{}", value["id"], value["created"], value["model"]))
            .collect();
        assert_eq!(heads.len(), 1, "id, time and model are constant");
    }
    assert_usage_law(shape, &values, is_done);
    assert_call_law(&values);
}

fn assert_usage_law(shape: &Shape, values: &[&Value], is_done: usize) {
    let with_usage: Vec<_> = values.iter().filter(|value| value["usage"].is_object()).collect();
    assert_eq!(with_usage.len(), if shape.includes_usage { is_done } else { 0 });
    if let Some(value) = with_usage.first() {
        assert_eq!(value["choices"], json!([]));
        assert_eq!(values.last(), Some(*value), "usage comes last");
    }
    let chunks = values.iter().filter(|value| value.get("error").is_none());
    assert!(chunks.clone().all(|value| value.get("usage").is_some() == shape.includes_usage));
}

/// Indices are dense, a call begins once, and is over when the next begins.
fn assert_call_law(values: &[&Value]) {
    let mut begun = 0;
    for call in values.iter().filter_map(|value| value["choices"][0]["delta"]["tool_calls"].as_array()).flatten() {
        let is_begin = call.get("id").is_some();
        begun += u64::from(is_begin);
        assert_eq!(call["index"].as_u64().unwrap() + 1, begun);
        let inner = call.get("function").or(call.get("custom")).unwrap();
        assert_eq!(inner.get("name").is_some(), is_begin);
        assert_eq!(call.get("type").is_some(), is_begin);
    }
}
