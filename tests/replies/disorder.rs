//! Events in any order, complete or not: the laws hold all the same.

use bytes::Bytes;
use codex_proxy::protocol::chat::{ReasoningField, Shape};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fold::{Frame, fold, frames};
use crate::laws::assert_laws;
use crate::{document, stream, stripped};

/// Events of every kind, with coordinates that may be wrong or missing.
fn any_event() -> impl Strategy<Value = String> {
    let text = prop::sample::select(vec!["", "a", "END", "E", "\n\n", "é😀", "{\"x\":1}", "\"\\"]);
    let id = prop::option::of(0_u8..3);
    (0_usize..26, prop::option::of(0_u8..3), id.clone(), id, text, prop::option::of(0_u8..2), 0_usize..200).prop_map(
        |(kind, output_index, item, call, text, part, cut)| {
            let mut event = json!({});
            let members = event.as_object_mut().unwrap();
            let mut add = |name: &str, value: Value| members.insert(name.to_owned(), value);
            output_index.map(|index| add("output_index", json!(index)));
            item.map(|item| add("item_id", json!(format!("it_{item}"))));
            part.map(|part| add(if cut % 2 == 0 { "content_index" } else { "summary_index" }, json!(part)));
            let call = call.map(|call| format!("call_{call}"));
            let citation = json!({"type": "url_citation", "start_index": 0, "end_index": 1, "url": text});
            let content = json!([{"type": "output_text", "text": text, "annotations": [citation]}, {"type": "refusal", "refusal": text}]);
            let summary = json!([{"type": "summary_text", "text": text}, {"type": "summary_text", "text": "more"}]);
            let item = match cut % 6 {
                0 => json!({"type": "message", "content": content}),
                1 => json!({"type": "reasoning", "summary": summary}),
                2 => json!({"type": "function_call", "call_id": call, "name": "f", "arguments": text}),
                3 => json!({"type": "custom_tool_call", "call_id": call, "name": "c", "input": text}),
                4 => json!({"type": "image_generation_call", "result": "AAAA", "output_format": text}),
                _ => json!({"type": "function_call", "call_id": call, "arguments": text}),
            };
            let delta = json!(text);
            let (kind, name, value) = match kind {
                0..=2 => ("response.output_item.added", "item", item),
                3..=5 => ("response.output_item.done", "item", item),
                6 | 7 => ("response.output_text.delta", "delta", delta),
                8 => ("response.output_text.done", "text", delta),
                9 => ("response.refusal.delta", "delta", delta),
                10 => ("response.refusal.done", "refusal", delta),
                11 | 12 => ("response.reasoning_summary_text.delta", "delta", delta),
                13 => ("response.reasoning_text.done", "text", delta),
                14..=16 => ("response.function_call_arguments.delta", "delta", delta),
                17 => ("response.function_call_arguments.done", "arguments", delta),
                18 => ("response.custom_tool_call_input.delta", "delta", delta),
                19 => ("response.custom_tool_call_input.done", "input", delta),
                20 => ("response.output_text.annotation.added", "annotation", citation),
                21 => ("response.content_part.added", "part", json!({"type": "output_text", "text": ""})),
                22 => ("response.content_part.done", "part", json!({"type": "output_text", "text": text})),
                23 => ("response.completed", "response", json!({"id": "resp_1", "usage": {"output_tokens": cut}})),
                24 => ("response.incomplete", "response", json!({})),
                _ => ("response.created", "response", json!({"id": "resp_0", "created_at": 7})),
            };
            add("type", json!(kind));
            add(name, value);
            let event = event.to_string();
            if cut > 190 { event.chars().take(cut - 150).collect() } else { event }
        },
    )
}

fn any_shape() -> impl Strategy<Value = Shape> {
    let fields = vec![
        ReasoningField::ReasoningContent,
        ReasoningField::Reasoning,
        ReasoningField::Both,
        ReasoningField::ThinkTags,
        ReasoningField::None,
    ];
    (any::<bool>(), any::<bool>(), prop::sample::select(fields)).prop_map(|(includes_usage, stops, reasoning)| Shape {
        model: "m".to_owned(),
        includes_usage,
        reasoning,
        stop: if stops { vec!["END".to_owned(), "\n\n".to_owned()] } else { vec![] },
        ..Shape::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn no_order_of_events_breaks_the_laws(shape in any_shape(), events in prop::collection::vec(any_event(), 0..25)) {
        let events: Vec<Bytes> = events.into_iter().map(Bytes::from).collect();
        let frames = frames(&stream(&shape, &events));
        assert_laws(&shape, &frames);
        match document(&shape, &events) {
            Ok(document) => prop_assert_eq!(fold(&frames), stripped(document)),
            Err(_) => prop_assert!(frames.last() != Some(&Frame::Done)),
        }
    }
}
