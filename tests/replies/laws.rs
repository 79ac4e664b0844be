//! Rules for every stream.

use std::collections::BTreeSet;

use codex_proxy::protocol::chat::ReplyOptions;
use serde_json::{Value, json};

use crate::fold::Frame;

/// Whether a stream ends with a usage chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    Shown,
    Hidden,
}

impl Usage {
    pub(crate) fn when(is_asked: bool) -> Self {
        if is_asked { Self::Shown } else { Self::Hidden }
    }
}

/// Rules for every stream of OpenAI's APIs, including failed ones.
pub(crate) fn assert_stream_laws(usage: Usage, frames: &[Frame]) {
    let is_done = frames.iter().filter(|frame| **frame == Frame::Done).count();
    let values: Vec<&Value> = frames.iter().filter_map(Frame::json).collect();
    let errors = values.iter().filter(|value| value.get("error").is_some()).count();
    let finishes = values.iter().filter(|value| value["choices"][0]["finish_reason"].is_string()).count();
    assert_eq!(errors + is_done, 1, "one terminal event");
    assert_eq!(finishes, is_done, "a finish reason and [DONE], or neither");
    match frames.last() {
        Some(Frame::Done) => {}
        Some(Frame::Json(value)) => assert!(value.get("error").is_some()),
        None => panic!("no end"),
    }
    let chunks: Vec<&Value> = values.iter().copied().filter(|value| value.get("error").is_none()).collect();
    let heads: BTreeSet<String> =
        chunks.iter().map(|value| format!("{}{}{}", value["id"], value["created"], value["model"])).collect();
    assert_eq!(heads.len(), usize::from(!chunks.is_empty()), "id, time and model are constant");
    assert_usage_law(usage, &values, is_done);
}

/// Additional rules for Chat: one role, in the first chunk, and calls in order.
pub(crate) fn assert_laws(options: &ReplyOptions, frames: &[Frame]) {
    assert_chat_laws(Usage::when(options.api.includes_usage), frames);
}

/// The same for a request with only the usage option known.
pub(crate) fn assert_chat_laws(usage: Usage, frames: &[Frame]) {
    assert_stream_laws(usage, frames);
    let values: Vec<&Value> =
        frames.iter().filter_map(Frame::json).filter(|value| value.get("error").is_none()).collect();
    let roles = values.iter().filter(|value| value["choices"][0]["delta"].get("role").is_some()).count();
    assert_eq!(roles, usize::from(!values.is_empty()), "one role chunk");
    assert!(values.first().is_none_or(|value| value["choices"][0]["delta"]["role"] == "assistant"));
    assert_call_law(&values);
}

fn assert_usage_law(usage: Usage, values: &[&Value], is_done: usize) {
    let with_usage: Vec<_> = values.iter().filter(|value| value["usage"].is_object()).collect();
    assert_eq!(with_usage.len(), if usage == Usage::Shown { is_done } else { 0 });
    if let Some(value) = with_usage.first() {
        assert_eq!(value["choices"], json!([]));
        assert_eq!(values.last(), Some(*value), "usage is last");
    }
    let chunks = values.iter().filter(|value| value.get("error").is_none());
    assert!(chunks.clone().all(|value| value.get("usage").is_some() == (usage == Usage::Shown)));
}

/// Indexes are consecutive, and a call ends before the next one starts.
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
