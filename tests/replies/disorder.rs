//! The rules hold for events in any order, complete or not.

use bytes::Bytes;
use codex_proxy::protocol::chat::{ReasoningField, RenderOptions, ReplyOptions};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fold::{Frame, fold, frames};
use crate::laws::assert_laws;
use crate::{document, stream, stripped};

/// The parameters of an event.
#[derive(Clone, Debug)]
struct Dice {
    kind: usize,
    item: usize,
    text: &'static str,
    output_index: Option<u8>,
    item_id: Option<u8>,
    call_id: Option<u8>,
    content_index: Option<u8>,
    summary_index: Option<u8>,
    cut: usize,
}

/// Events of every type, with indexes that may be wrong or missing; some are truncated.
pub(crate) fn any_event() -> impl Strategy<Value = String> {
    let text = prop::sample::select(vec!["", "a", "END", "E", "\n\n", "é😀", "{\"x\":1}", "\"\\"]);
    let small = || prop::option::of(0_u8..3);
    let places = (small(), small(), small(), small(), small());
    (0_usize..26, 0_usize..13, text, places, 0_usize..1500).prop_map(|(kind, item, text, places, cut)| {
        let (output_index, item_id, call_id, content_index, summary_index) = places;
        Dice { kind, item, text, output_index, item_id, call_id, content_index, summary_index, cut }.event()
    })
}

impl Dice {
    fn event(&self) -> String {
        let (kind, name, value) = self.body();
        let mut event = json!({"type": kind, name: value});
        let places = [
            ("output_index", self.output_index.map(Value::from)),
            ("item_id", self.item_id.map(|id| json!(format!("it_{id}")))),
            ("content_index", self.content_index.map(Value::from)),
            ("summary_index", self.summary_index.map(Value::from)),
        ];
        for (name, value) in places {
            if let Some(value) = value {
                event[name] = value;
            }
        }
        event.to_string().chars().take(self.cut.max(20)).collect()
    }

    fn body(&self) -> (&'static str, &'static str, Value) {
        let text = json!(self.text);
        match self.kind {
            0..=2 => ("response.output_item.added", "item", self.item()),
            3..=5 => ("response.output_item.done", "item", self.item()),
            6 | 7 => ("response.output_text.delta", "delta", text),
            8 => ("response.output_text.done", "text", text),
            9 => ("response.refusal.delta", "delta", text),
            10 => ("response.refusal.done", "refusal", text),
            11 | 12 => ("response.reasoning_summary_text.delta", "delta", text),
            13 => ("response.reasoning_text.done", "text", text),
            14..=16 => ("response.function_call_arguments.delta", "delta", text),
            17 => ("response.function_call_arguments.done", "arguments", text),
            18 => ("response.custom_tool_call_input.delta", "delta", text),
            19 => ("response.custom_tool_call_input.done", "input", text),
            20 => ("response.output_text.annotation.added", "annotation", self.citation()),
            21 => ("response.content_part.added", "part", json!({"type": "output_text", "text": ""})),
            22 => ("response.content_part.done", "part", json!({"type": "output_text", "text": text})),
            23 => ("response.completed", "response", json!({"id": "resp_1", "usage": {"output_tokens": self.cut % 2}})),
            24 => ("response.incomplete", "response", json!({})),
            _ => ("response.created", "response", json!({"id": "resp_0", "created_at": 7})),
        }
    }

    fn item(&self) -> Value {
        let text = self.text;
        let call_id = self.call_id.map(|id| format!("call_{id}"));
        match self.item {
            0..=2 => json!({"type": "message", "content": [
                {"type": "output_text", "text": text, "annotations": [self.citation()]},
                {"type": "refusal", "refusal": text},
            ]}),
            3 | 4 => json!({"type": "reasoning", "encrypted_content": call_id, "summary": [
                {"type": "summary_text", "text": text},
                {"type": "summary_text", "text": "more"},
            ]}),
            5..=7 => json!({"type": "function_call", "call_id": call_id, "name": "f", "arguments": text}),
            8 | 9 => json!({"type": "custom_tool_call", "call_id": call_id, "name": "c", "input": text}),
            10 => json!({"type": "image_generation_call", "result": "AAAA", "output_format": text}),
            11 => {
                json!({"type": "web_search_call", "action": {"type": "search", "query": text, "sources": [{"url": text}]}})
            }
            _ => json!({"type": "function_call", "call_id": call_id, "arguments": text}),
        }
    }

    fn citation(&self) -> Value {
        json!({"type": "url_citation", "start_index": 0, "end_index": 1, "url": self.text})
    }
}

fn any_options() -> impl Strategy<Value = ReplyOptions> {
    let fields = vec![
        ReasoningField::ReasoningContent,
        ReasoningField::Reasoning,
        ReasoningField::Both,
        ReasoningField::ThinkTags,
        ReasoningField::None,
    ];
    let limit = prop::option::of(1_u64..6);
    let parts = (any::<bool>(), any::<bool>(), limit, prop::sample::select(fields));
    parts.prop_map(|(includes_usage, stops, token_limit, reasoning)| ReplyOptions {
        model: "m".to_owned(),
        token_limit,
        stop: if stops { vec!["END".to_owned(), "\n\n".to_owned()] } else { vec![] },
        api: RenderOptions { includes_usage, reasoning, ..RenderOptions::default() },
        ..ReplyOptions::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn no_order_of_events_breaks_the_laws(options in any_options(), events in prop::collection::vec(any_event(), 0..25)) {
        let events: Vec<Bytes> = events.into_iter().map(Bytes::from).collect();
        let frames = frames(&stream(&options, &events));
        assert_laws(&options, &frames);
        match document(&options, &events) {
            Ok(document) => prop_assert_eq!(fold(&frames), stripped(document)),
            Err(_) => prop_assert!(frames.last() != Some(&Frame::Done)),
        }
    }
}
