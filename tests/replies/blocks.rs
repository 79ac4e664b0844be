//! A Messages client that assembles blocks and checks the rules of the stream.

use serde_json::{Value, json};

use crate::fold::Frame;

/// The events of a stream except pings, which may occur anywhere.
pub(crate) fn spoken(frames: &[Frame]) -> Vec<&Value> {
    frames.iter().filter_map(Frame::json).filter(|event| event["type"] != "ping").collect()
}

/// Without estimated usage.
pub(crate) fn comparable(mut event: Value, has_guess: bool) -> Value {
    if event["type"] == "message_start" {
        let usage = &mut event["message"]["usage"];
        assert!(usage["input_tokens"].is_u64() && usage["output_tokens"].is_u64(), "clients read both counts");
        usage["input_tokens"] = json!(0);
    }
    if has_guess && let Some(usage) = event.get_mut("usage").and_then(Value::as_object_mut) {
        for member in ["input_tokens", "output_tokens"] {
            assert!(usage[member].is_u64());
            usage.insert(member.to_owned(), json!(0));
        }
    }
    event
}

/// The document that a stream represents, without usage.
pub(crate) fn fold_blocks(frames: &[Frame]) -> Value {
    let events = spoken(frames);
    let mut message = events[0]["message"].clone();
    let mut blocks: Vec<Value> = Vec::new();
    for event in &events[1..] {
        match event["type"].as_str().unwrap() {
            "content_block_start" => blocks.push(event["content_block"].clone()),
            "content_block_delta" => add(&mut blocks[position(event)], &event["delta"]),
            "content_block_stop" => settle(&mut blocks[position(event)]),
            "message_delta" => {
                message["stop_reason"] = event["delta"]["stop_reason"].clone();
                message["stop_sequence"] = event["delta"]["stop_sequence"].clone();
            }
            _ => {}
        }
    }
    message["content"] = json!(blocks);
    message.as_object_mut().unwrap().remove("usage");
    message
}

fn position(event: &Value) -> usize {
    usize::try_from(event["index"].as_u64().unwrap()).unwrap()
}

fn add(block: &mut Value, delta: &Value) {
    let (into, from) = match delta["type"].as_str().unwrap() {
        "text_delta" => ("text", "text"),
        "thinking_delta" => ("thinking", "thinking"),
        "signature_delta" => ("signature", "signature"),
        "input_json_delta" => ("json", "partial_json"),
        "citations_delta" => {
            let citations = block.as_object_mut().unwrap().entry("citations").or_insert_with(|| json!([]));
            citations.as_array_mut().unwrap().push(delta["citation"].clone());
            return;
        }
        other => panic!("{other}"),
    };
    let before = block[into].as_str().unwrap_or_default();
    block[into] = json!(format!("{before}{}", delta[from].as_str().unwrap()));
}

/// Parses the input of a call if it is complete.
fn settle(block: &mut Value) {
    if let Some(text) = block.as_object_mut().unwrap().remove("json") {
        let input = serde_json::from_str(text.as_str().unwrap()).ok().filter(Value::is_object);
        block["input"] = input.unwrap_or_else(|| json!({}));
    }
}

/// Rules for every stream, including failed ones.
pub(crate) fn assert_block_laws(frames: &[Frame]) {
    assert!(!frames.contains(&Frame::Done), "clients fail on [DONE]");
    let events = spoken(frames);
    let of = |kind: &str| events.iter().filter(|event| event["type"] == kind).count();
    let (stops, errors) = (of("message_stop"), of("error"));
    assert_eq!(stops + errors, 1, "one terminal event");
    let last = events.last().unwrap();
    assert!(last["type"] == "message_stop" || last["type"] == "error", "nothing after the end");
    assert_eq!(of("message_delta"), stops, "a stop reason and message_stop, or neither");
    if events.len() > 1 || stops == 1 {
        assert_eq!((of("message_start"), events[0]["type"].as_str()), (1, Some("message_start")));
    }
    let mut open = None;
    let mut begun = 0;
    for event in &events {
        let index = event["index"].as_u64();
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert_eq!((open, index), (None, Some(begun)), "one block at a time, in order");
                begun += 1;
                open = index;
            }
            "content_block_delta" => assert_eq!(index, open, "a delta belongs to the open block"),
            "content_block_stop" => {
                assert_eq!(index, open);
                open = None;
            }
            "message_delta" => assert_eq!(open, None, "every block is closed"),
            _ => {}
        }
    }
}
