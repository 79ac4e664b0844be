//! A minimal client: reads the frames and assembles them.

use serde_json::{Map, Value, json};

/// One `data` line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Frame {
    Json(Value),
    Done,
}

impl Frame {
    pub(crate) fn json(&self) -> Option<&Value> {
        match self {
            Self::Json(value) => Some(value),
            Self::Done => None,
        }
    }
}

/// The frames of a stream: each is `data: …` and a blank line; an `event: …` line before it must have the type
/// in the data.
pub(crate) fn frames(stream: &str) -> Vec<Frame> {
    let blocks = stream.split_terminator("\n\n");
    blocks
        .map(|block| {
            let (event, data) = match block.strip_prefix("event: ") {
                Some(named) => named.split_once('\n').map(|(event, data)| (Some(event), data)).unwrap(),
                None => (None, block),
            };
            match data.strip_prefix("data: ").unwrap() {
                "[DONE]" => Frame::Done,
                data => {
                    let value: Value = serde_json::from_str(data).unwrap();
                    assert!(event.is_none_or(|event| value["type"] == event), "{block}");
                    Frame::Json(value)
                }
            }
        })
        .collect()
}

/// The lines of a stream, each a JSON object.
pub(crate) fn lines(stream: &str) -> Vec<Frame> {
    assert!(stream.is_empty() || stream.ends_with('\n'), "the last line is incomplete: {stream}");
    stream.lines().map(|line| Frame::Json(serde_json::from_str(line).unwrap())).collect()
}

/// The document that such a stream represents: strings and lists are concatenated, other members take the last
/// value.
pub(crate) fn fold_lines(frames: &[Frame]) -> Value {
    let mut whole = Map::new();
    for line in frames.iter().filter_map(Frame::json) {
        add_line(&mut whole, line.as_object().unwrap());
    }
    Value::Object(whole)
}

fn add_line(into: &mut Map<String, Value>, line: &Map<String, Value>) {
    for (name, value) in line {
        match (into.get_mut(name), value) {
            (Some(Value::Object(inner)), Value::Object(more)) => add_line(inner, more),
            (Some(Value::Array(list)), Value::Array(more)) => list.extend(more.iter().cloned()),
            (Some(Value::String(text)), Value::String(more))
                if ["content", "thinking", "response"].contains(&name.as_str()) =>
            {
                text.push_str(more);
            }
            _ => {
                into.insert(name.clone(), value.clone());
            }
        }
    }
}

/// The document that a text completion stream represents, without usage.
pub(crate) fn fold_text(frames: &[Frame]) -> Value {
    let chunks: Vec<&Value> = frames.iter().filter_map(Frame::json).collect();
    let choices: Vec<&Value> = chunks.iter().filter_map(|chunk| chunk["choices"].get(0)).collect();
    let text: String = choices.iter().map(|choice| choice["text"].as_str().unwrap()).collect();
    let reason = choices.iter().map(|choice| &choice["finish_reason"]).find(|reason| reason.is_string());
    json!({
        "id": chunks[0]["id"], "object": "text_completion", "created": chunks[0]["created"],
        "model": chunks[0]["model"],
        "choices": [{"text": text, "index": 0, "logprobs": null, "finish_reason": reason}],
    })
}

/// The document that a Chat stream represents, without usage and service tier.
pub(crate) fn fold(frames: &[Frame]) -> Value {
    let mut message = Map::new();
    let mut finish_reason = Value::Null;
    message.insert("annotations".to_owned(), json!([]));
    for chunk in frames.iter().filter_map(Frame::json) {
        let Some(choice) = chunk["choices"].get(0) else { continue };
        for (name, value) in choice["delta"].as_object().unwrap() {
            add(&mut message, name, value);
        }
        if choice["finish_reason"].is_string() {
            finish_reason = choice["finish_reason"].clone();
        }
    }
    settle(&mut message);
    let first = frames[0].json().unwrap();
    json!({
        "id": first["id"], "object": "chat.completion", "created": first["created"], "model": first["model"],
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": finish_reason}],
    })
}

fn add(message: &mut Map<String, Value>, name: &str, value: &Value) {
    match name {
        "tool_calls" => add_call(message, &value[0]),
        "annotations" | "images" => push(message, name, value[0].clone()),
        "function_call" => {
            let call = message.entry(name).or_insert_with(|| json!({}));
            join(call, value);
        }
        _ => join_member(message, name, value),
    }
}

fn push(message: &mut Map<String, Value>, name: &str, value: Value) {
    message.entry(name).or_insert_with(|| json!([])).as_array_mut().unwrap().push(value);
}

fn add_call(message: &mut Map<String, Value>, call: &Value) {
    let mut call = call.clone();
    let index = usize::try_from(call.as_object_mut().unwrap().remove("index").unwrap().as_u64().unwrap()).unwrap();
    let calls = message.entry("tool_calls").or_insert_with(|| json!([])).as_array_mut().unwrap();
    if index == calls.len() {
        calls.push(call);
    } else {
        join(&mut calls[index], &call);
    }
}

fn join(into: &mut Value, piece: &Value) {
    let into = into.as_object_mut().unwrap();
    for (name, value) in piece.as_object().unwrap() {
        if value.is_object() {
            join(into.entry(name).or_insert_with(|| json!({})), value);
        } else {
            join_member(into, name, value);
        }
    }
}

fn join_member(into: &mut Map<String, Value>, name: &str, value: &Value) {
    let before = into.get(name).and_then(Value::as_str).unwrap_or_default();
    let joined = value
        .as_str()
        .map_or(into.get(name).cloned().unwrap_or(Value::Null), |value| json!(format!("{before}{value}")));
    into.insert(name.to_owned(), joined);
}

/// Chat documents contain null if there is a refusal or a call instead of text.
fn settle(message: &mut Map<String, Value>) {
    let is_elsewhere =
        message["refusal"].is_string() || message.contains_key("tool_calls") || message.contains_key("function_call");
    if is_elsewhere && message["content"] == "" {
        message.insert("content".to_owned(), Value::Null);
    }
}
